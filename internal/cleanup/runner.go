package cleanup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
}

// Phase is what a run is doing.
type Phase string

const (
	Deleting  Phase = "deleting"
	Verifying Phase = "verifying that nothing expired is left"
)

const (
	// maxAttempts bounds the tries of one transaction, about a minute with the
	// waits between them. An unreachable server is waited for elsewhere, and
	// longer.
	maxAttempts  = 15
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 5 * time.Second

	// maxPasses bounds how often a table is gone over for rows that appeared
	// behind the strategy's back while the run went on.
	maxPasses = 3

	// countLimit bounds the count of what is left after a budget is spent. The
	// count proves nothing then, it only informs.
	countLimit = 10 * time.Second

	// flushLimit bounds the flush after the run was told to end at once.
	flushLimit = 5 * time.Second
)

// Runner works plans off. The zero value deletes nothing useful: BatchTarget
// and BatchMaxRows must be set.
type Runner struct {
	Log          *slog.Logger
	BatchTarget  time.Duration   // how long one batch should take
	BatchMaxRows int             // rows of one batch, at most
	Deadline     time.Time       // when the time budget is spent; zero: never
	MaxRows      int64           // the row budget, over all plans; 0: none
	Stop         <-chan struct{} // closed: end after the current batch
	Progress     func(Progress)  // may be nil

	deleted int64 // over all plans
}

// Run deletes what the plan covers and verifies that nothing is left. The
// result is valid whatever happens. A cancelled ctx abandons the batch in
// work; to let it finish, close Stop.
func (r *Runner) Run(ctx context.Context, plan Plan, db Database) PolicyResult {
	started := time.Now()
	p := &policyRun{
		Runner: r, plan: plan, db: db,
		pacer: newPacer(r.BatchTarget, r.BatchMaxRows),
	}
	p.result.Describe(plan)

	reason, err := p.work(ctx)
	if rows := db.Unconfirmed(); rows > 0 {
		p.addDeleted(-rows)
		err = errors.Join(err, Errorf(Incomplete, "the next run counts and deletes what came back",
			"%s deleted besides, not known to be durable and not counted", Plural(rows, "row was", "rows were")))
	}
	p.result.StopReason, p.result.Err = reason, err
	p.result.Duration = time.Since(started)
	return p.result
}

// policyRun is one plan being worked off.
type policyRun struct {
	*Runner
	plan   Plan
	db     Database
	pacer  *pacer
	result PolicyResult

	redo   []Piece // lost in a crash, to be deleted again
	locked []Piece // rows of them were locked
}

// work goes over the table until nothing expired is found, then verifies.
func (p *policyRun) work(ctx context.Context) (StopReason, error) {
	for pass := 1; ; pass++ {
		before := p.result.Deleted
		stop, err := p.pass(ctx)
		if err != nil && p.interrupted(ctx, err) {
			return Interrupted, nil
		}
		if err != nil {
			return Failed, err
		}
		if stop != "" {
			return stop, p.countRest(ctx, stop)
		}
		p.report(Progress{Phase: Verifying})
		if err := p.count(ctx); err != nil && p.interrupted(ctx, err) {
			return Interrupted, nil
		} else if err != nil {
			return Failed, fmt.Errorf("verify that nothing expired is left: %w", err)
		}
		backlog := *p.result.Backlog
		p.result.Locked = min(p.result.Locked, backlog)
		if backlog == p.result.Locked || pass == maxPasses {
			return Exhausted, nil
		}
		// What a whole pass did not reduce, though nobody holds it locked, the
		// database will not delete: a trigger swallows it.
		if p.result.Deleted == before && pass > 1 {
			p.result.Refused = backlog - p.result.Locked
			return Exhausted, Errorf(NeedsPerson,
				"look for a BEFORE DELETE trigger that returns NULL, or a rule ON DELETE",
				"%s left: the server accepts the deletion and does not carry it out",
				Plural(p.result.Refused, "expired row is", "expired rows are"))
		}
	}
}

// pass goes over all leaves once, then comes back for what was locked and for
// what a crash brought back. It ends with everything durable.
func (p *policyRun) pass(ctx context.Context) (StopReason, error) {
	p.locked, p.result.Locked = nil, 0
	for _, leaf := range p.plan.Leaves {
		if stop, err := p.leaf(ctx, p.db.Cut(leaf)); stop != "" || err != nil {
			return stop, p.flush(ctx, err)
		}
	}
	locked := p.locked
	p.locked, p.result.Locked = nil, 0 // counted anew: some were unlocked since
	for _, piece := range locked {
		if stop := p.stopReason(); stop != "" {
			return stop, p.flush(ctx, nil)
		}
		if err := p.delete(ctx, piece, p.pacer.rows); err != nil {
			return "", p.flush(ctx, err)
		}
	}
	return "", p.flush(ctx, nil)
}

// leaf deletes one leaf, batch by batch.
func (p *policyRun) leaf(ctx context.Context, cutter Cutter) (StopReason, error) {
	for {
		if stop := p.stopReason(); stop != "" {
			return stop, nil
		}
		rows := p.pacer.rows
		if p.MaxRows > 0 {
			rows = int(min(int64(rows), p.MaxRows-p.Runner.deleted))
		}
		var piece Piece
		started := time.Now()
		if len(p.redo) > 0 {
			piece, p.redo = p.redo[0], p.redo[1:]
		} else {
			err := p.retry(ctx, func() (err error) {
				piece, err = cutter.Next(ctx, rows)
				return err
			})
			if err != nil {
				return "", err
			}
		}
		if piece == nil && len(p.redo) == 0 {
			return "", nil
		}
		if piece == nil {
			continue
		}
		if err := p.delete(ctx, piece, rows); err != nil {
			return "", err
		}
		p.pacer.observe(rows, time.Since(started))
	}
}

// delete runs one batch. A piece with locked rows is remembered for later.
func (p *policyRun) delete(ctx context.Context, piece Piece, rows int) error {
	var batch Batch
	started := time.Now()
	err := p.retry(ctx, func() (err error) {
		batch, err = piece.Delete(ctx)
		if errors.Is(err, ErrLocked) {
			batch, err = piece.DeleteUnlocked(ctx)
		}
		return err
	})
	if err != nil {
		return err
	}
	took := time.Since(started)
	p.addDeleted(batch.Deleted)
	p.result.Batches++
	if batch.Locked > 0 {
		p.event(slog.LevelDebug, EventLocked, "locked", batch.Locked)
		p.locked = append(p.locked, piece)
		p.result.Locked += batch.Locked
	}
	p.event(slog.LevelDebug, EventBatch, "deleted", batch.Deleted, "rows", rows, "duration_ms", took.Milliseconds())
	p.report(Progress{Phase: Deleting, Rows: rows, Took: took})
	return nil
}

// retry repeats f while what it fails with is worth another try.
func (p *policyRun) retry(ctx context.Context, f func() error) error {
	backoff := firstBackoff
	for attempt := 1; ; attempt++ {
		err := f()
		if lost, ok := errors.AsType[*LostError](err); ok {
			p.event(slog.LevelWarn, EventRetry, "error", lost)
			p.redo = append(p.redo, lost.Pieces...)
			p.addDeleted(-lost.Rows)
			p.result.Batches -= int64(len(lost.Pieces))
			p.result.Retries++
			continue
		}
		transient, ok := errors.AsType[*TransientError](err)
		if !ok || attempt == maxAttempts || p.stopReason() == Interrupted {
			return err
		}
		p.result.Retries++
		p.event(slog.LevelInfo, EventRetry, "attempt", attempt, "error", transient)
		if err := sleep(ctx, jitter(backoff)); err != nil {
			return err
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// flush makes all batches durable, also after err. Batches that turn out to be
// lost are deleted again first.
func (p *policyRun) flush(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), flushLimit)
		defer cancel()
	}
	for {
		if flushErr := p.retry(ctx, func() error { return p.db.Flush(ctx) }); flushErr != nil {
			return errors.Join(err, fmt.Errorf("flush: %w", flushErr))
		}
		if err != nil || len(p.redo) == 0 {
			return err
		}
		piece := p.redo[0]
		p.redo = p.redo[1:]
		err = p.delete(ctx, piece, p.pacer.rows)
	}
}

func (p *policyRun) count(ctx context.Context) error {
	return p.retry(ctx, func() error {
		counts, err := p.db.Count(ctx)
		if err == nil {
			p.result.Backlog, p.result.Held = &counts.Backlog, &counts.Held
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

// stopReason tells why no further batch may be started, or "".
func (p *policyRun) stopReason() StopReason {
	select {
	case <-p.Stop:
		return Interrupted
	default:
	}
	switch {
	case p.MaxRows > 0 && p.Runner.deleted >= p.MaxRows:
		return RowBudget
	case !p.Deadline.IsZero() && !time.Now().Before(p.Deadline):
		return TimeBudget
	}
	return ""
}

// interrupted tells whether err is the consequence of an interruption rather
// than a failure of its own.
func (p *policyRun) interrupted(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	_, transient := errors.AsType[*TransientError](err)
	return transient && p.stopReason() == Interrupted
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
	progress.Policy = p.plan.Policy.Name
	progress.Deleted = p.result.Deleted
	progress.Batches = p.result.Batches
	progress.Expected = p.plan.Expired()
	p.Progress(progress)
}
