package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/pflag"
)

// The manual is written by hand, and must not fall behind the commands.
func TestManualHasEveryCommandAndFlag(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../packaging/man/message-cleanup.8.md")
	if err != nil {
		t.Fatal(err)
	}
	manual := string(text)
	has := func(what string) {
		if !strings.Contains(manual, what) {
			t.Errorf("packaging/man/message-cleanup.8.md does not mention %s", what)
		}
	}
	root := new(app).rootCommand()
	flag := func(f *pflag.Flag) {
		if !f.Hidden {
			has("**--" + f.Name + "**")
		}
	}
	root.Flags().VisitAll(flag)
	root.PersistentFlags().VisitAll(flag)
	for _, command := range root.Commands() {
		if command.Hidden || command.Name() == "help" {
			continue
		}
		has("**message-cleanup** **" + command.Name() + "**")
		has("\n**" + command.Name() + "**")
		command.Flags().VisitAll(flag)
	}
	commands := root.Commands()
	if len(commands) < 5 {
		t.Errorf("only %d commands were found", len(commands))
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	code    = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
)

// Pages and headings move. A link must lead to a file that is there, and to one
// of its headings, by the name that the usual sites make of it.
func TestLinksOfTheDocumentationLeadSomewhere(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob("../../*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	read := func(page string) string {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Errorf("%v", err)
		}
		return string(text)
	}
	found := 0
	for _, page := range append(pages, more...) {
		for _, match := range link.FindAllStringSubmatch(code.ReplaceAllString(read(page), ""), -1) {
			file, anchor, _ := strings.Cut(match[1], "#")
			if strings.Contains(file, "://") {
				continue
			}
			found++
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, match[1], err)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(target)), anchor) {
				t.Errorf("%s links to %s, which has no such heading", page, match[1])
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d links were found", found)
	}
}

// anchors returns the names of a page's headings.
func anchors(page string) []string {
	var all []string
	for _, match := range heading.FindAllStringSubmatch(page, -1) {
		all = append(all, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, match[1]))
	}
	return all
}
