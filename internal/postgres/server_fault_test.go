package postgres_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

// restart stops a server as mode says and starts it again.
func restart(t *testing.T, cluster *pgtest.Cluster, mode string) {
	t.Helper()
	if err := errors.Join(cluster.Stop(mode), cluster.StartServer()); err != nil {
		t.Error(err)
	}
}

func TestServerRestartedInMidRun(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		cluster := pgtest.Private(t, pgtest.Options{})
		url := cluster.URL("postgres")
		table(t, pgtest.Conn(t, url), 10_000)
		s := newSetup(t, url)
		s.policy.Strategy, s.runner.Workers = strategy, 3
		s.midRun(func() { restart(t, cluster, "fast") })
		r := s.run(t)
		want(t, r, cleanup.OutcomeComplete, 10_000)
		if left := pgtest.Int(t, pgtest.Conn(t, url), "SELECT count(*) FROM messages"); left != 10_000 || r.Retries == 0 {
			t.Errorf("%d rows are left, want 10,000; %d retries", left, r.Retries)
		}
	})
}

// Of the batch that the crash takes back nothing was on disk but its place in
// the log. Its transaction id is given out again, to a transaction that commits.
// When the server is restarted once more it cannot tell any longer where its
// recovery ended.
func TestTransactionIDGivenOutAgainAfterACrashIsNotTakenForTheBatch(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarted since %v", restarted), func(t *testing.T) {
			t.Parallel()
			reuseID(t, restarted)
		})
	}
}

func reuseID(t *testing.T, restarted bool) {
	cluster := pgtest.Private(t, pgtest.Options{Settings: map[string]string{
		"autovacuum": "off", "bgwriter_lru_maxpages": "0", "wal_buffers": "64MB", "restart_after_crash": "off",
	}})
	url := cluster.URL("postgres")
	conn := pgtest.Conn(t, url)
	table(t, conn, 1_000)
	pgtest.Exec(t, conn, `
		CREATE TABLE chat (id xid8);
		CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
		CREATE TRIGGER gate BEFORE DELETE ON messages FOR EACH STATEMENT EXECUTE FUNCTION gate()`)
	app := pgtest.Conn(t, url)
	pgtest.Exec(t, conn, "SELECT pg_advisory_lock(1)")
	// The application's transaction has the id before the batch's.
	pgtest.Exec(t, app, "BEGIN; INSERT INTO chat VALUES (pg_current_xact_id())")
	crash := haltWALWriter(t, cluster, conn)

	s := newSetup(t, url)
	s.opts.LockTimeout = time.Minute
	unlocked := make(chan struct{})
	crashed := false
	s.runner.Progress = func(p cleanup.Progress) {
		if crashed {
			return
		}
		crashed = true
		select {
		case <-unlocked:
		case <-t.Context().Done():
			return
		}
		crash()
		conn = pgtest.Conn(t, url)
		pgtest.Exec(t, conn, "INSERT INTO chat VALUES (pg_current_xact_id())")
		if restarted {
			restart(t, cluster, "fast")
			conn = pgtest.Conn(t, url)
		}
	}
	done := make(chan cleanup.PolicyResult)
	go func() { done <- s.run(t) }()
	pgtest.Eventually(t, "the batch to wait at the gate", func() bool { return pgtest.Int(t, conn, waiting) > 0 })
	pgtest.Exec(t, app, "INSERT INTO chat SELECT pg_current_xact_id() FROM generate_series(1, 1000); COMMIT")
	pgtest.Exec(t, conn, "SELECT pg_advisory_unlock(1)")
	close(unlocked)

	r := <-done
	if next := pgtest.Int(t, conn, "SELECT max(id::text::bigint) - min(id::text::bigint) FROM chat"); next != 1 {
		t.Fatalf("the id was not given out again, but one %d later: nothing was tested", next)
	}
	if !restarted {
		want(t, r, cleanup.OutcomeComplete, 1_000)
		return
	}
	if wantKind(t, r, cleanup.Incomplete); r.Deleted != 1_000 || !strings.Contains(r.Err.Error(), "rows were deleted besides, not known to be durable and not counted") {
		t.Errorf("deleted %d rows: %v", r.Deleted, r.Err)
	}
}

// haltWALWriter halts the process that writes the log for commits that do not
// wait for it: left alone it may write it in time. What crash then takes back is
// certain. The server must not restart by itself.
func haltWALWriter(t *testing.T, cluster *pgtest.Cluster, conn *pgx.Conn) (crash func()) {
	t.Helper()
	writer := int(pgtest.Int(t, conn, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"))
	if err := syscall.Kill(writer, syscall.SIGSTOP); err != nil {
		t.Fatalf("halt the WAL writer: %v", err)
	}
	return func() {
		// Told to end it would take its time, and the server gives it five seconds.
		if err := syscall.Kill(writer, syscall.SIGKILL); err != nil {
			t.Errorf("crash the server: %v", err)
		}
		restart(t, cluster, "immediate")
	}
}

// The disk with the log is full: the server crashes, and comes back when there
// is room.
func TestServerOutOfDiskForItsLog(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a file system of its own for pg_wal can be mounted by root only")
	}
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{Settings: map[string]string{
		"min_wal_size": "32MB", "max_wal_size": "32MB", "wal_recycle": "off",
		"restart_after_crash": "off", // by itself it may find room, in what the crash frees
	}})
	url := cluster.URL("postgres")
	table(t, pgtest.Conn(t, url), 20_000)
	grow := walOnASmallDisk(t, cluster)
	pgtest.Exec(t, pgtest.Conn(t, url), "SELECT pg_create_physical_replication_slot('reader', true)") // keeps all of the log

	s := newSetup(t, url)
	var crashed atomic.Bool
	s.opts.Waiting = func(error, time.Duration) {
		if !crashed.Swap(true) {
			grow()
			restart(t, cluster, "immediate") // it is down, or about to be
		}
	}
	conn := pgtest.Conn(t, url)
	s.midRun(func() {
		// Somebody else fills the disk; the server goes down with it.
		_, err := conn.Exec(t.Context(), `SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000)) FROM generate_series(1, 200)`)
		if err == nil {
			t.Error("the disk was not full")
		}
	})
	r := s.run(t)
	want(t, r, cleanup.OutcomeComplete, 20_000)
	if left := pgtest.Int(t, pgtest.Conn(t, url), "SELECT count(*) FROM messages"); left != 20_000 || !crashed.Load() {
		t.Errorf("%d rows are left, want 20,000; crashed: %v", left, crashed.Load())
	}
}

// walOnASmallDisk moves a server's log onto a disk of 64 MB, and returns what
// makes it larger.
func walOnASmallDisk(t *testing.T, cluster *pgtest.Cluster) (grow func()) {
	t.Helper()
	sh := func(command string) {
		t.Helper()
		if out, err := exec.Command("sh", "-ec", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	if err := cluster.Stop("fast"); err != nil {
		t.Fatal(err)
	}
	wal := filepath.Join(cluster.Dir, "data", "pg_wal")
	sh("mv " + wal + " " + wal + ".old && mkdir " + wal)
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", wal).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no file system can be mounted here: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if err := cluster.Stop("immediate"); err != nil {
			t.Error(err)
		}
		sh("umount " + wal)
	})
	sh("cp -a " + wal + ".old/. " + wal + " && rm -r " + wal + ".old && chown --reference=" + filepath.Dir(wal) + " " + wal)
	if err := cluster.StartServer(); err != nil {
		t.Fatal(err)
	}
	return func() { sh("mount -o remount,size=512m " + wal) }
}

// Others have taken all connections before the run begins, and again when it
// has lost its own.
func TestServerOutOfConnectionsIsWaitedFor(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"max_connections": "12", "superuser_reserved_connections": "1"}})
	conn := pgtest.Conn(t, cluster.URL("postgres"))
	table(t, conn, 5_000)
	pgtest.Exec(t, conn, "CREATE ROLE cleaner LOGIN; GRANT SELECT, DELETE, UPDATE ON messages TO cleaner; ALTER ROLE cleaner CONNECTION LIMIT 0")
	s := newSetup(t, strings.Replace(cluster.URL("postgres"), "postgres@", "cleaner@", 1))
	waits := 0
	s.opts.Waiting = func(err error, _ time.Duration) {
		if !strings.Contains(err.Error(), "53300") {
			t.Errorf("waits for something else: %v", err)
		}
		if waits++; waits%2 == 0 {
			pgtest.Exec(t, conn, "ALTER ROLE cleaner CONNECTION LIMIT 3") // one each to delete, to read and to hold the lock
		}
	}
	s.midRun(func() {
		pgtest.Exec(t, conn, `ALTER ROLE cleaner CONNECTION LIMIT 0;
			SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'cleaner'`)
	})
	want(t, s.run(t), cleanup.OutcomeComplete, 5_000)
	if waits < 4 {
		t.Errorf("waited %d times, want 4", waits)
	}

	// They do not come back: the run ends, and says so.
	s.opts.Wait = 200 * time.Millisecond
	s.opts.Waiting = nil
	pgtest.Exec(t, conn, "ALTER ROLE cleaner CONNECTION LIMIT 0")
	wantKind(t, s.run(t), cleanup.Unavailable)
}

// The primary is gone for good and the standby takes over, with or without what
// the primary wrote at last. What it has not got is there again, and is deleted
// and counted once.
func TestFailoverToAPromotedStandby(t *testing.T) {
	for _, tt := range []struct {
		name    string
		behind  bool
		workers int
	}{{"with everything", false, 1}, {"behind", true, 1}, {"behind, with workers", true, 3}} {
		t.Run(tt.name, func(t *testing.T) {
			eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) { failOver(t, strategy, tt.workers, tt.behind) })
		})
	}
}

func failOver(t *testing.T, strategy cleanup.Strategy, workers int, behind bool) {
	primary := pgtest.Private(t, pgtest.Options{})
	conn := pgtest.Conn(t, primary.URL("postgres"))
	table(t, conn, 10_000)
	second := pgtest.Standby(t, primary, "second")
	standby := pgtest.Conn(t, second.URL("postgres"))

	s := newSetup(t, twoHosts(t, primary.URL("postgres"), second.URL("postgres")))
	s.policy.Strategy, s.runner.Workers = strategy, workers
	step, deletedBefore := 0, int64(0)
	s.runner.Progress = func(p cleanup.Progress) {
		switch {
		case step == 0 && p.Batches >= 2:
			step = 1
			if behind {
				pgtest.Exec(t, standby, "ALTER SYSTEM SET primary_conninfo = ''")
				pgtest.Exec(t, standby, "SELECT pg_reload_conf()")
				pgtest.Eventually(t, "the standby to be cut off", func() bool {
					return pgtest.Int(t, conn, "SELECT count(*) FROM pg_stat_replication") == 0
				})
			}
			deletedBefore = p.Deleted
		case step == 1 && p.Batches >= 6:
			step = 2
			if p.Deleted == deletedBefore {
				t.Error("nothing was deleted meanwhile: nothing is tested")
			}
			pgtest.Exec(t, conn, "SELECT pg_logical_emit_message(true, '', '')") // all of it is on the primary's disk
			if !behind {
				pgtest.Eventually(t, "the standby to have everything", func() bool {
					return pgtest.Int(t, conn, "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_flush_lsn()") == 1
				})
			}
		case step == 2: // one more batch, which knows what is on disk
			step = 3
			if err := primary.Stop("immediate"); err != nil {
				t.Error(err)
			}
			pgtest.Exec(t, standby, "SELECT pg_promote()")
		}
	}
	r := s.run(t)
	want(t, r, cleanup.OutcomeComplete, 10_000)
	if left := pgtest.Int(t, standby, "SELECT count(*) FROM messages"); left != 10_000 || step != 3 {
		t.Errorf("%d rows are left, want 10,000; step %d", left, step)
	}
}

// twoHosts is an address of two servers, of which the one that can be written
// to is meant.
func twoHosts(t *testing.T, addresses ...string) string {
	t.Helper()
	var hosts, ports []string
	for _, address := range addresses {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		hosts, ports = append(hosts, u.Query().Get("host")), append(ports, u.Query().Get("port"))
	}
	return fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres target_session_attrs=read-write",
		strings.Join(hosts, ","), strings.Join(ports, ","))
}
