package postgres

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"message-cleanup/internal/cleanup"
)

const (
	// samplePages are enough to see which strategy suits a table: its choice
	// changes where two rows of a page are expired, one in eight or so.
	samplePages = 100
	// probeRows is how many index entries tell few expired rows from many.
	probeRows = 1_000

	sampleTimeout = "250ms"
	probeTimeout  = "50ms"

	// staleShare of a table's rows changed since it was analyzed make its
	// statistics stale. Autovacuum analyzes at the same share by default.
	staleShare = 0.1
)

// probe mends what the statistics say of a leaf where they are stale or missing,
// by a look at the table that is bounded in pages and in time. A look that takes
// too long says nothing.
func (t *Table) probe(ctx context.Context, quoted string, leaf *cleanup.Leaf, changed string) error {
	if leaf.Index == "" { // there is nothing to choose
		return nil
	}
	changes, err := strconv.ParseFloat(changed, 64)
	if err != nil {
		return fmt.Errorf("rows changed since %s was analyzed: %w", leaf.Name, err)
	}
	stale := leaf.Rows < 0 || math.IsNaN(leaf.Correlation) || changes > staleShare*leaf.Rows
	if stale && leaf.Pages > samplePages {
		if err := t.sample(ctx, quoted, leaf); err != nil {
			return err
		}
	}
	if leaf.Expired < probeRows && leaf.Rows >= 0 {
		return nil
	}
	return t.probeIndex(ctx, quoted, leaf)
}

// look runs one query that is bounded in time; it returns nil if that was too
// short.
func (t *Table) look(ctx context.Context, timeout, sql string, args ...string) ([][]string, error) {
	rows, _, err := t.lookWith(ctx, settings, "", timeout, sql, args...)
	return rows, err
}

// lookOfRole is look for a query in which the operator names things.
func (t *Table) lookOfRole(ctx context.Context, timeout, sql string, args ...string) ([][]string, error) {
	rows, _, err := t.lookWith(ctx, settingsOfRole, "", timeout, sql, args...)
	return rows, err
}

// lookWith is look after settings of every transaction and some more, which begin
// with a comma; it tells whether the time was enough.
func (t *Table) lookWith(ctx context.Context, settings, more, timeout, sql string, args ...string) (rows [][]string, inTime bool, err error) {
	rows, err = t.db.read(ctx, settings, "SELECT pg_catalog.set_config('statement_timeout', '"+timeout+"', true)"+more, sql, args...)
	if SQLState(err) == queryCanceled && ctx.Err() == nil {
		return nil, false, nil
	}
	return rows, err == nil, err
}

// sample reads some pages of a leaf, wherever they lie. The correlation is that
// of ranks, as in pg_stats.
func (t *Table) sample(ctx context.Context, quoted string, leaf *cleanup.Leaf) error {
	rows, err := t.look(ctx, sampleTimeout, `
SELECT count(*), count(*) FILTER (WHERE expired), coalesce(corr(place, rank), 0)
FROM (SELECT (ctid::text::point)[0] AS place, rank() OVER (ORDER BY `+t.expiry.column+`) AS rank, (`+t.expiry.expired()+`) IS TRUE AS expired
      FROM ONLY `+quoted+` TABLESAMPLE SYSTEM ($2::real)) AS sample`,
		t.expiry.bound, strconv.FormatFloat(100*samplePages/float64(leaf.Pages), 'g', -1, 32))
	if err != nil {
		return fmt.Errorf("sample %s: %w", leaf.Name, err)
	}
	if rows == nil {
		return nil
	}
	found, err := integers(rows[0][:2])
	if err != nil {
		return err
	}
	correlation, err := strconv.ParseFloat(rows[0][2], 64)
	if err != nil {
		return err
	}
	scale := float64(leaf.Pages) / samplePages
	leaf.Rows, leaf.Expired = float64(found[0])*scale, float64(found[1])*scale
	leaf.Correlation, leaf.Sampled = correlation, samplePages
	return nil
}

// probeIndex looks for the first expired rows in the index, which says exactly
// whether there are only few: after a cleanup the statistics still know the rows
// that it deleted.
func (t *Table) probeIndex(ctx context.Context, quoted string, leaf *cleanup.Leaf) error {
	rows, err := t.look(ctx, probeTimeout,
		"SELECT count(*) FROM (SELECT FROM ONLY "+quoted+" WHERE "+t.expiry.expired()+
			" ORDER BY "+t.expiry.column+" LIMIT $2::bigint) AS first", t.expiry.bound, strconv.Itoa(probeRows))
	if err != nil {
		return fmt.Errorf("probe %s: %w", leaf.Name, err)
	}
	if rows == nil {
		return nil // it met the index entries of many deleted rows
	}
	found, err := integer(rows)
	if err != nil {
		return err
	}
	if found == probeRows {
		leaf.Expired = max(leaf.Expired, probeRows)
	} else {
		leaf.Expired = float64(found)
	}
	return nil
}
