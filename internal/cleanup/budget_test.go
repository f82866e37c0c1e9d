package cleanup

import (
	"testing"
	"testing/synctest"
	"time"
)

// A batch takes 100 ms: the budget is looked at before each.
func TestTimeBudgetEndsBetweenBatches(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		budget  time.Duration
		reason  StopReason
		deleted int64
	}{
		{"in the past", -time.Second, TimeBudget, 0},
		{"now", 0, TimeBudget, 0},
		{"a moment", 1, TimeBudget, 1000},
		{"exactly one batch", 100 * time.Millisecond, TimeBudget, 1000},
		{"a moment more than one batch", 100*time.Millisecond + 1, TimeBudget, 2000},
		{"exactly all", 300 * time.Millisecond, TimeBudget, 3000},
		{"a moment more than all", 300*time.Millisecond + 1, Exhausted, 3000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(3000)
				r := newRunner()
				r.Deadline = time.Now().Add(tt.budget)
				got := m.run(t, t.Context(), r)
				if got.StopReason != tt.reason || got.Deleted != tt.deleted || got.Err != nil {
					t.Errorf("got %q with %d rows, error %v; want %q with %d", got.StopReason, got.Deleted, got.Err, tt.reason, tt.deleted)
				}
				if got.Backlog == nil || *got.Backlog != 3000-tt.deleted {
					t.Errorf("Backlog = %v, want %d", number(got.Backlog), 3000-tt.deleted)
				}
			})
		})
	}
}

func TestRowBudgetIsNeverExceeded(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		budget int64
		reason StopReason
		want   int64
	}{
		{"none", 0, Exhausted, 3000},
		{"one row", 1, RowBudget, 1},
		{"a row less than a batch", 999, RowBudget, 999},
		{"exactly a batch", 1000, RowBudget, 1000},
		{"a row more than a batch", 1001, RowBudget, 1001},
		{"a row less than all", 2999, RowBudget, 2999},
		{"exactly all", 3000, RowBudget, 3000},
		{"a row more than all", 3001, Exhausted, 3000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(3000)
				r := newRunner()
				r.MaxRows = tt.budget
				got := m.run(t, t.Context(), r)
				if got.StopReason != tt.reason || got.Deleted != tt.want || got.Err != nil {
					t.Errorf("got %q with %d rows, error %v; want %q with %d", got.StopReason, got.Deleted, got.Err, tt.reason, tt.want)
				}
				if got.Backlog == nil || *got.Backlog != 3000-tt.want {
					t.Errorf("Backlog = %v, want %d", number(got.Backlog), 3000-tt.want)
				}
			})
		})
	}
}

// What is left is counted, whatever ended the run: nothing left is complete.
func TestABudgetThatExactlySufficesIsComplete(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		rows int
		want Outcome
	}{
		{"a row less than the budget", 2999, OutcomeComplete},
		{"as many rows as the budget", 3000, OutcomeComplete},
		{"a row more than the budget", 3001, OutcomeIncomplete},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newRunner()
				r.MaxRows = 3000
				if got := newModel(tt.rows).run(t, t.Context(), r); got.Outcome() != tt.want {
					t.Errorf("%q is %q with Backlog %v, want %q", got.StopReason, got.Outcome(), number(got.Backlog), tt.want)
				}
			})
		})
	}
}

// A piece is not cut smaller when the run comes back for its locked rows. That
// is accepted: the budget may be exceeded by them, by a piece at most.
func TestALockedPieceMayExceedTheRowBudgetByAPiece(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1050)
		for _, r := range m.leaves[leafName(0)][:100] {
			r.lockedUntil = time.Now().Add(201 * time.Millisecond)
		}
		r := newRunner()
		r.MaxRows = 1000
		got := m.run(t, t.Context(), r)
		if least, most := r.MaxRows, r.MaxRows+FirstRows; got.Deleted < least || got.Deleted > most {
			t.Errorf("%d rows deleted, want %d to %d", got.Deleted, least, most)
		}
	})
}

func TestPlansShareTheRowBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRunner()
		r.MaxRows = 1500
		wantEnd(t, newModel(1000).run(t, t.Context(), r), Exhausted, OutcomeComplete, 1000, 0)
		wantEnd(t, newModel(1000).run(t, t.Context(), r), RowBudget, OutcomeIncomplete, 500, 500)
		third := newModel(1000)
		wantEnd(t, third.run(t, t.Context(), r), RowBudget, OutcomeIncomplete, 0, 1000)
		if n := third.calls[opNext]; n != 0 {
			t.Errorf("the budget was spent, yet %d pieces were cut", n)
		}
	})
}

// After a spent budget the count of what is left only informs, so it must not
// cost more than it is worth, and must not fail the run by being slow.
func TestSpentBudgetCountsTheRestIfThatIsQuick(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		count   time.Duration
		backlog int64
		takes   time.Duration
	}{
		{"in time", countLimit - 1, 2000, countLimit - 1},
		{"too slow", countLimit + 1, -1, countLimit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(3000)
				m.perCount = tt.count
				r := newRunner()
				r.MaxRows = 1000
				got := m.run(t, t.Context(), r)
				wantEnd(t, got, RowBudget, OutcomeIncomplete, 1000, tt.backlog)
				if got.Err != nil {
					t.Error(got.Err)
				}
				if want := 100*time.Millisecond + tt.takes; got.Duration != want {
					t.Errorf("the run took %v, want %v", got.Duration, want)
				}
			})
		})
	}
}

func TestSpentBudgetReportsAFailingCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		m.before = failing(opCount, 1, 1, errPermission)
		r := newRunner()
		r.MaxRows = 1000
		got := m.run(t, t.Context(), r)
		wantEnd(t, got, RowBudget, OutcomeFailed, 1000, -1)
		wantError(t, got.Err, Internal, "count what is left: permission denied")
	})
}
