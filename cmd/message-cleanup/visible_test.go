package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestATerminalShowsWhatItWouldObey(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "terminal"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const text = "größe\t\x1b[2J\r\x07\u009b\n"
	if n, err := io.WriteString(visible{file}, text); n != len(text) || err != nil {
		t.Errorf("wrote %d bytes of %d, error %v", n, len(text), err)
	}
	got, err := os.ReadFile(file.Name())
	if want := "größe\t\\x1b[2J\\x0d\\x07\\x9b\n"; string(got) != want {
		t.Errorf("got %q, want %q (%v)", got, want, err)
	}
}
