package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

// kills is how many runs are killed in each test; KILLS sets another number.
func kills(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("KILLS"))
	if os.Getenv("KILLS") != "" && err != nil {
		t.Fatal(err)
	}
	return max(n, 10)
}

const (
	killedRows = 2_000 // are expired before each run
	killedSize = 50    // of a batch
)

// killed is a table of which runs delete until they are killed.
type killed struct {
	*testing.T
	url  string
	conn *pgx.Conn
	made int64 // expired rows, since the beginning
	open int64 // runs that left their row open
	seen int64 // rows that were left when the run at hand was to be killed
	half int   // runs that were killed with a part of their work done
}

func newKilled(t *testing.T, url string) *killed {
	k := &killed{T: t, url: url, conn: pgtest.Conn(t, url)}
	pgtest.Exec(t, k.conn, "CREATE TABLE messages (id bigint, body text, expires_at timestamptz); CREATE INDEX ON messages (expires_at)")
	statements, err := postgres.LedgerSQL("message_cleanup.runs")
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range statements {
		pgtest.Exec(t, k.conn, sql)
	}
	return k
}

// goesOn tells whether another round is due: the moments are random, and in one
// round at least it has to have been in the middle of the work.
func (k *killed) goesOn(round, rounds int) bool {
	return round < rounds || k.half == 0 && round < 10*rounds
}

// fill adds expired rows.
func (k *killed) fill() {
	k.made += killedRows
	pgtest.Exec(k, k.conn, fmt.Sprintf("INSERT INTO messages SELECT i, repeat('x', 100), now() - i * interval '1 second' FROM generate_series(1, %d) AS i", killedRows))
}

// start begins a run, by one or several workers.
func (k *killed) start() *exec.Cmd {
	k.Helper()
	cmd := exec.Command("message-cleanup", "run")
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "MESSAGE_CLEANUP_") { // those of the tests are unknown to the program
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "DATABASE_URL="+k.url, "MESSAGE_CLEANUP_LEDGER_TABLE=message_cleanup.runs",
		fmt.Sprint("MESSAGE_CLEANUP_WORKERS=", 1+rand.N(3)), fmt.Sprint("MESSAGE_CLEANUP_BATCH_MAX_ROWS=", killedSize))
	cmd.Stderr = k.Output()
	if err := cmd.Start(); err != nil {
		k.Fatal(err)
	}
	return cmd
}

// until waits until a random part of what is expired is gone.
func (k *killed) until() {
	k.Helper()
	target := rand.Int64N(killedRows)
	pgtest.Eventually(k, "some rows to be gone", func() bool {
		k.seen = pgtest.Int(k, k.conn, "SELECT count(*) FROM messages")
		return k.seen <= target
	})
}

// check compares the ledger with what is really gone, when nobody is at work.
func (k *killed) check(round int) {
	k.Helper()
	pgtest.Eventually(k, "the killed run's sessions to end", func() bool {
		return pgtest.Int(k, k.conn, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'message-cleanup'") == 0
	})
	left := pgtest.Int(k, k.conn, "SELECT count(*) FROM messages")
	if recorded := pgtest.Int(k, k.conn, "SELECT sum(deleted)::bigint FROM message_cleanup.runs"); recorded != k.made-left {
		k.Errorf("round %d: %d rows are gone, %d are in the ledger", round, k.made-left, recorded)
	}
	k.open += pgtest.Int(k, k.conn, "SELECT count(*) FROM message_cleanup.runs WHERE hash IS NULL")
	if k.seen > 0 && k.seen < killedRows && left > 0 { // of what was gone, a crash may have brought back all
		k.half++
	}
}

// finish makes a run that ends well, and checks that the ledger is intact, and
// that what was left open is closed as unfinished.
func (k *killed) finish() {
	k.Helper()
	if err := k.start().Wait(); err != nil {
		k.Fatal(err)
	}
	k.check(-1)
	db, err := postgres.Open(k.Context(), postgres.Options{URL: k.url})
	if err != nil {
		k.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Ledger("message_cleanup.runs").Rows(k.Context())
	if err != nil {
		k.Fatal(err)
	}
	if chain, err := cleanup.VerifyChain(rows, ""); err != nil || len(chain.Findings) > 0 || chain.Open > 0 {
		k.Error(err, chain)
	}
	var closed int64
	for _, row := range rows {
		if row.Outcome == cleanup.OutcomeUnfinished {
			closed++
		}
	}
	if closed != k.open {
		k.Errorf("%d rows are closed as unfinished, want %d", closed, k.open)
	}
	k.Logf("%d runs left their row open, %d were killed with a part of their work done", k.open, k.half)
	if k.half == 0 {
		k.Error("no run was killed with a part of its work done: nothing was tested")
	}
}

// wait waits for a run that was killed, or ends well.
func (k *killed) wait(cmd *exec.Cmd) {
	k.Helper()
	err := cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.Exited()) {
		k.Fatal(err)
	}
}

func TestKilledRunsAreExactInTheLedger(t *testing.T) {
	t.Parallel()
	k := newKilled(t, pgtest.Database(t))
	for round := 0; k.goesOn(round, kills(t)); round++ {
		k.fill()
		cmd := k.start()
		k.until()
		_ = cmd.Process.Kill()
		k.wait(cmd)
		k.check(round)
	}
	k.finish()
}

// The server crashes, and takes back what it had acknowledged without a flush;
// in every other round the run is killed at the same time.
func TestCrashedServersAreExactInTheLedger(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{Settings: map[string]string{
		"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "wal_buffers": "16MB", "autovacuum": "off", "full_page_writes": "off",
	}})
	k := newKilled(t, cluster.URL("postgres"))
	for round := 0; k.goesOn(round, kills(t)/3); round++ {
		k.fill()
		cmd := k.start()
		k.until()
		if round%2 == 0 {
			_ = cmd.Process.Kill()
		}
		if err := errors.Join(cluster.Stop("immediate"), cluster.StartServer()); err != nil {
			t.Fatal(err)
		}
		_ = k.conn.Close(context.Background())
		k.conn = pgtest.Conn(t, k.url)
		k.wait(cmd)
		k.check(round)
	}
	k.finish()
}
