package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"message-cleanup/internal/cleanup"
)

// Others speak PostgreSQL's protocol too. What is not known to keep what is
// relied on here (transaction ids that are given out in order, and whose fate can
// be asked; a position in the log; a ctid that stays) is refused, rather than
// tried on somebody's data.

// minVersion is the oldest server in which all functions exist that statements
// here call: pg_current_xact_id and pg_xact_status(xid8) came with PostgreSQL 13.
const minVersion = 130000

// engineQuery is sent as it is, with no settings around it: others may not know
// those.
const engineQuery = "SELECT pg_catalog.version(), pg_catalog.current_setting('server_version_num')"

// checkEngine refuses a server that is not PostgreSQL, or too old a one.
func (db *DB) checkEngine(ctx context.Context) error {
	db.readers.Lock()
	results, err := exec(ctx, db.reader, statement{sql: engineQuery})
	db.readers.Unlock()
	if err != nil {
		return fmt.Errorf("ask the server for its version: %w", classify(err))
	}
	row := results[0].rows[0]
	version, err := strconv.Atoi(row[1])
	if err != nil {
		return fmt.Errorf("server_version_num: %w", err)
	}
	return supported(row[0], version)
}

// supported takes what version() and server_version_num say. CockroachDB begins
// with its own name, YugabyteDB with PostgreSQL's: "PostgreSQL 15.12-YB-2.25.2.0".
func supported(text string, version int) error {
	switch {
	case !strings.HasPrefix(text, "PostgreSQL ") || strings.Contains(text, "-YB-"):
		name, _, _ := strings.Cut(text, " (")
		name, _, _ = strings.Cut(name, " on ")
		return cleanup.Errorf(cleanup.Configuration, "docs/compatibility.md says what was tried",
			"the server is %s, which only speaks like PostgreSQL: nothing was tried there, so nothing is deleted", name).Named("not-postgresql")
	case version < minVersion:
		return cleanup.Errorf(cleanup.Configuration, "upgrade the server", "PostgreSQL %d is too old: 13 or later is needed", version/10000).Named("server-too-old")
	}
	return nil
}

// These find out whether the Citus extension keeps rows of the table, or of what
// is below it, elsewhere. The table here is an empty shell then.
const (
	citusExistsQuery = "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"
	citusQuery       = belowQuery + `
SELECT d.logicalrelid::text FROM pg_catalog.pg_dist_partition d JOIN tree ON tree.oid = d.logicalrelid::oid LIMIT 1`
)

// checkDistributed refuses a table that Citus has spread over other servers.
func (db *DB) checkDistributed(ctx context.Context, oid string) error {
	exists, err := db.value(ctx, citusExistsQuery)
	if err != nil || exists != "t" {
		return err
	}
	rows, err := db.query(ctx, citusQuery, oid)
	if err != nil || len(rows) == 0 {
		return err
	}
	return cleanup.Errorf(cleanup.Configuration, "docs/compatibility.md says what was tried",
		"%s is distributed by Citus: nothing was tried there, so nothing is deleted", rows[0][0]).Named("not-postgresql")
}
