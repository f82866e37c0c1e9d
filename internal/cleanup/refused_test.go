package cleanup

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// logged keeps the runner's log, and counts how often it tells an event.
func logged(r *Runner) (told func(event string) int) {
	log := &bytes.Buffer{}
	r.Log = slog.New(slog.NewTextHandler(log, nil))
	return func(event string) int { return strings.Count(log.String(), event) }
}

func TestRefusedRowsAreIsolated(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		refused func(i int) bool
	}{
		{"the first", func(i int) bool { return i == 0 }},
		{"the last", func(i int) bool { return i == 9_999 }},
		{"one in the middle", func(i int) bool { return i == 4_711 }},
		{"neighbours", func(i int) bool { return i >= 1_500 && i < 3_500 }},
		{"one in a hundred", func(i int) bool { return i%100 == 42 }},
		{"every other", func(i int) bool { return i%2 == 0 }},
		{"all", func(i int) bool { return true }},
	}
	for _, tt := range tests {
		for _, workers := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s, %d workers", tt.name, workers), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					m := newModel(10_000)
					refused := int64(0)
					for i, r := range m.leaves[leafName(0)] {
						if r.refused = tt.refused(i); r.refused {
							refused++
						}
					}
					r := newRunner()
					r.Workers = workers
					told := logged(r)
					got := m.run(t, t.Context(), r)
					wantEnd(t, got, Exhausted, OutcomeFailed, 10_000-refused, refused)
					wantError(t, got.Err, NeedsPerson, Plural(refused, "expired row is", "expired rows are")+" left that the database refuses to delete; the first is ")
					if HintOf(got.Err) != "delete what refers to it" {
						t.Errorf("hint is %q", HintOf(got.Err))
					}
					if got.Refused != refused || len(got.RefusedRows) != int(min(refused, maxNamed)) || told(EventRefused) != len(got.RefusedRows) {
						t.Errorf("Refused = %d, %d are named, %d told; want %d, at most %d of them named and told", got.Refused, len(got.RefusedRows), told(EventRefused), refused, maxNamed)
					}
					if n := m.calls[opCount]; n != 1 {
						t.Errorf("%d passes, want 1: another could not help", n)
					}
				})
			})
		}
	}
}

// A single refused row costs little more than the batch that fails, in steps that
// are logarithmic in its size.
func TestOneRefusedRowCostsLittleMoreThanABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		plain := newModel(100_000).run(t, t.Context(), newRunner())
		m := newModel(100_000)
		m.leaves[leafName(0)][54_321].refused = true
		got := m.run(t, t.Context(), newRunner())
		if extra := got.Duration - plain.Duration; extra > 150*time.Millisecond {
			t.Errorf("it took %v more, want at most one batch of 100 ms and a half", extra)
		}
		if tries := m.calls[opSplit]; tries > 6 {
			t.Errorf("split %d times, want at most 6 for a batch of 1,000", tries)
		}
	})
}

// The search ends where it does not pay: what is left then is left in whole
// batches, and called so.
func TestSearchForRefusedRowsIsBounded(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		refused  func(i int) bool
		examined bool // all of them
	}{
		{"one in a hundred", func(i int) bool { return i%100 == 0 }, true},
		{"ten thousand neighbours", func(i int) bool { return i < 10_000 }, true},
		{"all", func(i int) bool { return true }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(200_000)
				refused := int64(0)
				for i, r := range m.leaves[leafName(0)] {
					if r.refused = tt.refused(i); r.refused {
						refused++
					}
				}
				got := m.run(t, t.Context(), newRunner())
				wantEnd(t, got, Exhausted, OutcomeFailed, 200_000-refused, refused)
				if got.Refused != refused {
					t.Errorf("Refused = %d, want %d", got.Refused, refused)
				}
				if whole := strings.Contains(got.Err.Error(), "left in one batch with such a row"); whole == tt.examined {
					t.Errorf("error %q, though all refused rows were examined: %v", got.Err, tt.examined)
				}
				if most := freeTries + int(got.Deleted) + 200 + 2*10; m.calls[opDelete] > most {
					t.Errorf("%d batches were tried, want at most %d", m.calls[opDelete], most)
				}
			})
		})
	}
}

func TestLateRowsAreDeletedBesideRefusedOnes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		m.leaves[leafName(0)][1234].refused = true
		m.before = func(op string, n int) error {
			if op == opCount && n == 1 {
				m.late(5)
			}
			return nil
		}
		r := newRunner()
		told := logged(r)
		got := m.run(t, t.Context(), r)
		wantEnd(t, got, Exhausted, OutcomeFailed, 3004, 1)
		if got.Refused != 1 || len(got.RefusedRows) != 1 || told(EventRefused) != 1 {
			t.Errorf("Refused = %d, named %v, told %d times; want one row, told once in two passes", got.Refused, got.RefusedRows, told(EventRefused))
		}
	})
}

// Each kind of row that stays is counted as what it is.
func TestRefusedLockedAndSwallowedRowsAreToldApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		rows := m.leaves[leafName(0)]
		rows[1].refused, rows[700].refused = true, true
		rows[2].lockedUntil, rows[2500].lockedUntil, rows[2501].lockedUntil = forever, forever, forever
		rows[2501].refused = true // nobody knows
		for _, r := range rows[2000:2004] {
			r.swallowed = true
		}
		got := m.run(t, t.Context(), newRunner())
		wantEnd(t, got, Exhausted, OutcomeFailed, 2991, 9)
		if got.Locked != 3 || got.Refused != 6 {
			t.Errorf("Locked %d, Refused %d; want 3, and 2 refused with 4 swallowed", got.Locked, got.Refused)
		}
		wantError(t, got.Err, NeedsPerson, "4 expired rows are left: the server accepts the deletion")
		wantError(t, got.Err, NeedsPerson, "2 expired rows are left that the database refuses to delete")
	})
}

func TestRefusedRowsThatVanishAreNotCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1000)
		r := m.leaves[leafName(0)][500]
		r.refused = true
		m.before = func(op string, n int) error {
			if op == opFlush {
				r.gone = true // somebody else deleted it
			}
			return nil
		}
		got := m.run(t, t.Context(), newRunner())
		wantEnd(t, got, Exhausted, OutcomeComplete, 999, 0)
		if got.Refused != 0 || got.Err != nil {
			t.Errorf("Refused = %d, error %v; want none", got.Refused, got.Err)
		}
	})
}

// Faults in the middle of the search are met as everywhere.
func TestFaultsDuringTheSearch(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		before func(m *model) func(op string, n int) error
	}{
		{"a deadlock", func(*model) func(string, int) error { return failing(opDelete, 3, 4, errDeadlock) }},
		{"a connection that breaks on a split", func(*model) func(string, int) error { return failing(opSplit, 2, 2, errConnection) }},
		{"a connection that breaks on a name", func(*model) func(string, int) error { return failing(opKey, 1, 1, errConnection) }},
		{"a crash", func(m *model) func(string, int) error {
			return func(op string, n int) error {
				if op == opDelete && n == 9 {
					return m.crash(5)
				}
				return nil
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(3000)
				m.leaves[leafName(0)][100].refused = true
				m.before = tt.before(m)
				got := m.run(t, t.Context(), newRunner())
				wantEnd(t, got, Exhausted, OutcomeFailed, 2999, 1)
				if got.Refused != 1 || got.Retries == 0 {
					t.Errorf("Refused = %d after %d retries", got.Refused, got.Retries)
				}
			})
		})
	}
}

func TestBudgetsEndTheSearch(t *testing.T) {
	t.Parallel()
	t.Run("time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			m := newModel(1000)
			m.perBatch = time.Second
			m.leaves[leafName(0)][999].refused = true
			r := newRunner()
			r.Deadline = time.Now().Add(5 * time.Second)
			got := m.run(t, t.Context(), r)
			if got.StopReason != TimeBudget || got.Duration > 7*time.Second {
				t.Errorf("stopped: %s after %v, want time_budget and one batch later at most", got.StopReason, got.Duration)
			}
			if got.Deleted == 0 || got.Refused != 0 {
				t.Errorf("Deleted %d, Refused %d: what it had found out by then counts", got.Deleted, got.Refused)
			}
		})
	})
	t.Run("rows", func(t *testing.T) {
		t.Parallel()
		for _, workers := range []int{1, 3} {
			synctest.Test(t, func(t *testing.T) {
				m := newModel(20_000)
				for i, r := range m.leaves[leafName(0)] {
					r.refused = i%777 == 0
				}
				r := newWorkers(workers)
				r.MaxRows = 5_500
				got := m.run(t, t.Context(), r)
				if got.StopReason != RowBudget || got.Deleted > 5_500 || KindOf(got.Err) != NeedsPerson {
					t.Errorf("stopped: %s with %d rows deleted (%v); want row_budget and at most 5,500", got.StopReason, got.Deleted, got.Err)
				}
			})
		}
	})
}

func TestBatchThatTakesTooLongIsQuarteredAndTheNextAreSmaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		m.leaves[leafName(0)][10].slow = true
		m.before = func(op string, n int) error {
			if op == opDelete && n == 4 { // one batch and three levels of quarters
				m.leaves[leafName(0)][10].slow = false
			}
			return nil
		}
		got := m.run(t, t.Context(), newRunner())
		wantEnd(t, got, Exhausted, OutcomeComplete, 3000, 0)
		if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "look for a foreign key") {
			t.Errorf("warnings are %q, want one", got.Warnings)
		}
	})
	p := newPacer(100*time.Millisecond, 50_000, 0, 1)
	p.shrink(1000, time.Minute)
	if p.rows != 1 {
		t.Errorf("after 1,000 rows took a minute the next batch has %d rows, want 1", p.rows)
	}
}

func TestRowThatAloneTakesTooLongEndsThePolicy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		m.leaves[leafName(0)][10].slow = true
		got := m.run(t, t.Context(), newRunner())
		wantError(t, got.Err, Incomplete, "canceled")
		if got.StopReason != Failed {
			t.Errorf("stopped: %s", got.StopReason)
		}
	})
}
