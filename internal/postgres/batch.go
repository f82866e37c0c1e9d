package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"message-cleanup/internal/cleanup"
)

// piece is one part of a leaf: the rows that meet its bounds and are expired.
type piece struct {
	table   *Table
	leaf    string       // quoted
	planned cleanup.Leaf // what the leaf was when the plan was made
	bounds  []string     // SQL conditions; their parameters start at $2
	args    []string     // $2 and so on
	// byTID keeps the planner from serving the other conditions by an index:
	// it would read all expired rows of the table for every piece.
	byTID bool
}

// condition selects the piece's rows. Every statement that deletes repeats the
// expiry condition, so a row that another transaction gave a later time while
// the statement waited for it is checked again, and survives.
func (p *piece) condition() string {
	doomed := p.table.expiry.doomed()
	if p.planned.Foreign != "" {
		doomed = p.table.expiry.doomedElsewhere()
	}
	if p.byTID {
		doomed = "(" + doomed + ") IS TRUE"
	}
	return strings.Join(append(slices.Clone(p.bounds), doomed), "\n  AND ")
}

// deleteSQL deletes a piece: an index scan of a window, or a TID range scan of
// blocks. ONLY, because a ctid is unique in one table, not across partitions.
func (p *piece) deleteSQL() string {
	return "DELETE FROM ONLY " + p.leaf + "\nWHERE " + p.condition()
}

// deleteUnlockedSQL deletes the rows of a piece that can be locked at once. It
// reads them twice and writes a lock for each, so it serves only pieces in
// which a lock was met. It needs UPDATE on some column, as FOR UPDATE does.
func (p *piece) deleteUnlockedSQL() string {
	return "DELETE FROM ONLY " + p.leaf +
		"\nWHERE ctid = ANY (ARRAY(\n  SELECT ctid FROM ONLY " + p.leaf +
		"\n  WHERE " + p.condition() +
		"\n  FOR UPDATE SKIP LOCKED))" +
		"\n  AND (" + p.table.expiry.doomed() + ") IS TRUE"
}

func (p *piece) countSQL() string {
	return "SELECT count(*) FROM ONLY " + p.leaf + "\nWHERE " + p.condition()
}

func (p *piece) parameters() []string {
	return append([]string{p.table.expiry.bound}, p.args...)
}

// batchStart takes the transaction's id before a row is touched, and adds to
// settings that the commit does not wait for the disk.
const batchStart = `
SELECT pg_catalog.pg_current_xact_id(), pg_catalog.pg_current_wal_flush_lsn(), pg_catalog.pg_current_wal_insert_lsn(),
       ` + clockMicros + `,
       pg_catalog.set_config('synchronous_commit', 'off', true),` + settingsList + namesOfRole

// batchEnd is the server's clock, and how far its log is, after the DELETE. What
// lies between is what sizes follow: the way to the server and back is nobody's
// burden.
const batchEnd = "SELECT " + clockMicros + ", pg_catalog.pg_current_wal_insert_lsn()"

const clockMicros = "(extract(epoch FROM pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000000)::bigint"

// batchTimeout ends a batch that goes far beyond any target, and the wait for the
// answer to a COMMIT.
const batchTimeout = time.Minute

func (db *DB) batchLimit() time.Duration {
	if db.opts.BatchTimeout > 0 {
		return db.opts.BatchTimeout
	}
	return batchTimeout
}

// Delete implements cleanup.Piece.
func (p *piece) Delete(ctx context.Context) (cleanup.Batch, error) {
	batch, err := p.run(ctx, statement{p.deleteSQL(), p.parameters()})
	if SQLState(err) == lockNotAvailable {
		return batch, cleanup.ErrLocked
	}
	return batch, onServer(p.planned, err)
}

// DeleteUnlocked implements cleanup.Piece.
func (p *piece) DeleteUnlocked(ctx context.Context) (cleanup.Batch, error) {
	if p.planned.Placeless() || !p.table.mayLock {
		return p.countOnly(ctx)
	}
	return p.run(ctx,
		statement{p.deleteUnlockedSQL(), p.parameters()},
		statement{p.countSQL(), p.parameters()})
}

// countOnly leaves the whole piece for later.
func (p *piece) countOnly(ctx context.Context) (cleanup.Batch, error) {
	rows, err := p.table.db.queryOfRole(ctx, "SELECT", p.countSQL(), p.parameters()...)
	if err != nil {
		return cleanup.Batch{}, err
	}
	n, err := integer(rows)
	return cleanup.Batch{Locked: n}, err
}

// run executes one batch: a DELETE and, if there is one, a count of what it
// had to leave. The COMMIT is sent when the DELETE's count has arrived, so that
// a batch whose COMMIT is not answered can be counted exactly once its fate is
// known.
func (p *piece) run(ctx context.Context, statements ...statement) (cleanup.Batch, error) {
	db := p.table.db
	s, err := db.session(ctx)
	if err != nil {
		return cleanup.Batch{}, err
	}
	defer db.giveBack(s)
	pipeline := append([]statement{
		{sql: begin},
		{batchStart, []string{milliseconds(db.opts.LockTimeout), milliseconds(db.batchLimit())}},
	}, statements...)
	sent := time.Now()
	results, err := exec(ctx, s.conn, append(pipeline, p.asPlanned())...)
	if err != nil {
		db.others.unseen()
		if SQLState(err) == undefinedTable {
			return p.table.lose(ctx, p.planned, classify(err))
		}
		return cleanup.Batch{}, p.obstacle(ctx, classify(err), sent)
	}
	start, end := results[1].rows[0], results[len(results)-1].rows[0]
	if isPart, sameType := end[2] == "t", end[3] == "t"; !isPart || !sameType {
		db.others.unseen()
		rollback(ctx, s.conn)
		if isPart {
			return cleanup.Batch{}, p.table.typeChanged()
		}
		return p.table.lose(ctx, p.planned, &cleanup.TransientError{
			Err: fmt.Errorf("%s was detached or replaced for a moment", p.planned.Name)})
	}
	began, err := readMoment(start[3], start[2])
	if err != nil {
		return cleanup.Batch{}, err
	}
	ended, err := readMoment(end[0], end[1])
	if err != nil {
		return cleanup.Batch{}, err
	}
	batch := cleanup.Batch{
		Deleted: results[2].affected,
		Took:    max(0, ended.clock-began.clock), // a clock may be set back
		WAL:     int64(ended.wal - began.wal),
	}
	id, err := strconv.ParseUint(start[0], 10, 64)
	if err != nil {
		return cleanup.Batch{}, fmt.Errorf("transaction id: %w", err)
	}
	batch.Others = db.others.observe(id)
	if len(statements) > 1 {
		if batch.Locked, err = integer(results[3].rows); err != nil {
			return cleanup.Batch{}, err
		}
	}
	if err := db.fates.begin(s, began.wal, start[1]); err != nil {
		return cleanup.Batch{}, err
	}
	t := &transaction{
		session: s, server: s.server, xid: start[0], deleted: end[1], piece: p,
		rows: batch.Deleted, ledger: p.table.entry.grow(batch.Deleted, ""),
	}
	if batch.Deleted > 0 { // before the commit, whose answer may be lost
		p.table.touched.note(p.leaf, id)
	}
	if err := db.commit(ctx, t); err != nil { // a deferred constraint or trigger refuses here
		return cleanup.Batch{}, p.obstacle(ctx, err, sent)
	}
	return batch, nil
}

// moment is a reading of the server's clock and of how far its log is.
type moment struct {
	clock time.Duration // since 1970
	wal   uint64        // a position in the write-ahead log, in bytes
}

func readMoment(micros, lsn string) (m moment, err error) {
	n, err := strconv.ParseInt(micros, 10, 64)
	if err != nil {
		return m, fmt.Errorf("the server's clock: %w", err)
	}
	m.clock = time.Duration(n) * time.Microsecond
	m.wal, err = parseLSN(lsn)
	return m, err
}

// commit puts t on record in the ledger, if there is one, and commits it, in one
// round trip. It returns nil only if the server did both.
func (db *DB) commit(ctx context.Context, t *transaction) error {
	db.fates.add(t)
	// The answer is waited for even when the run is to end at once: it is near.
	ctx = context.WithoutCancel(ctx)
	limited, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	conn := t.session.conn
	pipeline := &pgconn.Batch{}
	for _, s := range append(t.ledger, statement{sql: commit}) {
		s.queue(pipeline)
	}
	answers, err := conn.ExecBatch(limited, pipeline).ReadAll()
	if err == nil && answers[len(answers)-1].CommandTag.String() == "COMMIT" && db.fates.report(t) {
		return nil
	}
	if err != nil && len(t.ledger) > 0 && len(answers) > 0 && answers[0].Err != nil && !conn.IsClosed() {
		err = growError(err)
	}
	if err == nil {
		err = errors.New("the server rolled back instead of committing")
	}
	server, answered := errors.AsType[*pgconn.PgError](err)
	if answered && endsConnection(server) {
		_ = conn.Close(ctx)
	}
	if answered && !endsConnection(server) || !conn.IsClosed() {
		db.fates.remove(t)
		rollback(ctx, conn)
		return classify(err)
	}
	// The answer is lost: connecting again settles t's fate.
	if settleErr := db.ready(ctx, t.session); settleErr != nil {
		return fmt.Errorf("the answer to a COMMIT was lost (%v): %w", err, settleErr)
	}
	if db.fates.report(t) {
		return nil
	}
	return &cleanup.TransientError{Err: fmt.Errorf("the connection was lost before the batch was committed: %w", err)}
}

// literal writes SQL with its parameters in place, for people to run EXPLAIN
// on. It is never sent.
func literal(sql string, args []string) string {
	for i := len(args); i > 0; i-- {
		quoted := "'" + strings.ReplaceAll(args[i-1], "'", "''") + "'"
		sql = strings.ReplaceAll(sql, fmt.Sprintf("$%d::", i), quoted+"::")
	}
	return sql
}
