package systemd

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestEveryEventHasItsOwnMessageID(t *testing.T) {
	events := eventConstants(t)
	if len(events) == 0 {
		t.Fatal("no Event constant found in package cleanup: this test looks in the wrong place")
	}

	texts := make(map[string]bool)
	for name, text := range events {
		texts[text] = true
		if messageIDs[text] == "" {
			t.Errorf("cleanup.%s (%q) has no MESSAGE_ID: monitoring could not match on it; add one to messageIDs", name, text)
		}
	}

	form := regexp.MustCompile(`^[0-9a-f]{32}$`)
	owner := make(map[string]string)
	for text, id := range messageIDs {
		if !texts[text] {
			t.Errorf("MESSAGE_ID %s belongs to %q, which is no event of package cleanup", id, text)
		}
		if !form.MatchString(id) {
			t.Errorf("MESSAGE_ID of %q is %q; journalctl wants 32 hexadecimal digits in lower case", text, id)
		}
		if other, taken := owner[id]; taken {
			t.Errorf("%q and %q have the same MESSAGE_ID %s: nobody could tell them apart", text, other, id)
		}
		owner[id] = text
	}
}

// TestEveryEventIsExplained holds the catalog against the events: a MESSAGE_ID
// that journalctl -x has nothing to say about helps nobody at night.
func TestEveryEventIsExplained(t *testing.T) {
	explained := catalog(t)
	known := make(map[string]bool)
	for event, id := range messageIDs {
		known[id] = true
		entry, ok := explained[id]
		if !ok {
			t.Errorf("%s has no entry for %q: add one that begins with\n-- %s", catalogFile, event, id)
			continue
		}
		header, text, _ := strings.Cut(entry, "\n\n")
		for _, line := range []string{"Subject: ", "Defined-By: message-cleanup\n", "Documentation: man:"} {
			if !strings.Contains(header+"\n", line) {
				t.Errorf("%s: the entry of %q has no line %q", catalogFile, event, line)
			}
		}
		if len(strings.Fields(text)) < 10 {
			t.Errorf("%s: the entry of %q does not say what it means and what to do", catalogFile, event)
		}
	}
	for id := range explained {
		if !known[id] {
			t.Errorf("%s: entry %s belongs to no event", catalogFile, id)
		}
	}
}

func TestSystemdAcceptsTheCatalog(t *testing.T) {
	journalctl, err := exec.LookPath("journalctl")
	if err != nil {
		t.Skip("journalctl is not installed (Debian package systemd): the catalog is checked as text only")
	}
	root := t.TempDir()
	folder := filepath.Join(root, "usr/lib/systemd/catalog")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(catalogFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, filepath.Base(catalogFile)), text, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), journalctl, "--root="+root, "--update-catalog").CombinedOutput(); err != nil {
		t.Fatalf("journalctl --update-catalog: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), journalctl, "--root="+root, "--list-catalog").CombinedOutput()
	if err != nil {
		t.Fatalf("journalctl --list-catalog: %v\n%s", err, out)
	}
	for event, id := range messageIDs {
		if !strings.Contains(string(out), id+" message-cleanup: ") {
			t.Errorf("journalctl does not know of %q (%s):\n%s", event, id, out)
		}
	}
}

const catalogFile = unitFolder + "/message-cleanup.catalog"

// catalog returns the entries of the shipped catalog by MESSAGE_ID.
func catalog(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile(catalogFile)
	if err != nil {
		t.Fatal(err)
	}
	entries := make(map[string]string)
	for i, entry := range strings.Split("\n"+string(text), "\n-- ") {
		id, rest, _ := strings.Cut(entry, "\n")
		if i == 0 { // the comment at the top
			continue
		}
		if _, twice := entries[id]; twice {
			t.Errorf("%s: entry %s is there twice; systemd keeps one of them", catalogFile, id)
		}
		entries[id] = rest
	}
	return entries
}

// eventConstants reads the names and texts of all constants of package cleanup
// that are called Event..., from its source: a new one cannot be forgotten.
func eventConstants(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../cleanup/*.go")
	if err != nil {
		t.Fatal(err)
	}
	events := make(map[string]string)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range parsed.Decls {
			constants, ok := decl.(*ast.GenDecl)
			if !ok || constants.Tok != token.CONST {
				continue
			}
			for _, spec := range constants.Specs {
				value := spec.(*ast.ValueSpec)
				for i, name := range value.Names {
					if !strings.HasPrefix(name.Name, "Event") {
						continue
					}
					if i >= len(value.Values) {
						t.Fatalf("%s: cleanup.%s has no value of its own", file, name.Name)
					}
					literal, ok := value.Values[i].(*ast.BasicLit)
					if !ok {
						t.Fatalf("%s: cleanup.%s is not a plain string, so a reader cannot search for it", file, name.Name)
					}
					text, err := strconv.Unquote(literal.Value)
					if err != nil {
						t.Fatalf("%s: cleanup.%s: %v", file, name.Name, err)
					}
					events[name.Name] = text
				}
			}
		}
	}
	return events
}
