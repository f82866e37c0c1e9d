package cleanup

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// Ten batches of 100 ms; the worker rests behind the last one too, as it does
// not know that it was.
func TestDutyCycleIsTheShareOfTimeSpentDeleting(t *testing.T) {
	t.Parallel()
	tests := []struct {
		duty    float64
		workers int
		network time.Duration
		want    time.Duration
	}{
		{duty: 0, workers: 1, want: time.Second}, // as the zero value of a Runner has it
		{duty: 1, workers: 1, want: time.Second},
		{duty: 0.5, workers: 1, want: 2 * time.Second},
		{duty: 0.25, workers: 1, want: 4 * time.Second},
		{duty: 0.01, workers: 1, want: 100 * time.Second},
		{duty: 0.5, workers: 2, want: time.Second},
		{duty: 0.5, workers: 10, want: 200 * time.Millisecond},
		{duty: 0.5, workers: 1, network: 100 * time.Millisecond, want: 4 * time.Second},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%v, %d workers, network %v", tt.duty, tt.workers, tt.network), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(10_000)
				m.perBatch = tt.network
				r := newWorkers(tt.workers)
				r.DutyCycle = tt.duty
				got := m.run(t, t.Context(), r)
				wantEnd(t, got, Exhausted, OutcomeComplete, 10_000, 0)
				if d := got.Duration - tt.want; d.Abs() > time.Microsecond { // 0.01 is no binary fraction
					t.Errorf("took %v, want %v", got.Duration, tt.want)
				}
				const classOf100ms = 6
				if n := got.Batched.Counts[classOf100ms]; n != 10 || got.Batched.Sum != time.Second {
					t.Errorf("batches are counted as %v, %v in all; want 10 of 100 ms", got.Batched.Counts, got.Batched.Sum)
				}
				rested := time.Duration(tt.workers)*got.Duration - time.Second - 10*tt.network
				if d := got.Paused[PauseDutyCycle] - rested; d.Abs() > time.Microsecond {
					t.Errorf("%v count as paused, want %v", got.Paused[PauseDutyCycle], rested)
				}
			})
		})
	}
}

// ending is how a run comes to its end after endsAfter, whatever it is waiting for.
type ending struct {
	name   string
	reason StopReason
	set    func(t *testing.T, r *Runner) context.Context
}

const endsAfter = 3300 * time.Millisecond

var endings = []ending{
	{"when the run is to stop", Interrupted, func(t *testing.T, r *Runner) context.Context {
		stop := make(chan struct{})
		r.Stop = stop
		time.AfterFunc(endsAfter, func() { close(stop) })
		return t.Context()
	}},
	{"when the run is cancelled", Interrupted, func(t *testing.T, _ *Runner) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), endsAfter)
		t.Cleanup(cancel)
		return ctx
	}},
	{"when the time budget is spent", TimeBudget, func(t *testing.T, r *Runner) context.Context {
		r.Deadline = time.Now().Add(endsAfter)
		return t.Context()
	}},
}

// The first rest would last from 0.1 s to 10 s.
func TestRestEndsAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range endings {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := newWorkers(1)
				r.DutyCycle = 0.01
				got := newModel(10_000).run(t, tt.set(t, r), r)
				if got.StopReason != tt.reason || got.Deleted != 1000 || got.Duration != endsAfter || got.Err != nil {
					t.Errorf("ended as %q after %v with %d rows, error %v; want %q after %v with the first 1000",
						got.StopReason, got.Duration, got.Deleted, got.Err, tt.reason, endsAfter)
				}
			})
		})
	}
}

// The second batch fails at once, and the worker of the first would rest for two
// seconds.
func TestRestEndsWhenAnotherWorkerFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(100, 10_000)
		m.before = failing(opDelete, 2, 2, errPermission)
		m.perBatch = 10 * time.Millisecond
		r := newWorkers(2)
		r.DutyCycle = 0.01
		got := m.run(t, t.Context(), r)
		wantError(t, got.Err, Internal, "permission denied")
		if got.Duration > time.Second {
			t.Errorf("ended after %v: the other worker rested to the end", got.Duration)
		}
	})
}

// The time for which the database was away is no batch's.
func TestRestAfterAnOutageIsNoLongerThanAfterTheLongestBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1000)
		m.perBatch = time.Hour
		r := newWorkers(1)
		r.DutyCycle = 0.5
		got := m.run(t, t.Context(), r)
		wantEnd(t, got, Exhausted, OutcomeComplete, 1000, 0)
		if want := time.Hour + 100*time.Millisecond + longestBatch; got.Duration != want {
			t.Errorf("took %v, want %v", got.Duration, want)
		}
	})
}
