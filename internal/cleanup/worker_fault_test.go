package cleanup

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// A transient fault is its worker's alone; the others go on.
func TestWorkersRetryOnTheirOwn(t *testing.T) {
	t.Parallel()
	tests := []struct {
		op          string
		first, last int
	}{
		{opNext, 1, 1},
		{opNext, 5, 10},
		{opDelete, 1, 4}, // each worker's first
		{opDelete, 7, 12},
		{opFlush, 1, 3},
		{opCount, 1, 3},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s fails from %d to %d", tt.op, tt.first, tt.last), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(20_000)
				m.before = failing(tt.op, tt.first, tt.last, errDeadlock)
				got := m.run(t, t.Context(), newWorkers(4))
				wantEnd(t, got, Exhausted, OutcomeComplete, 20_000, 0)
				if want := int64(tt.last - tt.first + 1); got.Retries != want || got.Batches != 20 {
					t.Errorf("Retries = %d, Batches = %d; want %d and 20", got.Retries, got.Batches, want)
				}
			})
		})
	}
}

// One worker learns of the crash. What it took back may be a batch that another
// worker has not even counted yet.
func TestWorkersDeleteAgainWhatACrashBroughtBack(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		op   string
		n    int
		lost int // batches, of those that are there
	}{
		{"before anything is done", opDelete, 1, 1},
		{"met by Next, one batch lost", opNext, 6, 1},
		{"met by Next, a round lost", opNext, 10, 4},
		{"met by the last Next", opNext, 21, 1000},
		{"met by Delete, a round lost", opDelete, 9, 4},
		{"met by Delete, all lost", opDelete, 18, 1000},
		{"met by a batch that skips locked rows", opUnlocked, 1, 2},
		{"met by Flush, all batches lost", opFlush, 1, 1000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(20_000)
				m.leaves[leafName(0)][13_500].lockedUntil = time.Now().Add(600 * time.Millisecond)
				m.before = func(op string, n int) error {
					if op == tt.op && n == tt.n {
						return m.crash(tt.lost)
					}
					return nil
				}
				got := m.run(t, t.Context(), newWorkers(4))
				wantEnd(t, got, Exhausted, OutcomeComplete, 20_000, 0)
				if m.crashes != 1 || m.lost == 0 && tt.n > 1 {
					t.Errorf("%d crashes took %d batches: the test tests nothing", m.crashes, m.lost)
				}
				if n := m.calls[opCount]; n != 1 {
					t.Errorf("the table was counted %d times, want 1: the pass that lost rows deletes them again", n)
				}
			})
		})
	}
}

// The sixth piece has a locked row: its worker meets an error 100 ms into the
// second round, of which the other batches take 150 ms.
func TestAFailingWorkerLetsTheOthersFinishTheirBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(30_000)
		m.perBatch = 50 * time.Millisecond
		m.leaves[leafName(0)][5500].lockedUntil = forever
		m.before = failing(opUnlocked, 1, 1, Errorf(Permission, "grant it", "batch: %w", errPermission))
		got := m.run(t, t.Context(), newWorkers(4))
		wantEnd(t, got, Failed, OutcomeFailed, 7000, -1)
		wantError(t, got.Err, Permission, "permission denied")
		if HintOf(got.Err) != "grant it" || !errors.Is(got.Err, errPermission) {
			t.Errorf("error %v lost its cause or its hint", got.Err)
		}
		if got.Duration != 300*time.Millisecond || m.calls[opDelete] != 8 || m.calls[opFlush] != 1 {
			t.Errorf("ended after %v with calls %v; want no batch after the second round, and a flush", got.Duration, m.calls)
		}
	})
}

func TestAFailingCutEndsAllWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(30_000)
		m.before = failing(opNext, 7, 7, errPermission)
		got := m.run(t, t.Context(), newWorkers(4))
		if got.StopReason != Failed || !errors.Is(got.Err, errPermission) {
			t.Errorf("ended as %q: %v", got.StopReason, got.Err)
		}
		// The fourth worker of the second round may or may not have begun.
		if got.Deleted != 6000 && got.Deleted != 7000 {
			t.Errorf("%d rows deleted, want those of the first round and of the batches begun", got.Deleted)
		}
	})
}

// Two of four batches have a locked row. One fails at 100 ms, the other is then
// between two tries, and fails with the next.
func TestTheFirstOfSeveralFailuresIsReportedFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(4000)
		rows := m.leaves[leafName(0)]
		rows[500].lockedUntil, rows[2500].lockedUntil = forever, forever
		m.before = func(op string, n int) error {
			switch {
			case op != opUnlocked:
				return nil
			case n == 1:
				return errDeadlock
			case n == 2:
				return Errorf(Unavailable, "", "the first failure")
			}
			return Errorf(Permission, "", "the second failure")
		}
		got := m.run(t, t.Context(), newWorkers(4))
		wantEnd(t, got, Failed, OutcomeFailed, 2000, -1)
		if want := "the first failure\nthe second failure"; got.Err == nil || got.Err.Error() != want {
			t.Errorf("error %q, want %q", got.Err, want)
		}
		if KindOf(got.Err) != Permission {
			t.Errorf("kind %d, want the most severe", KindOf(got.Err))
		}
	})
}
