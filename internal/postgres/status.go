package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"message-cleanup/internal/cleanup"
)

// A look at the status has to be quick on any table, and must not disturb: it
// reads so many entries of the expiry index at most, in so much time. If that
// was too short, because rows have to be looked up that no vacuum has seen yet, or
// because there is no index, it is content with less.
var statusBounds = []struct {
	rows    int64
	timeout string
}{{1_000_000, "500ms"}, {10_000, "250ms"}, {100, "250ms"}}

// byIndex keeps the planner from reading the table for what an index knows. It
// would for a bounded count, if it believes that many rows are to be found, and
// read all of the table if there are few.
const byIndex = oneProcess + `,
       pg_catalog.set_config('enable_seqscan', 'off', true), pg_catalog.set_config('enable_bitmapscan', 'off', true)`

// Status tells how a policy's table stands. It needs no more than SELECT.
func (db *DB) Status(ctx context.Context, policy cleanup.Policy, server Server) (cleanup.Status, error) {
	cutoff := policy.Cutoff(server.Clock)
	t, root, err := db.identify(ctx, policy, server, cutoff)
	if err != nil {
		return cleanup.Status{}, err
	}
	status := cleanup.Status{Table: t.facts.Name, Cutoff: cutoff, Held: cleanup.Count{Is: cleanup.Exactly}}
	e := t.expiry
	if status.Backlog, err = t.countUpTo(ctx, e.doomed(), e.bound); err != nil {
		return status, fmt.Errorf("count the expired rows: %w", err)
	}
	if status.Overdue, err = t.oldest(ctx); err != nil {
		return status, fmt.Errorf("look for the oldest expired row: %w", err)
	}
	if e.hold != "" {
		if status.Held, err = t.countUpTo(ctx, e.covered()+"\n  AND "+e.held(), e.bound); err != nil {
			return status, fmt.Errorf("count the held rows: %w", err)
		}
	}
	if status.Null, err = t.countUpTo(ctx, e.timeless()); err != nil {
		return status, fmt.Errorf("count the rows without a time: %w", err)
	}
	if err = t.readDay(ctx, policy, server.Clock, root, &status); err != nil {
		return status, fmt.Errorf("count what expires next: %w", err)
	}
	return status, nil
}

// countUpTo counts the rows that meet a condition, as far as that is quickly done.
func (t *Table) countUpTo(ctx context.Context, condition string, args ...string) (cleanup.Count, error) {
	for _, bound := range statusBounds {
		limit := fmt.Sprintf("$%d", len(args)+1)
		rows, inTime, err := t.glance(ctx, bound.timeout, "SELECT count(*) FROM (SELECT FROM "+t.name+" WHERE "+condition+
			"\nLIMIT "+limit+"::bigint) AS bounded", append(slices.Clone(args), strconv.FormatInt(bound.rows, 10))...)
		if err != nil {
			return cleanup.Count{}, err
		}
		if !inTime {
			continue
		}
		n, err := integer(rows)
		if n == bound.rows {
			return cleanup.Count{Rows: n, Is: cleanup.AtLeast}, err
		}
		return cleanup.Count{Rows: n, Is: cleanup.Exactly}, err
	}
	return cleanup.Count{Is: cleanup.Unknown}, nil
}

// glance is a query in which the operator names things, by way of an index, with
// little time.
func (t *Table) glance(ctx context.Context, timeout, sql string, args ...string) (rows [][]string, inTime bool, err error) {
	return t.lookWith(ctx, settingsOfRole, ", "+byIndex, timeout, sql, args...)
}

// oldest returns how long the oldest row of the backlog is overdue, 0 if there is
// none, and nil if that was not found out in time.
func (t *Table) oldest(ctx context.Context) (*time.Duration, error) {
	e := t.expiry
	rows, inTime, err := t.glance(ctx, statusBounds[0].timeout, "SELECT "+e.overdue("min(due)")+" FROM (SELECT "+e.column+" AS due FROM "+t.name+
		" WHERE "+e.doomed()+"\nORDER BY "+e.column+" LIMIT 1) AS first", e.bound)
	if err != nil || !inTime {
		return nil, err
	}
	overdue, err := seconds(rows[0][0])
	return &overdue, err
}

// readDay counts what expires in the next 24 hours, and later: exactly, if that
// is quickly done, or as the planner estimates it.
func (t *Table) readDay(ctx context.Context, policy cleanup.Policy, now time.Time, r root, status *cleanup.Status) error {
	status.Day = cleanup.Spans(now)
	bounds := []string{t.expiry.bound}
	for _, span := range status.Day {
		e, err := t.db.newExpiry(ctx, policy, t.expiry.column, t.facts.ColumnType, policy.Cutoff(span.To))
		if err != nil {
			return err
		}
		bounds = append(bounds, e.bound)
	}
	counted, err := t.countDay(ctx, bounds, status.Day)
	if err != nil {
		return err
	}
	end := bounds[len(bounds)-1]
	if status.Later, err = t.countUpTo(ctx, t.expiry.later(), end); err != nil {
		return err
	}
	if counted && status.Later.Is == cleanup.Exactly {
		return nil
	}
	estimate, err := t.estimator(ctx, r)
	if err != nil {
		return err
	}
	for i := range status.Day {
		if !counted {
			if status.Day[i].Count, err = estimate(ctx, t.expiry.due(), bounds[i], bounds[i+1]); err != nil {
				return err
			}
		}
	}
	if status.Later.Is != cleanup.Exactly {
		status.Later, err = estimate(ctx, t.expiry.later(), end)
	}
	return err
}

// countDay counts the rows of all spans in one scan, and tells whether it came to
// its end.
func (t *Table) countDay(ctx context.Context, bounds []string, spans []cleanup.Span) (bool, error) {
	e := t.expiry
	rows, inTime, err := t.glance(ctx, statusBounds[0].timeout, fmt.Sprintf(`
SELECT pg_catalog.width_bucket(due, $3::%[1]s[]), count(*)
FROM (SELECT %[2]s::%[1]s AS due FROM %[3]s WHERE %[4]s) AS day GROUP BY 1`, e.cast, e.column, t.name, e.due()),
		bounds[0], bounds[len(bounds)-1], `{"`+strings.Join(bounds, `","`)+`"}`)
	if err != nil || !inTime {
		return false, err
	}
	for _, row := range rows {
		numbers, err := integers(row)
		if err != nil {
			return false, err
		}
		spans[numbers[0]-1].Rows = numbers[1]
	}
	return true, nil
}

// analyzedQuery tells whether there are statistics of a column, of the table or
// of one below it. Without them the planner's estimates are worth nothing.
const analyzedQuery = belowQuery + `
SELECT EXISTS (
  SELECT FROM tree JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = $2)`

// estimator returns the function that asks the planner how many rows meet a
// condition.
func (t *Table) estimator(ctx context.Context, r root) (func(ctx context.Context, condition string, args ...string) (cleanup.Count, error), error) {
	analyzed, err := t.db.value(ctx, analyzedQuery, r.oid, r.column)
	return func(ctx context.Context, condition string, args ...string) (cleanup.Count, error) {
		if analyzed != "t" {
			return cleanup.Count{Is: cleanup.Unknown}, nil
		}
		rows, err := t.db.queryOfRole(ctx, "SELECT "+oneProcess, explain+"SELECT FROM "+t.name+" WHERE "+condition, args...)
		if err != nil {
			return cleanup.Count{}, err
		}
		leaves, err := readEstimates(rows)
		all := cleanup.Count{Is: cleanup.About}
		for _, n := range leaves {
			all.Rows += int64(n)
		}
		return all, err
	}, err
}
