package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	unitHint  = "write a unit, e.g. 30d or 0s"
	unitsHint = "the units are w, d, h, m, s, ms, us and ns, e.g. 2d or 1d12h"
)

// ParseDuration reads a duration as [time.ParseDuration] does, and knows d for
// 24 hours and w for 7 days beside Go's units: "2d", "1d12h", "1.5w". A number
// without a unit is an error, 0 too. The error is an [Error] without a key.
func ParseDuration(s string) (time.Duration, error) {
	rest, negative := strings.CutPrefix(s, "-")
	if !negative {
		rest = strings.TrimPrefix(rest, "+")
	}
	if rest == "" {
		return 0, notDuration(s)
	}
	var total time.Duration
	for rest != "" {
		var number, unit string
		number, rest = cut(rest, "0123456789.", true)
		unit, rest = cut(rest, "0123456789.", false)
		d, err := part(s, number, unit)
		if err != nil {
			return 0, err
		}
		if total > math.MaxInt64-d {
			return 0, tooLong(s)
		}
		total += d
	}
	if negative {
		return -total, nil
	}
	return total, nil
}

// part reads one number with its unit; whole is for the error.
func part(whole, number, unit string) (time.Duration, error) {
	if _, err := strconv.ParseFloat(number, 64); err != nil {
		return 0, notDuration(whole)
	}
	if unit == "" {
		return 0, Error{Problem: fmt.Sprintf("%q has no unit", whole), Hint: unitHint}
	}
	times := time.Duration(1)
	switch unit {
	case "d":
		times, unit = 24, "h"
	case "w":
		times, unit = 7*24, "h"
	}
	if _, err := time.ParseDuration("1" + unit); err != nil {
		return 0, notDuration(whole)
	}
	d, err := time.ParseDuration(number + unit)
	if err != nil || d > math.MaxInt64/times {
		return 0, tooLong(whole) // number and unit are good, so it is their size
	}
	return d * times, nil
}

// cut splits s behind its longest prefix that consists of chars (in) or of
// anything else (not in).
func cut(s, chars string, in bool) (prefix, rest string) {
	end := strings.IndexFunc(s, func(r rune) bool { return strings.ContainsRune(chars, r) != in })
	if end < 0 {
		return s, ""
	}
	return s[:end], s[end:]
}

func notDuration(s string) error {
	return Error{Problem: fmt.Sprintf("%q is not a duration", s), Hint: unitsHint}
}

func tooLong(s string) error {
	return Error{Problem: fmt.Sprintf("%q is too long", s), Hint: "about 292 years is the longest that can be computed with"}
}
