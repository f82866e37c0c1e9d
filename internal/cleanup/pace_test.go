package cleanup

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A run begins with a thousand rows. Whatever a row costs, the size that fills
// the target is found within five batches.
func TestBatchSizesReachTheTargetWithinFiveBatches(t *testing.T) {
	t.Parallel()
	tests := []struct {
		perRow time.Duration
		want   int
	}{
		{2 * time.Microsecond, 50_000},
		{time.Microsecond, 50_000}, // 100,000 would fill the target, but no batch may be so large
		{4 * time.Microsecond, 25_000},
		{10 * time.Microsecond, 10_000},
		{100 * time.Microsecond, 1000},
		{time.Millisecond, 100},
		{50 * time.Millisecond, 2},
		{100 * time.Millisecond, 1},
		{101 * time.Millisecond, 1}, // one row takes longer than a batch should: less than a row is not possible
		{10 * time.Second, 1},
	}
	for _, tt := range tests {
		t.Run(tt.perRow.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(200_000)
				m.perRow = tt.perRow
				r := newRunner()
				stop := make(chan struct{})
				r.Stop = stop
				r.Progress = func(p Progress) {
					if p.Batches == 6 {
						close(stop)
					}
				}
				m.run(t, t.Context(), r)
				if got := m.asked[5]; got != tt.want {
					t.Errorf("batches of %v rows; want the sixth to be of %d", m.asked, tt.want)
				}
			})
		})
	}
}

func TestNoBatchIsLargerThanAllowed(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 999, 1000, 1001} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(10 * most)
				m.perRow = time.Nanosecond
				r := newRunner()
				r.BatchMaxRows = most
				m.run(t, t.Context(), r) // its checker looks at every size
				if want := min(1000, most); m.asked[0] != want {
					t.Errorf("the first batch asks for %d rows, want %d", m.asked[0], want)
				}
			})
		})
	}
}

// A batch that takes too long is what other work feels: the very next one is
// smaller, by as much as it was slower.
func TestBatchesShrinkAtOnceAndGrowAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(20_000)
		m.before = func(op string, n int) error {
			switch {
			case op == opDelete && n == 4:
				m.perRow *= 10
			case op == opDelete && n == 7:
				m.perRow /= 10
			}
			return nil
		}
		m.run(t, t.Context(), newRunner())
		want := []int{1000, 1000, 1000, 1000, 100, 100, 100, 400, 1000, 1000}
		if got := m.asked[:len(want)]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("batches of %v rows, want %v", got, want)
		}
	})
}

// Only the server's time counts: what a batch waits for, nobody else feels.
func TestABackoffIsNoSlowBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(20_000)
		m.before = failing(opDelete, 3, 9, errDeadlock)
		m.run(t, t.Context(), newRunner())
		for i, n := range m.asked[:10] {
			if n != 1000 {
				t.Fatalf("batch %d asks for %d rows: %v", i+1, n, m.asked[:10])
			}
		}
	})
}

func TestASlowNetworkDoesNotShrinkTheBatches(t *testing.T) {
	t.Parallel()
	for _, trip := range []time.Duration{80 * time.Millisecond, 100 * time.Millisecond, 10 * time.Second} {
		t.Run(trip.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(100_000)
				m.perRow, m.perBatch, m.perNext = 10*time.Microsecond, trip, trip/2
				m.run(t, t.Context(), newRunner())
				want := []int{1000, 4000, 10_000, 10_000}
				if got := m.asked[:len(want)]; fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("batches of %v rows, want %v, as without a network", got, want)
				}
			})
		})
	}
}

func TestPacerKeepsItsBounds(t *testing.T) {
	t.Parallel()
	const target, most = 100 * time.Millisecond, 50_000
	tests := []struct {
		name string
		rows int
		took time.Duration
		want int
	}{
		{"no row", 0, time.Hour, 1000},
		{"no time, a large batch", most, 0, most},
		{"no time, a small batch", 1, 0, 4},
		{"the clock went back", 1000, -time.Second, 4000},
		{"exactly the target", 1000, target, 1000},
		{"a moment faster", 1000, target - time.Millisecond, 1010},
		{"a moment slower", 1000, target + time.Millisecond, 990},
		{"four times faster", 1000, target / 4, 4000},
		{"five times faster", 1000, target / 5, 4000},
		{"exactly the largest", 12_500, target / 4, most},
		{"a row beyond the largest", 12_501, target / 4, most},
		{"ten times slower", 1000, 10 * target, 100},
		{"a thousand times slower", 1000, 1000 * target, 1},
		{"an hour", 1000, time.Hour, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPacer(target, most)
			p.observe(tt.rows, tt.took)
			if p.rows != tt.want {
				t.Errorf("the next batch has %d rows, want %d", p.rows, tt.want)
			}
		})
	}
}
