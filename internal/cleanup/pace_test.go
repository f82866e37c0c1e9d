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
		want := []int{1000, 1000, 1000, 1000, 100, 100, 100, 1000, 1000, 1000}
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
				want := []int{1000, 10_000, 10_000}
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
		{"no time, a small batch", 1, 0, 16},
		{"the clock went back", 1000, -time.Second, 16_000},
		{"exactly the target", 1000, target, 1000},
		{"a tenth faster, which is nearly right", 1000, target * 10 / 11, 1000},
		{"a tenth slower, which is nearly right", 1000, target * 10 / 9, 1000},
		{"a little more than a tenth faster", 1000, target * 100 / 112, 1120},
		{"a little more than a tenth slower", 1000, target * 100 / 88, 880},
		{"four times faster", 1000, target / 4, 4000},
		{"sixteen times faster", 1000, target / 16, 16_000},
		{"twenty times faster", 1000, target / 20, 16_000},
		{"exactly the largest", 12_500, target / 4, most},
		{"a row beyond the largest", 12_501, target / 4, most},
		{"ten times slower", 1000, 10 * target, 100},
		{"a thousand times slower", 1000, 1000 * target, 1},
		{"an hour", 1000, time.Hour, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPacer(target, most, 16<<20, 1)
			p.observe(tt.rows, Batch{Deleted: int64(tt.rows), Took: tt.took}, time.Now())
			if p.rows != tt.want {
				t.Errorf("the next batch has %d rows, want %d", p.rows, tt.want)
			}
		})
	}
}

// What the batches in work log together has to fit into half of the server's
// WAL buffers, however fast they are.
func TestBatchesLeaveRoomInTheWALBuffers(t *testing.T) {
	t.Parallel()
	const target, most = 100 * time.Millisecond, 50_000
	tests := []struct {
		name    string
		buffers int64
		workers int
		wal     int64 // of a batch of 1000 rows
		want    int
	}{
		{"one worker, exactly its share", 16 << 20, 1, 8 << 20, 1000},
		{"one worker, twice its share", 16 << 20, 1, 16 << 20, 500},
		{"two workers share", 16 << 20, 2, 8 << 20, 500},
		{"four workers share", 16 << 20, 4, 8 << 20, 250},
		{"half the share", 16 << 20, 1, 4 << 20, 2000},
		{"next to no log", 16 << 20, 1, 100, 16_000},
		{"no log", 16 << 20, 1, 0, 16_000},
		{"more than a row has room for", 16 << 20, 1, 1 << 40, 1},
		{"small buffers", 64 << 10, 1, 1 << 20, 31},
		{"a server that does not tell", 0, 1, 1 << 40, 16_000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newPacer(target, most, tt.buffers, tt.workers)
			p.observe(1000, Batch{Deleted: 1000, Took: time.Millisecond, WAL: tt.wal}, time.Now())
			if p.rows != tt.want {
				t.Errorf("the next batch has %d rows, want %d", p.rows, tt.want)
			}
		})
	}
}

// A batch costs the server something besides its rows. The size still settles
// where a batch takes the target, from any start, within five batches.
func TestSizesSettleWithinFiveBatchesFromAnyStart(t *testing.T) {
	t.Parallel()
	const target, fixed = 100 * time.Millisecond, 5 * time.Millisecond
	for _, start := range []int{1, 50, 1000, 20_000, 1_000_000} {
		for _, perRow := range []time.Duration{time.Microsecond, 20 * time.Microsecond, time.Millisecond} {
			t.Run(fmt.Sprintf("from %d rows, %s a row", start, perRow), func(t *testing.T) {
				t.Parallel()
				p := newPacer(target, 10_000_000, 0, 1)
				p.rows = start
				took := func() time.Duration { return fixed + time.Duration(p.rows)*perRow }
				wanted := int((target - fixed) / perRow)
				for range 5 {
					p.observe(p.rows, Batch{Deleted: int64(p.rows), Took: took()}, time.Now())
				}
				if off := float64(p.rows)/float64(wanted) - 1; off < -0.1 || off > 0.1 {
					t.Errorf("the sixth batch has %d rows, want about %d", p.rows, wanted)
				}
			})
		}
	}
}

// Half of the rows of a batch are enough to tell what a row costs. A batch with
// fewer says little about the next stretch of the table.
func TestAnEmptyStretchIsNoReasonToHurry(t *testing.T) {
	t.Parallel()
	for deleted, want := range map[int64]int{0: 4000, 499: 4000, 500: 16_000, 1000: 16_000} {
		p := newPacer(100*time.Millisecond, 50_000, 0, 1)
		p.observe(1000, Batch{Deleted: deleted, Took: time.Millisecond}, time.Now())
		if p.rows != want {
			t.Errorf("after %d of 1000 rows the next batch has %d rows, want %d", deleted, p.rows, want)
		}
	}
}
