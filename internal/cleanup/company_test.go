package cleanup

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestCompanyIsWhoWritesMoreThanOnceInAWhile(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		workers int
		writes  int // of others, in each tenth of a second
		every   int // tenth of a second
		want    bool
	}{
		{"nobody", 1, 0, 1, false},
		{"two writes a second", 1, 1, 5, false},
		{"eight writes a second", 1, 4, 5, false},
		{"ten writes a second", 1, 5, 5, true},
		{"ten writes a second, spread", 1, 1, 1, true},
		{"a hundred writes a second", 1, 10, 1, true},
		{"workers whose ids are not known yet", 4, 7, 5, false},
		{"four workers, and others", 4, 8, 5, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := company{workers: tt.workers}
			now, others, came, seen := time.Unix(0, 0), int64(0), 0, false
			for tenth := range 50 {
				if tenth%tt.every == 0 {
					others += int64(tt.writes)
				}
				if c.observe(others, now) {
					came++
				}
				seen = seen || c.present
				now = now.Add(100 * time.Millisecond)
			}
			if seen != tt.want || c.present != tt.want || (came > 0) != tt.want || came > 1 {
				t.Errorf("came into company %d times, is in company: %t; want %t", came, c.present, tt.want)
			}
			now = now.Add(companyWindow)
			if c.observe(others, now); c.present {
				t.Error("still in company, though nobody wrote for a while")
			}
		})
	}
}

// In company a batch takes 2 ms and logs 512 kB, and rests for as long as the
// server worked. When the others are gone, the run has the machine again.
func TestInCompanyBatchesAreSmallAndRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(90_000)
		m.perRow = 10 * time.Microsecond
		var took []time.Duration
		last := time.Now()
		m.before = func(op string, n int) error {
			if op == opDelete {
				took = append(took, time.Since(last))
				last = time.Now()
				if n > 2 && n <= 100 {
					m.others += companyWrites
				}
			}
			return nil
		}
		got := m.run(t, t.Context(), newRunner())
		wantEnd(t, got, Exhausted, OutcomeComplete, 90_000, 0)
		sizes := m.asked
		if sizes[1] != 10_000 || sizes[50] != 200 {
			t.Errorf("batches of %v rows, want 10,000 alone and 200 in company", sizes)
		}
		if took[50] != 4*time.Millisecond {
			t.Errorf("a batch of 2 ms began every %s, want 4 ms with its rest", took[50])
		}
		if last := sizes[len(sizes)-2]; last < 5000 {
			t.Errorf("batches of %v rows; want large ones again at the end", sizes)
		}
		if rested := got.Paused[PauseCompany]; len(got.Paused) != 1 || rested < 150*time.Millisecond {
			t.Errorf("pauses are counted as %v, want all of them as those in company", got.Paused)
		}
	})
}

func TestLogIsBoundedInCompany(t *testing.T) {
	t.Parallel()
	for workers, want := range map[int]int{1: 512, 2: 256, 4: 128} {
		p := newPacer(100*time.Millisecond, 50_000, 16<<20, workers)
		p.company.present = true
		p.company.since, p.company.others = time.Unix(0, 0), 0
		p.observe(1000, Batch{Deleted: 1000, Took: time.Millisecond, WAL: 1000 << 10}, time.Unix(0, 1))
		if p.rows != want {
			t.Errorf("%d workers: the next batch has %d rows, want %d", workers, p.rows, want)
		}
	}
}
