package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// The ways by the names under which they are measured and written about.
const (
	bigName       = "ONE big DELETE"
	cleanupName   = "message-cleanup"
	workersName   = "two workers"
	indexName     = "strategy: index"
	heapName      = "strategy: heap"
	loopName      = "the usual loop"
	procedureName = "procedure"
	ormName       = "ORM loop"
)

// bigDelete is the fastest that plain SQL can do, and what nobody dares to run
// beside an application. The connection exists already: the time is the
// statement's alone.
func bigDelete(ctx context.Context, w *workbench, conn *pgx.Conn) (m measurement, err error) {
	started := time.Now()
	tag, err := conn.Exec(ctx, "DELETE FROM "+w.table+" WHERE expires_at < $1", w.cutoff)
	m.Seconds, m.Deleted = since(started), tag.RowsAffected()
	m.setBatches([]float64{1000 * m.Seconds})
	return m, err
}

// loopSQL is the loop that everyone writes, with its usual batch size.
const loopSQL = `
DELETE FROM messages
WHERE id IN (SELECT id FROM messages WHERE expires_at < $1 LIMIT 10000)`

// loopLimit is how long the loop may take. It never does, but beside an old
// snapshot on a slow machine.
const loopLimit = 2 * time.Minute

func loop(ctx context.Context, w *workbench, conn *pgx.Conn) (m measurement, err error) {
	var batches []float64
	for started := time.Now(); ; {
		began := time.Now()
		tag, err := conn.Exec(ctx, loopSQL, w.cutoff)
		if err != nil {
			return m, err
		}
		m.Deleted += tag.RowsAffected()
		m.Seconds = since(started)
		m.Stopped = m.Seconds > loopLimit.Seconds()
		if tag.RowsAffected() == 0 || m.Stopped {
			m.setBatches(batches)
			return m, nil
		}
		batches = append(batches, 1000*since(began))
	}
}

// procedureSQL is the same loop on the server, as users of pg_cron run it.
const procedureSQL = `
CREATE PROCEDURE delete_expired(cutoff timestamptz, INOUT deleted bigint, INOUT batches bigint) LANGUAGE plpgsql AS $$
DECLARE
	n bigint;
BEGIN
	LOOP
		DELETE FROM messages
		WHERE id IN (SELECT id FROM messages WHERE expires_at < cutoff LIMIT 10000);
		GET DIAGNOSTICS n = ROW_COUNT;
		EXIT WHEN n = 0;
		deleted := deleted + n;
		batches := batches + 1;
		COMMIT;
	END LOOP;
END $$`

func procedure(ctx context.Context, w *workbench, conn *pgx.Conn) (m measurement, err error) {
	if _, err := conn.Exec(ctx, procedureSQL); err != nil {
		return m, err
	}
	started := time.Now()
	err = conn.QueryRow(ctx, "CALL delete_expired($1, 0, 0)", w.cutoff).Scan(&m.Deleted, &m.Batches)
	m.Seconds = since(started)
	return m, err
}

// ormScript loads every expired message as an object and deletes it.
//
//go:embed orm.py
var ormScript string

// python is the system's: a distribution installs its modules for no other.
const python = "/usr/bin/python3"

// orm runs the script. The time is what the script
// itself takes: loading Python and its modules is not counted.
func orm(ctx context.Context, w *workbench, _ *pgx.Conn) (m measurement, err error) {
	cmd := exec.CommandContext(ctx, python, "-c", ormScript, w.cluster.URL(copyName), w.cutoff.Format(time.RFC3339Nano))
	output, err := cmd.Output()
	if err != nil {
		if ended, ok := errors.AsType[*exec.ExitError](err); ok {
			lines := strings.Split(strings.TrimSpace(string(ended.Stderr)), "\n")
			err = fmt.Errorf("%w: %s", err, lines[len(lines)-1])
		}
		return m, err
	}
	if _, err = fmt.Sscan(string(output), &m.Deleted, &m.Seconds); err != nil {
		return m, fmt.Errorf("the output of the ORM's script: %w: %s", err, output)
	}
	m.Memory = maxMemoryOf(cmd.ProcessState)
	return m, nil
}

// messageCleanup runs the program as a timer would: the time is that of the
// whole process, with connecting, inspecting and verifying. An empty strategy
// is the default one; settings are variables of the environment.
func messageCleanup(strategy string, settings ...string) runFunc {
	return func(ctx context.Context, w *workbench, _ *pgx.Conn) (measurement, error) {
		var policies string
		if strategy != "" || w.table != "messages" {
			policies = "policies:\n  - table: " + w.table + "\n"
		}
		if strategy != "" {
			policies += "    strategy: " + strategy + "\n"
		}
		return w.program.run(ctx, w.cluster.URL(copyName), policies, settings...)
	}
}

func workers(n int) string { return "MESSAGE_CLEANUP_WORKERS=" + strconv.Itoa(n) }
