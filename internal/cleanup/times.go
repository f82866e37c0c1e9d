package cleanup

import "time"

// PauseReason says in one word why a run did not delete for a while.
type PauseReason string

const (
	PauseReplicaLag PauseReason = "replica_lag"  // a standby is too far behind
	PauseSlotWAL    PauseReason = "slot_wal"     // too much WAL is kept for a replication slot
	PauseCompany    PauseReason = "company"      // others write
	PauseSlow       PauseReason = "slow_batches" // batches got much slower
	PauseDutyCycle  PauseReason = "duty_cycle"   // the operator wants it
)

// PauseReasons lists them all.
var PauseReasons = []PauseReason{PauseReplicaLag, PauseSlotWAL, PauseCompany, PauseSlow, PauseDutyCycle}

// paused adds to the time that went into pauses.
func (p *policyRun) paused(why PauseReason, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.result.Paused == nil {
		p.result.Paused = make(map[PauseReason]time.Duration)
	}
	p.result.Paused[why] += d
}

// BatchBounds are the upper bounds of the classes of a [Histogram], from a bite
// in company to a batch that takes far too long.
var BatchBounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, time.Minute,
}

// Histogram counts durations by class.
type Histogram struct {
	Counts [len(BatchBounds) + 1]int64 // of each class; the last one has no upper bound
	Sum    time.Duration
}

func (h *Histogram) observe(d time.Duration) {
	class := 0
	for class < len(BatchBounds) && d > BatchBounds[class] {
		class++
	}
	h.Counts[class]++
	h.Sum += d
}
