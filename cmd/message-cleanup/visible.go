package main

import (
	"fmt"
	"os"
	"strings"
	"unicode"
)

// visible is a terminal on which people see what it would obey: the name of a
// table may be anything. Programs get what is in a name.
type visible struct{ terminal *os.File }

// Write implements io.Writer.
func (v visible) Write(b []byte) (int, error) {
	if _, err := v.terminal.WriteString(makeVisible(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// makeVisible leaves line breaks and tabs as they are.
func makeVisible(s string) string {
	obeyed := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }
	if !strings.ContainsFunc(s, obeyed) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if obeyed(r) {
			fmt.Fprintf(&b, `\x%02x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
