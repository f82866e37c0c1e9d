package postgres_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

// traps fills the schema evil with everything that whoever may create things in
// a schema can plant there: each function, operator, relation and type name of
// pg_catalog, with the same arguments; and operators, and functions of the names
// %called%, that would fit the arguments of a careless statement better than
// those of pg_catalog do.
// Whatever is called fails, and leaves a line in the server's log.
const traps = `
SET check_function_bodies = off;
CREATE SCHEMA evil;
CREATE FUNCTION evil.trap() RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN RAISE EXCEPTION 'TRAPPED'; END $f$;
DO $do$
DECLARE
  body text := 'LANGUAGE plpgsql AS $f$ BEGIN RAISE EXCEPTION ''TRAPPED''; END $f$';
  types text[] := '{numeric,int2,int4,int8,float8,oid,regclass,name,text,"char",timestamptz,timestamp,interval,date,xid,tid}';
  item record;
BEGIN
  FOR item IN SELECT format('CREATE FUNCTION evil.%I(%s) RETURNS %s %s', proname, pg_get_function_identity_arguments(oid),
                            CASE WHEN proretset THEN 'SETOF ' ELSE '' END || format_type(prorettype, NULL), body) AS sql
              FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f'
  LOOP
    BEGIN EXECUTE item.sql; EXCEPTION WHEN others THEN NULL; END;
  END LOOP;
  FOR item IN SELECT format('CREATE FUNCTION evil.trap(%s, %s) RETURNS bool %s', l, r, body) AS sql FROM unnest(types) l, unnest(types) r
  LOOP
    EXECUTE item.sql;
  END LOOP;
  FOR item IN SELECT format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = evil.trap)', op, l, r) AS sql
              FROM unnest('{=,<>,<,<=,>,>=,+,-,*,/,||,->>}'::text[]) op, unnest(types) l, unnest(types) r
  LOOP
    EXECUTE item.sql;
  END LOOP;
  FOR item IN SELECT DISTINCT format('CREATE FUNCTION evil.%I(%s) RETURNS text %s', proname, arguments, body) AS sql
              FROM pg_proc, (SELECT t AS arguments, 1 AS n FROM unnest(types) t
                             UNION ALL SELECT l || ',' || r, 2 FROM unnest('{text,name,text[],oid,regclass,timestamptz,float8,bigint}'::text[]) l,
                                                                    unnest('{text,name,oid,bigint,interval,int}'::text[]) r) AS every
              WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY ('{%called%}') AND (n = pronargs OR provariadic <> 0)
  LOOP
    BEGIN EXECUTE item.sql; EXCEPTION WHEN duplicate_function THEN NULL; END;
  END LOOP;
  FOR item IN SELECT format('CREATE VIEW evil.%I AS SELECT evil.trap() AS trapped', relname) AS sql
              FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')
  LOOP
    EXECUTE item.sql;
  END LOOP;
  FOR item IN SELECT format('CREATE DOMAIN evil.%s AS pg_catalog.%1$s CHECK (evil.trap())', t) AS sql
              FROM unnest('{oid,tid,text,regclass,xid8,xid,pg_lsn,timestamptz,float8,name,jsonb,date,point}'::text[]) t
  LOOP
    EXECUTE item.sql;
  END LOOP;
END $do$;
CREATE FUNCTION evil.trap_step(int8) RETURNS int8 LANGUAGE plpgsql AS $f$ BEGIN RAISE EXCEPTION 'TRAPPED'; END $f$;
CREATE AGGREGATE evil.count(*) (SFUNC = evil.trap_step, STYPE = int8, INITCOND = '0');
GRANT USAGE ON SCHEMA evil TO PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA evil TO PUBLIC`

// The table has what an application's has: a trigger that names things as
// everybody does, and a condition with a function of its own.
const trappedTable = `
CREATE TABLE archive (id bigint, gone timestamptz);
CREATE FUNCTION archive() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN INSERT INTO archive VALUES (OLD.id, now()); RETURN OLD; END $$;
CREATE TRIGGER archive AFTER DELETE ON messages FOR EACH ROW EXECUTE FUNCTION archive();
CREATE FUNCTION is_held(bigint) RETURNS boolean LANGUAGE sql AS 'SELECT $1 <= 20';
GRANT SELECT, DELETE, UPDATE (id) ON messages TO %role%;
GRANT INSERT ON archive TO %role%`

func TestNothingPlantedOnTheSearchPathIsCalled(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{})
	url := cluster.URL("postgres")
	conn := pgtest.Conn(t, url)
	pgtest.Exec(t, conn, strings.Replace(traps, "%called%", strings.Join(calledFunctions(t), ","), 1))
	role, asRole := pgtest.Role(t, conn, url)
	makeLedger(t, conn, ledgerTable)
	grantLedger(t, conn, role)

	run := func(t *testing.T, change func(*setup)) cleanup.PolicyResult {
		s := newSetup(t, asRole)
		s.runner.Workers, s.ledger = 2, true
		s.runner.Pressure = cleanup.PressureLimits{ReplicaLag: time.Second, SlotWAL: 1, Pause: time.Second}
		s.policy.Vacuum = cleanup.VacuumAfter
		change(s)
		r, err := s.try(t.Context())
		r.Err = err
		return r
	}
	for _, path := range []string{"evil, public, pg_catalog", "evil, public"} {
		pgtest.Exec(t, conn, "ALTER ROLE "+role+" SET search_path = "+path)
		for _, strategy := range []cleanup.Strategy{cleanup.Index, cleanup.Heap} {
			t.Run(path+"/"+string(strategy), func(t *testing.T) {
				if strategy == cleanup.Heap {
					needsTIDRange(t)
				}
				table(t, conn, 3_000)
				pgtest.Exec(t, conn, strings.ReplaceAll(trappedTable, "%role%", role))
				holder := pgtest.Conn(t, url)
				pgtest.Exec(t, holder, "BEGIN; SELECT FROM messages WHERE id = 1000 FOR UPDATE")
				r := run(t, func(s *setup) {
					s.policy.Strategy, s.policy.Hold = strategy, "is_held(id)"
					s.begin = func(table *postgres.Table) { // a connection that is lost asks what became of its batches
						if err := table.CheckGuards(t.Context(), 1_000_000, 0.9); err != nil {
							t.Error(err)
						}
						checkEverything(t, open(t, asRole), table, s.policy)
						if err := open(t, asRole).Lock(t.Context(), s.policy.Name, "public.messages", false); cleanup.KindOf(err) != cleanup.Incomplete {
							t.Errorf("the lock of a second run: %v", err)
						}
					}
					killed := false
					s.runner.Progress = func(p cleanup.Progress) {
						if p.Batches > 0 && !killed {
							killed = true
							pgtest.Exec(t, conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+role+"'")
						}
					}
				})
				want(t, r, cleanup.OutcomeIncomplete, 2_989) // of 3,000: 10 are held, one is locked
				if n := pgtest.Int(t, conn, "SELECT count(*) FROM archive"); n != 2_989 {
					t.Errorf("the trigger archived %d rows, want 2,989", n)
				}
				pgtest.Exec(t, holder, "ROLLBACK")
				pgtest.Exec(t, conn, "DROP TABLE messages, archive; DROP FUNCTION archive, is_held")
			})
		}
		t.Run(path+"/partition", func(t *testing.T) {
			pgtest.Exec(t, conn, strings.ReplaceAll(`
				CREATE TABLE messages (id int, expires_at timestamptz) PARTITION BY RANGE (expires_at);
				CREATE TABLE old PARTITION OF messages FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
				CREATE TABLE new PARTITION OF messages FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
				INSERT INTO messages SELECT n, '2019-01-01' FROM generate_series(1, 100) n;
				INSERT INTO messages SELECT n, '2021-01-01' FROM generate_series(1, 10) n;
				ALTER TABLE messages OWNER TO %role%; ALTER TABLE old OWNER TO %role%; ALTER TABLE new OWNER TO %role%;
				GRANT CREATE ON SCHEMA public TO %role%`, "%role%", role))
			r := run(t, func(s *setup) { s.policy.Strategy = cleanup.Partition })
			want(t, r, cleanup.OutcomeComplete, 110)
			if !slices.Equal(r.Dropped, []string{"public.old"}) {
				t.Errorf("dropped %q, want public.old", r.Dropped)
			}
			pgtest.Exec(t, conn, "DROP TABLE messages")
		})
	}
	log, err := os.ReadFile(filepath.Join(cluster.Dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	if found := regexp.MustCompile(`(?m)^.*TRAPPED(.*\n){4}`).FindAllString(string(log), 5); len(found) > 0 {
		t.Errorf("something planted was called:\n%s", strings.Join(found, "\n"))
	}

	// The traps work: a statement that is not protected falls into them.
	unprotected := pgtest.Conn(t, asRole)
	pgtest.Exec(t, unprotected, "SET search_path = evil, pg_catalog")
	for _, sql := range []string{"SELECT now()", "SELECT FROM pg_locks", "SELECT extract(epoch FROM pg_catalog.now()) * 1000", "SELECT '1'::text"} {
		if _, err := unprotected.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol); err == nil || !strings.Contains(err.Error(), "TRAPPED") {
			t.Errorf("%s is not trapped: %v", sql, err)
		}
	}
}

// checkEverything does what the commands check and setup do.
func checkEverything(t *testing.T, db *postgres.DB, table *postgres.Table, policy cleanup.Policy) {
	t.Helper()
	server, err := db.Server(t.Context(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	findings, err := db.CheckServer(t.Context(), server, time.Minute, time.Second)
	if err != nil {
		t.Error(err)
	}
	findings = append(findings, db.CheckTable(t.Context(), policy, true, server)...)
	findings = append(findings, db.CheckLedger(t.Context(), ledgerTable)...)
	plan, err := cleanup.NewPlan(policy, table.Facts(), server.Clock)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := table.Span(t.Context(), plan); err != nil {
		t.Error(err)
	}
	ledger := db.Ledger(ledgerTable)
	if err := ledger.CheckRestored(t.Context(), policy.Name); err != nil {
		t.Error(err)
	}
	if _, err := ledger.Summary(t.Context(), policy.Name); err != nil {
		t.Error(err)
	}
	if err := table.CheckConditions(t.Context()); err != nil {
		t.Error(err)
	}
	rows, err := table.CheckRows(t.Context(), policy, server.Clock)
	if err != nil {
		t.Error(err)
	}
	for _, finding := range append(findings, rows...) {
		if finding.Name == "not-checked" || strings.Contains(finding.Text, "TRAPPED") {
			t.Errorf("found %+v", finding)
		}
	}
	if _, err := db.Setup(t.Context(), server, postgres.Setup{Role: "nobody", Policies: []cleanup.Policy{policy}, MaxLag: time.Second, Ledger: ledgerTable}); err != nil {
		t.Error(err)
	}
}

// calledFunctions returns whatever this package may call: all words before a
// parenthesis in its sources.
func calledFunctions(t *testing.T) []string {
	t.Helper()
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, source := range sources {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`\b([a-z_0-9]+)\(`).FindAllSubmatch(text, -1) {
			names = append(names, string(match[1]))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
