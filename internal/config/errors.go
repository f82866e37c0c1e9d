package config

import (
	"errors"
	"strconv"
	"strings"
)

// Error is one thing that is wrong with the configuration. It never holds the
// value of a database URL.
type Error struct {
	// Key is the name under which the operator finds the mistake: the path of
	// a key in the file, a variable, a flag, or a file.
	Key string

	Problem string // what was found
	Hint    string // what to write instead; may be empty
}

func (e Error) Error() string {
	s := e.Problem
	if e.Key != "" {
		s = e.Key + ": " + s
	}
	if e.Hint != "" {
		s += " (hint: " + e.Hint + ")"
	}
	return s
}

// Errors is everything that is wrong with a configuration: first unknown keys,
// variables and flags, then values, in the order of the keys.
type Errors []Error

// Error returns one line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// about says which key an error is about.
func about(key string, err error) Error {
	e, ok := errors.AsType[Error](err)
	if !ok {
		e = Error{Problem: err.Error()}
	}
	e.Key = key
	return e
}

// either joins choices as a sentence does: "a, b or c".
func either(choices []string) string {
	if len(choices) < 2 {
		return strings.Join(choices, "")
	}
	last := len(choices) - 1
	return strings.Join(choices[:last], ", ") + " or " + choices[last]
}

// printable returns the name of an unknown key for an error. A connection
// string that is indented wrongly becomes a key, and must not be shown.
func printable(name string) string {
	if strings.ContainsAny(name, ":/@=") {
		return mask
	}
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` || name == "" {
		return quoted
	}
	return name
}

// nearest returns the candidate that name was most likely meant to be, or "".
func nearest(name string, candidates []string) string {
	best, limit := "", (len(name)+2)/3 // every third letter wrong is still the same word
	for _, c := range candidates {
		if d := distance(name, c); d <= limit {
			best, limit = c, d-1
		}
	}
	return best
}

// distance counts the letters to insert, delete or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, above+1, diagonal+cost)
			diagonal = above
		}
	}
	return row[len(b)]
}
