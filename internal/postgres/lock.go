package postgres

import (
	"context"
	"fmt"
	"hash/fnv"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"message-cleanup/internal/cleanup"
)

// lock is the advisory lock that keeps two runs from one policy of one
// database, on a connection of its own.
//
// Directly at the server it is a session lock. Through a pooler a session is
// not ours: the lock would stay behind on some server connection. There it is
// a transaction's lock, and the transaction stays open for as long as the lock
// is held; it has no snapshot and no transaction id, so it holds nothing back.
type lock struct {
	conn   *pgconn.PgConn
	key    int64
	policy string
	pooled bool
}

const (
	// The server must not end the connection for being idle; the setting came
	// with PostgreSQL 14 and is skipped before.
	lockIdleSettings = `
SELECT set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'idle_session_timeout'`
	lockSession = "SELECT pg_try_advisory_lock($1::bigint)"

	lockTransactionSettings = "SELECT set_config('idle_in_transaction_session_timeout', '0', true)"
	lockTransaction         = "SELECT pg_try_advisory_xact_lock($1::bigint)"
)

// lockHolder names who holds the lock. A bigint key is shown in two halves.
const lockHolder = `
SELECT l.pid, coalesce(a.application_name, ''), coalesce(a.client_addr::text, 'a local socket'),
       coalesce(to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), 'an unknown time')
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid::bigint = ($1::bigint >> 32) & 4294967295
  AND l.objid::bigint = $1::bigint & 4294967295`

// Lock takes the lock of a policy on a table, or says who holds it.
func (db *DB) Lock(ctx context.Context, policy, table string, pooled bool) error {
	hash := fnv.New64a()
	fmt.Fprintf(hash, "message-cleanup\x00%s\x00%s", policy, table)
	conn, err := db.connect(ctx)
	if err != nil {
		return fmt.Errorf("connect for the lock: %w", err)
	}
	l := &lock{conn: conn, key: int64(hash.Sum64()), policy: policy, pooled: pooled}
	if err := l.take(ctx); err != nil {
		_ = conn.Close(ctx)
		return err
	}
	db.locks.Lock()
	defer db.locks.Unlock()
	db.lock = l
	return nil
}

func (l *lock) take(ctx context.Context) error {
	key := strconv.FormatInt(l.key, 10)
	statements := []statement{{sql: begin}, {settings, []string{milliseconds(readLockTimeout), "0"}}}
	if l.pooled {
		statements = append(statements, statement{sql: lockTransactionSettings}, statement{lockTransaction, []string{key}})
	} else {
		statements = append(statements, statement{sql: lockIdleSettings}, statement{lockSession, []string{key}}, statement{sql: commit})
	}
	results, err := exec(ctx, l.conn, statements...)
	if err != nil {
		return fmt.Errorf("take the lock: %w", classify(err))
	}
	if results[3].rows[0][0] == "t" {
		return nil
	}
	holder := "another session"
	if rows, err := readOn(ctx, l.conn, settings, "SELECT", lockHolder, key); err == nil && len(rows) > 0 {
		row := rows[0]
		holder = fmt.Sprintf("server process %s (%s, from %s, connected since %s)", row[0], row[1], row[2], row[3])
	}
	return cleanup.Errorf(cleanup.Incomplete, "wait for that run to end",
		"another run of policy %s is in work: its lock is held by %s", l.policy, holder)
}

// relock takes a held lock again after the server was lost, if the lock's
// connection went down with it.
func (db *DB) relock(ctx context.Context) error {
	db.locks.Lock()
	defer db.locks.Unlock()
	if db.lock == nil {
		return nil
	}
	if !db.lock.conn.IsClosed() && db.lock.conn.Ping(ctx) == nil {
		return nil
	}
	conn, err := db.connect(ctx)
	if err != nil {
		return err
	}
	db.lock.conn = conn
	return db.lock.take(ctx)
}

// Unlock gives the lock back, if one is held.
func (db *DB) Unlock(ctx context.Context) {
	db.locks.Lock()
	defer db.locks.Unlock()
	if db.lock != nil {
		rollback(ctx, db.lock.conn) // a pooler closes the server's connection with what is still open on it
		_ = db.lock.conn.Close(ctx)
		db.lock = nil
	}
}
