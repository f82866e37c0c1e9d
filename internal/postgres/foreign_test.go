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

// spread is a table with partitions on three servers.
type spread struct {
	url    string
	conn   *pgx.Conn    // to the server that has the table
	remote [2]*pgx.Conn // to those that have partitions
}

// spreadMessages is spreadOver where two more databases of the same server stand
// for the other servers, which makes no difference to postgres_fdw.
func spreadMessages(t *testing.T, n int, options string) *spread {
	return spreadOver(t, pgtest.Database(t), pgtest.Database(t), n, options)
}

// spreadOver makes the table messages with a partition for each of three tenants:
// 0 here, 1 and 2 in two other databases, where it is called elsewhere. The last one
// is cut into partitions itself, so that a ctid is that of two rows there. Of each
// tenant n rows are expired, and n are not. The foreign servers get the options.
func spreadOver(t *testing.T, first, second string, n int, options string) *spread {
	t.Helper()
	s := &spread{url: pgtest.Database(t)}
	s.conn = pgtest.Conn(t, s.url)
	if pgtest.Int(t, s.conn, "SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'") == 0 {
		t.Skip("the server has no extension postgres_fdw: it comes with PostgreSQL's contrib")
	}
	pgtest.Exec(t, s.conn, `
		CREATE EXTENSION postgres_fdw;
		CREATE TABLE messages (id bigint, tenant int, expires_at timestamptz) PARTITION BY LIST (tenant);
		CREATE TABLE here PARTITION OF messages FOR VALUES IN (0);
		CREATE INDEX ON here (expires_at)`)
	parts := [2]string{`CREATE TABLE elsewhere (id bigint, tenant int, expires_at timestamptz)`,
		`CREATE TABLE elsewhere (id bigint, tenant int, expires_at timestamptz) PARTITION BY LIST ((id % 2));
		CREATE TABLE even PARTITION OF elsewhere FOR VALUES IN (0);
		CREATE TABLE odd PARTITION OF elsewhere FOR VALUES IN (1)`}
	for i, create := range parts {
		s.remote[i] = pgtest.Conn(t, []string{first, second}[i])
		pgtest.Exec(t, s.remote[i], create+"; CREATE INDEX ON elsewhere (expires_at)")
		s.server(t, i, options)
		pgtest.Exec(t, s.conn, fmt.Sprintf(`
			CREATE FOREIGN TABLE there_%d PARTITION OF messages FOR VALUES IN (%d) SERVER shard_%d OPTIONS (table_name 'elsewhere')`, i+1, i+1, i+1))
	}
	// Expired and live rows have other ids, so that on the last server a live row has
	// the ctid of an expired one.
	pgtest.Exec(t, s.conn, fmt.Sprintf(`
		INSERT INTO messages
		SELECT 2 * i + (live::int), tenant, now() + CASE WHEN live THEN 1 ELSE -1 END * (i + 60) * interval '1 second'
		FROM generate_series(1, %d) AS i, generate_series(0, 2) AS tenant, unnest('{false,true}'::bool[]) AS live`, n))
	pgtest.Exec(t, s.conn, "ANALYZE here")
	return s
}

// server makes a foreign server and how to log in to it.
func (s *spread) server(t *testing.T, i int, options string) {
	t.Helper()
	if options != "" {
		options = ", options '" + options + "'"
	}
	to := s.remote[i].Config()
	pgtest.Exec(t, s.conn, fmt.Sprintf(`
		CREATE SERVER shard_%[1]d FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '%[2]s', port '%[3]d', dbname '%[4]s'%[5]s);
		CREATE USER MAPPING FOR CURRENT_USER SERVER shard_%[1]d OPTIONS (user '%[6]s', password '%[7]s')`,
		i+1, to.Host, to.Port, to.Database, options, to.User, to.Password))
}

// wantLeft checks how many rows are left on each server, by what these say
// themselves, and that none of them is expired but so many.
func (s *spread) wantLeft(t *testing.T, here, there1, there2, expired int64) {
	t.Helper()
	var left [3]int64
	var late int64
	for i, table := range []string{"here", "elsewhere", "elsewhere"} {
		conn := s.conn
		if i > 0 {
			conn = s.remote[i-1]
		}
		left[i] = pgtest.Int(t, conn, "SELECT count(*) FROM "+table)
		late += pgtest.Int(t, conn, "SELECT count(*) FROM "+table+" WHERE expires_at < now()")
	}
	if want := [3]int64{here, there1, there2}; left != want {
		t.Errorf("rows left on the three servers: %v, want %v", left, want)
	}
	if late != expired {
		t.Errorf("%d expired rows are left, want %d", late, expired)
	}
}

const politeServer = "-c lock_timeout=50ms -c row_security=off"

func TestPartitionsOnForeignServersAreCleaned(t *testing.T) {
	for _, workers := range []int{1, 3} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			t.Parallel()
			first, second := pgtest.Private(t, pgtest.Options{}), pgtest.Private(t, pgtest.Options{})
			s := spreadOver(t, first.URL("postgres"), second.URL("postgres"), 3_000, politeServer)
			run := newSetup(t, s.url)
			run.runner.Workers = workers
			run.policy.Hold = "id = 100 -- a comment"
			run.policy.Vacuum = cleanup.VacuumAfter
			r := run.run(t)
			want(t, r, cleanup.OutcomeComplete, 3*2_999)
			s.wantLeft(t, 3_001, 3_001, 3_001, 3)
			if *r.Held != 3 {
				t.Errorf("held %d, want 3", *r.Held)
			}
			if r.Batches < 9 {
				t.Errorf("%d batches for 9,000 rows, at most 1,000 each", r.Batches)
			}
			if len(r.Warnings) > 0 {
				t.Errorf("warnings: %q", r.Warnings)
			}
			if reasons := strings.Join(r.Reasons, "\n"); !strings.Contains(reasons, "it is a foreign table on server shard_2") {
				t.Errorf("reasons: %s", reasons)
			}
		})
	}
}

func TestOneValueSharedByManyRowsOfAForeignTableGoesAtOnce(t *testing.T) {
	t.Parallel()
	s := spreadMessages(t, 10, politeServer)
	pgtest.Exec(t, s.conn, "INSERT INTO messages SELECT 2 * i, 2, now() - interval '1 day' FROM generate_series(1, 5000) AS i")
	want(t, newSetup(t, s.url).run(t), cleanup.OutcomeComplete, 5_030)
	s.wantLeft(t, 10, 10, 10, 0)
}

func TestForeignServerWithoutTimeoutsIsWarnedOf(t *testing.T) {
	t.Parallel()
	s := spreadMessages(t, 10, "")
	r := newSetup(t, s.url).run(t)
	want(t, r, cleanup.OutcomeComplete, 30)
	if len(r.Warnings) != 2 {
		t.Fatalf("warnings: %q", r.Warnings)
	}
	for _, warning := range r.Warnings { // what it says can be done, and helps
		_, sql, _ := strings.Cut(warning, "ALTER SERVER")
		pgtest.Exec(t, s.conn, "ALTER SERVER"+sql)
	}
	if r := newSetup(t, s.url).run(t); len(r.Warnings) > 0 {
		t.Errorf("warnings: %q", r.Warnings)
	}
}

// Read there and deleted by their ctid, other rows would go.
func TestForeignDeleteThatIsNotSentWholeIsRefused(t *testing.T) {
	t.Parallel()
	s := spreadMessages(t, 10, politeServer)
	pgtest.Exec(t, s.conn, `
		CREATE FUNCTION keep(id bigint) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN false; END';
		CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'`)
	run := newSetup(t, s.url)
	run.policy.Hold = "keep(id)"
	r := run.run(t)
	wantKind(t, r, cleanup.Configuration)
	if !strings.Contains(r.Err.Error(), "foreign table public.there_1 on server shard_1: the DELETE would not be executed there as a whole") {
		t.Errorf("error %v", r.Err)
	}
	run.policy.Hold = ""
	pgtest.Exec(t, s.conn, "CREATE TRIGGER look BEFORE DELETE ON there_2 FOR EACH ROW EXECUTE FUNCTION look()")
	wantKind(t, run.run(t), cleanup.Configuration)
	s.wantLeft(t, 20, 20, 20, 30)
	pgtest.Exec(t, s.conn, "DROP TRIGGER look ON there_2")
	want(t, run.run(t), cleanup.OutcomeComplete, 30)
}

func TestForeignPartitionIsEmptiedAndNotDropped(t *testing.T) {
	t.Parallel()
	s := spreadMessages(t, 1, politeServer)
	pgtest.Exec(t, s.conn, `
		CREATE TABLE log (id bigint, tenant int, expires_at timestamptz) PARTITION BY RANGE (expires_at);
		CREATE TABLE old_here PARTITION OF log FOR VALUES FROM ('2001-01-01') TO ('2002-01-01');
		CREATE FOREIGN TABLE old_there PARTITION OF log FOR VALUES FROM ('2002-01-01') TO ('2003-01-01')
			SERVER shard_1 OPTIONS (table_name 'elsewhere')`)
	pgtest.Exec(t, s.remote[0], "TRUNCATE elsewhere")
	pgtest.Exec(t, s.conn, "INSERT INTO log SELECT i, 1, '2001-02-03'::timestamptz + i * interval '1 day' FROM generate_series(0, 600) AS i")
	run := newSetup(t, s.url)
	run.policy.Table, run.policy.Strategy = "log", cleanup.Partition
	r := run.run(t)
	want(t, r, cleanup.OutcomeComplete, 601)
	if len(r.Dropped) != 1 || r.Dropped[0] != "public.old_here" {
		t.Errorf("dropped: %q", r.Dropped)
	}
	if reasons := strings.Join(r.Reasons, "\n"); !strings.Contains(reasons, "not dropped whole: only its name would go, and none of its rows") {
		t.Errorf("reasons: %s", reasons)
	}
	if pgtest.Int(t, s.conn, "SELECT count(*) FROM pg_foreign_table WHERE ftrelid = 'old_there'::regclass") != 1 {
		t.Error("the foreign table is gone")
	}
	if pgtest.Int(t, s.remote[0], "SELECT count(*) FROM elsewhere") != 0 {
		t.Error("rows are left on the other server")
	}
}

// The row's time is extended while a batch waits for it on the other server.
func TestRowExtendedOnAForeignServerMeanwhileSurvives(t *testing.T) {
	t.Parallel()
	s := spreadMessages(t, 100, "-c row_security=off") // waits as long as it takes
	app := pgtest.Conn(t, s.remote[1].Config().ConnString())
	pgtest.Exec(t, app, "BEGIN; UPDATE elsewhere SET expires_at = now() + interval '1 day' WHERE id = 20")
	ended := make(chan cleanup.PolicyResult)
	go func() { ended <- newSetup(t, s.url).run(t) }()
	pgtest.Eventually(t, "the batch to wait for the row", func() bool { return pgtest.Int(t, s.remote[1], waiting) > 0 })
	pgtest.Exec(t, app, "COMMIT")
	r := <-ended
	want(t, r, cleanup.OutcomeComplete, 299)
	s.wantLeft(t, 100, 100, 101, 0)
	if r.Retries == 0 {
		t.Error("nothing was tried again")
	}
}

func TestLockedRowsOnAForeignServerAreLeft(t *testing.T) {
	t.Parallel()
	s := spreadMessages(t, 100, politeServer)
	app := pgtest.Conn(t, s.remote[0].Config().ConnString())
	pgtest.Exec(t, app, "BEGIN; SELECT FROM elsewhere WHERE id = 20 FOR UPDATE")
	r := newSetup(t, s.url).run(t)
	want(t, r, cleanup.OutcomeIncomplete, 200)
	if r.Locked != 100 {
		t.Errorf("%d rows count as locked, want the 100 of their batch", r.Locked)
	}
	pgtest.Exec(t, app, "COMMIT")
	want(t, newSetup(t, s.url).run(t), cleanup.OutcomeComplete, 100)
}

func TestForeignServerThatRestartsIsWaitedFor(t *testing.T) {
	t.Parallel()
	first := pgtest.Private(t, pgtest.Options{})
	s := spreadOver(t, first.URL("postgres"), pgtest.Database(t), 2_000, politeServer)
	run := newSetup(t, s.url)
	run.runner.BatchMaxRows = 100
	crashed := false
	run.runner.Progress = func(p cleanup.Progress) {
		if p.Deleted < 2_500 || crashed {
			return
		}
		crashed = true
		if err := first.Stop("immediate"); err != nil {
			t.Error(err)
		}
		go func() {
			if err := first.StartServer(); err != nil {
				t.Error(err)
			}
		}()
	}
	r := run.run(t)
	want(t, r, cleanup.OutcomeComplete, 6_000)
	s.remote[0] = pgtest.Conn(t, first.URL("postgres"))
	s.wantLeft(t, 2_000, 2_000, 2_000, 0)
	if r.Retries == 0 {
		t.Error("nothing was tried again: the server was not missed")
	}
}

func TestRefusalByAForeignServerSaysWhere(t *testing.T) {
	t.Parallel()
	s := spreadMessages(t, 10, politeServer)
	reader, _ := pgtest.Role(t, s.remote[1], s.remote[1].Config().ConnString())
	pgtest.Exec(t, s.remote[1], "GRANT SELECT ON elsewhere TO "+reader)
	pgtest.Exec(t, s.conn, "ALTER USER MAPPING FOR CURRENT_USER SERVER shard_2 OPTIONS (SET user '"+reader+"', SET password '"+reader+"')")
	r := newSetup(t, s.url).run(t)
	wantKind(t, r, cleanup.Permission)
	if !strings.Contains(r.Err.Error(), "foreign table public.there_2 on server shard_2: permission denied for table elsewhere") {
		t.Errorf("error %v", r.Err)
	}
	s.wantLeft(t, 10, 10, 20, 10)
	if r.Deleted != 20 {
		t.Errorf("deleted %d, want 20: what is on the other servers", r.Deleted)
	}
}

func TestRowsThatAForeignServerRefusesStandAlone(t *testing.T) {
	t.Parallel()
	s := spreadMessages(t, 200, politeServer)
	for _, remote := range s.remote {
		pgtest.Exec(t, remote, `
			CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF OLD.id = 20 THEN RAISE 'not this one'; END IF; RETURN OLD; END $$;
			CREATE TRIGGER no BEFORE DELETE ON elsewhere FOR EACH ROW EXECUTE FUNCTION no();
			UPDATE elsewhere SET expires_at = '2020-01-01' WHERE id IN (20, 22, 24)`) // a tie, which is cut by ctid
	}
	r := newSetup(t, s.url).run(t)
	wantRefused(t, r, 2, 598)
	s.wantLeft(t, 200, 201, 201, 2)
	if r.RefusedRows[0].Table != "public.there_1" {
		t.Errorf("refused: %+v", r.RefusedRows)
	}
}

func TestRoleIsToldWhatItNeedsForForeignPartitions(t *testing.T) {
	t.Parallel()
	s := spreadMessages(t, 10, politeServer)
	role, asRole := pgtest.Role(t, s.conn, s.url)
	for i, remote := range s.remote {
		pgtest.Exec(t, s.conn, fmt.Sprintf(`
			GRANT USAGE ON FOREIGN SERVER shard_%[1]d TO %[2]s;
			CREATE USER MAPPING FOR %[2]s SERVER shard_%[1]d OPTIONS (user '%[3]s', password '%[4]s', password_required 'false')`,
			i+1, role, remote.Config().User, remote.Config().Password))
	}
	run := newSetup(t, asRole)
	run.opts.URL = asRole
	db, err := postgres.Open(t.Context(), run.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	server, err := db.Server(t.Context(), run.now)
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range db.CheckTable(t.Context(), run.policy, true, server) {
		if finding.Name == "privileges" {
			pgtest.Exec(t, s.conn, strings.Join(finding.SQL, ";"))
		}
	}
	if pgtest.Int(t, s.conn, "SELECT count(*) FROM information_schema.role_table_grants WHERE grantee = $1 AND table_name LIKE 'there%'", role) != 4 {
		t.Error("the role has more than SELECT and DELETE on the two foreign tables, or less")
	}
	want(t, run.run(t), cleanup.OutcomeComplete, 30)
}

func TestTableOfAnotherAccessMethodIsCleanedByTheIndexAlone(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	pgtest.Exec(t, conn, "CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler; SET default_table_access_method = other")
	table(t, conn, 3_000)
	pgtest.Exec(t, conn, "UPDATE messages SET expires_at = '2020-01-01' WHERE expires_at < now() AND id < 3000") // a tie
	app := pgtest.Conn(t, url)
	pgtest.Exec(t, app, "BEGIN; SELECT FROM messages WHERE id = 4000 FOR UPDATE")
	s := newSetup(t, url)
	r := s.run(t)
	if want(t, r, cleanup.OutcomeIncomplete, 3_000-r.Locked); r.Locked < 1 || r.Locked > 1_000 {
		t.Errorf("%d rows count as locked, want those of one batch", r.Locked)
	}
	if reasons := strings.Join(r.Reasons, "\n"); !strings.Contains(reasons, "kept by access method other") {
		t.Errorf("reasons: %s", reasons)
	}
	pgtest.Exec(t, app, "COMMIT")
	want(t, s.run(t), cleanup.OutcomeComplete, r.Locked)

	s.policy.Strategy = cleanup.Heap
	wantKind(t, s.run(t), cleanup.Configuration)
}
