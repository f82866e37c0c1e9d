package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"message-cleanup/internal/cleanup"
)

// Entry is the open row of one policy in this run. It grows in the transaction
// of each batch, so that it is exact whatever is killed, and is closed once.
type Entry struct {
	ledger        *Ledger
	runID, policy string
}

const (
	// chainClass is the first half of the advisory lock under which rows are
	// closed, so that no two follow the same row; the second is the table's oid.
	chainClass = 1818584167 // "ledg"

	// chainWait is how long the chain may be held by somebody else: he has two
	// round trips to make.
	chainWait = 15 * time.Second
)

const chainLock = "SELECT pg_advisory_xact_lock($1::int, $2::regclass::oid::int)"

// growSQL adds a batch to an open row. Where there is none, because somebody
// removed it or another run took this one for dead, it divides by zero: what
// cannot be put on record is not deleted.
func (e *Entry) growSQL() string {
	return `
WITH grown AS (
  UPDATE ` + e.ledger.name + `
  SET deleted = deleted + $3::bigint, batches = batches + 1,
      dropped_partitions = CASE $4::text WHEN '' THEN dropped_partitions ELSE pg_catalog.array_append(dropped_partitions, $4::text) END
  WHERE run_id = $1::uuid AND policy = $2::text AND hash IS NULL
  RETURNING 1)
SELECT 1 / pg_catalog.count(*) FROM grown`
}

// grow is the statement that travels with a batch's COMMIT; none without a
// ledger. The row is locked for the length of that COMMIT, and workers do not
// wait for one another.
func (e *Entry) grow(rows int64, dropped string) []statement {
	if e == nil {
		return nil
	}
	return []statement{{e.growSQL(), []string{e.runID, e.policy, strconv.FormatInt(rows, 10), dropped}}}
}

// growError says what is wrong when a batch could not be put on record.
func growError(err error) error {
	switch SQLState(err) {
	case divisionByZero:
		return cleanup.Errorf(cleanup.NeedsPerson, "message-cleanup history --verify shows who closed it, or that it is gone",
			"the ledger has no open row of this run any more: what cannot be put on record is not deleted")
	case lockNotAvailable: // not of a row that is to be deleted
		return &cleanup.TransientError{Err: fmt.Errorf("the run's row in the ledger is locked by another transaction: %v", err)}
	}
	return &ledgerError{classify(err)}
}

// ledgerError is an error of the ledger's own table, not of the rows of a batch.
type ledgerError struct{ error }

func (e *ledgerError) Error() string {
	return "put the batch on record in the ledger: " + e.error.Error()
}
func (e *ledgerError) Unwrap() error { return e.error }

const systemQuery = "SELECT system_identifier FROM pg_control_system()"

// timelineQuery reads the timeline from the name of the log file in use, which
// begins with it.
const timelineQuery = "SELECT ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint"

// Begin opens the row of a policy in this run. It is durable before anything is
// deleted.
func (l *Ledger) Begin(ctx context.Context, row cleanup.LedgerRow) (*Entry, error) {
	var err error
	if row.SystemIdentifier, err = l.ask(ctx, systemQuery); err != nil {
		return nil, err
	}
	if row.Timeline, err = l.ask(ctx, timelineQuery); err != nil {
		return nil, err
	}
	content, err := json.Marshal(row)
	if err != nil {
		return nil, fmt.Errorf("write the ledger's row: %w", err)
	}
	// What was inserted when the answer was lost is not inserted again.
	err = l.write(ctx, func(ctx context.Context, s *session) error {
		_, err := exec(ctx, s.conn, slices.Concat(l.start(), []statement{{`
INSERT INTO ` + l.name + ` (run_id, policy, table_name, definition, definition_hash, cutoff, oldest_expiry, newest_expiry,
                            host, version, system_identifier, timeline)
SELECT run_id, policy, table_name, definition, definition_hash, cutoff, oldest_expiry, newest_expiry,
       host, version, system_identifier, timeline
FROM json_populate_record(NULL::` + l.name + `, $1::json)
ON CONFLICT (run_id, policy) DO NOTHING`, []string{string(content)}}, {sql: commit}})...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open a row in the ledger, %s: %w", l.name, err)
	}
	return &Entry{ledger: l, runID: row.RunID, policy: row.Policy}, nil
}

// ask asks for a number that the role may not be allowed to see, or that this
// server does not know: then it is nil.
func (l *Ledger) ask(ctx context.Context, sql string) (*int64, error) {
	value, err := l.db.value(ctx, sql)
	if err != nil {
		if kind := cleanup.KindOf(err); kind == cleanup.Permission || kind == cleanup.Configuration {
			return nil, nil
		}
		return nil, fmt.Errorf("ask which server it is: %w", err)
	}
	n, err := strconv.ParseInt(value, 10, 64)
	return &n, err
}

// Close closes the row with the result of its run, and returns it.
func (e *Entry) Close(ctx context.Context, r cleanup.PolicyResult) (cleanup.LedgerRow, error) {
	row, err := e.ledger.close(ctx, e.runID, e.policy, string(r.Outcome()), `finished = clock_timestamp(), outcome = $3::text, stop_reason = $4::text,
    backlog = nullif($5, '')::bigint, held = nullif($6, '')::bigint, locked = $7::bigint, refused = $8::bigint`,
		string(r.StopReason), numberOrNull(r.Backlog), numberOrNull(r.Held), strconv.FormatInt(r.Locked, 10), strconv.FormatInt(r.Refused, 10))
	if err != nil {
		return row, fmt.Errorf("close the run's row in the ledger, %s: %w", e.ledger.name, err)
	}
	return row, nil
}

func numberOrNull(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

// openQuery finds the rows of a policy that no run has closed.
func (l *Ledger) openQuery() string {
	return "SELECT run_id FROM " + l.name + " WHERE policy = $1 AND table_name IN ($2, $3) AND hash IS NULL ORDER BY started, run_id"
}

// CloseUnfinished closes the rows of runs that ended without a word, and
// returns them. The policy's lock must be held: then nobody is at work on them.
func (l *Ledger) CloseUnfinished(ctx context.Context, policy cleanup.Policy, table string) ([]cleanup.LedgerRow, error) {
	found, err := l.db.query(ctx, l.openQuery(), policy.Name, table, policy.Table)
	if err != nil {
		return nil, fmt.Errorf("look for unfinished runs in the ledger, %s: %w", l.name, err)
	}
	var rows []cleanup.LedgerRow
	for _, open := range found {
		row, err := l.close(ctx, open[0], policy.Name, string(cleanup.OutcomeUnfinished), "outcome = $3::text")
		if err != nil {
			return rows, fmt.Errorf("close the row of an unfinished run in the ledger, %s: %w", l.name, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// close makes an open row the head of the chain. set says what else it gets; its
// parameters are the outcome as $3, and args from $4 on.
func (l *Ledger) close(ctx context.Context, runID, policy, outcome, set string, args ...string) (row cleanup.LedgerRow, err error) {
	closing := `
UPDATE ` + l.name + `
SET ` + set + `,
    position = coalesce(last, 0) + 1, previous = coalesce(head, '')
FROM (SELECT) AS one LEFT JOIN
     (SELECT position AS last, hash AS head FROM ` + l.name + ` WHERE hash IS NOT NULL ORDER BY position DESC LIMIT 1) AS chain ON true
WHERE run_id = $1::uuid AND policy = $2::text AND hash IS NULL
RETURNING ` + contentSQL()
	args = append([]string{runID, policy, outcome}, args...)
	err = l.write(ctx, func(ctx context.Context, s *session) error {
		results, err := exec(ctx, s.conn, append(l.start(),
			statement{chainLock, []string{strconv.Itoa(chainClass), l.name}},
			statement{closing, args})...)
		if err != nil {
			return err
		}
		if answer := results[len(results)-1].rows; len(answer) == 1 {
			row = cleanup.ReadLedgerRow(answer[0][0], "")
			row.Hash = row.Sum()
			_, err = exec(ctx, s.conn,
				statement{"UPDATE " + l.name + " SET hash = $3::text WHERE run_id = $1::uuid AND policy = $2::text", []string{runID, policy, row.Hash}},
				statement{sql: commit})
			return err
		}
		rollback(ctx, s.conn)
		row, err = l.closed(ctx, runID, policy, outcome)
		return err
	})
	return row, err
}

// closed reads a row that was found closed: by a try whose answer was lost, or by
// somebody else.
func (l *Ledger) closed(ctx context.Context, runID, policy, outcome string) (cleanup.LedgerRow, error) {
	rows, err := l.rows(ctx, "WHERE run_id = $1::uuid AND policy = $2::text AND hash IS NOT NULL", runID, policy)
	switch {
	case err != nil:
		return cleanup.LedgerRow{}, err
	case len(rows) == 0:
		return cleanup.LedgerRow{}, cleanup.Errorf(cleanup.NeedsPerson, "ask who may delete from the ledger", "the row is gone")
	case string(rows[0].Outcome) != outcome:
		return rows[0], cleanup.Errorf(cleanup.NeedsPerson, "look whether two runs were at work at once: is the lock lost behind a pooler?",
			"somebody has closed it as %s", rows[0].Outcome)
	}
	return rows[0], nil
}

// start begins a transaction that is durable when it ends.
func (l *Ledger) start() []statement {
	return []statement{{sql: begin}, {settings, []string{milliseconds(chainWait), milliseconds(batchTimeout)}}, {sql: flushSettings}}
}

// ledgerTries is how often a transaction of the ledger is tried, for about five
// seconds; a server that is not there is waited for besides.
const ledgerTries = 10

// write runs a transaction, again if that may help. No batch may be in work.
func (l *Ledger) write(ctx context.Context, transaction func(context.Context, *session) error) error {
	s, err := l.db.borrow(ctx)
	if err != nil {
		return err
	}
	defer l.db.giveBack(s)
	for try := 1; ; try++ {
		if err = l.db.ready(ctx, s); err == nil {
			err = classify(transaction(ctx, s))
		}
		l.db.others.unseen()
		if _, transient := errors.AsType[*cleanup.TransientError](err); !transient || try == ledgerTries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(try) * 100 * time.Millisecond):
		}
	}
}
