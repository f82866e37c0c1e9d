package cleanup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Holder is somebody whose snapshot is older than the run's deletions. Until it
// ends, no vacuum can reclaim the space of the deleted rows.
type Holder struct {
	Name  string        // what it is, for people
	Held  time.Duration // for how long it has been there; 0: not known
	Stays bool          // it does not end by itself
	Hint  string        // what to do about it
	End   string        // the statement that ends it; "": there is none here
}

// longHeld tells an ordinary transaction, or the feedback of a standby that
// comes every ten seconds, from somebody who is in the way.
const longHeld = time.Minute

// inTheWay returns the first holder that is no passing one after a run of some
// length. What was there before the run and is there after it has been there
// for at least as long.
func inTheWay(holders []Holder, run time.Duration) *Holder {
	for i, h := range holders {
		if h.Stays || h.Held >= longHeld || h.Held == 0 && run >= longHeld {
			return &holders[i]
		}
	}
	return nil
}

// HeldBack tells who keeps the space of deleted rows from being reclaimed, if that
// is no passing one after a run of some length.
func HeldBack(holders []Holder, run time.Duration) (f Finding, held bool) {
	h := inTheWay(holders, run)
	if h == nil {
		return f, false
	}
	age := "open since before the run"
	switch {
	case h.Held > 0:
		age = "open for " + FormatDuration(roughly(h.Held))
	case run == 0:
		age = "since when is not known"
	}
	f = Finding{Name: "old-snapshot", Severity: SeverityWarning, Hint: h.Hint,
		Text: fmt.Sprintf("the space of the deleted rows cannot be reclaimed while there is %s, %s", h.Name, age)}
	if h.End != "" {
		f.SQL = []string{h.End}
	}
	return f, true
}

// afterwards looks after the space of the deleted rows. Nothing that goes wrong
// here makes a run fail.
func (p *policyRun) afterwards(ctx context.Context, stop StopReason, started time.Time) {
	if p.result.Deleted == 0 || stop == Interrupted || stop == Failed || ctx.Err() != nil {
		return
	}
	ctx, cancel := p.untilStopped(ctx)
	defer cancel()
	held := p.checkHorizon(ctx, time.Since(started))
	if p.plan.Policy.Vacuum != VacuumAfter {
		return
	}
	switch {
	case held:
		p.warn("not vacuumed: nothing of what was deleted could be reclaimed now; autovacuum comes back for it")
	case stop == TimeBudget:
		p.warn("not vacuumed: limits.max_duration is spent")
	case stop == UnderPressure:
		p.warn("not vacuumed: that would write more WAL")
	default:
		p.vacuum(ctx)
	}
}

// untilStopped returns a context that ends when the run is to stop. The time
// budget is looked after where it matters.
func (p *policyRun) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-p.Stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// checkHorizon warns of whoever keeps the dead rows from being reclaimed.
func (p *policyRun) checkHorizon(ctx context.Context, run time.Duration) (held bool) {
	ctx, cancel := context.WithTimeout(ctx, countLimit)
	defer cancel()
	holders, err := p.db.Holders(ctx)
	if err != nil {
		if KindOf(err) != Incomplete && KindOf(err) != Unavailable && ctx.Err() == nil {
			p.warn(fmt.Sprintf("it cannot be told whether the deleted rows can be reclaimed: %v", err))
		}
		return false
	}
	finding, held := HeldBack(holders, run)
	if held {
		p.warnAs(EventHeldBack, finding.Text+"; "+finding.Hint)
	}
	return held
}

// vacuum vacuums the leaves of which rows were deleted, one by one, until the
// run is to stop or the time budget is spent.
func (p *policyRun) vacuum(ctx context.Context) {
	if !p.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, p.Deadline)
		defer cancel()
	}
	var denied []string
	for _, leaf := range p.db.Touched() {
		err := p.vacuumLeaf(ctx, leaf)
		switch {
		case err == nil:
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			p.warn(fmt.Sprintf("%s was not vacuumed to its end: limits.max_duration is spent", leaf.Name))
			return
		case ctx.Err() != nil:
			p.warn(fmt.Sprintf("%s was not vacuumed to its end: interrupted", leaf.Name))
			return
		case KindOf(err) == Permission:
			denied = append(denied, err.Error()+": "+HintOf(err))
		case errors.Is(err, ErrLocked):
			p.warn(fmt.Sprintf("%s was not vacuumed: another vacuum, or a change of the table, is in work", leaf.Name))
		default:
			p.warn(fmt.Sprintf("%s was not vacuumed: %v", leaf.Name, err))
		}
	}
	if len(denied) > 0 {
		more := ""
		if len(denied) > 1 {
			more = fmt.Sprintf(" (the same for %s)", Plural(int64(len(denied)-1), "other partition", "other partitions"))
		}
		p.warn(denied[0] + more)
	}
}

// vacuumLeaf vacuums one leaf, unless there is pressure already.
func (p *policyRun) vacuumLeaf(ctx context.Context, leaf Leaf) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if p.Pressure.ReplicaLag > 0 || p.Pressure.SlotWAL > 0 {
		if pressure, err := p.db.Pressure(ctx); err == nil {
			if _, reason := pressure.tooMuch(p.Pressure); reason != "" {
				return errors.New(reason)
			}
		}
	}
	p.report(Progress{Phase: Vacuuming, Reason: leaf.Name})
	began := time.Now()
	err := p.db.Vacuum(ctx, leaf)
	if err == nil {
		p.event(slog.LevelInfo, EventVacuumed, "leaf", leaf.Name, "duration_ms", time.Since(began).Milliseconds())
	}
	return err
}
