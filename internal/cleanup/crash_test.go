package cleanup

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestBatchesLostInACrashAreDeletedAgainAndCountedOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		op   string
		n    int
		lost int // batches
	}{
		{"met by Next, one batch lost", opNext, 2, 1},
		{"met by Next, three batches lost", opNext, 4, 3},
		{"met by the last Next", opNext, 6, 2},
		{"met by the first Delete, nothing lost", opDelete, 1, 0},
		{"met by Delete", opDelete, 5, 3},
		{"met by a batch that skips locked rows", opUnlocked, 1, 2},
		{"met by Flush, one batch lost", opFlush, 1, 1},
		{"met by Flush, all batches lost", opFlush, 1, 1000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(5000)
				m.leaves[leafName(0)][3500].lockedUntil = time.Now().Add(400 * time.Millisecond)
				crashed := false
				m.before = func(op string, n int) error {
					if crashed || op != tt.op || n != tt.n {
						return nil
					}
					crashed = true
					return m.crash(tt.lost)
				}
				got := m.run(t, t.Context(), newRunner())
				if m.lost < min(tt.lost, 5) {
					t.Fatalf("the crash took %d batches, not %d: the test tests nothing", m.lost, tt.lost)
				}
				wantEnd(t, got, Exhausted, OutcomeComplete, 5000, 0)
				if got.Retries != 1 {
					t.Errorf("Retries = %d, want 1", got.Retries)
				}
				if n := m.calls[opCount]; n != 1 {
					t.Errorf("the table was counted %d times, want 1: the pass that lost rows deletes them again", n)
				}
			})
		})
	}
}

// A disk that claims a flush it did not make: the verification meets the crash,
// and the next pass deletes what came back.
func TestBatchesLostBehindAFlushAreDeletedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(5000)
		m.before = func(op string, n int) error {
			if op == opCount && n == 1 {
				m.flushed = 0
				return m.crash(2)
			}
			return nil
		}
		wantEnd(t, m.run(t, t.Context(), newRunner()), Exhausted, OutcomeComplete, 5000, 0)
	})
}

func TestACrashDuringTheRedoLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(5000)
		m.before = func(op string, n int) error {
			switch {
			case op == opDelete && (n == 5 || n == 6 || n == 8):
				return m.crash(3)
			case op == opFlush && n <= 3:
				return m.crash(1)
			}
			return nil
		}
		got := m.run(t, t.Context(), newRunner())
		wantEnd(t, got, Exhausted, OutcomeComplete, 5000, 0)
		if got.Retries != 6 {
			t.Errorf("Retries = %d, want 6", got.Retries)
		}
		if n := m.calls[opCount]; n != 1 {
			t.Errorf("the table was counted %d times, want 1", n)
		}
	})
}

// A piece that had locked rows when the crash took its batch back is one piece,
// and its locked rows are counted once.
func TestAPieceWithLockedRowsMayBeLostInACrash(t *testing.T) {
	t.Parallel()
	for _, late := range []int{0, 1} {
		t.Run(fmt.Sprintf("%d late rows", late), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(3000)
				m.leaves[leafName(0)][0].lockedUntil = forever
				m.before = func(op string, n int) error {
					switch {
					case op == opDelete && n == 2:
						return m.crash(1)
					case op == opCount && n == 1:
						m.late(late)
					}
					return nil
				}
				got := m.run(t, t.Context(), newRunner())
				wantEnd(t, got, Exhausted, OutcomeIncomplete, 2999+int64(late), 1)
				if got.Locked != 1 {
					t.Errorf("Locked = %d, want 1", got.Locked)
				}
			})
		})
	}
}

// Rows that came back were not deleted, so the budget has room for them.
func TestLostRowsReturnToTheRowBudget(t *testing.T) {
	t.Parallel()
	for _, op := range []string{opDelete, opNext} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(5000)
				m.before = func(o string, n int) error {
					if o == op && n == 3 {
						return m.crash(2)
					}
					return nil
				}
				r := newRunner()
				r.MaxRows = 3000
				wantEnd(t, m.run(t, t.Context(), r), RowBudget, OutcomeIncomplete, 3000, 2000)
			})
		})
	}
}

func TestAFailureWithRowsNotKnownToBeDurableIsAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		m.before = func(op string, n int) error {
			if op == opDelete && n == 3 || op == opFlush {
				return errPermission
			}
			return nil
		}
		got := m.run(t, t.Context(), newRunner())
		wantEnd(t, got, Failed, OutcomeFailed, 0, -1)
		wantError(t, got.Err, Internal, "2,000 rows were deleted besides")
	})
}

func TestRowsNotKnownToBeDurableAreNotCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		m.before = failing(opFlush, 1, 1, errors.New("disk full"))
		r := newRunner()
		r.MaxRows = 4000
		got := m.run(t, t.Context(), r)
		if got.StopReason != Failed || got.Deleted != 0 || got.Outcome() == OutcomeComplete {
			t.Errorf("the run ended as %q, %q with %d rows deleted; want a failure with none", got.StopReason, got.Outcome(), got.Deleted)
		}
		for _, want := range []string{"flush: disk full", "3,000 rows were deleted besides, not known to be durable"} {
			if got.Err == nil || !strings.Contains(got.Err.Error(), want) {
				t.Errorf("error %v does not say %q", got.Err, want)
			}
		}
		// They do not count for the budget of the plans that follow either.
		wantEnd(t, newModel(5000).run(t, t.Context(), r), RowBudget, OutcomeIncomplete, 4000, 1000)
	})
}
