package cleanup

import "time"

// A run is in company when others write to the server meanwhile. Alone it may
// have the whole machine; in company it must not be noticed, so it takes small
// bites and rests after each for as long as the server worked on it. Every batch
// costs one transaction id, so the ids of the run's own batches tell how many
// others wrote between them: at once, exactly, and whatever the role may see.
const (
	// companyWrites in companyWindow, about ten a second, are company. What comes
	// in once in a while is not.
	companyWrites = 5
	companyWindow = 500 * time.Millisecond

	// In company a batch takes no longer than companyTarget and logs no more than
	// companyWAL: so much lies before a commit of others, at most. Less is gentler
	// still, but then most of the time goes into the way there and back.
	companyTarget = 2 * time.Millisecond
	companyWAL    = 512 << 10 // bytes of all batches in work
)

// company watches the writes of others.
type company struct {
	workers int // whose batches in work count as others'
	present bool
	since   time.Time // when the window began
	others  int64     // transactions of others until then
}

// observe learns that others wrote so many transactions since the run began, and
// tells whether the run just came into company.
func (c *company) observe(others int64, now time.Time) (came bool) {
	if c.since.IsZero() {
		c.since, c.others = now, others
		return false
	}
	wrote := others-c.others >= int64(companyWrites+c.workers-1)
	if wrote || now.Sub(c.since) >= companyWindow {
		came = wrote && !c.present
		c.present, c.since, c.others = wrote, now, others
	}
	return came
}
