package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The reference names every key with its default, so that it cannot fall behind
// the code.
func TestReferenceHasEveryKeyWithItsDefault(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := func(path, initial string) string {
		if initial == "" {
			return "| `" + path + "` | "
		}
		return "| `" + path + "` | `" + initial + "` | "
	}
	for _, k := range keys {
		if k.path != policiesPath && !strings.Contains(string(text), row(k.path, k.initial)) {
			t.Errorf("docs/configuration.md has no row that begins with %s", row(k.path, k.initial))
		}
	}
	for _, k := range policyKeys {
		if !strings.Contains(string(text), row("policies[]."+k.path, k.initial)) {
			t.Errorf("docs/configuration.md has no row that begins with %s", row("policies[]."+k.path, k.initial))
		}
	}
}

// The shipped file is all comments: it must be valid, and so must what is in the
// comments.
func TestShippedConfigurationIsValid(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var examples strings.Builder
	_, keys, _ := strings.Cut(string(text), "\n\n") // below the introduction
	for line := range strings.Lines(keys) {
		example, comment := strings.CutPrefix(line, "#")
		if !comment && line != "\n" {
			t.Errorf("the shipped file sets something: %q; people who edited it could not upgrade unattended", line)
		}
		examples.WriteString(example)
	}
	for _, file := range []string{string(text), examples.String()} {
		if _, err := Load(Options{File: write(t, "config.yaml", file)}); err != nil {
			t.Errorf("%v\nin:\n%s", err, file)
		}
	}
}
