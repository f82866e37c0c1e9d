package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// bigDelete is the fastest that plain SQL can do, and what nobody dares to run
// beside an application. The connection exists already: the time is the
// statement's alone.
func bigDelete(ctx context.Context, w *workbench, conn *pgx.Conn) (measurement, error) {
	started := time.Now()
	tag, err := conn.Exec(ctx, "DELETE FROM messages WHERE expires_at < $1", w.cutoff)
	took := time.Since(started)
	return measurement{took: took, deleted: tag.RowsAffected(), batches: []time.Duration{took}}, err
}

// loopSQL is the loop that everyone writes, with its usual batch size.
const loopSQL = `
DELETE FROM messages
WHERE id IN (SELECT id FROM messages WHERE expires_at < $1 LIMIT 10000)`

func loop(ctx context.Context, w *workbench, conn *pgx.Conn) (m measurement, err error) {
	started := time.Now()
	for {
		began := time.Now()
		tag, err := conn.Exec(ctx, loopSQL, w.cutoff)
		if err != nil {
			return m, err
		}
		if tag.RowsAffected() == 0 {
			m.took = time.Since(started)
			return m, nil
		}
		m.deleted += tag.RowsAffected()
		m.batches = append(m.batches, time.Since(began))
	}
}

// messageCleanup runs the program as a timer would: the time is that of the
// whole process, with connecting, inspecting and verifying.
func messageCleanup(ctx context.Context, w *workbench, _ *pgx.Conn) (measurement, error) {
	return w.program.run(ctx, w.cluster.URL(copyName))
}

// twoWorkers is messageCleanup with two connections that delete.
func twoWorkers(ctx context.Context, w *workbench, _ *pgx.Conn) (measurement, error) {
	return w.program.run(ctx, w.cluster.URL(copyName), "MESSAGE_CLEANUP_WORKERS=2")
}
