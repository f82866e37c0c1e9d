package cleanup

import "time"

// Size follows time: after each batch the next one's size moves to where a
// batch would have taken the target. It shrinks at once, because a batch that
// takes too long is what other work feels; it grows at most fourfold, because
// one fast batch may have been an empty stretch of the table.
const maxGrowth = 4

// FirstRows is the size of a run's first batch, unless the largest is smaller.
const FirstRows = 1_000

// pacer sizes batches, in rows.
type pacer struct {
	target  time.Duration
	maxRows int
	rows    int
}

func newPacer(target time.Duration, maxRows int) *pacer {
	return &pacer{target: target, maxRows: maxRows, rows: min(FirstRows, maxRows)}
}

// observe tells the pacer how long a batch of rows took.
func (p *pacer) observe(rows int, took time.Duration) {
	if rows <= 0 {
		return
	}
	ideal := float64(rows) * float64(p.target) / float64(max(took, time.Microsecond))
	ideal = min(ideal, float64(rows)*maxGrowth)
	p.rows = min(max(int(ideal), 1), p.maxRows)
}
