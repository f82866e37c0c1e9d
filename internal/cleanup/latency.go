package cleanup

import (
	"slices"
	"time"
)

// The latency guard lets the run rest when its own batches get much slower than
// they were: somebody else needs the machine. It looks at the time for each row
// of a batch and at that for each deleted row, and believes the better of the
// two, so that a stretch of the table with more expired rows, or with fewer, is
// no alarm.
const (
	// muchSlower than usual each of the last few batches has to be: one alone is
	// a hiccup.
	muchSlower  = 3.0
	slowBatches = 3

	// maxSlowdown bounds the rest to three times the length of a batch.
	maxSlowdown = 4.0

	// adaptation is the time in which slower batches become the usual: what lasts
	// for minutes is no other's passing need but this table's nature. Faster ones
	// count a quarter each.
	adaptation = time.Minute
)

type latencyGuard struct {
	perRow, perDeleted usual
	recent             []float64 // how much slower than usual the last batches were
}

// observe compares a batch with the usual, and tells whether the run just began
// to rest.
func (g *latencyGuard) observe(rows int, batch Batch) (began bool) {
	before := g.slowdown()
	slowdown := g.perRow.compare(batch.Took, int64(rows))
	if batch.Deleted > 0 {
		slowdown = min(slowdown, g.perDeleted.compare(batch.Took, batch.Deleted))
	}
	g.recent = append(g.recent, slowdown)
	if len(g.recent) > slowBatches {
		g.recent = g.recent[1:]
	}
	return before == 1 && g.slowdown() > 1
}

// slowdown is how much slower than usual the server works, at least 1.
func (g *latencyGuard) slowdown() float64 {
	if len(g.recent) < slowBatches {
		return 1
	}
	if least := slices.Min(g.recent); least >= muchSlower {
		return min(least, maxSlowdown)
	}
	return 1
}

// usual is the time that one row usually takes, in seconds; 0: not known yet.
type usual float64

// compare returns how many times as long as usual a batch took for each of its
// rows, and lets the usual follow.
func (u *usual) compare(took time.Duration, rows int64) (times float64) {
	perRow := usual(took.Seconds() / float64(rows))
	switch {
	case *u == 0:
		*u = perRow
	case perRow <= *u:
		*u -= (*u - perRow) / 4
	default:
		times = float64(perRow / *u)
		grown := 1 + maxSlowdown*took.Seconds()/adaptation.Seconds()
		*u *= usual(min(times, grown))
	}
	return times
}
