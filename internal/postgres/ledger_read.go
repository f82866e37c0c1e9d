package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
)

// Ledger is the table that keeps one row for each policy in each run.
type Ledger struct {
	db    *DB
	table string // as it was configured, an SQL name
	name  string // the same, quoted; "" until Check found it
}

// Ledger returns the ledger in a table, an SQL name. Nothing is asked of the
// server yet.
func (db *DB) Ledger(table string) *Ledger { return &Ledger{db: db, table: table} }

// ledgerQuery finds the table and tells what it lacks: columns, and privileges
// of the role.
const ledgerQuery = `
SELECT format('%I.%I', n.nspname, c.relname),
       array_to_string(ARRAY(SELECT w FROM unnest(string_to_array($2, ',')) AS w
                             WHERE w NOT IN (SELECT attname FROM pg_catalog.pg_attribute
                                             WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)), ', '),
       has_table_privilege(c.oid, 'SELECT'),
       has_table_privilege(c.oid, 'INSERT')
         AND (SELECT coalesce(bool_and(has_column_privilege(c.oid, attnum, 'UPDATE')), false)
              FROM pg_catalog.pg_attribute WHERE attrelid = c.oid AND attname = ANY (string_to_array($3, ',')))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1::oid AND c.relkind = 'r'`

// Check tells whether the ledger is there and the role may keep it. Its error
// says what is missing, with the SQL that mends it as far as that fits a line:
// of kind cleanup.Configuration, the table or a column of it; of kind
// cleanup.Permission, a privilege.
func (l *Ledger) Check(ctx context.Context) error { return l.check(ctx, true) }

// check looks whether the ledger can be read, and written if write says so.
func (l *Ledger) check(ctx context.Context, write bool) error {
	name, err := parseName(l.table)
	if err != nil {
		return err
	}
	grants, err := LedgerGrants(l.table, l.db.config.User)
	if err != nil {
		return err
	}
	hint := strings.Join(grants, "; ")
	columns := []string{"hash"}
	for _, c := range ledgerColumns {
		columns = append(columns, c.name)
	}
	rows, err := l.db.queryOfRole(ctx, "SELECT", resolveQuery, name.Sanitize())
	if err == nil {
		rows, err = l.db.query(ctx, ledgerQuery, rows[0][0], strings.Join(columns, ","), strings.Join(growingColumns(), ","))
	}
	switch {
	case SQLState(err) == insufficientRights:
		return cleanup.Errorf(cleanup.Permission, hint, "permission denied: role %q may not look into the schema of the ledger, %s", l.db.config.User, l.table).Named("ledger-privileges")
	case err != nil:
		return fmt.Errorf("find the ledger, %s: %w", l.table, err)
	case len(rows) == 0:
		return cleanup.Errorf(cleanup.Configuration, "message-cleanup setup prints the SQL that makes it",
			"the ledger, table %s, does not exist in %s", l.table, l.db.Address()).Named("ledger-missing")
	}
	row := rows[0]
	if missing := row[1]; missing != "" {
		return cleanup.Errorf(cleanup.Configuration, "is it another table, or of another version? message-cleanup setup prints the SQL that makes it",
			"the ledger, table %s, lacks what it is made of: %s", row[0], missing).Named("ledger-columns")
	}
	if row[2] != "t" || write && row[3] != "t" {
		return cleanup.Errorf(cleanup.Permission, hint, "permission denied: role %q may not keep the ledger, table %s", l.db.config.User, row[0]).Named("ledger-privileges")
	}
	l.name = row[0]
	return nil
}

// found sees to it that the ledger is there to be read.
func (l *Ledger) found(ctx context.Context) error {
	if l.name != "" {
		return nil
	}
	return l.check(ctx, false)
}

// contentSQL makes one JSON object of a row, in which NULL is told from empty.
// Times are UTC, and all is as it was hashed.
func contentSQL() string {
	var pairs []string
	for _, c := range ledgerColumns {
		pairs = append(pairs, "'"+c.name+"', "+pgx.Identifier{c.name}.Sanitize())
	}
	return "json_build_object(" + strings.Join(pairs, ", ") + ")"
}

// Summary tells what the ledger says of a policy in short.
func (l *Ledger) Summary(ctx context.Context, policy string) (cleanup.LedgerSummary, error) {
	if err := l.found(ctx); err != nil {
		return cleanup.LedgerSummary{}, err
	}
	rows, err := l.db.query(ctx, `
SELECT json_build_object('Runs', count(*), 'Deleted', coalesce(sum(deleted), 0),
                         'Verified', max(finished) FILTER (WHERE outcome = 'complete'))
FROM `+l.name+` WHERE policy = $1`, policy)
	if err != nil {
		return cleanup.LedgerSummary{}, fmt.Errorf("read the ledger: %w", err)
	}
	var summary cleanup.LedgerSummary
	if err := json.Unmarshal([]byte(rows[0][0]), &summary); err != nil {
		return summary, fmt.Errorf("read the ledger: %w", err)
	}
	last, err := l.rows(ctx, "WHERE policy = $1 ORDER BY started DESC, run_id DESC LIMIT 1", policy)
	if err == nil && len(last) > 0 {
		summary.Last = &last[0]
	}
	return summary, err
}

// Rows returns all rows: the chain in its order, then those that are open.
func (l *Ledger) Rows(ctx context.Context) ([]cleanup.LedgerRow, error) {
	return l.rows(ctx, "ORDER BY position, started, run_id")
}

func (l *Ledger) rows(ctx context.Context, which string, args ...string) ([]cleanup.LedgerRow, error) {
	if err := l.found(ctx); err != nil {
		return nil, err
	}
	answer, err := l.db.query(ctx, "SELECT "+contentSQL()+", hash FROM "+l.name+" "+which, args...)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	rows := make([]cleanup.LedgerRow, len(answer))
	for i, a := range answer {
		rows[i] = cleanup.ReadLedgerRow(a[0], a[1])
	}
	return rows, nil
}
