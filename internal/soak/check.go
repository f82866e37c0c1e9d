package main

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// leftQuery counts what a run left behind on the server: sessions, whatever
	// they do, and locks against a second run.
	leftQuery = "SELECT (SELECT count(*) " + programsBackends + "), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')"

	// goneSQL takes out of the record what is no longer in the table, and tells how
	// much that is and when the last of it expired.
	goneSQL = `
WITH gone AS (
	DELETE FROM record WHERE NOT EXISTS (SELECT FROM messages WHERE messages.id = record.id) RETURNING expires_at)
SELECT count(*), coalesce(max(expires_at), '-infinity'::timestamptz) >= $1, clock_timestamp() FROM gone`

	// strayQuery counts rows that differ from their record, or have none.
	strayQuery = `
SELECT count(*) FROM messages LEFT JOIN record USING (id) WHERE record.expires_at IS DISTINCT FROM messages.expires_at`
)

// check checks what a run did. Nobody deletes now; the table may be in use.
func (f *field) check(ctx context.Context, r ended) error {
	return f.connected(ctx, func(conn *pgx.Conn) error {
		if err := f.checkLeft(ctx, conn); err != nil {
			return err
		}
		var now time.Time
		if err := conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
			return err
		}
		cutoff := now // a run that was killed began earlier than that
		if len(r.Policies) == 1 && !r.Policies[0].Cutoff.IsZero() {
			cutoff = r.Policies[0].Cutoff
		}
		var gone int64
		var live bool
		if err := conn.QueryRow(ctx, goneSQL, cutoff).Scan(&gone, &live, &now); err != nil {
			return err
		}
		if live {
			f.report.violate("a row is gone that lived at the cutoff %s", cutoff.Format(time.RFC3339Nano))
		}
		switch {
		case r.Deleted == nil:
			f.report.unreported += gone
		case *r.Deleted <= gone && gone <= *r.Deleted+r.besides():
			f.report.deleted += *r.Deleted
			f.report.unreported += gone - *r.Deleted
		case *r.Deleted != gone:
			f.report.violate("it says that %d rows are deleted, %d are gone; it ended with %s: %s; what happened: %s", *r.Deleted, gone, r.status, r.Error, strings.Join(f.happened, ", "))
		default:
			f.report.deleted += gone
		}
		var stray int64
		if err := conn.QueryRow(ctx, strayQuery).Scan(&stray); err != nil {
			return err
		}
		if stray > 0 {
			f.report.violate("%d rows differ from their record", stray)
		}
		return nil
	})
}

var besidesPattern = regexp.MustCompile(`([0-9,]+) rows? (?:was|were) deleted besides, not known to be durable`)

// besides returns the rows that a run deleted, as it says, of which it could not
// find out whether the server kept that: it was interrupted while that was down.
func (r ended) besides() int64 {
	match := besidesPattern.FindStringSubmatch(r.Error)
	if match == nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.ReplaceAll(match[1], ",", ""), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// checkLeft waits until the server has noticed that the program is gone.
func (f *field) checkLeft(ctx context.Context, conn *pgx.Conn) error {
	for deadline := time.Now().Add(settling); ; {
		var sessions, locks int
		if err := conn.QueryRow(ctx, leftQuery).Scan(&sessions, &locks); err != nil {
			return err
		}
		if sessions == 0 && locks == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			f.report.violate("%d sessions and %d locks are left on the server", sessions, locks)
			return nil
		}
		pause(ctx, 20*time.Millisecond)
	}
}
