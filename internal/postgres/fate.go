package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"message-cleanup/internal/cleanup"
)

// Batches commit with synchronous_commit = off: the server acknowledges them
// before they are on disk, and a crash may take the last of them back. And when
// a connection breaks, the answer to a COMMIT may be lost. Both are settled here
// by asking the server; nothing is guessed and nothing counted twice.

// transaction is a batch for whose commit the server was asked.
type transaction struct {
	xid   string // pg_current_xact_id()
	began string // the WAL position when it began, a pg_lsn
	ended string // a WAL position behind its commit, "" while none is known

	piece    *piece
	rows     int64
	reported bool // the runner counted it
}

// fateQuery asks what became of a transaction. An xid that the server lost in
// a crash is given out again, so pg_xact_status alone could tell another
// transaction's fate: if the server went through a recovery since we began
// ($1 is what it said then), and that recovery ended before the transaction
// began ($2), it is lost. pg_last_wal_replay_lsn stays, after a recovery, where
// that ended.
const fateQuery = `
SELECT CASE WHEN replayed IS DISTINCT FROM nullif($1, '')::pg_lsn AND replayed < $2::pg_lsn
            THEN 'lost' ELSE pg_xact_status($3::xid8) END
FROM pg_last_wal_replay_lsn() AS replayed`

const replayedQuery = "SELECT pg_last_wal_replay_lsn()"

// fateLimit is how long a transaction may stay undecided: its server process
// has to notice that nobody listens any more.
const fateLimit = 30 * time.Second

// settle finds out, on a new connection, which of the unsettled transactions
// the server kept, and forgets the others. Of those, the ones that were
// reported come back as a LostError.
func (db *DB) settle(ctx context.Context, conn *pgconn.PgConn) (*cleanup.LostError, error) {
	var lost *cleanup.LostError
	var kept []*transaction
	for _, t := range db.unsettled {
		committed, err := db.fate(ctx, conn, t)
		if err != nil {
			return nil, err
		}
		if committed {
			kept = append(kept, t)
			continue
		}
		if t.reported {
			if lost == nil {
				lost = &cleanup.LostError{}
			}
			lost.Pieces = append(lost.Pieces, t.piece)
			lost.Rows += t.rows
		}
	}
	results, err := exec(ctx, conn, statement{sql: replayedQuery})
	if err != nil {
		return nil, classify(err)
	}
	db.unsettled = kept
	db.replayed = results[0].rows[0][0]
	return lost, nil
}

// fate tells whether the server kept a transaction.
func (db *DB) fate(ctx context.Context, conn *pgconn.PgConn, t *transaction) (committed bool, err error) {
	for deadline := time.Now().Add(fateLimit); ; {
		results, err := exec(ctx, conn, statement{fateQuery, []string{db.replayed, t.began, t.xid}})
		if SQLState(err) == invalidParameter { // an xid that was not given out yet
			return false, nil
		}
		if err != nil {
			return false, classify(err)
		}
		switch status := results[0].rows[0][0]; status {
		case "committed":
			return true, nil
		case "aborted", "lost":
			return false, nil
		case "in progress":
			if time.Now().After(deadline) {
				return false, cleanup.Errorf(cleanup.Incomplete, "the next run goes on",
					"transaction %s, a batch of %d rows, is still in progress after %s: its rows are not counted", t.xid, t.rows, fateLimit)
			}
		default:
			return false, fmt.Errorf("pg_xact_status of transaction %s is %q", t.xid, status)
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// began notes that a new transaction began at a WAL position, when everything
// up to flushed was on disk: earlier transactions had ended by then.
func (db *DB) began(at, flushed string) error {
	position, err := parseLSN(flushed)
	if err != nil {
		return err
	}
	for _, t := range db.unsettled {
		if t.ended == "" {
			t.ended = at
		}
	}
	db.unsettled = slices.DeleteFunc(db.unsettled, func(t *transaction) bool {
		ended, parseErr := parseLSN(t.ended)
		return parseErr == nil && ended <= position
	})
	return nil
}

// parseLSN reads a pg_lsn in its text form: two 32-bit halves in hexadecimal.
func parseLSN(s string) (uint64, error) {
	var high, low uint32
	if _, err := fmt.Sscanf(s, "%X/%X", &high, &low); err != nil {
		return 0, fmt.Errorf("WAL position %q: %w", s, err)
	}
	return uint64(high)<<32 | uint64(low), nil
}

func (db *DB) forget(t *transaction) {
	db.unsettled = slices.DeleteFunc(db.unsettled, func(u *transaction) bool { return u == t })
}

// flushSettings turns a synchronous_commit that would not wait into one that
// does, and keeps one that waits for more (a standby).
const flushSettings = `
SELECT set_config('synchronous_commit',
         CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
              ELSE current_setting('synchronous_commit') END, true)`

// flushMessage writes something into the WAL: a commit that wrote nothing is
// not flushed, whatever synchronous_commit says (RecordTransactionCommit in
// src/backend/access/transam/xact.c).
const flushMessage = "SELECT pg_logical_emit_message(true, 'message-cleanup', 'flush')"

// Flush makes all batches so far durable, on a standby too where
// synchronous_commit asks for it.
func (db *DB) Flush(ctx context.Context) error {
	if len(db.unsettled) == 0 {
		return nil
	}
	conn, err := db.acquire(ctx)
	if err != nil {
		return err
	}
	_, err = exec(ctx, conn,
		statement{sql: begin}, statement{sql: flushSettings}, statement{sql: flushMessage}, statement{sql: commit})
	if err != nil {
		return classify(err)
	}
	db.unsettled = nil
	return nil
}

// Unconfirmed returns the rows of batches that were reported and are not known
// to be durable. A run that ended well has none.
func (db *DB) Unconfirmed() int64 {
	var rows int64
	for _, t := range db.unsettled {
		if t.reported {
			rows += t.rows
		}
	}
	return rows
}
