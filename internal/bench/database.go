package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/pgtest"
)

const (
	templateName = "bench_template" // holds a case's table, untouched
	copyName     = "bench"          // is deleted from
)

// sharedBuffers holds the default table and its indexes whole, so that the
// disk's reads are no part of what is measured.
const sharedBuffers = 2048 // MB

// realisticSettings are those of a server that keeps its data. No checkpoint
// and no autovacuum falls into a measurement by chance, and segments of the WAL
// are kept for reuse: otherwise whoever comes first pays for making them.
func realisticSettings() map[string]string {
	buffers := sharedBuffers
	if total := machineMemory(); total > 0 {
		buffers = min(buffers, int(total/4>>20))
	}
	return map[string]string{
		"fsync":                        "on",
		"synchronous_commit":           "on",
		"full_page_writes":             "on",
		"shared_buffers":               fmt.Sprintf("%dMB", buffers),
		"min_wal_size":                 "4GB",
		"max_wal_size":                 "16GB",
		"checkpoint_timeout":           "30min",
		"checkpoint_completion_target": "0.9",
		"autovacuum":                   "off",
		"maintenance_work_mem":         "256MB",
	}
}

// workbench is the server with the current case's tables.
type workbench struct {
	options
	cluster *pgtest.Cluster
	program program
	admin   *pgx.Conn // to no database that is copied or dropped; nil: not connected

	content   string    // of the template
	cutoff    time.Time // everything that has expired has before it
	table     string    // that the current way deletes from
	tableRows int
	expired   int64 // rows of the table
}

func (w *workbench) say(format string, args ...any) {
	fmt.Fprintf(w.progress, format+"\n", args...)
}

func (w *workbench) close() {
	if w.admin != nil {
		_ = w.admin.Close(context.Background())
		w.admin = nil
	}
}

// exec runs statements on the server, each in a transaction of its own.
func (w *workbench) exec(ctx context.Context, statements ...string) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	for _, sql := range statements {
		if _, err := w.admin.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%w\nin: %s", err, sql)
		}
	}
	return nil
}

func (w *workbench) connect(ctx context.Context) (err error) {
	if w.admin == nil {
		w.admin, err = pgx.Connect(ctx, w.cluster.URL("postgres"))
	}
	return err
}

// prepare makes the case's tables in the template, unless they are there.
func (w *workbench) prepare(ctx context.Context, c testCase) error {
	if w.content == c.content {
		return nil
	}
	w.say("%s: filling its table, of %d rows", c.name, c.rows)
	w.content = ""
	err := w.exec(ctx,
		"DROP DATABASE IF EXISTS "+copyName,
		"DROP DATABASE IF EXISTS "+templateName,
		"CREATE DATABASE "+templateName)
	if err != nil {
		return err
	}
	if err := w.fill(ctx, c); err != nil {
		return err
	}
	// A restart empties shared_buffers of the template, which is not read again but by file: the copy shall have
	// them for itself, the first as much as the others.
	w.close()
	if err := w.cluster.Stop("fast"); err != nil {
		return err
	}
	w.content = c.content
	return w.cluster.StartServer()
}

func (w *workbench) fill(ctx context.Context, c testCase) error {
	conn, err := pgx.Connect(ctx, w.cluster.URL(templateName))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// Prewarming is a contributed extension, which not every installation has.
	_, _ = conn.Exec(ctx, "CREATE EXTENSION pg_prewarm")
	// Rows expired a minute before this moment, or will two hours after it.
	if err := conn.QueryRow(ctx, "SELECT now()").Scan(&w.cutoff); err != nil {
		return err
	}
	return c.fill(ctx, conn)
}

// restore makes a fresh copy of the tables, of which nothing waits to be
// written and the current one is in memory, and connects to it.
func (w *workbench) restore(ctx context.Context, alter string) (*pgx.Conn, error) {
	if time.Since(w.cutoff) > time.Hour {
		return nil, errors.New("its table is more than an hour old, and rows that must be kept expire soon: " +
			"choose fewer BENCH_ROWS or BENCH_ROUNDS")
	}
	create := "CREATE DATABASE " + copyName + " TEMPLATE " + templateName
	if w.cluster.ServerVersion() >= 150000 {
		// The default since 15 writes the whole copy into the WAL; before, there was no choice.
		create += " STRATEGY file_copy"
	}
	if err := w.exec(ctx, "DROP DATABASE IF EXISTS "+copyName, create); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, w.cluster.URL(copyName))
	if err != nil {
		return nil, err
	}
	if alter != "" {
		_, err = conn.Exec(ctx, alter)
	}
	if err == nil {
		_, err = conn.Exec(ctx, "CHECKPOINT")
	}
	if err == nil {
		err = w.warm(ctx, conn)
	}
	if err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("make a copy of the tables: %w", err)
	}
	return conn, nil
}

// warm reads the table and its indexes into shared_buffers; without
// pg_prewarm the table at least into the system's cache.
func (w *workbench) warm(ctx context.Context, conn *pgx.Conn) error {
	var available bool
	err := conn.QueryRow(ctx, "SELECT count(*) > 0 FROM pg_extension WHERE extname = 'pg_prewarm'").Scan(&available)
	if err != nil {
		return err
	}
	if !available {
		_, err = conn.Exec(ctx, "SELECT count(t) FROM "+w.table+" AS t")
		return err
	}
	_, err = conn.Exec(ctx, `
WITH leaf AS (
	SELECT $1::regclass AS oid WHERE NOT EXISTS (SELECT FROM pg_partition_tree($1::regclass))
	UNION ALL SELECT relid FROM pg_partition_tree($1::regclass) WHERE isleaf
)
SELECT pg_prewarm(oid) FROM (
	SELECT oid FROM leaf UNION ALL SELECT indexrelid FROM pg_index JOIN leaf ON leaf.oid = indrelid
) AS relation`, w.table)
	return err
}

// walPosition returns how many bytes of WAL were ever written.
func (w *workbench) walPosition(ctx context.Context) (position int64, err error) {
	if err := w.connect(ctx); err != nil {
		return 0, err
	}
	err = w.admin.QueryRow(ctx, "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").Scan(&position)
	return position, err
}

// verify checks that of the table exactly so many expired rows are gone. Rows
// that the foreground added have greater ids.
func (w *workbench) verify(ctx context.Context, conn *pgx.Conn, deleted int64) error {
	var expired, kept int64
	err := conn.QueryRow(ctx, `
SELECT count(*) FILTER (WHERE expires_at < $1), count(*) FILTER (WHERE expires_at >= $1)
FROM `+w.table+` WHERE id <= $2`, w.cutoff, w.tableRows).Scan(&expired, &kept)
	if err != nil {
		return err
	}
	if want := int64(w.tableRows) - w.expired; expired != w.expired-deleted || kept != want {
		return fmt.Errorf("says it deleted %d rows; left %d expired rows of %d, and %d others of %d",
			deleted, expired, w.expired, kept, want)
	}
	return nil
}

// vacuum does by hand what autovacuum does after a cleanup. That includes
// ANALYZE: with statistics from before, half of the rows seem to be expired
// still, and the program plans for them.
func (w *workbench) vacuum(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, w.cluster.URL(copyName))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, "VACUUM (ANALYZE) messages")
	return err
}
