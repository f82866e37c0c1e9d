package systemd

import (
	"go/ast"
	"go/parser"
	"go/token"
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
