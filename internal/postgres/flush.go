package postgres

import "context"

// flushSettings turns a synchronous_commit that would not wait into one that
// does, and keeps one that waits for more (a standby).
const flushSettings = `
SELECT set_config('synchronous_commit',
         CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
              ELSE current_setting('synchronous_commit') END, true)`

// flushMessage writes something into the WAL: a commit that wrote nothing is
// not flushed, whatever synchronous_commit says (RecordTransactionCommit in
// src/backend/access/transam/xact.c).
const flushMessage = "SELECT pg_logical_emit_message(true, 'message-cleanup', 'flush')::text"

var flushStatements = []statement{{sql: begin}, {settings, []string{milliseconds(readLockTimeout), "0"}}, {sql: flushSettings}, {sql: flushMessage}, {sql: commit}}

// Flush makes all batches so far durable, on a standby too where
// synchronous_commit asks for it. No batch may be in work.
func (db *DB) Flush(ctx context.Context) error {
	s, err := db.borrowConnected(ctx)
	if err != nil {
		return err
	}
	defer db.giveBack(s)
	if db.fates.empty() {
		return nil
	}
	if err := db.ready(ctx, s); err != nil {
		return err
	}
	if err := db.fates.takeLost(); err != nil {
		return err
	}
	results, err := exec(ctx, s.conn, flushStatements...)
	if err != nil {
		return classify(err)
	}
	position, err := parseLSN(results[len(results)-2].rows[0][0])
	if err != nil {
		return err
	}
	db.others.unseen()
	db.fates.flushed(position)
	return nil
}

// Unconfirmed returns the rows of batches that were reported and are not known
// to be durable, and those of batches of which the server could not tell any
// more. A run that ended well has none.
func (db *DB) Unconfirmed() (rows, doubtful int64) { return db.fates.unconfirmed() }
