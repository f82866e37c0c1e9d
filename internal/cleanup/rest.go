package cleanup

import (
	"context"
	"time"
)

// longestBatch bounds what a rest is reckoned from. The server ends a batch
// after a minute: one that took longer from here waited for a server that was
// not there, and that was rest enough.
const longestBatch = time.Minute

// rest keeps a worker away from the server after a batch that took so long, so
// that the batch is the duty cycle's share of the whole, or as others need it.
// It ends early when the run is to stop, when the time budget is spent and when
// another worker failed.
func (p *policyRun) rest(ctx context.Context, took, worked time.Duration, failed <-chan struct{}) error {
	dutyCycle := p.DutyCycle
	if dutyCycle <= 0 {
		dutyCycle = 1
	}
	p.mu.Lock()
	rest, why := p.pacer.rest(dutyCycle, min(took, longestBatch), worked)
	p.mu.Unlock()
	if rest <= 0 {
		return nil
	}
	began := time.Now()
	defer func() { p.paused(why, time.Since(began)) }()
	return p.sleepUnless(ctx, p.withinBudget(rest), failed)
}

// quiet tells whether what is to be done should leave room for others.
func (p *policyRun) quiet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.DutyCycle > 0 && p.DutyCycle < 1 || p.pacer.quiet()
}

// withinBudget shortens a wait to what is left of the time budget.
func (p *policyRun) withinBudget(d time.Duration) time.Duration {
	if p.Deadline.IsZero() {
		return d
	}
	return min(d, time.Until(p.Deadline))
}
