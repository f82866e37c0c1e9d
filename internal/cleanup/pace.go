package cleanup

import (
	"math"
	"time"
)

// Size follows time and log. The next batch is as large as the last one would
// have had to be to take the target on the server, or to write its share of
// the server's WAL buffers, whichever is smaller. It shrinks at once, because a
// batch that takes too long is what other work feels. It grows at most
// sixteenfold, so that it settles within five batches from any start, and at
// most fourfold when less than half of the batch had expired: the next stretch of
// the table may have more to delete.
const (
	maxGrowth       = 16
	maxSparseGrowth = 4
)

// logShare is the share of the WAL buffers that all batches in work may fill
// together. As long as they fit in there, the server's WAL writer brings a batch
// to disk while the next one is deleted. A larger one has to make room by
// itself, page by page, and others wait for it meanwhile: measured, batches of
// half the buffers delete a third faster than batches of twice the buffers.
const logShare = 0.5

// nearlyRight is how far, as a share, a size may be from the wanted one and stay.
// The next piece is cut while this one is deleted, in the expectation that it
// will be as large: cutting it anew makes the run wait.
const nearlyRight = 0.1

// FirstRows is the size of a run's first batch, unless the largest is smaller.
const FirstRows = 1_000

// pacer sizes batches, in rows, and tells how much to rest between them.
type pacer struct {
	target  time.Duration
	maxRows int
	maxWAL  float64 // bytes of all batches in work; 0: any number
	workers int

	rows    int // of the next batch
	company company
	guard   latencyGuard
}

func newPacer(target time.Duration, maxRows int, walBuffers int64, workers int) *pacer {
	return &pacer{
		target: target, maxRows: maxRows, maxWAL: logShare * float64(walBuffers), workers: workers,
		rows: min(FirstRows, maxRows), company: company{workers: workers},
	}
}

// observe tells the pacer how a batch of rows went. If that changes its manners,
// it returns the event to be told.
func (p *pacer) observe(rows int, batch Batch, now time.Time) (event string) {
	if rows <= 0 {
		return ""
	}
	if p.guard.observe(rows, batch) {
		event = EventSlowed
	}
	if p.company.observe(batch.Others, now) {
		event = EventCompany
	}
	target, maxWAL := p.target, p.maxWAL
	if p.company.present {
		target, maxWAL = min(target, companyTarget), companyWAL
	}
	growth := float64(maxGrowth)
	if batch.Deleted < int64(rows)/2 {
		growth = maxSparseGrowth
	}
	scale := min(growth, float64(target)/float64(max(batch.Took, time.Microsecond)))
	if maxWAL > 0 {
		scale = min(scale, maxWAL/float64(p.workers)/float64(max(batch.WAL, 1)))
	}
	if next := min(max(int(float64(rows)*scale), 1), p.maxRows); math.Abs(float64(next-p.rows)) > nearlyRight*float64(p.rows) {
		p.rows = next
	}
	return event
}

// shrink sizes the next batch after one of rows that was stopped.
func (p *pacer) shrink(rows int, took time.Duration) {
	if rows > 0 {
		p.rows = min(p.rows, max(1, int(float64(rows)*float64(p.target)/float64(took))))
	}
}

// rest is how long a worker rests after a batch that took so long as seen from
// here, of which the server worked for a part, and why. The way to the server
// and back is rest enough for others, but no part of the operator's duty cycle.
func (p *pacer) rest(dutyCycle float64, took, worked time.Duration) (rest time.Duration, why PauseReason) {
	duty, why := dutyCycle, PauseDutyCycle
	if slow := 1 / p.guard.slowdown(); slow < duty {
		duty, why = slow, PauseSlow
	}
	rest = time.Duration(float64(took) * (1 - duty) / duty)
	if p.company.present && worked > rest {
		rest, why = worked, PauseCompany
	}
	return rest, why
}

// quiet tells whether others need the machine.
func (p *pacer) quiet() bool { return p.company.present || p.guard.slowdown() > 1 }
