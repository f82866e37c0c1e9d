package cleanup

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// queue is where the workers take pieces from: those that a crash brought back
// first, then the given ones, then those that are cut from leaves. One worker at
// a time cuts; the pieces are disjoint, so workers never wait for each other's
// rows.
type queue struct {
	run    *policyRun
	pieces []Piece
	leaves []LeafPlan

	mu     sync.Mutex // guards pieces, leaves and cutter
	cutter Cutter     // of the leaf at hand; nil: none
}

// next returns nil when there is nothing left.
func (q *queue) next(ctx context.Context, rows int) (Piece, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if piece := q.run.takeRedo(); piece != nil {
		return piece, nil
	}
	if len(q.pieces) > 0 {
		piece := q.pieces[0]
		q.pieces = q.pieces[1:]
		return piece, nil
	}
	for {
		if q.cutter == nil && len(q.leaves) == 0 {
			return nil, nil
		}
		if q.cutter == nil {
			q.cutter, q.leaves = q.run.db.Cut(q.leaves[0]), q.leaves[1:]
		}
		piece, err := q.cutter.Next(ctx, rows, q.run.quiet())
		if err != nil || piece != nil {
			return piece, err
		}
		q.cutter = nil
	}
}

// workers lets all workers take pieces until there are none, a budget is spent
// or one of them fails. Those that did not fail finish their batch.
func (p *policyRun) workers(ctx context.Context, q *queue) (StopReason, error) {
	type end struct {
		stop StopReason
		err  error
	}
	defer p.watch(ctx)()
	n := max(1, p.Workers)
	ends := make(chan end, n)
	failed := make(chan struct{})
	var once sync.Once
	for range n {
		go func() {
			stop, err := p.worker(ctx, q, failed)
			if err != nil {
				once.Do(func() { close(failed) })
			}
			ends <- end{stop, err}
		}()
	}
	var all end
	for range n {
		e := <-ends
		all.err = errors.Join(all.err, e.err)
		if e.stop != "" {
			all.stop = e.stop
		}
	}
	return all.stop, all.err
}

// worker deletes piece by piece.
func (p *policyRun) worker(ctx context.Context, q *queue, failed <-chan struct{}) (StopReason, error) {
	for {
		select {
		case <-failed:
			return "", nil
		default:
		}
		if stop := p.stopReason(); stop != "" {
			return stop, nil
		}
		rows := p.reserve()
		if rows == 0 { // the batches in work may use up the row budget
			return "", nil
		}
		var piece Piece
		var took, worked time.Duration
		err := p.retry(ctx, p.stopReason, func() (err error) {
			piece, err = q.next(ctx, rows)
			return err
		})
		if err == nil && piece != nil && p.mayBegin(ctx, failed) {
			took, worked, err = p.delete(ctx, piece, rows)
			if whole, ok := piece.(Divisible); ok && mayDivide(err) {
				err = p.divide(ctx, whole, err, failed)
			}
		}
		p.release(rows)
		if err != nil {
			return p.ended(ctx, err)
		}
		if piece == nil {
			return "", nil
		}
		if err := p.rest(ctx, took, worked, failed); err != nil {
			return p.ended(ctx, err)
		}
	}
}

// reserve takes the next batch's rows out of the row budget.
func (p *policyRun) reserve() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	rows := p.pacer.rows
	if p.MaxRows > 0 {
		rows = int(min(int64(rows), max(0, p.MaxRows-p.Runner.deleted-p.reserved)))
	}
	p.reserved += int64(rows)
	return rows
}

func (p *policyRun) release(rows int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reserved -= int64(rows)
}

func (p *policyRun) takeRedo() Piece {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.redo) == 0 {
		return nil
	}
	piece := p.redo[0]
	p.redo = p.redo[1:]
	return piece
}

// delete runs one batch and returns how long it took, as seen from here, and for
// how long the server worked on it. A piece with locked rows is remembered for
// later. A batch of 0 rows, part of a piece that could not be deleted whole, says
// nothing about the size of the next.
func (p *policyRun) delete(ctx context.Context, piece Piece, rows int) (took, worked time.Duration, err error) {
	var batch Batch
	err = p.retry(ctx, p.stopReason, func() (err error) {
		began := time.Now()
		defer func() { took = time.Since(began) }()
		batch, err = piece.Delete(ctx)
		if errors.Is(err, ErrLocked) {
			batch, err = piece.DeleteUnlocked(ctx)
		}
		return err
	})
	if _, ok := errors.AsType[*TooLongError](err); ok {
		p.tooLong(rows, took, err)
	}
	if err != nil {
		return took, took, err
	}
	if batch.Lost != "" {
		p.warnOnce(batch.Lost + " while the run was at work: nothing more is deleted from it")
		return 0, 0, nil
	}
	p.manners(p.account(piece, batch, rows))
	if batch.Locked > 0 {
		p.event(slog.LevelDebug, EventLocked, "locked", batch.Locked)
	}
	if batch.Dropped != "" {
		p.event(slog.LevelInfo, EventDropped, "partition", batch.Dropped, "rows", batch.Deleted, "duration_ms", batch.Took.Milliseconds())
		p.report(Progress{Phase: Deleting, Rows: int(batch.Deleted), Took: batch.Took})
		return took, batch.Took, nil
	}
	p.event(slog.LevelDebug, EventBatch, "deleted", batch.Deleted, "rows", rows, "duration_ms", batch.Took.Milliseconds())
	p.report(Progress{Phase: Deleting, Rows: rows, Took: batch.Took})
	return took, batch.Took, nil
}

// account adds a batch to the result and returns the pacer's event, if it has
// one.
func (p *policyRun) account(piece Piece, batch Batch, rows int) (event string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addDeleted(batch.Deleted)
	p.result.Batches++
	if rows == 0 {
		p.refusals.gained += batch.Deleted
	}
	if batch.Took > 0 {
		p.result.Batched.observe(batch.Took)
	}
	if batch.Locked > 0 {
		p.locked = append(p.locked, piece)
		p.result.Locked += batch.Locked
	}
	if batch.Dropped != "" {
		p.result.Dropped = append(p.result.Dropped, batch.Dropped)
	} else if batch.Took > 0 {
		event = p.pacer.observe(rows, batch, time.Now())
	}
	return event
}

// manners tells why the run gets slower. A policy may come into company again
// and again, and each event is told once.
func (p *policyRun) manners(event string) {
	if event != "" && p.untold(event) {
		p.event(slog.LevelInfo, event)
	}
}

// untold tells whether an event that is told once was not told yet, and notes
// that it is now.
func (p *policyRun) untold(event string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Contains(p.told, event) {
		return false
	}
	p.told = append(p.told, event)
	return true
}
