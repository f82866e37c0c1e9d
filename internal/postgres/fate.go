package postgres

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"message-cleanup/internal/cleanup"
)

// Batches commit with synchronous_commit = off: the server acknowledges them
// before they are on disk, and a crash may take the last of them back. When a
// connection breaks, the answer to a COMMIT may be lost. And when a standby takes
// over, it may lack what the primary had on disk. All of this is settled here by
// asking the server; nothing is guessed and nothing counted twice.

// fates keeps the transactions that are not known to be durable. They are few:
// the server writes its log to disk several times a second. Those that are on
// its disk are kept too, as many as a standby may well be behind.
type fates struct {
	mu        sync.Mutex
	unsettled []*transaction // oldest first
	durable   []*transaction // on this server's disk, the last of them
	forgotten *transaction   // the last of those that were in durable before; nil: none was
	lost      []*transaction // reported, but lost in a crash, and nobody was told yet
	doubtful  int64          // rows of batches of which the server cannot tell any more; not reported
}

// remembered is how many durable transactions are kept, at a few hundred bytes
// each: those of ten seconds of the smallest batches.
const remembered = 4096

// transaction is a batch for whose commit the server was asked.
type transaction struct {
	session *session
	server  incarnation // when the session began
	xid     string      // pg_current_xact_id()
	deleted string      // the WAL position behind its last row, a pg_lsn
	ended   uint64      // a WAL position behind its commit, 0 while none is known

	piece    cleanup.Piece
	rows     int64
	ledger   []statement // puts it on record, on the way to its commit; may be none
	reported bool        // the runner counted it
}

// incarnation is by what a server is known to be the same one, and what it says
// of its past. Values are as PostgreSQL writes them.
type incarnation struct {
	started  string // the postmaster; a crash of one backend restarts all but that
	crashed  string // when statistics began: a crash or a copy forgets them, a restart does not
	timeline string // another one after a standby took over; "" on a standby
	replayed string // where the last recovery ended, if it was since the last start, else ""
}

const incarnationQuery = `
SELECT pg_postmaster_start_time(), (SELECT stats_reset FROM pg_catalog.pg_stat_archiver),
       CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END,
       pg_last_wal_replay_lsn()`

// statusQuery asks what became of a transaction. An xid of which the server lost
// every trace in a crash is given out again, so it may tell another
// transaction's fate. If the recovery ended before the transaction's last row, it
// is lost; else its rows were replayed, and its xid is its own. Where the
// recovery ended, the server does not tell any more when it was restarted since.
const statusQuery = "SELECT pg_xact_status($1::xid8)"

// fateLimit is how long a transaction may stay undecided: its server process
// has to notice that nobody listens any more.
const fateLimit = 30 * time.Second

// settle finds out, on a new connection for s, which transactions the server
// kept, and forgets the others. It asks about those of s, and about everybody's
// when the server is not the same any more. The durable ones are there, unless
// a standby took over and its recovery ended before them.
func (f *fates) settle(ctx context.Context, conn *pgconn.PgConn, s *session) (now incarnation, err error) {
	rows, err := readOn(ctx, conn, settings, "SELECT", incarnationQuery)
	if err != nil {
		return now, classify(err)
	}
	row := rows[0]
	now = incarnation{row[0], row[1], row[2], row[3]}
	var end uint64 // of the recovery
	if now.replayed != "" {
		if end, err = parseLSN(now.replayed); err != nil {
			return now, err
		}
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	tookOver := func(t *transaction) bool { return t.server.timeline != now.timeline }
	if t := f.forgotten; t != nil && tookOver(t) && (end == 0 || end < t.ended) {
		return now, cleanup.Errorf(cleanup.NeedsPerson, "count what is expired; the next run goes on",
			"the server that took over may lack more than the last %s batches: how many rows of them are there again is not known, and the count is too high by these", cleanup.FormatCount(remembered))
	}
	check := func(all []*transaction, certain func(*transaction) bool) (kept []*transaction, err error) {
		var lost []*transaction
		var doubtful int64
		for _, t := range all {
			fate := committed
			if !certain(t) {
				if fate, err = t.fate(ctx, conn, now, end); err != nil {
					return nil, err
				}
			}
			if fate == committed {
				kept = append(kept, t)
				continue
			}
			if t.reported {
				lost = append(lost, t)
			}
			if fate == unknown {
				doubtful += t.rows
			}
		}
		f.lost, f.doubtful = append(f.lost, lost...), f.doubtful+doubtful
		return kept, nil
	}
	durable, err := check(f.durable, func(t *transaction) bool { return !tookOver(t) || end > 0 && t.ended <= end })
	if err != nil {
		return now, err
	}
	f.durable = durable
	unsettled, err := check(f.unsettled, func(t *transaction) bool {
		return t.session != s && t.server == now // it has a connection that lives
	})
	if err == nil {
		f.unsettled = unsettled
	}
	return now, err
}

// takeLost returns a *cleanup.LostError once for every batch that was lost.
func (f *fates) takeLost() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.lost) == 0 {
		return nil
	}
	lost := &cleanup.LostError{}
	for _, t := range f.lost {
		lost.Pieces = append(lost.Pieces, t.piece)
		lost.Rows += t.rows
	}
	f.lost = nil
	return lost
}

// What becomes of a transaction.
type fate int

const (
	rolledBack fate = iota // or lost
	committed
	unknown // by the server, which was restarted after a crash
)

// fate asks the server, which is now another incarnation perhaps, and whose last
// recovery ended at end.
func (t *transaction) fate(ctx context.Context, conn *pgconn.PgConn, now incarnation, end uint64) (fate, error) {
	crashed := t.server.crashed != now.crashed
	if position, err := parseLSN(t.deleted); err != nil {
		return unknown, err
	} else if crashed && end > 0 && end < position {
		return rolledBack, nil
	}
	for deadline := time.Now().Add(fateLimit); ; {
		rows, err := readOn(ctx, conn, settings, "SELECT", statusQuery, t.xid)
		if SQLState(err) == invalidParameter { // an xid that was not given out yet
			return rolledBack, nil
		}
		if err != nil {
			return unknown, classify(err)
		}
		switch status := rows[0][0]; status {
		case "committed":
			if crashed && end == 0 {
				return unknown, nil
			}
			return committed, nil
		case "aborted":
			return rolledBack, nil
		case "in progress":
			if crashed { // no transaction lives through that: it is another one
				return rolledBack, nil
			}
			if time.Now().After(deadline) {
				return unknown, cleanup.Errorf(cleanup.Incomplete, "the next run goes on",
					"transaction %s, a batch of %d rows, is still in progress after %s: its rows are not counted", t.xid, t.rows, fateLimit)
			}
		default:
			return unknown, fmt.Errorf("pg_xact_status of transaction %s is %q", t.xid, status)
		}
		select {
		case <-ctx.Done():
			return unknown, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// begin notes that a session began a new transaction at a WAL position, when
// everything up to flushed was on disk: its earlier ones had ended by then.
func (f *fates) begin(s *session, position uint64, flushed string) error {
	durable, err := parseLSN(flushed)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.unsettled {
		if t.session == s && t.ended == 0 {
			t.ended = position
		}
	}
	f.unsettled = slices.DeleteFunc(f.unsettled, func(t *transaction) bool {
		if t.ended == 0 || t.ended > durable {
			return false
		}
		f.remember(t)
		return true
	})
	return nil
}

// remember keeps a durable transaction, and forgets the oldest for it.
func (f *fates) remember(t *transaction) {
	f.durable = append(f.durable, t)
	if len(f.durable) > remembered {
		f.forgotten, f.durable = f.durable[0], f.durable[1:]
	}
}

func (f *fates) add(t *transaction) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unsettled = append(f.unsettled, t)
}

// remove forgets t, which was rolled back.
func (f *fates) remove(t *transaction) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unsettled = slices.DeleteFunc(f.unsettled, func(u *transaction) bool { return u == t })
}

// report marks t as counted by the runner, unless it turned out to be lost.
func (f *fates) report(t *transaction) (kept bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t.reported = slices.Contains(f.unsettled, t)
	return t.reported
}

// flushed notes that everything up to a WAL position is durable, and that no
// batch is in work.
func (f *fates) flushed(position uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.unsettled {
		if t.ended == 0 {
			t.ended = position
		}
		f.remember(t)
	}
	f.unsettled = nil
}

func (f *fates) empty() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.unsettled) == 0 && len(f.lost) == 0
}

// unconfirmed counts the rows that were reported and are not known to be
// durable, and takes those that are doubtful.
func (f *fates) unconfirmed() (rows, doubtful int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	doubtful, f.doubtful = f.doubtful, 0
	for _, t := range slices.Concat(f.unsettled, f.lost) {
		if t.reported {
			rows += t.rows
		}
	}
	return rows, doubtful
}

// parseLSN reads a pg_lsn in its text form: two 32-bit halves in hexadecimal.
func parseLSN(s string) (uint64, error) {
	var high, low uint32
	if _, err := fmt.Sscanf(s, "%X/%X", &high, &low); err != nil {
		return 0, fmt.Errorf("WAL position %q: %w", s, err)
	}
	return uint64(high)<<32 | uint64(low), nil
}
