package cleanup

import (
	"testing"
	"testing/synctest"
	"time"
)

// guarded feeds batches to a guard: the rows of each, how many of them are
// deleted, and how long it takes.
type guarded struct {
	rows, deleted int64
	took          time.Duration
	times         int
}

func TestLatencyGuardRestsWhenBatchesGetMuchSlower(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	usually := guarded{10_000, 10_000, 100 * ms, 20}
	tests := []struct {
		name    string
		batches []guarded
		want    float64 // how much slower, at the end
	}{
		{"as usual", []guarded{usually}, 1},
		{"one hiccup", []guarded{usually, {10_000, 10_000, 2000 * ms, 1}}, 1},
		{"two hiccups", []guarded{usually, {10_000, 10_000, 2000 * ms, 2}}, 1},
		{"three times", []guarded{usually, {10_000, 10_000, 350 * ms, 3}}, 3.4},
		{"less than three times", []guarded{usually, {10_000, 10_000, 290 * ms, 10}}, 1},
		{"far slower is bounded", []guarded{usually, {10_000, 10_000, 5000 * ms, 3}}, 4},
		{"also when batches were made smaller at once", []guarded{usually, {10_000, 10_000, 1000 * ms, 1}, {1000, 1000, 100 * ms, 5}}, 4},
		{"over, after one quick batch", []guarded{usually, {10_000, 10_000, 1000 * ms, 5}, {10_000, 10_000, 100 * ms, 1}}, 1},
		{"more expired rows in each batch", []guarded{{10_000, 100, 10 * ms, 20}, {10_000, 10_000, 100 * ms, 10}}, 1},
		{"fewer expired rows in each batch", []guarded{usually, {10_000, 100, 10 * ms, 20}}, 1},
		{"no expired row in a batch", []guarded{usually, {10_000, 0, 10 * ms, 20}, usually}, 1},
		{"what lasts becomes the usual", []guarded{usually, {1000, 1000, 100 * ms, 400}}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var g latencyGuard
			for _, b := range tt.batches {
				for range b.times {
					g.observe(int(b.rows), Batch{Deleted: b.deleted, Took: b.took})
				}
			}
			if got := g.slowdown(); got < tt.want-0.2 || got > tt.want+0.2 {
				t.Errorf("slowdown %.2f, want about %v", got, tt.want)
			}
		})
	}
}

// Somebody else needs the machine for a while: every row takes five times as
// long. The run leaves three quarters of the time to them.
func TestARunThatIsSlowedDownRests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(60_000)
		var began []time.Time
		m.before = func(op string, n int) error {
			if op == opDelete {
				began = append(began, time.Now())
			}
			switch {
			case op == opDelete && n == 20:
				m.perRow *= 5
			case op == opDelete && n == 40:
				m.perRow /= 5
			}
			return nil
		}
		got := m.run(t, t.Context(), newRunner())
		wantEnd(t, got, Exhausted, OutcomeComplete, 60_000, 0)
		between := func(n int) time.Duration { return began[n].Sub(began[n-1]) }
		if d := between(10); d != 100*time.Millisecond {
			t.Errorf("usually a batch began every %s, want 100 ms: no rest", d)
		}
		if d := between(35); d < 380*time.Millisecond || d > 400*time.Millisecond {
			t.Errorf("slowed down a batch began every %s, want nearly 400 ms", d)
		}
		if d := between(len(began) - 2); d != 100*time.Millisecond {
			t.Errorf("in the end a batch began every %s, want 100 ms: no rest", d)
		}
	})
}
