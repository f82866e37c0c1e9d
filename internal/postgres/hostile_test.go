package postgres_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

// hostile are names that break what is pasted rather than quoted. The last has
// 63 bytes, the longest that there is.
var hostile = []string{
	`quote"`, `apostrophe'`, `back\slash`, "line\nbreak", `semi;DROP TABLE messages;--`, `100% %s %[1]d %n`, `dollar $1::text $$`,
	`größe ☃ 表`, `dots.and,commas`, "\x1b[31mred\x07", `{"json": 1}`, "tab\tand space ", `select`, strings.Repeat("ü", 31) + "x",
}

func TestHostileNamesAreNamesAndNothingElse(t *testing.T) {
	t.Parallel()
	address := pgtest.Database(t)
	conn := pgtest.Conn(t, address)
	pgtest.Exec(t, conn, "CREATE TABLE messages AS SELECT 1 AS victim")
	for i, name := range hostile {
		q := func(prefix string) string {
			for len(prefix+name) > 63 {
				name = name[:len(name)-1]
			}
			return pgx.Identifier{prefix + name}.Sanitize()
		}
		schema, table, column, index, trigger, policy := q(""), q(""), q(""), q("i"), q("t"), q("p")
		pgtest.Exec(t, conn, strings.NewReplacer("SCHEMA_", schema, "TABLE_", schema+"."+table, "COLUMN_", column, "INDEX_", index,
			"TRIGGER_", trigger, "OLD_", schema+"."+q("o"), "NEW_", schema+"."+q("n"), "PARTED_", schema+"."+q("d"), "FUNCTION_", schema+"."+policy).Replace(`
			CREATE SCHEMA SCHEMA_;
			CREATE TABLE TABLE_ (id int, COLUMN_ timestamptz);
			CREATE INDEX INDEX_ ON TABLE_ (COLUMN_);
			CREATE FUNCTION FUNCTION_() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
			CREATE TRIGGER TRIGGER_ BEFORE DELETE ON TABLE_ FOR EACH ROW EXECUTE FUNCTION FUNCTION_();
			CREATE TABLE PARTED_ (id int, COLUMN_ timestamptz) PARTITION BY RANGE (COLUMN_);
			CREATE TABLE OLD_ PARTITION OF PARTED_ FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
			CREATE TABLE NEW_ PARTITION OF PARTED_ FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
			CREATE INDEX ON PARTED_ (COLUMN_);
			INSERT INTO TABLE_ SELECT i, now() - i * interval '1 hour' FROM generate_series(-5, 5) i WHERE i <> 0;
			INSERT INTO PARTED_ SELECT i, '2019-01-01' FROM generate_series(1, 7) i`))
		type run struct {
			strategy cleanup.Strategy
			table    string
			deleted  int64
		}
		runs := []run{{cleanup.Index, schema + "." + table, 3}, {cleanup.Partition, schema + "." + q("d"), 7}}
		if i%2 == 1 && canTIDRange(t) {
			runs[0].strategy, runs[0].deleted = cleanup.Heap, 5
		}
		for _, c := range runs {
			s := newSetup(t, withName(t, address, name))
			s.policy.Name, s.policy.Table, s.policy.Column, s.policy.Strategy = name, c.table, column, c.strategy
			s.policy.Vacuum = cleanup.VacuumAfter
			if c.strategy == cleanup.Index {
				s.policy.Hold = fmt.Sprintf("%s > now() - interval '2 hours 30 minutes'", column)
			}
			r := s.run(t)
			if r.Err != nil || r.Deleted != c.deleted {
				t.Errorf("%q, strategy %s: deleted %d rows, want %d; error %v", hostile[i], c.strategy, r.Deleted, c.deleted, r.Err)
			}
			if len(r.Warnings) > 0 {
				t.Errorf("%q, strategy %s: warnings %q", hostile[i], c.strategy, r.Warnings)
			}
		}
	}
	if n := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); n != 1 {
		t.Errorf("a table that nobody named has %d rows, want 1", n)
	}
}

// withName returns an address with an application_name.
func withName(t *testing.T, address, name string) string {
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("application_name", name)
	u.RawQuery = strings.ReplaceAll(q.Encode(), "+", "%20")
	return u.String()
}

func TestNamesReachADatabaseOfAnotherEncoding(t *testing.T) {
	t.Parallel()
	admin := pgtest.Conn(t, pgtest.Database(t))
	pgtest.Exec(t, admin, `CREATE DATABASE "pgtest größe" ENCODING LATIN1 TEMPLATE template0`)
	t.Cleanup(func() { pgtest.Exec(t, admin, `DROP DATABASE "pgtest größe" WITH (FORCE)`) })
	u, err := url.Parse(admin.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/pgtest größe"
	conn := pgtest.Conn(t, u.String())
	pgtest.Exec(t, conn, "SET client_encoding = 'UTF8'")
	pgtest.Exec(t, conn, `CREATE TABLE "Größe" AS SELECT now() AS "läuft ab"; CREATE INDEX ON "Größe" ("läuft ab")`)
	s := newSetup(t, u.String())
	s.policy.Table, s.policy.Column, s.policy.Hold = `"Größe"`, `"läuft ab"`, "'ä' = 'ü'"
	want(t, s.run(t), cleanup.OutcomeComplete, 1)
}
