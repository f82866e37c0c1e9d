package postgres

import (
	"context"
	"sync"
)

// follower reads, on the reading connection and a few windows behind the
// deleting one, the index entries of what was deleted. Somebody has to be the
// first to look at a deleted row: to find out that its deletion was committed,
// to note that in the row, and to mark its index entry as dead
// (kill_prior_tuple). Left to the verification, that is a fifth of the run's
// time; here it is done meanwhile, and the final count over the whole table
// finds the work done.
//
// It changes nothing that a plain SELECT would not, and if it cannot keep up or
// fails, the verification takes longer, that is all. Block ranges have no
// follower: it was measured to slow the deletion by what it saves in the end.
type follower struct {
	db *DB
	// read makes the query that reads from one bound, "" for the beginning, to
	// another, by the way that marks what it meets.
	read func(from, to string) statement

	busy    sync.Mutex // guards all below
	from    string     // what lies below is read
	pending []mark     // what was deleted since, oldest first
}

// mark is a bound up to which everything was deleted, at a WAL position.
type mark struct {
	to string
	at uint64
}

// followedRows is how large a batch has to be to be followed. To read fewer rows
// takes longer than it saves, and the next window waits for it.
const followedRows = 500

const (
	positionsQuery = "SELECT pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn()"

	followSettings = `
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('max_parallel_workers_per_gather', '0', true)`
)

// follow reads what lies below a bound, everything of which was deleted, unless
// the last reading still goes on. A deletion can be noted in its row only when
// its commit is on disk; until then it waits its turn. Asking for the disk here
// would hold up the batch in work.
func (f *follower) follow(ctx context.Context, to string) {
	if !f.busy.TryLock() {
		return
	}
	defer f.busy.Unlock()
	rows, err := f.db.query(ctx, positionsQuery)
	if err != nil {
		return
	}
	at, atErr := parseLSN(rows[0][0])
	durable, durableErr := parseLSN(rows[0][1])
	if atErr != nil || durableErr != nil {
		return
	}
	f.pending = append(f.pending, mark{to, at})
	ready := 0
	for ready < len(f.pending) && f.pending[ready].at <= durable {
		ready++
	}
	if ready == 0 {
		return
	}
	to = f.pending[ready-1].to
	s := f.read(f.from, to)
	if _, err := f.db.queryWith(ctx, followSettings, s.sql, s.args...); err == nil {
		f.from, f.pending = to, f.pending[ready:]
	}
}
