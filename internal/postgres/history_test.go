package postgres

import (
	"strconv"
	"testing"
	"time"
)

// The end of the WAL is at 100 to 400 at 0 to 3 s, then stays there.
func TestLagOfAStandby(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 25, 2, 0, 0, 0, time.UTC)
	var h history
	for i, end := range []int64{100, 200, 300, 400, 400, 400} {
		h.add(start.Add(time.Duration(i)*time.Second), end)
	}
	tests := []struct {
		name      string
		position  int64
		replayLag time.Duration // 0: NULL
		want      time.Duration
	}{
		{"replayed everything", 400, 0, 0},
		{"replayed everything, with a measure from before", 400, time.Hour, 0},
		{"replayed more than there was at the look", 401, 0, 0},
		{"a byte is missing", 399, 0, 2 * time.Second},
		{"replayed all but the last", 300, 0, 2 * time.Second},
		{"in the middle", 250, 0, 3 * time.Second},
		{"stuck since the first look", 100, 0, 4 * time.Second},
		{"behind since before the first look", 99, 0, 5 * time.Second},
		{"nothing at all", 0, 0, 5 * time.Second},
		{"behind since long before the first look", 99, time.Minute, time.Minute},
		{"stuck, with a small measure from before", 100, time.Millisecond, 4 * time.Second},
		{"slow, between two looks", 399, 2100 * time.Millisecond, 2100 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			replayLag := ""
			if tt.replayLag > 0 {
				replayLag = strconv.FormatInt(tt.replayLag.Microseconds(), 10)
			}
			got, err := h.lag(start.Add(5*time.Second), 400, tt.position, replayLag)
			if err != nil || got != tt.want {
				t.Errorf("lag is %v, error %v; want %v", got, err, tt.want)
			}
		})
	}
}

func TestHistoryForgetsWhatACrashTookBack(t *testing.T) {
	t.Parallel()
	start := time.Now()
	var h history
	h.add(start, 1000)
	h.add(start.Add(time.Minute), 900)
	if got := h.age(start.Add(2*time.Minute), 899); got != time.Minute {
		t.Errorf("age is %v, want that since the crash", got)
	}
}

// Days of looking take no more memory than minutes, and a standby that is stuck
// for so long is known to be. What the others have not replayed is known more
// coarsely.
func TestHistoryIsBounded(t *testing.T) {
	t.Parallel()
	const looks, stuck = 100_000, 500
	start := time.Now()
	at := func(i int64) time.Time { return start.Add(time.Duration(i) * time.Second) }
	var h history
	for i := range int64(looks) {
		h.add(at(i), i)
		h.forget(min(i, stuck))
		if len(h) > historySize {
			t.Fatalf("%d entries after %d looks", len(h), i+1)
		}
	}
	if got, want := h.age(at(looks), stuck), at(looks).Sub(at(stuck+1)); got != want {
		t.Errorf("stuck for %v, want %v", got, want)
	}
	for _, back := range []int64{1, 10, 100, 1000} {
		exact := time.Duration(back) * time.Second
		if got := h.age(at(looks), looks-1-back); got > exact || got < exact/2 {
			t.Errorf("what was written %v ago is %v old", exact, got)
		}
	}
}
