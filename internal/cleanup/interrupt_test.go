package cleanup

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestStopBetweenBatchesKeepsWhatIsDone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		before  string // the operation during which the run is told to stop
		n       int
		deleted int64
	}{
		{"while a piece is cut", opNext, 2, 2000},
		{"in the first batch", opDelete, 1, 1000},
		{"in the third batch", opDelete, 3, 3000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(5000)
				stop := make(chan struct{})
				m.before = func(op string, n int) error {
					if op == tt.before && n == tt.n {
						close(stop)
					}
					return nil
				}
				r := newRunner()
				r.Stop = stop
				got := m.run(t, t.Context(), r)
				wantEnd(t, got, Interrupted, OutcomeIncomplete, tt.deleted, -1)
				if got.Err != nil {
					t.Errorf("an interruption is no error: %v", got.Err)
				}
				if m.calls[opFlush] != 1 || m.calls[opCount] != 0 {
					t.Errorf("%d flushes, %d counts; want the rows durable, and no count that keeps a person waiting",
						m.calls[opFlush], m.calls[opCount])
				}
			})
		})
	}
}

func TestStopBeforeTheStartDeletesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1000)
		stop := make(chan struct{})
		close(stop)
		r := newRunner()
		r.Stop = stop
		wantEnd(t, m.run(t, t.Context(), r), Interrupted, OutcomeIncomplete, 0, -1)
	})
}

func TestStopDoesNotComeBackForLockedRows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(2000)
		m.leaves[leafName(0)][0].lockedUntil = forever
		stop := make(chan struct{})
		m.before = func(op string, n int) error {
			if op == opNext && m.count().Backlog == 1 {
				close(stop)
			}
			return nil
		}
		r := newRunner()
		r.Stop = stop
		wantEnd(t, m.run(t, t.Context(), r), Interrupted, OutcomeIncomplete, 1999, -1)
		if n := m.calls[opUnlocked]; n != 1 {
			t.Errorf("%d batches skipped locked rows, want 1", n)
		}
	})
}

// A verification in work is let finish: its answer is worth more than the
// moment it takes, and a stop that has no effect is no interruption.
func TestStopDuringTheVerificationStillCompletes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1000)
		m.perCount = time.Second
		stop := make(chan struct{})
		time.AfterFunc(500*time.Millisecond, func() { close(stop) })
		r := newRunner()
		r.Stop = stop
		wantEnd(t, m.run(t, t.Context(), r), Exhausted, OutcomeComplete, 1000, 0)
	})
}

// The backlog of an earlier pass says nothing of what is left now.
func TestABacklogOfAnEarlierPassIsNotReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		stop := make(chan struct{})
		m.before = func(op string, n int) error {
			switch {
			case op == opCount:
				m.late(2500)
			case op == opDelete && n == 5:
				close(stop)
			}
			return nil
		}
		r := newRunner()
		r.Stop = stop
		got := m.run(t, t.Context(), r)
		wantEnd(t, got, Interrupted, OutcomeIncomplete, 5000, -1)
		if got.Held != nil {
			t.Errorf("Held = %d, want: not counted", *got.Held)
		}
	})
}

func TestStopEndsTheWaitForTheNextTry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		m.before = failing(opDelete, 1, 1000, errDeadlock)
		stop := make(chan struct{})
		time.AfterFunc(30*time.Second, func() { close(stop) })
		r := newRunner()
		r.Stop = stop
		got := m.run(t, t.Context(), r)
		wantEnd(t, got, Interrupted, OutcomeIncomplete, 0, -1)
		if got.Duration != 30*time.Second {
			t.Errorf("the run ended after %v, it was told to after 30s", got.Duration)
		}
	})
}

func TestCancelAbandonsTheBatchAndKeepsTheOthers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		after   time.Duration
		deleted int64
	}{
		{"before the start", 0, 0},
		{"in the first batch", 50 * time.Millisecond, 0},
		{"in the third batch", 250 * time.Millisecond, 2000},
		{"in the verification", 450 * time.Millisecond, 4000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(4000)
				m.perCount = time.Hour
				ctx, cancel := context.WithTimeout(t.Context(), tt.after)
				defer cancel()
				got := m.run(t, ctx, newRunner())
				wantEnd(t, got, Interrupted, OutcomeIncomplete, tt.deleted, -1)
				if got.Err != nil {
					t.Errorf("an interruption is no error: %v", got.Err)
				}
				if got.Duration != tt.after {
					t.Errorf("the run ended after %v, it was told to after %v", got.Duration, tt.after)
				}
			})
		})
	}
}

// A flush that the cancellation abandons is begun again, within its own limit.
func TestCancelDuringTheFlushKeepsTheRows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		m.perFlush = time.Second
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		got := m.run(t, ctx, newRunner())
		wantEnd(t, got, Interrupted, OutcomeIncomplete, 3000, -1)
		if want := 1500 * time.Millisecond; got.Duration != want || got.Err != nil {
			t.Errorf("ended after %v with error %v; want %v and none", got.Duration, got.Err, want)
		}
	})
}

// Told to end at once, the run still tries to make durable what it did, but not
// for longer than a person waits; what it could not, it does not count.
func TestCancelBoundsTheFlush(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		flush   time.Duration
		deleted int64
		takes   time.Duration
	}{
		{"in time", flushLimit - 1, 2000, flushLimit - 1},
		{"too slow", flushLimit + 1, 0, flushLimit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(4000)
				m.perFlush = tt.flush
				ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
				defer cancel()
				got := m.run(t, ctx, newRunner())
				wantEnd(t, got, Interrupted, OutcomeIncomplete, tt.deleted, -1)
				if want := 250*time.Millisecond + tt.takes; got.Duration != want {
					t.Errorf("the run ended after %v, want %v", got.Duration, want)
				}
				if tt.deleted == 0 {
					wantError(t, got.Err, Incomplete, "2,000 rows were deleted besides, not known to be durable")
				}
			})
		})
	}
}
