package postgres

import "sync"

// others counts the transactions with which others wrote since the first batch,
// in any database of the server. Ids are given out one after the other, to
// transactions that write, so the ids of our own tell how many there were
// besides. Ids of batches that are in work count as others' for a moment.
type others struct {
	mu            sync.Mutex
	first, newest uint64
	own           int64
}

// observe learns the id of an own transaction.
func (o *others) observe(id uint64) (count int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.first == 0 {
		o.first = id
	}
	o.own++
	o.newest = max(o.newest, id)
	return max(0, int64(o.newest-o.first)+1-o.own)
}

// unseen learns of an own transaction whose id is not known.
func (o *others) unseen() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.own++
}
