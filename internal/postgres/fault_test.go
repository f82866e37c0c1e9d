package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

func TestServerCrashInMidRunLosesNoCount(t *testing.T) {
	var lost atomic.Int32
	for _, workers := range []int{1, 3} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) { crashInMidRun(t, workers, &lost) })
	}
	// One server may have written everything in time; all of them may not.
	if lost.Load() == 0 {
		t.Error("no crash took a batch back: nothing was tested")
	}
}

// crashInMidRun counts in lost the runs to which the crash brought rows back.
func crashInMidRun(t *testing.T, workers int, lost *atomic.Int32) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		// The WAL writer sleeps, so that the crash takes back acknowledged
		// batches.
		cluster := pgtest.Private(t, pgtest.Options{Settings: map[string]string{
			"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "autovacuum": "off", "bgwriter_lru_maxpages": "0",
			"wal_buffers": "64MB", "full_page_writes": "off", // full buffers would be written, and survive
		}})
		url := cluster.URL("postgres")
		table(t, pgtest.Conn(t, url), 10_000)

		s := newSetup(t, url)
		s.policy.Strategy, s.ledger = strategy, true
		s.runner.Workers = workers
		events := &bytes.Buffer{}
		s.runner.Log = slog.New(slog.NewTextHandler(events, nil))
		crashes := 0
		s.runner.Progress = func(p cleanup.Progress) {
			if p.Phase == cleanup.Deleting && p.Batches >= 4 && crashes == 0 || p.Phase == cleanup.Verifying && crashes == 1 {
				crashes++
				if err := errors.Join(cluster.Stop("immediate"), cluster.StartServer()); err != nil {
					t.Error(err)
				}
			}
		}
		r := s.run(t)

		want(t, r, cleanup.OutcomeComplete, 10_000)
		conn := pgtest.Conn(t, url)
		if left := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); left != 10_000 {
			t.Errorf("%d rows are left, want 10,000", left)
		}
		if crashes != 2 {
			t.Errorf("%d crashes, want 2", crashes)
		}
		if strings.Contains(events.String(), "the server lost its last") {
			lost.Add(1)
		}
	})
}

func TestServerThatGoesAwayForGoodEndsTheRunWithAnExactCount(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{})
	url := cluster.URL("postgres")
	table(t, pgtest.Conn(t, url), 10_000)
	s := newSetup(t, url)
	s.opts.Wait = 300 * time.Millisecond
	stopped := false
	s.runner.Progress = func(p cleanup.Progress) {
		if p.Batches >= 4 && !stopped {
			stopped = true
			if err := cluster.Stop("immediate"); err != nil {
				t.Error(err)
			}
		}
	}
	r := s.run(t)
	wantKind(t, r, cleanup.Unavailable)
	if err := cluster.StartServer(); err != nil {
		t.Fatal(err)
	}
	gone := 10_000 - pgtest.Int(t, pgtest.Conn(t, url), expiredRows)
	if r.Deleted > gone {
		t.Errorf("reports %d rows, only %d are gone: something not durable was called deleted", r.Deleted, gone)
	}
}

func TestTerminatedBackendIsReplaced(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		table(t, conn, 10_000)
		s := newSetup(t, url)
		s.policy.Strategy, s.ledger = strategy, true
		kills, last := 0, int64(0)
		s.runner.Progress = func(p cleanup.Progress) {
			if p.Batches >= last+2 && kills < 3 {
				kills++
				last = p.Batches
				pgtest.Exec(t, conn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
					WHERE datname = current_database() AND application_name = 'message-cleanup'`)
			}
		}
		r := s.run(t)
		want(t, r, cleanup.OutcomeComplete, 10_000)
		if kills != 3 || r.Retries < 3 {
			t.Errorf("%d kills, %d retries", kills, r.Retries)
		}
		if left := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); left != 10_000 {
			t.Errorf("%d rows are left, want 10,000", left)
		}
	})
}

// The backend dies between the DELETE and the COMMIT, or after the COMMIT was
// received: a deferred trigger runs in the middle of it.
func TestConnectionLostDuringCommitIsSettled(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		table(t, conn, 3_000)
		// The first batch's COMMIT ends its own connection, the others go through.
		pgtest.Exec(t, conn, `
			CREATE SEQUENCE commits;
			CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN
				IF nextval('commits') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
				RETURN NULL;
			END $$;
			CREATE CONSTRAINT TRIGGER die AFTER DELETE ON messages DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()`)
		s := newSetup(t, url)
		s.policy.Strategy, s.ledger = strategy, true
		r := s.run(t)
		want(t, r, cleanup.OutcomeComplete, 3_000)
		if r.Retries != 1 {
			t.Errorf("%d retries, want 1", r.Retries)
		}
	})
}

func TestSecondRunIsToldWhoHoldsTheLock(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	table(t, conn, 3_000)
	first := newSetup(t, url)
	var second cleanup.PolicyResult
	started := false
	first.runner.Progress = func(cleanup.Progress) {
		if !started {
			started = true
			second = newSetup(t, url).run(t)
		}
	}
	want(t, first.run(t), cleanup.OutcomeComplete, 3_000)
	wantKind(t, second, cleanup.Incomplete)
	if !strings.Contains(second.Err.Error(), "message-cleanup") || !strings.Contains(second.Err.Error(), "server process") {
		t.Errorf("error does not name the holder: %v", second.Err)
	}
	if second.Deleted != 0 {
		t.Errorf("the second run deleted %d rows", second.Deleted)
	}
	want(t, newSetup(t, url).run(t), cleanup.OutcomeComplete, 0) // the lock is free again
}

// Behind a transaction pooler a session lock may not keep two runs apart; then
// they must be correct all the same.
func TestTwoRunsAtOnceWithoutLockCountEachRowOnce(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		table(t, conn, 20_000)
		results := make(chan cleanup.PolicyResult)
		for range 2 {
			go func() {
				s := newSetup(t, url)
				s.policy.Strategy, s.locked = strategy, false
				results <- s.run(t)
			}()
		}
		a, b := <-results, <-results
		if a.Err != nil || b.Err != nil {
			t.Fatal(a.Err, b.Err)
		}
		if a.Deleted+b.Deleted != 20_000 {
			t.Errorf("%d and %d rows are reported, 20,000 were expired", a.Deleted, b.Deleted)
		}
		if left := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); left != 20_000 {
			t.Errorf("%d rows are left, want 20,000", left)
		}
	})
}

func TestDeadlockVictimTriesAgain(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	table(t, conn, 100)
	// The run is the one who finds the deadlock: the application looks for it
	// much later.
	pgtest.Exec(t, conn, `ALTER TABLE messages ADD parent bigint;
		CREATE FUNCTION lock_two() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM FROM messages WHERE id = 1 FOR UPDATE; RETURN OLD; END $$;
		CREATE TRIGGER lock_two BEFORE DELETE ON messages FOR EACH ROW WHEN (OLD.id = 2) EXECUTE FUNCTION lock_two()`)
	app := pgtest.Conn(t, url)
	pgtest.Exec(t, app, "SET deadlock_timeout = '1h'; BEGIN; SELECT FROM messages WHERE id = 1 FOR UPDATE")

	s := newSetup(t, url)
	s.opts.LockTimeout = time.Minute
	done := make(chan cleanup.PolicyResult)
	go func() { done <- s.run(t) }()
	pgtest.Eventually(t, "the run to wait for the application", func() bool {
		return pgtest.Int(t, conn, waiting) > 0
	})
	// Waits for row 2, which the run holds: the circle is closed.
	if _, err := app.Exec(t.Context(), "UPDATE messages SET body = '' WHERE id = 2"); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, app, "COMMIT")
	r := <-done
	want(t, r, cleanup.OutcomeComplete, 100)
	if r.Retries == 0 {
		t.Error("there was no deadlock")
	}
}

func TestCancelledRunRollsTheCurrentBatchBack(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	table(t, conn, 3_000)
	app := pgtest.Conn(t, url)
	s := newSetup(t, url)
	s.policy.Strategy, s.ledger = cleanup.Index, true
	makeLedger(t, conn, ledgerTable)
	s.opts.LockTimeout = time.Minute
	s.runner.Progress = func(p cleanup.Progress) {
		if p.Batches == 1 {
			pgtest.Exec(t, app, "BEGIN; SELECT FROM messages WHERE expires_at < now() FOR UPDATE")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan cleanup.PolicyResult)
	go func() {
		r, err := s.try(ctx)
		r.Err = err
		done <- r
	}()
	pgtest.Eventually(t, "a batch to wait", func() bool {
		return pgtest.Int(t, conn, waiting) > 0
	})
	cancel()
	r := <-done
	want(t, r, cleanup.OutcomeIncomplete, 1_000)
	if r.StopReason != cleanup.Interrupted || r.Backlog != nil {
		t.Errorf("stopped by %s, backlog %v", r.StopReason, r.Backlog)
	}
	if left := pgtest.Int(t, conn, expiredRows); left != 2_000 {
		t.Errorf("%d expired rows are left, want 2,000", left)
	}
	if s.entry.Deleted != 1_000 || s.entry.StopReason != cleanup.Interrupted {
		t.Errorf("in the ledger: %s", s.entry.Content)
	}
}

func TestServerThatStartsLateIsWaitedFor(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{})
	url := cluster.URL("postgres")
	table(t, pgtest.Conn(t, url), 10)
	if err := cluster.Stop("fast"); err != nil {
		t.Fatal(err)
	}
	s := newSetup(t, url)
	waited := 0
	s.opts.Waiting = func(cause error, _ time.Duration) {
		if waited++; waited == 3 {
			if err := cluster.StartServer(); err != nil {
				t.Error(err)
			}
		}
	}
	want(t, s.run(t), cleanup.OutcomeComplete, 10)
	if waited < 3 {
		t.Errorf("waited %d times", waited)
	}
}

// Whoever told the run to end at once is not told that the server is away.
func TestInterruptionWhileConnectingIsNoFailureOfTheServer(t *testing.T) {
	t.Parallel()
	for _, wait := range []time.Duration{0, time.Minute} {
		s := newSetup(t, "host=127.0.0.1 port=1 user=u dbname=d sslmode=disable")
		s.opts.Wait = wait
		ctx, cancel := context.WithCancelCause(t.Context())
		s.opts.Waiting = func(error, time.Duration) { cancel(errors.New("received terminated twice")) }
		if wait == 0 {
			s.opts.Waiting(nil, 0)
		}
		_, err := s.try(ctx)
		if cleanup.KindOf(err) != cleanup.Incomplete || !strings.Contains(fmt.Sprint(err), "interrupted while connecting to the database: received terminated twice") {
			t.Errorf("with a wait of %s: %v is of kind %d", wait, err, cleanup.KindOf(err))
		}
	}
}

func TestServerThatIsNotThereEndsTheRun(t *testing.T) {
	t.Parallel()
	s := newSetup(t, "postgres://u:secret-word@127.0.0.1:1/db")
	s.opts.Wait = 0
	r := s.run(t)
	wantKind(t, r, cleanup.Unavailable)
	if strings.Contains(r.Err.Error(), "secret-word") {
		t.Errorf("the password is in the error: %v", r.Err)
	}
}

func TestAddressThatCannotBeReadTellsNoSecret(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://u:secret-word@h:port/db", "host=h password='secret-word", "postgres://u:p%zzsecret-word@h/db"} {
		_, err := postgres.Open(t.Context(), postgres.Options{URL: url})
		if err == nil {
			t.Errorf("%s was accepted", url)
			continue
		}
		if cleanup.KindOf(err) != cleanup.Configuration || strings.Contains(err.Error(), "secret") {
			t.Errorf("error for %s: %v", url, err)
		}
	}
}

func TestStandbyIsRefused(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{})
	url := cluster.URL("postgres")
	table(t, pgtest.Conn(t, url), 10)
	if err := cluster.Stop("fast"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cluster.Dir, "data", "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := cluster.StartServer(); err != nil {
		t.Fatal(err)
	}
	r := newSetup(t, url).run(t)
	wantKind(t, r, cleanup.NeedsPerson)
	if !strings.Contains(r.Err.Error(), "standby") {
		t.Errorf("error is %v", r.Err)
	}
}
