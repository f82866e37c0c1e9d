package cleanup

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Pressure is what the server says of those that read the WAL that a run makes
// it write.
type Pressure struct {
	Standbys []Standby
	Slots    []Slot
	// Hidden says what the role may not see, and how to mend it; "": nothing.
	Hidden string
}

// Standby is a server that replays what this one writes.
type Standby struct {
	Name string
	Lag  time.Duration // how long ago what it has not yet replayed was written
}

// Slot is a replication slot.
type Slot struct {
	Name string
	WAL  int64 // bytes that the server keeps for it
}

// PressureLimits say how much pressure is too much. While there is more, all
// workers pause before their next batch.
type PressureLimits struct {
	ReplicaLag time.Duration // 0: do not look
	SlotWAL    int64         // bytes; 0: do not look
	Pause      time.Duration // after a pause of this length the run ends
}

const (
	// lookEvery is how often a run looks at the pressure.
	lookEvery = time.Second
	// lookIdle is the same of a server that nobody reads from: somebody may
	// begin to.
	lookIdle = 10 * time.Second
)

// watched is what a run knows of the pressure, over all plans.
type watched struct {
	again time.Time // when to look again
	blind bool      // the server does not tell
	told  bool      // that there is something hidden
	over  error     // a pause was as long as one may be: the run ends
}

// pause is a time in which no batch begins.
type pause struct {
	began  time.Time
	why    PauseReason
	reason string        // the same for people
	felt   bool          // by a worker that had a batch to begin
	over   chan struct{} // closed when it is
}

// watch looks at the pressure before the first batch, and then again and again
// beside the workers, so that it holds up none. What it finds makes them pause.
// The returned function ends it.
func (p *policyRun) watch(ctx context.Context) (end func()) {
	if p.Pressure.ReplicaLag <= 0 && p.Pressure.SlotWAL <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	if !time.Now().Before(p.watched.again) {
		p.look(ctx)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !p.watched.blind && p.watched.over == nil {
			select {
			case <-ctx.Done():
				return
			case <-p.Stop:
				return
			case <-time.After(time.Until(p.watched.again)):
				p.look(ctx)
			}
		}
	}()
	return func() {
		cancel()
		<-done
		p.goOn()
	}
}

// look asks for the pressure once, and pauses the workers or lets them go on.
func (p *policyRun) look(ctx context.Context) {
	if p.watched.blind || p.watched.over != nil {
		return
	}
	pressure, err := p.db.Pressure(ctx)
	p.watched.again = time.Now().Add(lookEvery)
	switch {
	case ctx.Err() != nil:
		return
	case err == nil:
		p.tell(pressure.Hidden)
		if len(pressure.Standbys) == 0 && len(pressure.Slots) == 0 {
			p.watched.again = time.Now().Add(lookIdle)
		}
		p.decide(pressure.tooMuch(p.Pressure))
	case KindOf(err) == Incomplete || KindOf(err) == Unavailable:
		// The server is away for a moment. What it said last holds.
		p.decide(p.pauseReason())
	default:
		p.watched.blind = true
		p.warn(fmt.Sprintf("the run goes on without looking at replication, as pace.max_replica_lag: 0s does without this warning: %v", err))
		p.goOn()
	}
}

// tell warns once of what the role may not see.
func (p *policyRun) tell(hidden string) {
	if hidden != "" && p.Pressure.ReplicaLag > 0 && !p.watched.told {
		p.watched.told = true
		p.warn(hidden)
	}
}

// tooMuch says which pressure is above its limit, and by how much; "": none.
func (p Pressure) tooMuch(limits PressureLimits) (why PauseReason, reason string) {
	var worst Standby
	for _, s := range p.Standbys {
		if s.Lag > worst.Lag {
			worst = s
		}
	}
	if limits.ReplicaLag > 0 && worst.Lag > limits.ReplicaLag {
		return PauseReplicaLag, fmt.Sprintf("standby %s is %s behind, more than pace.max_replica_lag (%s)",
			worst.Name, FormatDuration(roughly(worst.Lag)), FormatDuration(limits.ReplicaLag))
	}
	var largest Slot
	for _, s := range p.Slots {
		if s.WAL > largest.WAL {
			largest = s
		}
	}
	if limits.SlotWAL > 0 && largest.WAL > limits.SlotWAL {
		return PauseSlotWAL, fmt.Sprintf("the server keeps %s of WAL for replication slot %s, more than pace.max_slot_wal (%s)",
			FormatSize(largest.WAL), largest.Name, FormatSize(limits.SlotWAL))
	}
	return "", ""
}

// roughly rounds a lag to what a person wants to know of it.
func roughly(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// decide begins a pause, keeps it up, ends it, or ends the run with it.
func (p *policyRun) decide(why PauseReason, reason string) {
	if reason == "" {
		p.goOn()
		return
	}
	now := time.Now()
	p.mu.Lock()
	if p.pause == nil {
		p.pause = &pause{began: now, over: make(chan struct{})}
	}
	p.pause.why, p.pause.reason = why, reason
	felt := p.pause.felt
	left := p.Pressure.Pause - now.Sub(p.pause.began)
	if left <= 0 {
		p.watched.over = Errorf(Incomplete, "mend what is behind; what may be behind on purpose needs a higher limit, and 0s, or \"\" for slots, does not look",
			"paused for %s, which is pace.max_pause, and still %s", FormatDuration(p.Pressure.Pause), reason)
	}
	p.mu.Unlock()
	if left <= 0 {
		p.goOn()
		return
	}
	p.watched.again = now.Add(min(lookEvery, left))
	if felt {
		p.report(Progress{Phase: Paused, Reason: reason})
	}
}

func (p *policyRun) pauseReason() (why PauseReason, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pause == nil {
		return "", ""
	}
	return p.pause.why, p.pause.reason
}

// goOn ends the pause, if there is one.
func (p *policyRun) goOn() {
	p.mu.Lock()
	ended := p.pause
	p.pause = nil
	p.mu.Unlock()
	if ended == nil {
		return
	}
	close(ended.over)
	if ended.felt {
		took := time.Since(ended.began)
		p.paused(ended.why, took)
		p.event(slog.LevelInfo, EventPauseEnded, "paused_ms", took.Milliseconds())
	}
}

// mayBegin waits until there is no pause, and tells whether a batch may begin.
// It may not when the run, or this round of workers, has come to its end
// meanwhile.
func (p *policyRun) mayBegin(ctx context.Context, failed <-chan struct{}) bool {
	var spent <-chan time.Time
	if !p.Deadline.IsZero() {
		timer := time.NewTimer(time.Until(p.Deadline))
		defer timer.Stop()
		spent = timer.C
	}
	waited := false
	for {
		pause := p.feelPause()
		if pause == nil {
			return !waited || p.stopReason() == ""
		}
		waited = true
		select {
		case <-pause.over:
		case <-failed:
			return false
		case <-spent:
			return false
		case <-p.Stop:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// feelPause returns the pause that a worker has to wait for, if there is one.
// The first worker to do so tells: with nothing left to delete, nobody does.
func (p *policyRun) feelPause() *pause {
	p.mu.Lock()
	felt := p.pause
	if felt == nil || felt.felt {
		p.mu.Unlock()
		return felt
	}
	felt.felt = true
	reason := felt.reason
	p.mu.Unlock()
	p.event(slog.LevelWarn, EventPaused, "reason", reason)
	p.report(Progress{Phase: Paused, Reason: reason})
	return felt
}

// warnOnce is warn, but for what is in the report already.
func (p *policyRun) warnOnce(warning string) {
	p.mu.Lock()
	told := slices.Contains(p.result.Warnings, warning)
	p.mu.Unlock()
	if !told {
		p.warn(warning)
	}
}

// warn logs a warning and puts it into the report.
func (p *policyRun) warn(warning string) { p.warnAs(EventWarning, warning) }

func (p *policyRun) warnAs(event, warning string) {
	p.event(slog.LevelWarn, event, "warning", warning)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result.Warnings = append(p.result.Warnings, warning)
}
