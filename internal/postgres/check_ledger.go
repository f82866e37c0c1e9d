package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
)

// CheckLedger tells what is wrong with the ledger in a table, an SQL name.
func (db *DB) CheckLedger(ctx context.Context, table string) []cleanup.Finding {
	ledger := db.Ledger(table)
	err := ledger.Check(ctx)
	if err == nil {
		return ledger.checkAppendOnly(ctx)
	}
	finding := cleanup.FindingOf("", err)
	if finding.Name == "ledger-missing" || finding.Name == "ledger-privileges" {
		sql, err := db.ledgerSQL(ctx, table, db.config.User)
		if err != nil {
			return []cleanup.Finding{finding, cleanup.FindingOf("", err)}
		}
		finding.SQL, finding.Hint = sql, ""
		if finding.Name == "ledger-missing" { // its SQL fills a screen
			finding.Command = "message-cleanup setup --apply --role " + db.quotedUser()
			finding.Hint = "as a superuser of the database; without --apply it prints the SQL"
		}
	}
	return []cleanup.Finding{finding}
}

// checkAppendOnly tells whether rows of runs that are over could be changed.
func (l *Ledger) checkAppendOnly(ctx context.Context) []cleanup.Finding {
	table, err := parseName(l.name)
	var sql []string
	if err == nil {
		sql, err = l.db.protectSQL(ctx, l.name, table)
	}
	switch {
	case err != nil:
		return []cleanup.Finding{cleanup.FindingOf("", err)}
	case len(sql) == 0:
		return nil
	}
	return []cleanup.Finding{{
		Name: "ledger-unprotected", Severity: cleanup.SeverityWarning, SQL: sql,
		Text: fmt.Sprintf("the trigger append_only of the ledger, table %s, is missing or disabled: rows of runs that are over can be changed", l.name),
		Hint: "message-cleanup history --verify tells whether they were",
	}}
}

// protectSQL returns what is missing for the closed rows of a ledger that is
// there to stay as they are. class is its oid, or its name with the schema.
func (db *DB) protectSQL(ctx context.Context, class string, name pgx.Identifier) ([]string, error) {
	rows, err := db.query(ctx, "SELECT tgenabled IN ('O', 'A') FROM pg_catalog.pg_trigger WHERE tgrelid = $1::regclass AND tgname = 'append_only'", class)
	switch {
	case err != nil:
		return nil, fmt.Errorf("look at the ledger's trigger, on %s: %w", name.Sanitize(), err)
	case len(rows) == 0:
		return appendOnlySQL(name), nil
	case rows[0][0] != "t":
		return []string{"ALTER TABLE " + name.Sanitize() + " ENABLE TRIGGER append_only"}, nil
	}
	return nil, nil
}

// ledgerLacks tells whether a role has all the rights that LedgerGrants grants;
// it has no row if there is no such table.
const ledgerLacks = `
SELECT has_schema_privilege(role.oid, c.relnamespace, 'USAGE') AND has_table_privilege(role.oid, c.oid, 'SELECT')
       AND has_table_privilege(role.oid, c.oid, 'INSERT')
       AND (SELECT bool_and(has_column_privilege(role.oid, c.oid, attnum, 'UPDATE'))
            FROM pg_catalog.pg_attribute WHERE attrelid = c.oid AND attname = ANY (string_to_array($3, ',')))
FROM pg_catalog.pg_class c, (SELECT coalesce((SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $2), 0)) AS role(oid)
WHERE c.oid = $1::oid`

// ledgerSQL makes what is missing of the ledger, and lets the role keep it.
func (db *DB) ledgerSQL(ctx context.Context, table, role string) (sql []string, err error) {
	name, err := parseName(table)
	if err != nil {
		return nil, err
	}
	var class string
	rows, err := db.queryOfRole(ctx, "SELECT", resolveQuery, name.Sanitize())
	if err == nil {
		class = rows[0][0]
		rows, err = db.query(ctx, ledgerLacks, class, role, strings.Join(growingColumns(), ","))
	}
	switch {
	case SQLState(err) == insufficientRights: // the schema is closed, so it is there
		err = nil
	case err != nil:
	case len(rows) == 0:
		sql, err = LedgerSQL(table)
	default:
		sql, err = db.protectSQL(ctx, class, name)
	}
	if err != nil {
		return nil, fmt.Errorf("look for the ledger, %s: %w", table, err)
	}
	if len(rows) > 0 && rows[0][0] == "t" {
		return sql, nil
	}
	grants, err := LedgerGrants(table, role)
	return append(sql, grants...), err
}
