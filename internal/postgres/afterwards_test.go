package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

// vacuumed counts the manual vacuums of a table. The statistics come late.
func vacuumed(t *testing.T, conn *pgx.Conn, table string) int64 {
	t.Helper()
	return pgtest.Int(t, conn, "SELECT vacuum_count FROM pg_stat_user_tables WHERE relid = $1::text::regclass", table)
}

func TestVacuumCleansWhatWasDeletedFromAndNothingElse(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	pgtest.Exec(t, conn, `
		CREATE TABLE messages (id int, expires_at timestamptz) PARTITION BY LIST (id);
		CREATE TABLE one PARTITION OF messages FOR VALUES IN (1) WITH (autovacuum_enabled = false);
		CREATE TABLE two PARTITION OF messages FOR VALUES IN (2) WITH (autovacuum_enabled = false);
		CREATE INDEX ON messages (expires_at);
		INSERT INTO messages SELECT 1, now() - interval '1 day' FROM generate_series(1, 100);
		INSERT INTO messages SELECT 2, now() + interval '1 day' FROM generate_series(1, 100)`)
	s := newSetup(t, url)
	s.policy.Vacuum = cleanup.VacuumAfter
	r := s.run(t)
	want(t, r, cleanup.OutcomeComplete, 100)
	if len(r.Warnings) > 0 {
		t.Errorf("warnings: %q", r.Warnings)
	}
	pgtest.Eventually(t, "the statistics of the vacuum", func() bool { return vacuumed(t, conn, "one") == 1 })
	if n := vacuumed(t, conn, "two"); n != 0 {
		t.Errorf("the partition of which nothing was deleted was vacuumed %d times", n)
	}
}

func TestVacuumWaitsForNobody(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	table(t, conn, 100)
	pgtest.Exec(t, conn, "BEGIN; LOCK TABLE messages IN SHARE UPDATE EXCLUSIVE MODE") // as a vacuum does
	s := newSetup(t, url)
	s.policy.Vacuum = cleanup.VacuumAfter
	r := s.run(t)
	want(t, r, cleanup.OutcomeComplete, 100)
	if len(r.Warnings) != 1 || !strings.HasPrefix(r.Warnings[0], "public.messages was not vacuumed: another vacuum") {
		t.Errorf("warnings: %q", r.Warnings)
	}
}

func TestVacuumByARoleThatMayNotIsAWarning(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	table(t, conn, 100)
	role, asRole := pgtest.Role(t, conn, url)
	pgtest.Exec(t, conn, "GRANT SELECT, DELETE, UPDATE (expires_at) ON messages TO "+role)
	s := newSetup(t, asRole)
	s.policy.Vacuum = cleanup.VacuumAfter
	r := s.run(t)
	want(t, r, cleanup.OutcomeComplete, 100)
	start := fmt.Sprintf("public.messages was not vacuumed: role %q may not: ", role)
	if len(r.Warnings) != 1 || !strings.HasPrefix(r.Warnings[0], start) || !strings.Contains(r.Warnings[0], "GRANT ") {
		t.Errorf("warnings: %q, want one that begins with %q and has a GRANT", r.Warnings, start)
	}

	// What the warning asks for is enough.
	grant := "ALTER TABLE messages OWNER TO " + role
	if pgtest.Int(t, conn, "SELECT current_setting('server_version_num')::int") >= 170000 {
		grant = "GRANT MAINTAIN ON messages TO " + role
	}
	pgtest.Exec(t, conn, grant)
	pgtest.Exec(t, conn, "INSERT INTO messages VALUES (-1, '', now() - interval '1 day')")
	s = newSetup(t, asRole)
	s.policy.Vacuum = cleanup.VacuumAfter
	if r := s.run(t); len(r.Warnings) > 0 {
		t.Errorf("warnings: %q", r.Warnings)
	}
	pgtest.Eventually(t, "the statistics of the vacuum", func() bool { return vacuumed(t, conn, "messages") == 1 })
}

// session opens a transaction that stays open, and returns its process id.
func session(t *testing.T, url string, statements ...string) (conn *pgx.Conn, pid string) {
	t.Helper()
	conn = pgtest.Conn(t, url)
	for _, s := range statements {
		pgtest.Exec(t, conn, s)
	}
	return conn, fmt.Sprint(conn.PgConn().PID())
}

func holders(t *testing.T, table *postgres.Table) string {
	t.Helper()
	found, err := table.Holders(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, h := range found {
		lines = append(lines, fmt.Sprintf("%s [stays %v, age known %v] %s", h.Name, h.Stays, h.Held > 0, h.Hint))
	}
	return strings.Join(lines, "\n")
}

func TestWhoHoldsBackTheDeletedRows(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"max_prepared_transactions": "2"}})
	url := cluster.URL("postgres")
	conn := pgtest.Conn(t, url)
	table(t, conn, 1_000)
	pgtest.Exec(t, conn, "CREATE DATABASE other")
	pgtest.Exec(t, conn, "ALTER ROLE postgres SET application_name = 'web'")

	// Before the run: a snapshot, an id without a snapshot, a prepared one, and
	// those that hold nothing back.
	_, snapshot := session(t, url, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM messages")
	_, id := session(t, url, "BEGIN", "CREATE TABLE mine ()")
	session(t, url, "BEGIN", "SELECT 1")
	session(t, cluster.URL("other"), "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1")
	pgtest.Exec(t, conn, "BEGIN; CREATE TABLE theirs (); PREPARE TRANSACTION 'it''s mine'")

	s := newSetup(t, url)
	var found string
	s.begin = func(table *postgres.Table) {
		if early := holders(t, table); early != "" {
			t.Errorf("before anything was deleted, it is held back by %s", early)
		}
	}
	s.end = func(table *postgres.Table) { found = holders(t, table) }
	s.policy.Vacuum = cleanup.VacuumAfter
	r := s.run(t)
	want(t, r, cleanup.OutcomeComplete, 1_000)
	wantHolders := []string{
		`server process ` + snapshot + ` (user postgres, application "web", idle in transaction) [stays false, age known true] end it: SELECT pg_terminate_backend(` + snapshot + `), and look why it leaves a transaction open`,
		`server process ` + id + ` (user postgres, application "web", idle in transaction) [stays false, age known true] end it: SELECT pg_terminate_backend(` + id + `), and look why it leaves a transaction open`,
		`prepared transaction 'it''s mine' (user postgres) [stays true, age known true] end it: COMMIT PREPARED 'it''s mine', or ROLLBACK PREPARED 'it''s mine'`,
	}
	for _, w := range wantHolders {
		if strings.Count(found, w) != 1 {
			t.Errorf("found\n%s\nwant\n%s", found, w)
		}
	}
	if n := strings.Count(found, "\n") + 1; n != len(wantHolders) {
		t.Errorf("found\n%s\nwant %d", found, len(wantHolders))
	}

	// None of them is a minute old, but a prepared transaction stays.
	if len(r.Warnings) != 2 || !strings.HasPrefix(r.Warnings[0], "the space of the deleted rows cannot be reclaimed while there is prepared transaction 'it''s mine' (user postgres), open for ") ||
		!strings.HasPrefix(r.Warnings[1], "not vacuumed: ") {
		t.Errorf("warnings: %q", r.Warnings)
	}
	pgtest.Exec(t, conn, "ROLLBACK PREPARED 'it''s mine'")
}

// Whoever begins when the first batch is done holds back the later ones only,
// and is not named: it was not there before the run. The server is the test's
// own, as a snapshot is as old as the oldest transaction in any database.
func TestATransactionThatBeginsDuringTheRunIsNotNamed(t *testing.T) {
	t.Parallel()
	url := pgtest.Private(t, pgtest.Options{}).URL("postgres")
	conn := pgtest.Conn(t, url)
	table(t, conn, 3_000)
	s := newSetup(t, url)
	s.runner.Progress = func(p cleanup.Progress) {
		if p.Phase == cleanup.Deleting && p.Batches == 1 {
			session(t, url, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1")
		}
	}
	s.end = func(table *postgres.Table) {
		if found := holders(t, table); found != "" {
			t.Errorf("held back by %s", found)
		}
	}
	want(t, s.run(t), cleanup.OutcomeComplete, 3_000)
}

// A standby that went away leaves its slot behind, and in it the snapshot of
// its last query.
func TestSlotOfALostStandbyHoldsBackTheDeletedRows(t *testing.T) {
	t.Parallel()
	primary := pgtest.Private(t, pgtest.Options{})
	conn := pgtest.Conn(t, primary.URL("postgres"))
	table(t, conn, 100)
	pgtest.Exec(t, conn, "SELECT pg_create_physical_replication_slot('lost', true)")
	standby := pgtest.Standby(t, primary, "second")
	on := pgtest.Conn(t, standby.URL("postgres"))
	for _, set := range []string{"primary_slot_name = 'lost'", "hot_standby_feedback = on", "wal_receiver_status_interval = 1"} {
		pgtest.Exec(t, on, "ALTER SYSTEM SET "+set)
	}
	pgtest.Exec(t, on, "SELECT pg_reload_conf()")
	pgtest.Eventually(t, "the standby's feedback", func() bool {
		return pgtest.Int(t, conn, "SELECT count(*) FROM pg_replication_slots WHERE active AND xmin IS NOT NULL") == 1
	})
	standby.Close()
	pgtest.Eventually(t, "the slot to be left alone", func() bool {
		return pgtest.Int(t, conn, "SELECT count(*) FROM pg_replication_slots WHERE NOT active") == 1
	})

	r := newSetup(t, primary.URL("postgres")).run(t)
	want(t, r, cleanup.OutcomeComplete, 100)
	const warning = "the space of the deleted rows cannot be reclaimed while there is replication slot lost, which nobody uses, " +
		"open since before the run; let its standby come back, or drop it: SELECT pg_drop_replication_slot('lost')"
	if len(r.Warnings) != 1 || r.Warnings[0] != warning {
		t.Errorf("warnings %q, want\n%q", r.Warnings, warning)
	}
}

func TestHoldersThatTheRoleMayNotSeeAreSaidAsSuch(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	table(t, conn, 100)
	role, asRole := pgtest.Role(t, conn, url)
	pgtest.Exec(t, conn, "GRANT SELECT, DELETE, UPDATE (expires_at) ON messages TO "+role)
	_, pid := session(t, url, "BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1")
	s := newSetup(t, asRole)
	s.end = func(table *postgres.Table) {
		found := holders(t, table)
		if !strings.HasPrefix(found, "server process "+pid+" (user ") || !strings.Contains(found, "[stays false, age known false]") ||
			!strings.Contains(found, "GRANT pg_read_all_stats TO") {
			t.Errorf("found %s", found)
		}
	}
	want(t, s.run(t), cleanup.OutcomeComplete, 100)
}
