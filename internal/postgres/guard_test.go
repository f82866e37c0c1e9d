package postgres_test

import (
	"strings"
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

func TestRunIsRefusedWithAReason(t *testing.T) {
	cases := []struct {
		name   string
		sql    string // makes the table, or spoils it; %role% is the role of the run
		change func(*setup)
		kind   cleanup.Kind
		says   string // in the error
		hint   string // in the hint
	}{
		{"missing table", `DROP TABLE messages`, nil,
			cleanup.Configuration, "table messages does not exist", "search_path"},
		{"table in another case", `ALTER TABLE messages RENAME TO "Messages"`, nil,
			cleanup.Configuration, "table messages does not exist", `did you mean table: 'public."Messages"'?`},
		{"missing column", `ALTER TABLE messages DROP expires_at`, nil,
			cleanup.Configuration, "column expires_at does not exist in table public.messages", "compare"},
		{"column in another case", `ALTER TABLE messages RENAME expires_at TO "Expires_At"`, nil,
			cleanup.Configuration, "column expires_at does not exist", `did you mean column: '"Expires_At"'?`},
		{"a column that tells no time", `ALTER TABLE messages ALTER expires_at TYPE text`, nil,
			cleanup.Configuration, `"expires_at" is of type text`, "timestamptz"},
		{"a view", `ALTER TABLE messages RENAME TO t; CREATE VIEW messages AS SELECT * FROM t`, nil,
			cleanup.Configuration, "public.messages is not a table", "table below"},
		{"no privilege to read", `REVOKE SELECT ON messages FROM %role%`, nil,
			cleanup.Permission, "permission denied for table messages", "message-cleanup check"},
		{"no privilege to delete", `REVOKE DELETE ON messages FROM %role%`, nil,
			cleanup.Permission, "may not delete from public.messages", `GRANT SELECT, DELETE, UPDATE ("expires_at") ON public.messages TO`},
		{"a where that does not parse", ``, func(s *setup) { s.policy.Where = "id = " },
			cleanup.Configuration, "syntax error", "where"},
		{"a hold that names a missing column", ``, func(s *setup) { s.policy.Hold = "legal_hold" },
			cleanup.Configuration, `"legal_hold" does not exist`, "hold"},
		{"an unknown time zone", `ALTER TABLE messages ALTER expires_at TYPE timestamp`, func(s *setup) { s.policy.TimeZone = "Mars/Olympus" },
			cleanup.Configuration, `"Mars/Olympus" not recognized`, "compare"},
		{"row-level security", `ALTER TABLE messages ENABLE ROW LEVEL SECURITY;
			CREATE POLICY half ON messages TO %role% USING (id > 50)`, nil,
			cleanup.NeedsPerson, "row-level security", "BYPASSRLS"},
		{"a read-only role", `ALTER ROLE %role% SET default_transaction_read_only = on`, nil,
			cleanup.NeedsPerson, "read-only", "default_transaction_read_only"},
		{"a host clock that is late by an hour", ``, func(s *setup) { s.now = func() time.Time { return time.Now().Add(-time.Hour) } },
			cleanup.NeedsPerson, "differs by 1h0m0s", "clock"},
		{"a host clock that is an hour ahead", ``, func(s *setup) { s.now = func() time.Time { return time.Now().Add(time.Hour) } },
			cleanup.NeedsPerson, "differs by 1h0m0s", "clock"},
		{"strategy index without an index", `DROP INDEX messages_expires_at_idx`, func(s *setup) { s.policy.Strategy = cleanup.Index },
			cleanup.Configuration, "no valid btree index", "create the index"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := pgtest.Conn(t, url)
			table(t, conn, 100)
			role, asRole := pgtest.Role(t, conn, url)
			pgtest.Exec(t, conn, "GRANT SELECT, DELETE, UPDATE (id) ON messages TO "+role)
			if c.sql != "" {
				pgtest.Exec(t, conn, strings.ReplaceAll(c.sql, "%role%", role))
			}
			s := newSetup(t, asRole)
			if c.change != nil {
				c.change(s)
			}
			r := s.run(t)
			if r.Err == nil {
				t.Fatalf("no error, outcome %s, %d rows deleted", r.Outcome(), r.Deleted)
			}
			if cleanup.KindOf(r.Err) != c.kind || !strings.Contains(r.Err.Error(), c.says) || !strings.Contains(cleanup.HintOf(r.Err), c.hint) {
				t.Errorf("error of kind %d: %v\nhint: %s\nwant kind %d, %q, hint %q",
					cleanup.KindOf(r.Err), r.Err, cleanup.HintOf(r.Err), c.kind, c.says, c.hint)
			}
			if r.Deleted != 0 {
				t.Errorf("%d rows were deleted", r.Deleted)
			}
		})
	}
}

func TestClockSkewAtTheLimitIsAllowed(t *testing.T) {
	t.Parallel()
	server := postgres.Server{Version: 150000, Skew: -5 * time.Minute}
	if err := server.Check(5 * time.Minute); err != nil {
		t.Error(err)
	}
	server.Skew -= time.Microsecond
	if err := server.Check(5 * time.Minute); err == nil {
		t.Error("a skew beyond the limit was accepted")
	}
}

func TestTriggerThatSwallowsDeletesIsFoundByTheVerification(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		table(t, conn, 1_000)
		pgtest.Exec(t, conn, `CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
			CREATE TRIGGER swallow BEFORE DELETE ON messages FOR EACH ROW WHEN (OLD.id <= 20) EXECUTE FUNCTION swallow()`)
		s := newSetup(t, url)
		s.policy.Strategy = strategy
		r := s.run(t)
		wantKind(t, r, cleanup.NeedsPerson)
		if r.Deleted != 990 || r.Refused != 10 || *r.Backlog != 10 {
			t.Errorf("deleted %d, refused %d, backlog %d; want 990, 10, 10", r.Deleted, r.Refused, *r.Backlog)
		}
	})
}

func TestGuardsAtTheirBorders(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	table(t, conn, 100) // 100 of 200 are expired
	pgtest.Exec(t, conn, "ALTER TABLE messages ADD held boolean DEFAULT false; UPDATE messages SET held = true WHERE id <= 20")

	for _, c := range []struct {
		rows     int64
		fraction float64
		hold     string
		refused  bool
	}{
		{rows: 100, fraction: 1},
		{rows: 99, fraction: 1, refused: true},
		{rows: 90, fraction: 1, hold: "held"},
		{rows: 89, fraction: 1, hold: "held", refused: true},
		{rows: 0, fraction: 0.5},
		{rows: 0, fraction: 0.499, refused: true},
		{rows: 0, fraction: 0.45, hold: "held"},
		{rows: 0, fraction: 0.449, hold: "held", refused: true},
	} {
		s := newSetup(t, url)
		s.policy.Hold = c.hold
		s.opts.URL = url
		db, err := postgres.Open(t.Context(), s.opts)
		if err != nil {
			t.Fatal(err)
		}
		server, err := db.Server(t.Context(), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		table, err := db.Inspect(t.Context(), s.policy, server, server.Clock)
		if err != nil {
			t.Fatal(err)
		}
		err = table.CheckGuards(t.Context(), c.rows, c.fraction)
		if (err != nil) != c.refused || err != nil && cleanup.KindOf(err) != cleanup.NeedsPerson {
			t.Errorf("%+v: %v", c, err)
		}
		db.Close()
	}
}
