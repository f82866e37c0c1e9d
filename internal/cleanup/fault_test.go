package cleanup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// operations are all that can meet a fault. In the model of faultyModel each
// of them is called.
var operations = []string{opNext, opDelete, opUnlocked, opFlush, opCount}

// faultyModel has a row locked for a moment, so that a batch that skips locked
// rows takes part.
func faultyModel() *model {
	m := newModel(3000)
	m.leaves[leafName(0)][5].lockedUntil = time.Now().Add(150 * time.Millisecond)
	return m
}

// backoffs returns the bounds of the waits before so many further tries:
// doubled from 50 ms up to 5 s, and spread by half of each.
func backoffs(tries int) (least, most time.Duration) {
	next := 50 * time.Millisecond
	for range tries {
		least, most = least+next/2, most+next/2+next
		next = min(2*next, 5*time.Second)
	}
	return least, most
}

func TestTransientErrorsAreRetried(t *testing.T) {
	t.Parallel()
	for _, op := range operations {
		for _, failures := range []int{1, 2, maxAttempts - 1} {
			t.Run(fmt.Sprintf("%s fails %d times", op, failures), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					m := faultyModel()
					m.before = failing(op, 1, failures, errDeadlock)
					if op == opUnlocked { // its lock must outlast the waits
						m.leaves[leafName(0)][5].lockedUntil = time.Now().Add(2 * time.Minute)
					}
					got := m.run(t, t.Context(), newRunner())
					if got.Err != nil || got.StopReason != Exhausted {
						t.Errorf("the run ended as %q: %v", got.StopReason, got.Err)
					}
					if got.Deleted+*got.Backlog != 3000 || *got.Backlog != got.Locked {
						t.Errorf("Deleted %d, Backlog %d, Locked %d of 3000 rows", got.Deleted, *got.Backlog, got.Locked)
					}
					if got.Retries != int64(failures) {
						t.Errorf("Retries = %d, want %d", got.Retries, failures)
					}
				})
			})
		}
	}
}

func TestRetriesBackOff(t *testing.T) {
	t.Parallel()
	for failures := range maxAttempts {
		t.Run(fmt.Sprintf("%d failures", failures), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(500)
				var tries []time.Time
				m.before = func(op string, n int) error {
					if op != opDelete {
						return nil
					}
					tries = append(tries, time.Now())
					return failing(opDelete, 1, failures, errDeadlock)(op, n)
				}
				got := m.run(t, t.Context(), newRunner())
				wantEnd(t, got, Exhausted, OutcomeComplete, 500, 0)
				least, most := backoffs(failures)
				if waited := got.Duration - 50*time.Millisecond; waited < least || waited > most {
					t.Errorf("waited %v in all, want %v to %v", waited, least, most)
				}
				for i := 1; i < len(tries); i++ {
					before, _ := backoffs(i - 1)
					after, _ := backoffs(i)
					half := after - before
					if d := tries[i].Sub(tries[i-1]); d < half || d >= 3*half {
						t.Errorf("wait %d is %v, want %v up to %v", i, d, half, 3*half)
					}
				}
			})
		})
	}
}

// The next run may find the table quiet, so it is no failure for a person.
func TestTransientErrorsThatStayEndThePolicyAsIncomplete(t *testing.T) {
	t.Parallel()
	tests := []struct {
		op      string
		deleted int64
		text    string
	}{
		{opNext, 1000, "gave up after 15 tries: deadlock detected"},
		{opDelete, 1000, "gave up after 15 tries: deadlock detected"},
		{opFlush, 0, "flush: gave up after 15 tries: deadlock detected"},
		{opCount, 3000, "verify that nothing expired is left: gave up after 15 tries: deadlock detected"},
	}
	for _, tt := range tests {
		t.Run(tt.op, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(3000)
				first := 1
				if tt.op == opNext || tt.op == opDelete {
					first = 2
				}
				m.before = failing(tt.op, first, 1000, errDeadlock)
				got := m.run(t, t.Context(), newRunner())
				wantEnd(t, got, Failed, OutcomeIncomplete, tt.deleted, -1)
				wantError(t, got.Err, Incomplete, tt.text)
				if !strings.HasPrefix(got.Err.Error(), tt.text) {
					t.Errorf("error %q does not begin with %q", got.Err, tt.text)
				}
				if !errors.Is(got.Err, errDeadlock) || HintOf(got.Err) == "" {
					t.Errorf("error %v hides its cause, or has no hint", got.Err)
				}
				if n := m.calls[tt.op] - first + 1; n != maxAttempts {
					t.Errorf("%d tries, want %d", n, maxAttempts)
				}
				if least, most := backoffs(maxAttempts - 1); got.Duration < least || got.Duration > most+time.Second {
					t.Errorf("gave up after %v, want %v to %v", got.Duration, least, most)
				}
			})
		})
	}
}

func TestTheHintOfATransientErrorIsTheOneThatPeopleGet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(3000)
		away := Errorf(Incomplete, "look after the other server", "it does not answer")
		m.before = failing(opDelete, 1, 1000, &TransientError{Err: away})
		got := m.run(t, t.Context(), newRunner())
		wantError(t, got.Err, Incomplete, "gave up after 15 tries: it does not answer")
		if hint := HintOf(got.Err); hint != away.Hint {
			t.Errorf("hint %q, want %q", hint, away.Hint)
		}
	})
}

func TestACrashDoesNotLiftTheBoundOfTheTries(t *testing.T) {
	t.Parallel()
	for _, at := range []int{2, maxAttempts, maxAttempts + 1} {
		t.Run(fmt.Sprintf("at try %d", at-1), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(3000)
				m.before = func(op string, n int) error {
					switch {
					case op == opNext && n == at:
						return m.crash(1)
					case op == opNext && n > 1:
						return errDeadlock
					}
					return nil
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				got := m.run(t, ctx, newRunner())
				if got.StopReason != Failed || m.lost != 1 {
					t.Errorf("ended as %q after %v and %d retries; %d batches lost", got.StopReason, got.Duration, got.Retries, m.lost)
				}
				wantError(t, got.Err, Incomplete, "gave up after")
			})
		})
	}
}

// Tries of a batch end with the time budget: the run may outlast it by one wait
// between two tries. What was deleted is still made durable.
func TestRetriesOfABatchEndWithTheTimeBudget(t *testing.T) {
	t.Parallel()
	for _, op := range []string{opNext, opDelete, opUnlocked} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(3000)
				m.leaves[leafName(0)][1500].lockedUntil = forever
				first := 2
				if op == opUnlocked {
					first = 1
				}
				m.before = func(o string, n int) error {
					if o == opFlush && n < maxAttempts {
						return errDeadlock
					}
					return failing(op, first, 1000, errDeadlock)(o, n)
				}
				r := newRunner()
				r.Deadline = time.Now().Add(time.Second)
				got := m.run(t, t.Context(), r)
				if got.StopReason != TimeBudget || got.Outcome() != OutcomeIncomplete || got.Deleted != 1000 || got.Err != nil {
					t.Errorf("the run ended as %q, %q with %d rows deleted, error %v; want a spent budget, 1000 rows, no error",
						got.StopReason, got.Outcome(), got.Deleted, got.Err)
				}
				_, flush := backoffs(maxAttempts - 1)
				if most := time.Second + 2*time.Second + flush; got.Duration > most {
					t.Errorf("the budget is 1s, the run ended after %v, want at most %v", got.Duration, most)
				}
			})
		})
	}
}

// What succeeded once has all its tries again.
func TestEachTransactionHasItsOwnAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(5000)
		r := newRunner()
		r.BatchMaxRows = 1000
		failed := 0
		m.before = func(op string, n int) error {
			if op == opDelete && n%8 != 0 { // seven failures before each batch
				failed++
				return errDeadlock
			}
			return nil
		}
		got := m.run(t, t.Context(), r)
		wantEnd(t, got, Exhausted, OutcomeComplete, 5000, 0)
		if failed <= maxAttempts || got.Retries != int64(failed) {
			t.Errorf("Retries = %d after %d failures, of which there should be more than %d", got.Retries, failed, maxAttempts)
		}
	})
}

func TestErrorsNotWorthARetryEndThePolicyAtOnce(t *testing.T) {
	t.Parallel()
	for _, op := range operations {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := faultyModel()
				m.before = failing(op, 1, 1000, Errorf(Permission, "grant it", "batch: %w", errPermission))
				got := m.run(t, t.Context(), newRunner())
				if got.StopReason != Failed || got.Outcome() != OutcomeFailed {
					t.Errorf("the run ended as %q, %q", got.StopReason, got.Outcome())
				}
				wantError(t, got.Err, Permission, "permission denied")
				if !errors.Is(got.Err, errPermission) || HintOf(got.Err) != "grant it" {
					t.Errorf("error %v lost its cause or its hint %q", got.Err, HintOf(got.Err))
				}
				if m.calls[op] != 1 || got.Retries != 0 {
					t.Errorf("%d calls, %d retries; want one call", m.calls[op], got.Retries)
				}
			})
		})
	}
}

func TestAFailureKeepsTheBatchesBeforeIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(5000)
		m.before = failing(opDelete, 4, 4, errPermission)
		wantEnd(t, m.run(t, t.Context(), newRunner()), Failed, OutcomeFailed, 3000, -1)
		if m.calls[opFlush] != 1 {
			t.Errorf("%d flushes, want 1: what was done is durable before it is reported", m.calls[opFlush])
		}
	})
}

func TestStopEndsTheRetries(t *testing.T) {
	t.Parallel()
	for _, op := range []string{opNext, opDelete, opUnlocked, opCount} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(1000)
				m.leaves[leafName(0)][0].lockedUntil = forever
				m.before = failing(op, 1, 1000, errDeadlock)
				stop := make(chan struct{})
				time.AfterFunc(time.Second, func() { close(stop) })
				r := newRunner()
				r.Stop = stop
				got := m.run(t, t.Context(), r)
				if got.StopReason != Interrupted || got.Err != nil {
					t.Errorf("the run ended as %q: %v; want an interruption without an error", got.StopReason, got.Err)
				}
				if most := time.Second + maxBackoff*3/2; got.Duration > most {
					t.Errorf("the run ended after %v, want at most %v", got.Duration, most)
				}
			})
		})
	}
}

func TestCancelEndsAWaitForTheNextTry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1000)
		m.before = failing(opDelete, 1, 1000, errDeadlock)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		got := m.run(t, ctx, newRunner())
		wantEnd(t, got, Interrupted, OutcomeIncomplete, 0, -1)
		if got.Duration != 10*time.Second {
			t.Errorf("the run ended after %v, it was told to after 10s", got.Duration)
		}
	})
}

// An interruption is no excuse for a failure of its own.
func TestAFailureAfterStopIsStillAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1000)
		stop := make(chan struct{})
		m.before = func(op string, n int) error {
			if op == opDelete {
				close(stop)
				return errPermission
			}
			return nil
		}
		r := newRunner()
		r.Stop = stop
		wantEnd(t, m.run(t, t.Context(), r), Failed, OutcomeFailed, 0, -1)
	})
}

func TestJitterSpreadsByHalf(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{1, 2, firstBackoff, maxBackoff} {
		low, high := d, d
		for range 1000 {
			got := jitter(d)
			if got < d/2 || got >= d/2+d {
				t.Fatalf("jitter(%v) = %v, want %v up to %v", d, got, d/2, d/2+d)
			}
			low, high = min(low, got), max(high, got)
		}
		if d >= firstBackoff && (low > d*3/4 || high < d*5/4) {
			t.Errorf("jitter(%v) spreads only from %v to %v", d, low, high)
		}
	}
}
