package cleanup

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// maxAttempts bounds the tries of one transaction, about a minute with the
	// waits between them. An unreachable server is waited for elsewhere, and
	// longer.
	maxAttempts  = 15
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 5 * time.Second
)

// retry repeats f while what it fails with is worth another try and until tells
// no reason to stop. It returns the last error as it was, or the news that the
// tries are used up.
func (p *policyRun) retry(ctx context.Context, until func() StopReason, f func() error) error {
	backoff := firstBackoff
	for attempt := 1; ; attempt++ {
		err := f()
		lost, crashed := errors.AsType[*LostError](err)
		transient, again := errors.AsType[*TransientError](err)
		switch {
		case crashed:
			p.takeBack(lost)
			p.event(slog.LevelWarn, EventRetry, "error", lost)
			continue
		case !again || until() != "":
			return err
		case attempt >= maxAttempts:
			hint := cmp.Or(HintOf(transient), "the next run goes on; if it happens again, look who works on the table at that time")
			return Errorf(Incomplete, hint, "gave up after %d tries: %w", attempt, transient)
		}
		p.retried()
		p.event(slog.LevelInfo, EventRetry, "attempt", attempt, "error", transient)
		if err := p.sleep(ctx, jitter(backoff)); err != nil {
			return err
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// takeBack undoes the account of batches that a crash took back.
func (p *policyRun) takeBack(lost *LostError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.redo = append(p.redo, lost.Pieces...)
	p.locked = slices.DeleteFunc(p.locked, func(piece Piece) bool { return slices.Contains(lost.Pieces, piece) })
	p.addDeleted(-lost.Rows)
	p.result.Batches -= int64(len(lost.Pieces))
	p.result.Retries++
}

func (p *policyRun) retried() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.result.Retries++
}

// jitter spreads d by up to half of it, so that several programs that met the
// same fault do not come back together.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d)
}

// sleep waits for d, or until the run is to stop. It fails when ctx is done.
func (p *policyRun) sleep(ctx context.Context, d time.Duration) error {
	return p.sleepUnless(ctx, d, nil)
}

// sleepUnless is sleep that also ends when ended is closed.
func (p *policyRun) sleepUnless(ctx context.Context, d time.Duration, ended <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.Stop:
	case <-ended:
	case <-timer.C:
	}
	return nil
}
