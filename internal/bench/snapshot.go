package main

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const (
	cleanupSnapshotName = "message-cleanup, old snapshot"
	loopSnapshotName    = "the usual loop, old snapshot"
)

// snapshotCases compare ways with themselves while somebody holds a snapshot
// open, so that no dead row and no dead index entry can be cleaned away.
func snapshotCases(o options) []testCase {
	c := messages("in order, 50 %", o.rows, 0.5, false)
	c.ways = []way{
		{name: cleanupName, run: messageCleanup("")},
		{name: cleanupSnapshotName, run: besideSnapshot(messageCleanup(""))},
		{name: loopName, run: loop},
		{name: loopSnapshotName, run: besideSnapshot(loop)},
	}
	return []testCase{c}
}

// besideSnapshot lets a way work while another session idles in a transaction
// whose snapshot is older than all that the way does.
func besideSnapshot(run runFunc) runFunc {
	return func(ctx context.Context, w *workbench, conn *pgx.Conn) (m measurement, err error) {
		other, err := pgx.Connect(ctx, w.cluster.URL(copyName))
		if err != nil {
			return m, err
		}
		defer other.Close(context.WithoutCancel(ctx))
		// The snapshot is taken by the first statement.
		if _, err := other.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM messages LIMIT 1"); err != nil {
			return m, err
		}
		return run(ctx, w, conn)
	}
}
