package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. 0 is none, and written as an empty text.
type Size int64

// units are PostgreSQL's, which reads kB as 1024 bytes and knows no other case:
// https://www.postgresql.org/docs/current/config-setting.html#CONFIG-SETTING-NAMES-VALUES
var units = []struct {
	name  string
	bytes Size
}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}}

const sizeHint = "the units are B, kB, MB, GB and TB, e.g. 10GB"

// String writes the size with the largest unit that takes a whole number.
func (s Size) String() string {
	for _, u := range units {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return ""
}

// size reads a number of bytes with its unit; an empty text is none.
func size(raw any) (Size, error) {
	s, ok := asText(raw)
	if !ok {
		problem := " is not a size"
		if kind(raw) == "a number" {
			problem = " has no unit"
		}
		return 0, Error{Problem: describe(raw) + problem, Hint: sizeHint}
	}
	if s == "" {
		return 0, nil
	}
	digits, unit := cut(s, "0123456789.", true)
	number, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return 0, Error{Problem: fmt.Sprintf("%q is not a size", s), Hint: sizeHint}
	}
	unit = strings.TrimLeft(unit, " ")
	if unit == "" {
		return 0, Error{Problem: fmt.Sprintf("%q has no unit", s), Hint: sizeHint}
	}
	for _, u := range units {
		if u.name != unit {
			continue
		}
		bytes := math.Round(number * float64(u.bytes))
		switch {
		case bytes < 1:
			return 0, Error{Problem: fmt.Sprintf("%q is too small", s), Hint: `write "" for none`}
		case bytes >= math.MaxInt64:
			return 0, Error{Problem: fmt.Sprintf("%q is too large", s), Hint: "8388607TB is the largest"}
		}
		return Size(bytes), nil
	}
	return 0, Error{Problem: fmt.Sprintf("%q is not a size", s), Hint: sizeHint}
}
