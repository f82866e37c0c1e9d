package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	dropName    = "strategy: partition"
	rowsName    = "strategy: auto"
	partmanName = "pg_partman"
)

// expiredPartitions is how many partitions lie wholly below the cutoff.
const expiredPartitions = 10

// partitionCases compare dropping partitions with deleting their rows.
func partitionCases(o options) []testCase {
	each := o.rows / 2
	kept := each / 10
	rows := expiredPartitions*each + kept
	return []testCase{{
		name: fmt.Sprintf("%d expired partitions", expiredPartitions), rows: rows,
		expired: float64(expiredPartitions*each) / float64(rows),
		content: fmt.Sprint("partitions ", each),
		fill:    func(ctx context.Context, conn *pgx.Conn) error { return fillPartitions(ctx, conn, each, kept) },
		ways: []way{
			{name: dropName, table: "events", run: messageCleanup("partition")},
			{name: rowsName, table: "events", run: messageCleanup("")},
			{name: partmanName, table: "events", run: partman},
		},
	}}
}

// fillPartitions makes a partition for each of the last days, with so many rows
// that have expired; today's, which is empty; and tomorrow's, with rows that
// are kept. The names are those that pg_partman expects.
func fillPartitions(ctx context.Context, conn *pgx.Conn, each, kept int) error {
	_, err := conn.Exec(ctx, `
CREATE TABLE events (
	id              bigint NOT NULL,
	conversation_id bigint NOT NULL,
	body            text NOT NULL,
	expires_at      timestamptz NOT NULL,
	PRIMARY KEY (id, expires_at)
) PARTITION BY RANGE (expires_at);
CREATE INDEX ON events (conversation_id, expires_at);
CREATE INDEX ON events (expires_at)`)
	if err != nil {
		return fmt.Errorf("create table events: %w", err)
	}
	today := time.Now().UTC().Truncate(24 * time.Hour)
	first := 1
	for day := -expiredPartitions; day <= 1; day++ {
		rows := each
		switch day {
		case 0:
			rows = 0
		case 1:
			rows = kept
		}
		from := today.AddDate(0, 0, day)
		_, err := conn.Exec(ctx, fmt.Sprintf(`
CREATE TABLE events_p%[1]s PARTITION OF events FOR VALUES FROM ('%[2]s') TO ('%[3]s');
INSERT INTO events
SELECT %[4]d + n, 1 + hashint4(n) & 1023, repeat('event ', 10 + n %% 60),
	'%[2]s'::timestamptz + interval '12 hours' + interval '12 hours' * n / %[5]d
FROM generate_series(0, %[5]d - 1) AS n`,
			from.Format("2006_01_02"), from.Format(time.RFC3339), from.AddDate(0, 0, 1).Format(time.RFC3339), first, rows))
		if err != nil {
			return fmt.Errorf("fill table events: %w", err)
		}
		first += rows
	}
	if _, err := conn.Exec(ctx, "VACUUM (ANALYZE) events"); err != nil {
		return err
	}
	// Not every installation has pg_partman. Where it is missing, its way says so.
	_, _ = conn.Exec(ctx, "CREATE SCHEMA partman; CREATE EXTENSION pg_partman SCHEMA partman")
	return nil
}

// partman runs the retention of pg_partman, as its background worker or
// pg_cron would. It counts no rows: those are asked for before.
func partman(ctx context.Context, w *workbench, conn *pgx.Conn) (m measurement, err error) {
	_, err = conn.Exec(ctx, `
INSERT INTO partman.part_config (parent_table, control, partition_type, partition_interval, datetime_string,
	retention, retention_keep_table, premake)
VALUES ('public.events', 'expires_at', 'native', '1 day', 'YYYY_MM_DD', '0 days', false, 1)`)
	if err != nil {
		return m, fmt.Errorf("extension pg_partman 4: %w", err)
	}
	var before, after int64
	var partitions []uint32
	err = conn.QueryRow(ctx, `
SELECT (SELECT count(*) FROM events), array_agg(inhrelid) FROM pg_inherits WHERE inhparent = 'events'::regclass`).
		Scan(&before, &partitions)
	if err != nil {
		return m, err
	}
	started := time.Now()
	if _, err := conn.Exec(ctx, "SELECT partman.run_maintenance('public.events', p_analyze := false)"); err != nil {
		return m, err
	}
	m.Seconds = since(started)
	err = conn.QueryRow(ctx, `
SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM unnest($1::oid[]) AS was WHERE was NOT IN (SELECT oid FROM pg_class))`,
		partitions).Scan(&after, &m.Dropped)
	m.Deleted = before - after
	return m, err
}
