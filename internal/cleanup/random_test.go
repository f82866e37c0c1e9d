package cleanup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever comes together, the checker of the model holds. A failure names its
// seed, which fixes all but the jitter of the waits and, with several workers,
// who of them comes first.
func TestRunHoldsItsPromisesUnderRandomFaults(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) {
			t.Parallel()
			runUnderRandomFaults(t, workers)
		})
	}
}

func runUnderRandomFaults(t *testing.T, workers int) {
	complete := 0
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			m := newModel(random.IntN(4000), random.IntN(4000))
			m.perBatch = time.Millisecond
			if workers == 1 {
				m.perNext = time.Millisecond
			}
			for _, leaf := range m.leaves {
				for _, r := range leaf {
					r.held = random.IntN(100) == 0
					if random.IntN(2000) == 0 {
						r.lockedUntil = time.Now().Add(time.Duration(random.Int64N(int64(time.Second))))
					}
				}
			}
			m.before = func(op string, n int) error {
				switch random.IntN(40) {
				case 0, 1, 2:
					return errDeadlock
				case 3:
					return m.crash(1 + random.IntN(4))
				case 4:
					if seed%3 == 0 {
						m.late(1 + random.IntN(20))
					}
				case 5:
					if seed%7 == 0 {
						return errPermission
					}
				}
				return nil
			}
			r := newRunner()
			r.Workers = workers
			if seed%4 == 0 {
				r.MaxRows = 1 + random.Int64N(8000)
			}
			if seed%5 == 0 {
				r.Deadline = time.Now().Add(time.Duration(random.Int64N(int64(2 * time.Second))))
			}
			stop := make(chan struct{})
			r.Stop = stop
			if seed%6 == 0 {
				timer := time.AfterFunc(time.Duration(random.Int64N(int64(2*time.Second))), func() { close(stop) })
				defer timer.Stop()
			}
			ctx := t.Context()
			if seed%9 == 0 {
				limited, cancel := context.WithTimeout(ctx, time.Duration(random.Int64N(int64(2*time.Second))))
				defer cancel()
				ctx = limited
			}
			got := m.run(t, ctx, r)
			if got.Outcome() == OutcomeComplete {
				complete++
			}
			if t.Failed() {
				t.Fatalf("seed %d ended as %+v", seed, got)
			}
		})
		if t.Failed() {
			return
		}
	}
	if complete < 50 {
		t.Errorf("only %d of 300 runs were complete: the faults leave nothing to test", complete)
	}
}
