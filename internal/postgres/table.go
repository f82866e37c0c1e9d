package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
)

// Table is a policy's table in the database. It implements cleanup.Database.
type Table struct {
	db     *DB
	oid    string
	root   string            // the oid of what it is a partition of at the top, itself if it has partitions, 0 if it is none
	name   string            // schema-qualified and quoted, as the facts' names for people are not
	quoted map[uint32]string // the same of the leaves, by their oid
	keys   map[uint32]string // SQL for a text that names a row of a leaf: its primary key, or the ctid
	expiry *expiry
	drops  *drops

	tidRange bool // the server scans ranges of ctid
	mayLock  bool // the role may lock rows of all leaves: UPDATE on some column
	facts    cleanup.Table
	denied   []string // leaves that the role may not delete from

	advised map[string]bool           // foreign servers that were warned of
	cut     map[cleanup.Strategy]bool // how leaves were cut so far

	version int  // of the server
	pooled  bool // a connection pooler stands in between
	touched touched
	lost    lost
	entry   *Entry // where its batches are put on record; nil: nowhere
}

// Facts returns what the plan is made of.
func (t *Table) Facts() cleanup.Table { return t.facts }

// CheckPrivileges refuses a run by a role that may not delete.
func (t *Table) CheckPrivileges() error {
	if len(t.denied) == 0 {
		return nil
	}
	return cleanup.Errorf(cleanup.Permission,
		fmt.Sprintf("GRANT SELECT, DELETE, UPDATE (%s) ON %s TO %s", t.expiry.column, strings.Join(t.denied, ", "), pgx.Identifier{t.db.config.User}.Sanitize()),
		"permission denied: role %q may not delete from %s", t.db.config.User, t.denied[0])
}

// Record has every batch of the table put on record in an entry of the ledger.
func (t *Table) Record(e *Entry) { t.entry = e }

// Cut implements cleanup.Database.
func (t *Table) Cut(leaf cleanup.LeafPlan) cleanup.Cutter {
	t.cut[leaf.Strategy] = true
	switch leaf.Strategy {
	case cleanup.Partition:
		return newDropCutter(t, leaf)
	case cleanup.Heap:
		return leafCutter{newHeapCutter(t, leaf), t, leaf.Leaf}
	}
	return leafCutter{newIndexCutter(t, leaf), t, leaf.Leaf}
}

// FirstBatch returns the SQL of the first batch of a leaf with its values in
// place, ready for EXPLAIN; of a partition that is dropped, what does that.
func (t *Table) FirstBatch(ctx context.Context, leaf cleanup.LeafPlan, rows int) (string, error) {
	next, err := t.Cut(leaf).Next(ctx, rows, true)
	if err != nil || next == nil {
		return "", err
	}
	if whole, ok := next.(*dropPiece); ok {
		return whole.sql(ctx)
	}
	p := next.(*piece)
	return literal(p.deleteSQL(), p.parameters()), nil
}

// Flush implements cleanup.Database.
func (t *Table) Flush(ctx context.Context) error { return t.db.Flush(ctx) }

// Unconfirmed implements cleanup.Database.
func (t *Table) Unconfirmed() (rows, doubtful int64) { return t.db.Unconfirmed() }

// byScan lets a count read the table rather than its index. After block ranges
// the index leads to all the rows that were just deleted, one by one.
const byScan = `
       pg_catalog.set_config('enable_indexscan', 'off', true), pg_catalog.set_config('enable_indexonlyscan', 'off', true),
       pg_catalog.set_config('enable_bitmapscan', 'off', true)`

// Count implements cleanup.Database. It counts over the whole table, not over
// the leaves that the plan chose, so that it also proves that choice.
func (t *Table) Count(ctx context.Context, quietly bool) (cleanup.Counts, error) {
	var changes []string
	if quietly { // one process leaves the other processors to others
		changes = append(changes, oneProcess)
	}
	if t.cut[cleanup.Heap] && !t.cut[cleanup.Index] {
		changes = append(changes, byScan)
	}
	rows, err := t.db.queryOfRole(ctx, "SELECT "+strings.Join(changes, ", "),
		"SELECT count(*) FILTER (WHERE NOT "+t.expiry.held()+"), count(*) FILTER (WHERE "+t.expiry.held()+"),\n       "+
			t.expiry.overdue("min("+t.expiry.column+") FILTER (WHERE NOT "+t.expiry.held()+")")+",\n"+
			"       pg_catalog.pg_typeof((NULL::"+t.name+")."+t.expiry.column+")::text\nFROM "+
			t.from()+" WHERE "+t.expiry.covered(), t.expiry.bound)
	if err != nil {
		return cleanup.Counts{}, err
	}
	if rows[0][3] != t.facts.ColumnType {
		return cleanup.Counts{}, t.typeChanged()
	}
	numbers, err := integers(rows[0][:2])
	if err != nil {
		return cleanup.Counts{}, err
	}
	overdue, err := seconds(rows[0][2])
	if err != nil {
		return cleanup.Counts{}, fmt.Errorf("age of the oldest expired row: %w", err)
	}
	return cleanup.Counts{Backlog: numbers[0], Held: numbers[1], Overdue: overdue}, nil
}

// CheckGuards refuses to begin when more rows would go than the guards allow:
// at most maxRows (0: any number), at most the share maxFraction of the table.
func (t *Table) CheckGuards(ctx context.Context, maxRows int64, maxFraction float64) error {
	if maxRows > 0 {
		rows, err := t.db.queryOfRole(ctx, "SELECT", "SELECT count(*) FROM (SELECT FROM "+t.from()+" WHERE "+t.expiry.doomed()+
			"\nLIMIT $2::bigint) AS bounded", t.expiry.bound, strconv.FormatInt(maxRows+1, 10))
		if err != nil {
			return err
		}
		if n, err := integer(rows); err != nil {
			return err
		} else if n > maxRows {
			return cleanup.Errorf(cleanup.NeedsPerson, "see what would go with --dry-run, then raise guard.max_rows",
				"guard.max_rows: more than %s rows of %s are expired, so a run deletes nothing", cleanup.FormatCount(maxRows), t.facts.Name).Named("guard-max-rows")
		}
	}
	if maxFraction < 1 {
		rows, err := t.db.queryOfRole(ctx, "SELECT", "SELECT count(*) FILTER (WHERE "+t.expiry.doomed()+"), count(*) FROM "+t.from(), t.expiry.bound)
		if err != nil {
			return err
		}
		numbers, err := integers(rows[0])
		if err != nil {
			return err
		}
		if expired, all := numbers[0], numbers[1]; float64(expired) > maxFraction*float64(all) {
			return cleanup.Errorf(cleanup.NeedsPerson, "see what would go with --dry-run, then raise guard.max_fraction",
				"guard.max_fraction: %s of %s rows of %s are expired, more than a share of %g, so a run deletes nothing",
				cleanup.FormatCount(expired), cleanup.FormatCount(all), t.facts.Name, maxFraction).Named("guard-max-fraction")
		}
	}
	return nil
}

func integers(row []string) ([]int64, error) {
	numbers := make([]int64, len(row))
	for i, text := range row {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, err
		}
		numbers[i] = n
	}
	return numbers, nil
}
