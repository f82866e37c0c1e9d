package cleanup

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRunDeletesAllAndVerifiesIt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		leaves  []int
		batches int64
	}{
		{"no leaf", nil, 0},
		{"an empty leaf", []int{0}, 0},
		{"one row", []int{1}, 1},
		{"a row less than a batch", []int{999}, 1},
		{"exactly a batch", []int{1000}, 1},
		{"a row more than a batch", []int{1001}, 2},
		{"many batches", []int{5000}, 5},
		{"several leaves, one of them empty", []int{1500, 0, 500}, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(tt.leaves...)
				var rows int64
				for _, n := range tt.leaves {
					rows += int64(n)
				}
				got := m.run(t, t.Context(), newRunner())
				wantEnd(t, got, Exhausted, OutcomeComplete, rows, 0)
				if got.Batches != tt.batches {
					t.Errorf("Batches = %d, want %d", got.Batches, tt.batches)
				}
				if got.Retries != 0 || got.Locked != 0 || got.Refused != 0 || got.Err != nil {
					t.Errorf("an undisturbed run ended with %+v", got)
				}
			})
		})
	}
}

// The work takes as long as the database does, and is counted once, after a
// flush.
func TestRunWastesNoTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		m.perNext, m.perFlush, m.perCount = time.Millisecond, 7*time.Millisecond, 11*time.Second
		r := newRunner()
		r.BatchMaxRows = 1000
		r.BatchTarget = time.Second // each batch is as large as it may be
		got := m.run(t, t.Context(), r)
		want := 3*(time.Millisecond+100*time.Millisecond) + time.Millisecond + m.perFlush + m.perCount
		if got.Duration != want {
			t.Errorf("the run took %v, the database %v", got.Duration, want)
		}
		if want := map[string]int{opNext: 4, opDelete: 3, opFlush: 1, opCount: 1}; !cmp.Equal(m.calls, want) {
			t.Errorf("calls (-want +got):\n%s", cmp.Diff(want, m.calls))
		}
	})
}

func TestHeldRowsAreKeptAndDoNotHinderCompletion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(2500)
		for _, r := range m.leaves[leafName(0)][900:1100] {
			r.held = true
		}
		got := m.run(t, t.Context(), newRunner())
		wantEnd(t, got, Exhausted, OutcomeComplete, 2300, 0)
		if *got.Held != 200 {
			t.Errorf("Held = %d, want 200", *got.Held)
		}
	})
}

func TestLockedRowsAreTakenInTheLastPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		for _, r := range m.leaves[leafName(0)][10:15] {
			r.lockedUntil = time.Now().Add(250 * time.Millisecond) // the rest of the table takes longer
		}
		got := m.run(t, t.Context(), newRunner())
		wantEnd(t, got, Exhausted, OutcomeComplete, 3000, 0)
		if got.Locked != 0 {
			t.Errorf("Locked = %d for rows that were deleted in the end", got.Locked)
		}
		if n := m.calls[opUnlocked]; n != 1 {
			t.Errorf("%d batches skipped locked rows, want 1", n)
		}
	})
}

func TestRowsLockedToTheEndAreCountedAndLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		rows := m.leaves[leafName(0)]
		for _, r := range []*row{rows[10], rows[999], rows[1000], rows[2999]} {
			r.lockedUntil = forever
		}
		got := m.run(t, t.Context(), newRunner())
		wantEnd(t, got, Exhausted, OutcomeIncomplete, 2996, 4)
		if got.Locked != 4 || got.Err != nil {
			t.Errorf("Locked = %d, error %v; want 4 and none: the next run goes on", got.Locked, got.Err)
		}
		if n := m.calls[opCount]; n != 1 {
			t.Errorf("the table was counted %d times, want 1: another pass could not help", n)
		}
	})
}

// Somebody else may delete, or prolong, what was locked.
func TestLockedRowsThatVanishAreNotCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1000)
		rows := m.leaves[leafName(0)]
		rows[1].lockedUntil, rows[2].lockedUntil, rows[3].lockedUntil = forever, forever, forever
		m.before = func(op string, n int) error {
			if op == opCount {
				rows[1].gone, rows[2].gone = true, true
			}
			return nil
		}
		got := m.run(t, t.Context(), newRunner())
		wantEnd(t, got, Exhausted, OutcomeIncomplete, 997, 1)
		if got.Locked != 1 {
			t.Errorf("Locked = %d, want 1", got.Locked)
		}
		if n := m.calls[opCount]; n != 1 {
			t.Errorf("the table was counted %d times, want 1: another pass could not help", n)
		}
	})
}

func TestLateRowsAreFoundByTheVerification(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		before string // which operation rows appear, behind the cutter
		n      int
	}{
		{"while batches run", opDelete, 2},
		{"before the flush", opFlush, 1},
		{"before the count", opCount, 1},
		{"in the second pass", opCount, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(3000)
				m.before = func(op string, n int) error {
					if op == opCount && n == 1 || op == tt.before && n == tt.n {
						m.late(5)
					}
					return nil
				}
				late := int64(10)
				if tt.before == opCount && tt.n == 1 {
					late = 5
				}
				got := m.run(t, t.Context(), newRunner())
				wantEnd(t, got, Exhausted, OutcomeComplete, 3000+late, 0)
				if n := m.calls[opFlush]; n != m.calls[opCount] {
					t.Errorf("%d flushes and %d counts: each pass has to be durable before it is verified", n, m.calls[opCount])
				}
			})
		})
	}
}

// An application that keeps writing expired rows must not keep the run alive.
func TestConstantInflowEndsTheRunAsIncomplete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		m.before = func(op string, n int) error {
			if op == opCount {
				m.late(7)
			}
			return nil
		}
		got := m.run(t, t.Context(), newRunner())
		wantEnd(t, got, Exhausted, OutcomeIncomplete, 3000+7*(maxPasses-1), 7)
		if got.Err != nil || got.Refused != 0 || got.Locked != 0 {
			t.Errorf("error %v, Refused %d, Locked %d; want none: nobody did anything wrong", got.Err, got.Refused, got.Locked)
		}
		if n := m.calls[opCount]; n != maxPasses {
			t.Errorf("%d passes, want %d", n, maxPasses)
		}
	})
}

// Rows that come behind the cutter and that somebody else deletes leave the
// backlog as it was: that is no refusal, as long as the run deletes anything.
func TestInflowIsNoRefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		m.before = func(op string, n int) error {
			if op == opFlush && n == 2 || op == opCount && n == 1 {
				m.late(1)
			}
			if op == opNext && n > 5 { // somebody else deletes them
				m.leaves[leafName(0)][0].gone = true
			}
			return nil
		}
		got := m.run(t, t.Context(), newRunner())
		if got.Err != nil || got.Refused != 0 {
			t.Errorf("Refused %d: %v", got.Refused, got.Err)
		}
	})
}

func TestSwallowedDeletesNeedAPerson(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		swallowed int
	}{
		{"one of the rows", 1},
		{"all but one", 2999},
		{"all rows", 3000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(3000)
				for _, r := range m.leaves[leafName(0)][:tt.swallowed] {
					r.swallowed = true
				}
				got := m.run(t, t.Context(), newRunner())
				wantEnd(t, got, Exhausted, OutcomeFailed, int64(3000-tt.swallowed), int64(tt.swallowed))
				wantError(t, got.Err, NeedsPerson, Plural(int64(tt.swallowed), "expired row is", "expired rows are")+" left")
				if HintOf(got.Err) == "" {
					t.Error("the error does not say where to look")
				}
				if got.Refused != int64(tt.swallowed) {
					t.Errorf("Refused = %d, want %d", got.Refused, tt.swallowed)
				}
				if n := m.calls[opCount]; n != 2 {
					t.Errorf("%d passes, want 2: one that meets the trigger, one that proves it", n)
				}
			})
		})
	}
}

// What the passes do not reach may lie where the plan does not lead.
func TestRowsInNewPartitionsAreNotTakenForRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		m.leaves[leafName(0)][0].swallowed = true // there for the count, and nothing deletes it
		m.newcomers = []string{"public.m07"}
		got := m.run(t, t.Context(), newRunner())
		wantEnd(t, got, Exhausted, OutcomeIncomplete, 2999, 1)
		want := []string{"public.m07 was attached while the run was at work: the next run cleans it"}
		if got.Refused != 0 || !slices.Equal(got.Warnings, want) {
			t.Errorf("Refused = %d, warnings %q, want none and %q", got.Refused, got.Warnings, want)
		}
	})
}

// Rows whose lock was released in time are not locked: counted so, they would
// pass for the late ones, and no further pass would come for those.
func TestReleasedLocksDoNotHideLateRows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		for _, r := range m.leaves[leafName(0)][10:15] {
			r.lockedUntil = time.Now().Add(250 * time.Millisecond)
		}
		m.before = func(op string, n int) error {
			if op == opCount && n == 1 {
				m.late(3)
			}
			return nil
		}
		got := m.run(t, t.Context(), newRunner())
		wantEnd(t, got, Exhausted, OutcomeComplete, 3003, 0)
		if got.Locked != 0 {
			t.Errorf("Locked = %d, want 0", got.Locked)
		}
	})
}

// A row that is met locked in both visits of a pass is one locked row, and does
// not stand for another that the database refuses to delete.
func TestLockedRowsDoNotHideSwallowedOnes(t *testing.T) {
	t.Parallel()
	tests := []struct{ swallowed, locked int }{{1, 1}, {5, 10}, {10, 5}}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d swallowed, %d locked", tt.swallowed, tt.locked), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(3000)
				for i, r := range m.leaves[leafName(0)][:tt.swallowed+tt.locked] {
					if r.swallowed = i < tt.swallowed; !r.swallowed {
						r.lockedUntil = forever
					}
				}
				got := m.run(t, t.Context(), newRunner())
				wantError(t, got.Err, NeedsPerson, Plural(int64(tt.swallowed), "expired row is", "expired rows are")+" left")
				if got.Locked != int64(tt.locked) || got.Refused != int64(tt.swallowed) {
					t.Errorf("Locked %d, Refused %d; want %d and %d", got.Locked, got.Refused, tt.locked, tt.swallowed)
				}
			})
		})
	}
}

func TestProgressTellsEveryBatchAndPhase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(2000, 500)
		var got []Progress
		r := newRunner()
		r.Progress = func(p Progress) { got = append(got, p) }
		m.run(t, t.Context(), r)
		at := func(deleted, batches int64, took time.Duration) Progress {
			return Progress{
				Policy: "messages", Deleted: deleted, Batches: batches, Expected: 2500,
				Rows: 1000, Took: took, Phase: Deleting,
			}
		}
		want := []Progress{
			at(1000, 1, 100*time.Millisecond),
			at(2000, 2, 100*time.Millisecond),
			at(2500, 3, 50*time.Millisecond),
			{Policy: "messages", Deleted: 2500, Batches: 3, Expected: 2500, Phase: Verifying},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("progress (-want +got):\n%s", diff)
		}
	})
}
