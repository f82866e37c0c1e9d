package config

import "testing"

func TestSizesAreReadAsPostgreSQLReadsThem(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text  string
		bytes Size
		shown string
	}{
		{"", 0, ""},
		{"1B", 1, "1B"},
		{"1023B", 1023, "1023B"},
		{"1024B", 1024, "1kB"},
		{"1kB", 1024, "1kB"},
		{"1.5MB", 3 << 19, "1536kB"},
		{"0.5B", 1, "1B"},
		{"10GB", 10 << 30, "10GB"},
		{"10 GB", 10 << 30, "10GB"},
		{"1TB", 1 << 40, "1TB"},
		{"8388607TB", 8388607 << 40, "8388607TB"},
	}
	for _, tt := range tests {
		got, err := size(tt.text)
		if err != nil || got != tt.bytes {
			t.Errorf("%q is %d bytes, error %v; want %d", tt.text, int64(got), err, int64(tt.bytes))
		}
		if got.String() != tt.shown {
			t.Errorf("%q is shown as %q, want %q", tt.text, got, tt.shown)
		}
		if again, err := size(got.String()); err != nil || again != got {
			t.Errorf("%q is read as %d, error %v; want what it was, %d", got, again, err, got)
		}
	}
}
