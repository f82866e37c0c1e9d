package postgres

import (
	"context"
	"fmt"
	"strings"

	"message-cleanup/internal/cleanup"
)

// CheckLedger tells what is wrong with the ledger in a table, an SQL name.
func (db *DB) CheckLedger(ctx context.Context, table string) []cleanup.Finding {
	err := db.Ledger(table).Check(ctx)
	if err == nil {
		return nil
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
	rows, err := db.queryOfRole(ctx, "SELECT", resolveQuery, name.Sanitize())
	if err == nil {
		rows, err = db.query(ctx, ledgerLacks, rows[0][0], role, strings.Join(growingColumns(), ","))
	}
	if err != nil && SQLState(err) != insufficientRights { // the schema is closed, so it is there
		return nil, fmt.Errorf("look for the ledger, %s: %w", table, err)
	}
	if err == nil && len(rows) == 0 {
		if sql, err = LedgerSQL(table); err != nil {
			return nil, err
		}
	}
	if len(rows) > 0 && rows[0][0] == "t" {
		return nil, nil
	}
	grants, err := LedgerGrants(table, role)
	return append(sql, grants...), err
}
