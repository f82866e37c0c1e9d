package cleanup

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// newWorkers has batches of a thousand rows, each of which takes 100 ms.
func newWorkers(n int) *Runner {
	r := newRunner()
	r.Workers, r.BatchMaxRows = n, 1000
	return r
}

func TestWorkersDeleteExactlyTheExpiredRows(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		leaves  []int
		batches int64
	}{
		{"no leaf", nil, 0},
		{"an empty leaf", []int{0}, 0},
		{"one row for all workers", []int{1}, 1},
		{"a batch for all workers", []int{1000}, 1},
		{"a batch for each worker", []int{4000}, 4},
		{"a row more", []int{4001}, 5},
		{"many batches", []int{50_000}, 50},
		{"several leaves", []int{1500, 0, 1, 2000, 2500}, 8},
	}
	for _, tt := range tests {
		for _, workers := range []int{0, 1, 2, 4, 9} {
			t.Run(fmt.Sprintf("%s, %d workers", tt.name, workers), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					m := newModel(tt.leaves...)
					var rows, held int64
					for _, leaf := range m.leaves {
						for i, r := range leaf {
							rows++
							if i%100 == 50 {
								r.held = true
								held++
							}
						}
					}
					got := m.run(t, t.Context(), newWorkers(workers))
					wantEnd(t, got, Exhausted, OutcomeComplete, rows-held, 0)
					if got.Batches != tt.batches || *got.Held != held || got.Retries != 0 || got.Locked != 0 || got.Err != nil {
						t.Errorf("want %d batches, %d held rows and nothing else; an undisturbed run ended with %+v", tt.batches, held, got)
					}
				})
			})
		}
	}
}

func TestWorkersShareTheTime(t *testing.T) {
	t.Parallel()
	for workers, want := range map[int]time.Duration{
		0:   4 * time.Second,
		1:   4 * time.Second,
		2:   2 * time.Second,
		3:   1400 * time.Millisecond, // 13 rounds and one batch
		4:   time.Second,
		40:  100 * time.Millisecond,
		100: 100 * time.Millisecond, // most of them find nothing to do
	} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				got := newModel(40_000).run(t, t.Context(), newWorkers(workers))
				wantEnd(t, got, Exhausted, OutcomeComplete, 40_000, 0)
				if got.Duration != want {
					t.Errorf("40 batches of 100ms took %v, want %v", got.Duration, want)
				}
			})
		})
	}
}

func TestWorkersComeBackForLockedRows(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		until   time.Duration // after the start; 0: to the end
		outcome Outcome
		left    int64
	}{
		{"released while the rest is deleted", time.Second, OutcomeComplete, 0},
		{"locked to the end", 0, OutcomeIncomplete, 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(20_000)
				for i, r := range m.leaves[leafName(0)] {
					if i%1000 != 500 { // one row in each piece
						continue
					}
					if r.lockedUntil = forever; tt.until > 0 {
						r.lockedUntil = time.Now().Add(tt.until)
					}
				}
				got := m.run(t, t.Context(), newWorkers(4))
				wantEnd(t, got, Exhausted, tt.outcome, 20_000-tt.left, tt.left)
				if got.Locked != tt.left || got.Err != nil {
					t.Errorf("Locked = %d, error %v; want %d and none", got.Locked, got.Err, tt.left)
				}
			})
		})
	}
}

// Four workers begin a round of batches every 100 ms.
func TestStopLetsEveryWorkerFinishItsBatch(t *testing.T) {
	t.Parallel()
	for after, deleted := range map[time.Duration]int64{
		0:                      0,
		1:                      4000,
		50 * time.Millisecond:  4000,
		150 * time.Millisecond: 8000,
		450 * time.Millisecond: 20_000,
	} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(30_000)
				stop := make(chan struct{})
				if after == 0 {
					close(stop)
				} else {
					time.AfterFunc(after, func() { close(stop) })
				}
				r := newWorkers(4)
				r.Stop = stop
				got := m.run(t, t.Context(), r)
				wantEnd(t, got, Interrupted, OutcomeIncomplete, deleted, -1)
				if got.Err != nil {
					t.Errorf("an interruption is no error: %v", got.Err)
				}
			})
		})
	}
}

func TestCancelAbandonsTheBatchesOfAllWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		got := newModel(30_000).run(t, ctx, newWorkers(4))
		wantEnd(t, got, Interrupted, OutcomeIncomplete, 4000, -1)
		if got.Duration != 150*time.Millisecond || got.Err != nil {
			t.Errorf("ended after %v with error %v; want 150ms and none", got.Duration, got.Err)
		}
	})
}

func TestTimeBudgetEndsAllWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newWorkers(4)
		r.Deadline = time.Now().Add(250 * time.Millisecond)
		wantEnd(t, newModel(30_000).run(t, t.Context(), r), TimeBudget, OutcomeIncomplete, 12_000, 18_000)
	})
}

// Pieces of the model hold exactly as many rows as were asked for.
func TestWorkersUseUpTheRowBudgetAndNeverExceedIt(t *testing.T) {
	t.Parallel()
	const rows = 20_000
	for _, budget := range []int64{1, 3, 4, 999, 1000, 1001, 2500, 3999, 4000, 4001, 10_000, 19_999, rows, rows + 1} {
		t.Run(fmt.Sprint(budget), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(rows)
				m.before = func(op string, n int) error {
					if op == opDelete && n%5 == 2 { // a batch in retry keeps its part of the budget
						return errDeadlock
					}
					return nil
				}
				r := newWorkers(4)
				r.MaxRows = budget
				reason, outcome, deleted := RowBudget, OutcomeIncomplete, min(budget, rows)
				if budget >= rows {
					outcome = OutcomeComplete
				}
				if budget > rows {
					reason = Exhausted
				}
				wantEnd(t, m.run(t, t.Context(), r), reason, outcome, deleted, rows-deleted)
			})
		})
	}
}

// The sizes vary while the batches of other workers hold parts of the budget.
func TestWorkersOfChangingPaceKeepTheRowBudget(t *testing.T) {
	t.Parallel()
	for budget := int64(9_000); budget < 9_020; budget++ {
		synctest.Test(t, func(t *testing.T) {
			m := newModel(20_000)
			m.before = func(op string, n int) error {
				if op == opDelete {
					m.perRow = time.Duration(20+37*n%200) * time.Microsecond
				}
				return nil
			}
			r := newWorkers(4)
			r.BatchMaxRows = 50_000
			r.MaxRows = budget
			wantEnd(t, m.run(t, t.Context(), r), RowBudget, OutcomeIncomplete, budget, 20_000-budget)
		})
	}
}

func TestProgressIsToldByOneWorkerAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(200_000)
		r := newWorkers(4)
		var inside atomic.Int32
		var last Progress // without a lock: the race detector watches, too
		var calls int64
		r.Progress = func(p Progress) {
			if inside.Add(1) != 1 {
				t.Error("Progress was called by two workers at once")
			}
			for range 20 {
				runtime.Gosched()
			}
			if p.Deleted < last.Deleted || p.Batches < last.Batches {
				t.Errorf("progress went back from %+v to %+v", last, p)
			}
			last = p
			calls++
			inside.Add(-1)
		}
		got := m.run(t, t.Context(), r)
		wantEnd(t, got, Exhausted, OutcomeComplete, 200_000, 0)
		if calls != got.Batches+1 || last.Phase != Verifying || last.Deleted != got.Deleted {
			t.Errorf("%d calls, the last %+v; want one for each of %d batches and one for the verification", calls, last, got.Batches)
		}
	})
}

// The checker of the model looks for cuts at the same time. Here they come so
// often that there would be some.
func TestPiecesAreCutByOneWorkerAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1000, 1000)
		r := newWorkers(8)
		r.BatchMaxRows = 5
		got := m.run(t, t.Context(), r)
		wantEnd(t, got, Exhausted, OutcomeComplete, 2000, 0)
		if got.Batches != 400 {
			t.Errorf("%d batches, want 400: pieces are disjoint", got.Batches)
		}
	})
}
