package cleanup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Progress is told after every batch, and when a phase begins that may take
// long.
type Progress struct {
	Policy   string
	Deleted  int64   // rows, in this policy
	Expected float64 // rows, estimated before the start; 0: unknown
	Batches  int64
	Rows     int // size of the last batch
	Took     time.Duration
	Phase    Phase
	Reason   string // of a pause; what is vacuumed
}

// Phase is what a run is doing.
type Phase string

const (
	Deleting  Phase = "deleting"
	Paused    Phase = "paused"
	Vacuuming Phase = "vacuuming"
	Verifying Phase = "verifying that nothing expired is left"
)

const (
	// maxPasses bounds how often a table is gone over for rows that appeared
	// behind the strategy's back while the run went on.
	maxPasses = 3

	// countLimit bounds the count of what is left after a budget is spent. The
	// count proves nothing then, it only informs.
	countLimit = 10 * time.Second

	// flushLimit bounds the flush after the run was told to end at once.
	flushLimit = 5 * time.Second
)

// Runner works plans off. BatchTarget and BatchMaxRows must be set.
type Runner struct {
	Log          *slog.Logger
	BatchTarget  time.Duration // how long one batch should take
	BatchMaxRows int           // rows of one batch, at most
	Workers      int           // how many batches are in work at once; 0 is 1
	DutyCycle    float64       // share of its time that a worker spends deleting; 0 is 1
	Deadline     time.Time     // when the time budget is spent; zero: never
	Pressure     PressureLimits
	MaxRows      int64           // the row budget, over all plans; 0: none
	Stop         <-chan struct{} // closed: end after the current batches
	Progress     func(Progress)  // never called twice at once; may be nil

	deleted int64 // over all plans
	watched watched
}

// Run deletes what the plan covers and verifies that nothing is left. The
// result is valid whatever happens. A cancelled ctx abandons the batches in
// work; to let them finish, close Stop.
func (r *Runner) Run(ctx context.Context, plan Plan, db Database) PolicyResult {
	started := time.Now()
	p := &policyRun{Runner: r, plan: plan, db: db, pacer: newPacer(r.BatchTarget, r.BatchMaxRows, plan.Server.WALBuffers, max(1, r.Workers))}
	p.result.Describe(plan)
	reason, err := p.work(ctx)
	rows, doubtful := db.Unconfirmed()
	p.addDeleted(-rows)
	if rows += doubtful; rows > 0 {
		besides := Plural(rows, "row was", "rows were") + " deleted besides, not known to be durable and not counted"
		if err == nil {
			err = Errorf(Incomplete, "the next run deletes what came back", "%s", besides)
		} else {
			err = fmt.Errorf("%w; %s", err, besides)
		}
	}
	if refused := p.refusal(); err == nil {
		err = refused
	} else if refused != nil {
		err = fmt.Errorf("%w; %w", err, refused)
	}
	p.result.StopReason, p.result.Err = reason, err
	p.afterwards(ctx, reason, started)
	p.result.Duration = time.Since(started)
	return p.result
}

// policyRun is one plan being worked off.
type policyRun struct {
	*Runner
	plan Plan
	db   Database

	reporting sync.Mutex // one Progress at a time

	mu       sync.Mutex // guards all below, Runner.deleted and Runner.watched.over
	pacer    *pacer
	result   PolicyResult
	reserved int64    // rows that batches in work may delete
	redo     []Piece  // lost in a crash, to be deleted again
	locked   []Piece  // rows of them were locked
	pause    *pause   // nil: none
	told     []string // events that are told once
	refusals refusals
}

// work goes over the table until nothing expired is found, then verifies.
func (p *policyRun) work(ctx context.Context) (StopReason, error) {
	var lastBacklog int64
	for pass := 1; ; pass++ {
		before, batches := p.result.Deleted, p.result.Batches
		stop, err := p.pass(ctx)
		if err != nil {
			return Failed, err
		}
		if stop != "" {
			return stop, errors.Join(p.countRest(ctx, stop), p.leftBehind(stop))
		}
		p.report(Progress{Phase: Verifying})
		if err := p.count(ctx); err != nil {
			stop, err := p.ended(ctx, fmt.Errorf("verify that nothing expired is left: %w", err))
			if err != nil {
				stop = Failed
			}
			return stop, err
		}
		backlog := *p.result.Backlog
		if backlog == p.result.Locked+p.result.Refused || pass == maxPasses {
			return Exhausted, nil
		}
		// What a whole pass did not reduce, though nobody holds it locked, the
		// database will not delete: a trigger swallows it. Or no leaf that was
		// planned for holds it.
		if pass > 1 && p.result.Batches > batches && p.result.Deleted == before && backlog == lastBacklog {
			came, err := p.newcomers(ctx)
			if err != nil {
				return Failed, err
			}
			if came {
				return Exhausted, nil
			}
			swallowed := backlog - p.result.Locked - p.result.Refused
			p.result.Refused += swallowed
			return Exhausted, Errorf(NeedsPerson,
				"look for a BEFORE DELETE trigger that returns NULL, or a rule ON DELETE",
				"%s left: the server accepts the deletion and does not carry it out",
				Plural(swallowed, "expired row is", "expired rows are"))
		}
		lastBacklog = backlog
	}
}

// newcomers warns of leaves that came since the plan was made.
func (p *policyRun) newcomers(ctx context.Context) (came bool, err error) {
	var names []string
	err = p.retry(ctx, p.interrupted, func() error {
		names, err = p.db.Newcomers(ctx)
		return err
	})
	for _, name := range names {
		p.warn(name + " was attached while the run was at work: the next run cleans it")
	}
	return len(names) > 0, err
}

// pass goes over all leaves once, then comes back for what was locked and for
// what a crash brought back. It ends with everything durable.
func (p *policyRun) pass(ctx context.Context) (StopReason, error) {
	p.locked, p.result.Locked = nil, 0
	p.forgetRefusals()
	p.result.Backlog, p.result.Held, p.result.Overdue = nil, nil, 0
	stop, err := p.workers(ctx, &queue{run: p, leaves: p.plan.Leaves})
	if stop == "" && err == nil && len(p.locked) > 0 {
		again := &queue{run: p, pieces: p.locked}
		p.locked, p.result.Locked = nil, 0 // counted anew: some were unlocked since
		stop, err = p.workers(ctx, again)
	}
	for {
		if flushErr := p.flush(ctx); flushErr != nil {
			end, flushErr := p.ended(ctx, flushErr)
			stop, err = end, errors.Join(err, flushErr)
		}
		if err != nil {
			return "", err
		}
		if stop != "" || len(p.redo) == 0 {
			return stop, nil
		}
		stop, err = p.workers(ctx, &queue{run: p})
	}
}

// flush makes all batches durable. A run that is to end at once still gets a
// moment for it: what was deleted should be counted.
func (p *policyRun) flush(ctx context.Context) error {
	flush := func(ctx context.Context) error {
		return p.retry(ctx, p.interrupted, func() error { return p.db.Flush(ctx) })
	}
	var err error
	if ctx.Err() == nil {
		err = flush(ctx)
	}
	if ctx.Err() != nil {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushLimit)
		defer cancel()
		err = flush(limited)
	}
	if err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// count counts what is expired now, into the result.
func (p *policyRun) count(ctx context.Context) error {
	return p.retry(ctx, p.interrupted, func() error {
		counts, err := p.db.Count(ctx, p.quiet())
		if err == nil {
			p.result.Backlog, p.result.Held, p.result.Overdue = &counts.Backlog, &counts.Held, counts.Overdue
			p.result.Locked = min(p.result.Locked, counts.Backlog)
			p.refusals.rows = min(p.refusals.rows, counts.Backlog-p.result.Locked)
			p.result.Refused = p.refusals.rows
		}
		return err
	})
}

// countRest counts what a spent budget leaves behind, if that is quickly done.
// Somebody who interrupts the run wants it to end.
func (p *policyRun) countRest(ctx context.Context, stop StopReason) error {
	if stop == Interrupted {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, countLimit)
	defer cancel()
	if err := p.count(limited); err != nil && limited.Err() == nil {
		return fmt.Errorf("count what is left: %w", err)
	}
	return nil
}

// leftBehind is the error of a run that pressure ended with rows left.
func (p *policyRun) leftBehind(stop StopReason) error {
	if stop != UnderPressure || p.result.Backlog != nil && *p.result.Backlog == 0 {
		return nil
	}
	return p.watched.over
}

// ended tells whether err is a failure, or just how the end of the run came
// about: a batch that is not tried again because a budget is spent. It is asked
// where the error comes up, for what ends one worker must not excuse another.
func (p *policyRun) ended(ctx context.Context, err error) (StopReason, error) {
	if ctx.Err() != nil {
		return Interrupted, nil
	}
	if _, transient := errors.AsType[*TransientError](err); transient {
		if stop := p.stopReason(); stop != "" {
			return stop, nil
		}
	}
	return "", err
}

// stopReason tells why no further batch may be started, or "".
func (p *policyRun) stopReason() StopReason {
	if stop := p.interrupted(); stop != "" {
		return stop
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.watched.over != nil:
		return UnderPressure
	case p.MaxRows > 0 && p.Runner.deleted >= p.MaxRows:
		return RowBudget
	case !p.Deadline.IsZero() && !time.Now().Before(p.Deadline):
		return TimeBudget
	}
	return ""
}

// interrupted is the stop reason of what must go on after a budget is spent.
func (p *policyRun) interrupted() StopReason {
	select {
	case <-p.Stop:
		return Interrupted
	default:
		return ""
	}
}

func (p *policyRun) addDeleted(n int64) {
	p.result.Deleted += n
	p.Runner.deleted += n
}

// event logs what happened in this policy. Its name is part of each record, not
// of the logger's context, so that it is in the text of the journal's entries.
func (p *policyRun) event(level slog.Level, event string, attrs ...any) {
	attrs = append([]any{"policy", p.plan.Policy.Name, "table", p.plan.Table}, attrs...)
	p.Log.Log(context.Background(), level, event, attrs...)
}

func (p *policyRun) report(progress Progress) {
	if p.Progress == nil {
		return
	}
	p.reporting.Lock()
	defer p.reporting.Unlock()
	p.mu.Lock()
	progress.Policy = p.plan.Policy.Name
	progress.Deleted = p.result.Deleted
	progress.Batches = p.result.Batches
	progress.Expected = p.plan.Expired()
	p.mu.Unlock()
	p.Progress(progress)
}
