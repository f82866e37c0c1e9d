package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const repository = "../.."

var (
	testNamed    = regexp.MustCompile("`(Test[A-Za-z0-9_]+(?:/[a-z0-9_]+)?)`")
	testDeclared = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(t \*testing\.T\)`)
)

// Every row of docs/reliability.md names the tests that show it, and they exist.
func TestReliabilityPageNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(repository, "docs", "reliability.md"))
	if err != nil {
		t.Fatal(err)
	}
	exists := existingTests(t)
	rows, columns := 0, 0 // of the table at hand; 0: it has no column of tests
	for line := range strings.Lines(string(page)) {
		for _, name := range testNamed.FindAllStringSubmatch(line, -1) {
			if !exists[name[1]] {
				t.Errorf("there is no test %s", name[1])
			}
		}
		if !strings.HasPrefix(line, "|") {
			columns = 0
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		last := strings.TrimSpace(cells[len(cells)-1])
		switch {
		case last == "test":
			columns = len(cells)
		case columns > 0 && strings.Trim(last, "-: ") != "":
			rows++
			if len(cells) != columns || !testNamed.MatchString(last) {
				t.Errorf("a row with %d of %d cells, or without a test: %s", len(cells), columns, line)
			}
		}
	}
	if rows == 0 {
		t.Error("the page has no table of faults")
	}
}

// existingTests finds the tests of the repository, and the scripts of commands.
func existingTests(t *testing.T) map[string]bool {
	exists := make(map[string]bool)
	err := filepath.WalkDir(repository, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case filepath.Ext(path) == ".txtar":
			exists["TestScripts/"+strings.TrimSuffix(entry.Name(), ".txtar")] = true
		case strings.HasSuffix(path, "_test.go"):
			source, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, match := range testDeclared.FindAllSubmatch(source, -1) {
				exists[string(match[1])] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return exists
}
