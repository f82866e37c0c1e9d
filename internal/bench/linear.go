package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	fewName         = "few rows"
	manyName        = "many rows"
	manyWorkersName = "many rows, four workers"
)

// linearCases compare the time per row on two tables, one ten times the other,
// of which half has expired. Their rows are narrow, so that both fit into
// memory: it is the program that is measured, not the disk.
func linearCases(o options) []testCase {
	few, many := o.rows, 10*o.rows
	return []testCase{{
		name: "in order, 50 %, narrow rows", rows: many, expired: 0.5,
		content: fmt.Sprint("linear ", o.rows),
		fill: func(ctx context.Context, conn *pgx.Conn) error {
			for table, rows := range map[string]int{"few": few, "many": many} {
				// A user's name does not matter: everything in these statements is a constant.
				_, err := conn.Exec(ctx, fmt.Sprintf(`
CREATE TABLE %[1]s (id bigint NOT NULL, expires_at timestamptz NOT NULL);
INSERT INTO %[1]s SELECT n, now() + CASE
	WHEN n <= %[2]d THEN interval '1 second' * (n - %[2]d) * 0.001 - interval '1 minute'
	ELSE interval '1 second' * (n - %[2]d) * 0.001 + interval '2 hours' END
FROM generate_series(1, %[3]d) AS n;
CREATE INDEX ON %[1]s (expires_at)`, table, rows/2, rows))
				if err == nil {
					_, err = conn.Exec(ctx, "VACUUM (ANALYZE) "+table)
				}
				if err != nil {
					return fmt.Errorf("fill table %s: %w", table, err)
				}
			}
			return nil
		},
		ways: []way{
			{name: fewName, table: "few", rows: few, run: messageCleanup("")},
			{name: manyName, table: "many", rows: many, run: messageCleanup("")},
			{name: manyWorkersName, table: "many", rows: many, run: messageCleanup("", workers(4))},
			{name: fewName + ", " + bigName, table: "few", rows: few, run: bigDelete},
			{name: manyName + ", " + bigName, table: "many", rows: many, run: bigDelete},
		},
	}}
}
