package postgres

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	begin     = "begin isolation level read committed"
	beginRead = "begin isolation level read committed read only"
	commit    = "commit"
)

// Every transaction fixes what a role's or a server's settings could change in
// the meaning of a value or a name, or hide: how times and numbers are written,
// in which zone the operator's conditions are read, whether row-level security
// may leave rows out without an error, and where functions, operators and types
// are looked for. Whoever may create one in a schema of the search path could
// else have it called here, with the rights of this role.
const settingsList = `
       pg_catalog.set_config('datestyle', 'ISO, YMD', true),
       pg_catalog.set_config('timezone', 'UTC', true),
       pg_catalog.set_config('extra_float_digits', '1', true),
       pg_catalog.set_config('row_security', 'off', true),
       pg_catalog.set_config('jit', 'off', true),
       pg_catalog.set_config('lock_timeout', $1, true),
       pg_catalog.set_config('statement_timeout', $2, true),
       pg_catalog.set_config('idle_in_transaction_session_timeout', '10s', true),`

// Statements of ours see pg_catalog alone. Where SQL of others runs too, the
// operator's conditions or a trigger of the table, they find what they find for
// everybody else: by the search path of the role, but behind pg_catalog, whose
// place that is when no path names it, and what is temporary last. In such
// statements every name of ours has to be exactly one of pg_catalog's, types of
// arguments included, for another schema may have one that fits better; what is
// sent before these settings has to name the schema, too.
const (
	settings       = "SELECT " + settingsList + ownNames
	settingsOfRole = "SELECT " + settingsList + namesOfRole

	ownNames = `
       pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)`
	namesOfRole = `
       pg_catalog.set_config('search_path', (
         SELECT pg_catalog.concat_ws(', ', pg_catalog.string_agg(pg_catalog.quote_ident(schema), ', ' ORDER BY place), 'pg_temp')
         FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS path(schema, place)
         WHERE schema OPERATOR(pg_catalog.<>) 'pg_catalog'), true)`
)

// readLockTimeout bounds the wait for a table lock, which a plain SELECT
// shares with everything but schema changes.
const readLockTimeout = 5 * time.Second

// query runs one query of ours in a read-only transaction of its own.
func (db *DB) query(ctx context.Context, sql string, args ...string) ([][]string, error) {
	return db.queryWith(ctx, "SELECT", sql, args...)
}

// queryWith is query after another statement in the same transaction, which
// changes settings.
func (db *DB) queryWith(ctx context.Context, change, sql string, args ...string) ([][]string, error) {
	return db.read(ctx, settings, change, sql, args...)
}

// queryOfRole is queryWith for a query in which the operator names things.
func (db *DB) queryOfRole(ctx context.Context, change, sql string, args ...string) ([][]string, error) {
	return db.read(ctx, settingsOfRole, change, sql, args...)
}

func (db *DB) read(ctx context.Context, settings, change, sql string, args ...string) ([][]string, error) {
	db.readers.Lock()
	defer db.readers.Unlock()
	if db.reader.IsClosed() {
		conn, err := db.connect(ctx)
		if err != nil {
			return nil, err
		}
		db.reader = conn
	}
	rows, err := readOn(ctx, db.reader, settings, change, sql, args...)
	return rows, classify(err)
}

// readOn is query on a connection of the caller's, whose error is not yet
// classified.
func readOn(ctx context.Context, conn *pgconn.PgConn, settings, change, sql string, args ...string) ([][]string, error) {
	results, err := exec(ctx, conn,
		statement{sql: beginRead},
		statement{settings, []string{milliseconds(readLockTimeout), "0"}},
		statement{sql: change},
		statement{sql: sql, args: args},
		statement{sql: commit})
	if err != nil {
		return nil, err
	}
	return results[3].rows, nil
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(d.Milliseconds(), 10)
}
