package config

import (
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"message-cleanup/internal/cleanup"
)

// text is a value that has no type of its own because it comes from the
// environment, a flag or the table of keys. A number may be a text; a string
// of the file may not be a number.
type text string

// connection reads the database URL. No error ever shows it.
func connection(raw any) (string, error) {
	s, ok := asText(raw)
	if !ok {
		return "", Error{Problem: kind(raw) + " is not text", Hint: "write a postgres:// URL or keyword=value pairs in quotes"}
	}
	if strings.ContainsRune(s, 0) {
		return "", Error{Problem: "contains a NUL byte"}
	}
	if !understood(s) {
		return "", Error{Problem: "cannot be understood without doubt",
			Hint: "in a URL, write %40 for @, %2F for /, %3A for : and %25 for %; in keyword=value pairs, put a value with blanks in single quotes"}
	}
	return s, nil
}

// misplaced is a connection string where something else belongs.
var misplaced = Error{Problem: "looks like a connection string", Hint: "that belongs into database.url"}

// name reads a name that must be there.
func name(raw any) (string, error) {
	s, err := plain(raw)
	if err == nil && strings.TrimSpace(s) == "" {
		return "", Error{Problem: "is empty", Hint: "write a name, or remove the key"}
	}
	if address.MatchString(s) {
		return "", misplaced
	}
	return s, err
}

// nameOrNone reads a name that may be left empty, but not blank.
func nameOrNone(raw any) (string, error) {
	if s, err := plain(raw); err == nil && s == "" {
		return "", nil
	}
	return name(raw)
}

// condition reads an SQL condition. One of blanks only would be neither a
// condition nor plainly none.
func condition(raw any) (string, error) {
	s, err := plain(raw)
	if err == nil && s != "" && strings.TrimSpace(s) == "" {
		return "", Error{Problem: "is blank", Hint: "write an SQL condition, or remove the key"}
	}
	return s, err
}

// textfile reads the path of a file that is to be written. It must not depend on
// where the program is started, and the suffix is the one that collectors of such
// files look for; it also keeps a slip of the pen from overwriting something else.
func textfile(raw any) (string, error) {
	s, err := plain(raw)
	if err == nil && s != "" && (!filepath.IsAbs(s) || filepath.Ext(s) != ".prom") {
		return "", Error{Problem: fmt.Sprintf("%q is not the whole path of a file that ends in .prom", s), Hint: "write e.g. /var/lib/message-cleanup/metrics.prom"}
	}
	return s, err
}

// zone reads an IANA time zone. Local is refused: the same file would mean
// other rows on another host.
func zone(raw any) (string, error) {
	s, err := plain(raw)
	if err != nil {
		return "", err
	}
	const hint = "write an IANA name, e.g. UTC or Europe/Berlin"
	if s == "" || strings.EqualFold(s, "local") || s == "localtime" {
		return "", Error{Problem: fmt.Sprintf("%q does not name a zone", s), Hint: hint}
	}
	if _, err := time.LoadLocation(s); err != nil {
		return "", Error{Problem: fmt.Sprintf("%q is not a known time zone", s), Hint: hint}
	}
	return s, nil
}

// plain reads text that PostgreSQL can take.
func plain(raw any) (string, error) {
	s, ok := asText(raw)
	switch {
	case !ok:
		return "", Error{Problem: describe(raw) + " is not text", Hint: "put it in quotes"}
	case strings.ContainsRune(s, 0):
		return "", Error{Problem: "contains a NUL byte", Hint: "PostgreSQL cannot take one"}
	}
	return s, nil
}

// chosen returns the reader of a value that is one of a few words.
func chosen[S ~string](choices ...S) func(any) (S, error) {
	words := make([]string, len(choices))
	for i, c := range choices {
		words[i] = string(c)
	}
	return func(raw any) (S, error) {
		s, ok := asText(raw)
		for _, c := range choices {
			if ok && s == string(c) {
				return c, nil
			}
		}
		return "", Error{Problem: describe(raw) + " is not a known value", Hint: "write " + either(words)}
	}
}

// level reads the least level that is logged.
func level(raw any) (slog.Level, error) {
	word, err := chosen("debug", "info", "warn", "error")(raw)
	if err != nil {
		return 0, err
	}
	var l slog.Level
	return l, l.UnmarshalText([]byte(word))
}

// duration returns the reader of a duration within bounds.
func duration(least, most time.Duration) func(any) (time.Duration, error) {
	return func(raw any) (time.Duration, error) {
		d, err := asDuration(raw)
		if err != nil {
			return 0, err
		}
		hint := fmt.Sprintf("from %s to %s", cleanup.FormatDuration(least), cleanup.FormatDuration(most))
		switch {
		case d < 0:
			return 0, Error{Problem: describe(raw) + " is negative", Hint: hint}
		case d < least:
			return 0, Error{Problem: describe(raw) + " is too short", Hint: hint}
		case d > most:
			return 0, Error{Problem: describe(raw) + " is too long", Hint: hint}
		}
		return d, nil
	}
}

func asDuration(raw any) (time.Duration, error) {
	if s, ok := asText(raw); ok {
		return ParseDuration(s)
	}
	switch raw.(type) {
	case int, int64, uint64, float64:
		// Decoders take such a number for nanoseconds, and a retention of 30
		// nanoseconds deletes what should be kept for 30 days.
		return 0, Error{Problem: describe(raw) + " has no unit", Hint: unitHint}
	}
	return 0, Error{Problem: describe(raw) + " is not a duration", Hint: unitHint}
}

// whole returns the reader of a whole number within bounds.
func whole[N int | int64](least, most N) func(any) (N, error) {
	return func(raw any) (N, error) {
		n, err := integer(raw)
		if err != nil {
			return 0, err
		}
		if n < int64(least) || n > int64(most) {
			hint := fmt.Sprintf("from %d to %d", least, most)
			if int64(most) == math.MaxInt64 {
				hint = fmt.Sprintf("%d or more", least)
			}
			return 0, Error{Problem: fmt.Sprintf("%d is out of range", n), Hint: hint}
		}
		return N(n), nil
	}
}

func integer(raw any) (int64, error) {
	switch v := raw.(type) {
	case int:
		return int64(v), nil
	case int64:
		return v, nil
	case float64: // JSON has no other numbers; 1<<53 is where they begin to skip some
		if v == math.Trunc(v) && math.Abs(v) <= 1<<53 {
			return int64(v), nil
		}
	case text:
		if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
			return n, nil
		}
	case string:
		return 0, Error{Problem: describe(raw) + " is text, not a number", Hint: "write it without quotes, e.g. 50000"}
	}
	return 0, Error{Problem: describe(raw) + " is not a whole number", Hint: "write digits only, e.g. 50000"}
}

// fraction reads a share: more than 0, and 1 at most.
func fraction(raw any) (float64, error) {
	const hint = "write a number above 0 and up to 1, e.g. 0.5"
	var f float64
	switch v := raw.(type) {
	case float64:
		f = v
	case int:
		f = float64(v)
	case int64:
		f = float64(v)
	case text:
		parsed, err := strconv.ParseFloat(string(v), 64)
		if err != nil {
			return 0, Error{Problem: describe(raw) + " is not a number", Hint: hint}
		}
		f = parsed
	default:
		return 0, Error{Problem: describe(raw) + " is not a number", Hint: hint}
	}
	if f > 0 && f <= 1 { // false for NaN too
		return f, nil
	}
	return 0, Error{Problem: describe(raw) + " is out of range", Hint: hint}
}

func asText(raw any) (string, bool) {
	switch v := raw.(type) {
	case string:
		return v, true
	case text:
		return string(v), true
	}
	return "", false
}

// describe says what was found: a scalar by its value, anything else by kind.
func describe(raw any) string {
	switch v := raw.(type) {
	case string, text:
		return fmt.Sprintf("%q", v)
	case bool, int, int64, uint64, float64:
		return fmt.Sprint(v)
	}
	return kind(raw)
}

// kind says what was found without showing it.
func kind(raw any) string {
	switch raw.(type) {
	case nil:
		return "nothing"
	case string, text:
		return "text"
	case bool:
		return "true or false"
	case int, int64, uint64, float64:
		return "a number"
	case []any:
		return "a list"
	case map[string]any:
		return "a section"
	}
	return "a date" // what the formats have beside these
}
