package cleanup

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// One worker fails for good, another is between two tries when a budget is
// spent, or the run is told to stop: the failure is the end of the run.
func TestASpentBudgetDoesNotHideAnotherWorkersFailure(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"time budget", "stop"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(2000)
				m.before = func(op string, n int) error {
					switch {
					case op == opDelete && n == 2:
						return Errorf(Permission, "grant it", "batch: %w", errPermission)
					case op == opDelete:
						return errDeadlock
					}
					return nil
				}
				r := newWorkers(2)
				if end == "stop" {
					stop := make(chan struct{})
					time.AfterFunc(time.Second, func() { close(stop) })
					r.Stop = stop
				} else {
					r.Deadline = time.Now().Add(time.Second)
				}
				got := m.run(t, t.Context(), r)
				wantEnd(t, got, Failed, OutcomeFailed, 0, -1)
			})
		})
	}
}

// The failure is real, whatever happens in the flush after it.
func TestAnInterruptedFlushDoesNotHideAFailure(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"cancel", "stop"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(3000)
				m.perFlush = time.Second
				stop := make(chan struct{})
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				m.before = func(op string, n int) error {
					switch {
					case op == opDelete && n == 2:
						return Errorf(Permission, "grant it", "batch: %w", errPermission)
					case op == opFlush && end == "stop" && n <= 10:
						return errDeadlock
					}
					return nil
				}
				time.AfterFunc(500*time.Millisecond, func() {
					if end == "stop" {
						close(stop)
					} else {
						cancel()
					}
				})
				r := newRunner()
				r.Stop = stop
				got := m.run(t, ctx, r)
				if got.StopReason != Failed || !errors.Is(got.Err, errPermission) {
					t.Errorf("ended as %q: %v", got.StopReason, got.Err)
				}
			})
		})
	}
}

func TestABudgetSpentBetweenTriesCountsTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		m.before = failing(opDelete, 2, 1000, errDeadlock)
		r := newRunner()
		r.Deadline = time.Now().Add(time.Second)
		wantEnd(t, m.run(t, t.Context(), r), TimeBudget, OutcomeIncomplete, 1000, 2000)
	})
}

// Somebody else deleted what was locked: complete, with "1 locked to the end".
func TestLockedRowsAreNeverMoreThanTheBacklogAtABudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1000)
		row := m.leaves[leafName(0)][0]
		row.lockedUntil = forever
		m.before = func(op string, n int) error {
			if op == opCount {
				row.gone = true
			}
			return nil
		}
		r := newRunner()
		r.Deadline = time.Now().Add(150 * time.Millisecond)
		got := m.run(t, t.Context(), r)
		wantEnd(t, got, TimeBudget, OutcomeComplete, 999, 0)
		if got.Locked != 0 {
			t.Errorf("Locked = %d beside a backlog of 0", got.Locked)
		}
	})
}

// Rows that come late and go by themselves: nothing was asked to be deleted.
func TestInflowThatVanishesIsNoRefusal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1000)
		m.before = func(op string, n int) error {
			switch {
			case op == opCount:
				m.late(1)
			case op == opNext && m.calls[opCount] > 0:
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
