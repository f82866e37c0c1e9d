package config

import (
	"math"
	"strings"
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
)

func TestParseDuration(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	tests := []struct {
		in   string
		want time.Duration
	}{
		{"0s", 0},
		{"0d", 0},
		{"30d", 30 * day},
		{"2w", 14 * day},
		{"1d12h", 36 * time.Hour},
		{"1w1d1h1m1s1ms1us1ns", 8*day + time.Hour + time.Minute + time.Second + time.Millisecond + time.Microsecond + 1},
		{"1.5d", 36 * time.Hour},
		{".5h", 30 * time.Minute},
		{"1.5µs", 1500},
		{"+5m", 5 * time.Minute},
		{"-1d", -day},
		{"-1d1h", -25 * time.Hour},
		{"1h1d", 25 * time.Hour},
		{"106751d", 106751 * day},
		{"2562047h47m16s854ms775us807ns", math.MaxInt64},
	}
	for _, tt := range tests {
		got, err := ParseDuration(tt.in)
		if err != nil || got != tt.want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
}

func TestParseDurationRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"":                              "is not a duration",
		"-":                             "is not a duration",
		"d":                             "is not a duration",
		".d":                            "is not a duration",
		"1.2.3h":                        "is not a duration",
		"2 dayz":                        "is not a duration",
		"2 d":                           "is not a duration",
		" 2d":                           "is not a duration",
		"2d ":                           "is not a duration",
		"2D":                            "is not a duration",
		"2y":                            "is not a duration",
		"--2d":                          "is not a duration",
		"2d-1h":                         "is not a duration",
		"1e3s":                          "is not a duration",
		"P2D":                           "is not a duration",
		"forever":                       "is not a duration",
		"0":                             "has no unit",
		"30":                            "has no unit",
		"-30":                           "has no unit",
		"1h30":                          "has no unit",
		"106752d":                       "is too long",
		"99999999w":                     "is too long",
		"99999999999999999999999s":      "is too long",
		"2562047h47m16s854ms775us808ns": "is too long",
		"106751d106751d":                "is too long",
	}
	for in, want := range tests {
		if got, err := ParseDuration(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseDuration(%q) = %v, %v; want an error with %q", in, got, err, want)
		}
	}
}

// Where Go's parser and this one both accept a text they must agree, and what
// the program shows it must read back.
func FuzzParseDuration(f *testing.F) {
	for _, seed := range []string{"0s", "30", "2d", "1d12h", "1.5w", "-3h", "2 dayz", "1h30m", "9999999w", "1.5µs", ".d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		std, stdErr := time.ParseDuration(s)
		switch {
		case err != nil && stdErr == nil && s != "0" && s != "+0" && s != "-0" && std != math.MinInt64:
			t.Fatalf("ParseDuration(%q): %v, but Go reads %v", s, err, std)
		case err == nil && stdErr == nil && d != std:
			t.Fatalf("ParseDuration(%q) = %v, but Go reads %v", s, d, std)
		case err == nil && (d < 0) != strings.HasPrefix(s, "-") && d != 0:
			t.Fatalf("ParseDuration(%q) = %v: wrong sign", s, d)
		}
		if err == nil {
			if again, err := ParseDuration(cleanup.FormatDuration(d)); err != nil || again != d {
				t.Fatalf("%v is shown as %q, which reads as %v, %v", d, cleanup.FormatDuration(d), again, err)
			}
		}
	})
}
