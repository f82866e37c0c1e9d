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

// What is read is more than nothing, and what is shown reads as the same.
func FuzzSize(f *testing.F) {
	for _, seed := range []string{"", "10GB", "1.5MB", "0.5B", "10 GB", "1e3kB", "9999999TB", "-1kB", ".kB", "1kb", "0B", "8388607.999TB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := size(text(s))
		if err != nil {
			return
		}
		if got < 0 || (got == 0) != (s == "") {
			t.Fatalf("%q is %d bytes", s, int64(got))
		}
		if again, err := size(text(got.String())); err != nil || again != got {
			t.Fatalf("%q is shown as %q, which is read as %d, error %v", s, got, int64(again), err)
		}
	})
}
