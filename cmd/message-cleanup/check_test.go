package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	neturl "net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/systemd"
)

// checked is what check prints for programs.
type checked struct {
	Success  bool
	Errors   int
	Findings []struct {
		Name, Severity, Policy, Message, Command, Hint string
		SQL                                            []string
	}
}

// operator is somebody who uses the program on one database.
type operator struct {
	t    *testing.T
	url  string // as superuser
	conn *pgx.Conn
	role string // that makes the runs
	as   string // the address as that role
	yaml string // the configuration; "": none
	now  func() time.Time
}

// newOperator has a database with a table of 10 expired and 10 live messages.
func newOperator(t *testing.T, url string) *operator {
	o := &operator{t: t, url: url, conn: pgtest.Conn(t, url), now: time.Now}
	o.role, o.as = pgtest.Role(t, o.conn, url)
	pgtest.Exec(t, o.conn, `CREATE TABLE messages (id bigint PRIMARY KEY, body text, expires_at timestamptz);
		INSERT INTO messages SELECT i, 'x', now() + (i - 10.5) * interval '1 hour' FROM generate_series(1, 20) AS i`)
	return o
}

// does runs the program and returns its exit status and what it prints.
func (o *operator) does(url string, args ...string) (int, string) {
	o.t.Helper()
	if o.yaml != "" {
		file := filepath.Join(o.t.TempDir(), "config.yaml")
		if err := os.WriteFile(file, []byte(o.yaml), 0o600); err != nil {
			o.t.Fatal(err)
		}
		args = append(args, "--config", file)
	}
	stderr, err := os.Create(filepath.Join(o.t.TempDir(), "stderr"))
	if err != nil {
		o.t.Fatal(err)
	}
	defer stderr.Close()
	var stdout bytes.Buffer
	a := &app{stdout: &stdout, stderr: stderr, environ: []string{"DATABASE_URL=" + url}, now: o.now}
	status := a.main(args)
	if said, err := os.ReadFile(stderr.Name()); err != nil || len(said) > 0 {
		o.t.Logf("%s: %s %v", args[0], said, err)
	}
	return status, stdout.String()
}

func (o *operator) setsUp() {
	o.t.Helper()
	if status, out := o.does(o.url, "setup", "--apply", "--role", o.role); status != 0 {
		o.t.Fatalf("setup --apply: exit status %d\n%s", status, out)
	}
}

// checks returns what check finds, after a look at whether its parts agree.
func (o *operator) checks() checked {
	o.t.Helper()
	status, out := o.does(o.as, "check", "--output", "json")
	var c checked
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		o.t.Fatalf("%v in %s", err, out)
	}
	errors := 0
	for _, f := range c.Findings {
		if f.Severity == "error" {
			errors++
		}
		if f.Message == "" || len(f.SQL) == 0 && f.Command == "" && f.Hint == "" {
			o.t.Errorf("%s does not say what is wrong, or nothing that mends it: %+v", f.Name, f)
		}
	}
	if want := map[bool]int{true: exitOK, false: exitNeedsPerson}[errors == 0]; status != want || c.Errors != errors || c.Success != (errors == 0) {
		o.t.Errorf("exit status %d, %d errors, success %t; want %d, %d, %t", status, c.Errors, c.Success, want, errors, errors == 0)
	}
	return c
}

func (o *operator) isClean(when string) {
	o.t.Helper()
	if c := o.checks(); len(c.Findings) > 0 {
		o.t.Fatalf("%s check finds %+v", when, c.Findings)
	}
}

// defect is something that is wrong.
type defect struct {
	name   string
	base   string // made before setup, from the table of messages
	yaml   string
	plant  string // %role% is the role of the runs, %db% the database
	config string // planted too: the configuration from then on
	want   string // name and severity
	mend   string // where the finding has no SQL
	undo   string // afterwards, for the next one
}

// defects are planted one by one, each on a database that is clean otherwise.
var defects = []defect{
	{name: "no right to delete", plant: "REVOKE DELETE ON messages FROM %role%", want: "privileges error"},
	{name: "no right to read", plant: "REVOKE SELECT ON messages FROM %role%", want: "privileges error"},
	{name: "no right at all", plant: "REVOKE ALL ON messages FROM %role%", want: "privileges error"},
	{name: "no right to lock", plant: "REVOKE UPDATE (expires_at) ON messages FROM %role%", want: "privileges warning"},
	{name: "a schema that is closed", base: "CREATE SCHEMA chat; ALTER TABLE messages SET SCHEMA chat", yaml: "policies: [{table: chat.messages}]",
		plant: "REVOKE USAGE ON SCHEMA chat FROM %role%", want: "privileges error"},
	{name: "a new partition without rights", base: parted, plant: "CREATE TABLE m3 PARTITION OF messages FOR VALUES FROM (300) TO (400)", want: "privileges error"},
	{name: "partitions of somebody else", base: ranged, yaml: "policies: [{table: messages, strategy: partition}]",
		plant: "REVOKE %role%_owner FROM %role%; GRANT SELECT, DELETE, UPDATE (expires_at) ON messages, m1, m2 TO %role%", want: "privileges warning"},
	{name: "a vacuum that is not allowed", base: "ALTER TABLE messages OWNER TO %role%_owner", yaml: "policies: [{table: messages, vacuum: after}]",
		plant: "REVOKE ALL ON messages FROM %role%; REVOKE %role%_owner FROM %role%; GRANT SELECT, DELETE, UPDATE (expires_at) ON messages TO %role%", want: "privileges warning"},

	{name: "no table", plant: "ALTER TABLE messages RENAME TO news", want: "table-missing error", mend: "ALTER TABLE news RENAME TO messages"},
	{name: "a view", plant: "ALTER TABLE messages RENAME TO t; CREATE VIEW messages AS SELECT * FROM t", want: "not-a-table error",
		mend: "DROP VIEW messages; ALTER TABLE t RENAME TO messages"},
	{name: "no column", plant: "ALTER TABLE messages RENAME expires_at TO expires", want: "column-missing error", mend: "ALTER TABLE messages RENAME expires TO expires_at"},
	{name: "a column that tells no time", plant: "ALTER TABLE messages RENAME expires_at TO at; ALTER TABLE messages ADD expires_at text; GRANT UPDATE (expires_at) ON messages TO %role%; CREATE INDEX ON messages (expires_at)",
		want: "column-type error", mend: "ALTER TABLE messages DROP expires_at; ALTER TABLE messages RENAME at TO expires_at"},
	{name: "a time without a zone", base: "ALTER TABLE messages ALTER expires_at TYPE timestamp", yaml: "policies: [{table: messages, time_zone: UTC}]",
		config: "policies: [{table: messages}]", want: "time-zone-unset error"},

	{name: "no index", plant: "DROP INDEX messages_expires_at_idx", want: "index-missing error"},
	{name: "an index on something else first", plant: "DROP INDEX messages_expires_at_idx; CREATE INDEX messages_expires_at_idx ON messages (id, expires_at)", want: "index-missing error", undo: renamed},
	{name: "an index that cannot be ordered by", plant: "DROP INDEX messages_expires_at_idx; CREATE INDEX messages_expires_at_idx ON messages USING hash (expires_at)", want: "index-missing error", undo: renamed},
	{name: "an index on some rows only", plant: "DROP INDEX messages_expires_at_idx; CREATE INDEX messages_expires_at_idx ON messages (expires_at) WHERE id > 5", want: "index-missing error", undo: renamed},
	{name: "a table that inherits, without an index", plant: "DROP INDEX messages_expires_at_idx; CREATE TABLE older () INHERITS (messages); GRANT SELECT, DELETE, UPDATE (expires_at) ON older TO %role%",
		want: "index-missing error", undo: "DROP TABLE older"},
	{name: "an invalid index", plant: invalidate + "messages_expires_at_idx'::regclass", want: "index-invalid error"},
	{name: "an invalid index beside a valid one", plant: "CREATE INDEX second ON messages (expires_at); " + invalidate + "second'::regclass", want: "index-invalid error"},
	{name: "partitions without an index", base: parted, plant: "DROP INDEX messages_expires_at_idx", want: "index-missing error"},
	{name: "a partition whose index is invalid", base: parted, plant: invalidate + "m1_expires_at_idx'::regclass", want: "index-invalid error"},

	{name: "a foreign key without an index", plant: "CREATE TABLE replies (id int, message bigint REFERENCES messages ON DELETE CASCADE)", want: "foreign-key-unindexed error"},
	{name: "a foreign key of two columns without an index", base: "ALTER TABLE messages DROP CONSTRAINT messages_pkey, ADD PRIMARY KEY (id, expires_at)",
		plant: `CREATE TABLE "Replies" (x int, "M" bigint, e timestamptz, FOREIGN KEY ("M", e) REFERENCES messages ON DELETE SET NULL)`, want: "foreign-key-unindexed error"},
	{name: "a partitioned table refers without an index", plant: `CREATE TABLE replies (id int, message bigint REFERENCES messages ON DELETE CASCADE) PARTITION BY LIST (id);
		CREATE TABLE r1 PARTITION OF replies FOR VALUES IN (1); CREATE TABLE r2 PARTITION OF replies FOR VALUES IN (2); CREATE INDEX ON r2 (message)`, want: "foreign-key-unindexed error"},
	{name: "a table refers to itself without an index", plant: "ALTER TABLE messages ADD parent bigint REFERENCES messages ON DELETE SET NULL", want: "foreign-key-unindexed error"},
	{name: "a foreign key that refuses", plant: "CREATE TABLE replies (m bigint PRIMARY KEY REFERENCES messages); INSERT INTO replies VALUES (3); GRANT SELECT ON replies TO %role%", want: "foreign-key-refuses error"},
	{name: "a foreign key that will refuse tonight", plant: "CREATE TABLE replies (m bigint PRIMARY KEY REFERENCES messages ON DELETE RESTRICT DEFERRABLE); INSERT INTO replies VALUES (20); GRANT SELECT ON replies TO %role%", want: "foreign-key-refuses error"},
	{name: "a foreign key that may refuse one day", plant: `INSERT INTO messages VALUES (99, 'x', now() + interval '3 days');
		CREATE TABLE replies (m bigint PRIMARY KEY REFERENCES messages ON UPDATE CASCADE); INSERT INTO replies VALUES (99); GRANT SELECT ON replies TO %role%`, want: "foreign-key-refuses warning"},
	{name: "a foreign key that cannot be looked behind", plant: "CREATE TABLE replies (m bigint PRIMARY KEY REFERENCES messages); INSERT INTO replies VALUES (3)", want: "foreign-key-refuses warning"},

	{name: "row-level security", plant: "ALTER TABLE messages ENABLE ROW LEVEL SECURITY", want: "row-level-security error"},
	{name: "a trigger that swallows deletes", plant: trigger + "RETURN NULL" + fired, want: "delete-trigger error"},
	{name: "a trigger that may refuse", plant: trigger + "IF OLD.id = 3 THEN RAISE 'no'; END IF; RETURN OLD" + fired, want: "delete-trigger warning"},
	{name: "a trigger of a partitioned table", base: parted, plant: trigger + "RETURN NEW" + fired, want: "delete-trigger error"},
	{name: "autovacuum is off", plant: "ALTER TABLE messages SET (autovacuum_enabled = off)", want: "autovacuum-off error"},
	{name: "no default", plant: "ALTER TABLE messages ALTER expires_at DROP DEFAULT", want: "default-missing error"},
	{name: "no default, and no NULL either", base: "ALTER TABLE messages ALTER expires_at SET NOT NULL", plant: "ALTER TABLE messages ALTER expires_at DROP DEFAULT", want: "default-missing warning"},

	{name: "no time", plant: "UPDATE messages SET expires_at = NULL WHERE id < 4", want: "expiry-null error"},
	{name: "a time that never comes", plant: "UPDATE messages SET expires_at = 'infinity' WHERE id = 4", want: "expiry-infinite error"},
	{name: "a time that was always over", plant: "UPDATE messages SET expires_at = '-infinity' WHERE id = 4", want: "expiry-infinite error"},
	{name: "a year that is no year", plant: "UPDATE messages SET expires_at = '9999-12-31' WHERE id = 4", want: "expiry-absurd error"},
	{name: "the year 1 and the year 9999", plant: "UPDATE messages SET expires_at = '0001-01-01' WHERE id = 4; UPDATE messages SET expires_at = '9999-12-31' WHERE id = 5", want: "expiry-absurd error"},
	{name: "the wrong unit", base: integers, yaml: "policies: [{table: messages, unit: ms}]", config: "policies: [{table: messages, unit: s}]", want: "expiry-absurd error"},
	{name: "zero seconds", base: integers, yaml: "policies: [{table: messages, unit: ms}]", plant: "UPDATE messages SET expires_at = 0 WHERE id = 4", want: "expiry-absurd error"},
	{name: "NULL in a column of doubles", base: doubles, plant: "UPDATE messages SET expires_at = NULL WHERE id = 4", want: "expiry-null error"},
	{name: "NaN", base: doubles, plant: "UPDATE messages SET expires_at = 'NaN' WHERE id = 4", want: "expiry-infinite error"},
	{name: "infinite dates", base: "ALTER TABLE messages ALTER expires_at TYPE date", plant: "UPDATE messages SET expires_at = 'infinity' WHERE id = 4", want: "expiry-infinite error"},
	{name: "no time of creation", yaml: "policies: [{table: messages, retention: 2d}]", plant: "UPDATE messages SET expires_at = NULL WHERE id = 4", want: "expiry-null error"},

	{name: "no ledger", yaml: ledger, plant: "DROP TABLE message_cleanup.runs", want: "ledger-missing error"},
	{name: "a ledger that may not be written", yaml: ledger, plant: "REVOKE INSERT ON message_cleanup.runs FROM %role%", want: "ledger-privileges error"},
	{name: "a ledger in a closed schema", yaml: ledger, plant: "REVOKE USAGE ON SCHEMA message_cleanup FROM %role%", want: "ledger-privileges error"},
	{name: "a ledger whose closed rows can be changed", yaml: ledger, plant: "DROP TRIGGER append_only ON message_cleanup.runs", want: "ledger-unprotected warning"},
	{name: "a ledger whose trigger is disabled", yaml: ledger, plant: "ALTER TABLE message_cleanup.runs DISABLE TRIGGER append_only", want: "ledger-unprotected warning"},
	{name: "a ledger that lacks a column", yaml: ledger, plant: "ALTER TABLE message_cleanup.runs RENAME host TO machine",
		want: "ledger-columns error", mend: "ALTER TABLE message_cleanup.runs RENAME machine TO host"},

	{name: "a where that does not parse", config: "policies: [{table: messages, where: id =}]", want: "where-invalid error"},
	{name: "a hold that names a missing column", config: "policies: [{table: messages, hold: legal_hold}]", want: "hold-invalid error"},
	{name: "more rows than a guard allows", config: "guard: {max_rows: 2}", want: "guard-max-rows error"},
	{name: "a larger share than a guard allows", config: "guard: {max_fraction: 0.1}", want: "guard-max-fraction error"},
	{name: "an unknown key", config: "guard: {max_row: 9}", want: "configuration error"},
	{name: "a read-only database", plant: "ALTER DATABASE %db% SET default_transaction_read_only = on", want: "read-only error"},
	{name: "a read-only role", plant: "ALTER ROLE %role% SET default_transaction_read_only = on", want: "read-only error"},
	{name: "a role that is read-only in this database", plant: "ALTER ROLE %role% IN DATABASE %db% SET default_transaction_read_only = on", want: "read-only error"},
}

const (
	// parted is the table of messages in partitions by something else.
	parted = `ALTER TABLE messages RENAME TO m1; ALTER TABLE m1 RENAME CONSTRAINT messages_pkey TO m1_pkey;
		CREATE TABLE messages (LIKE m1) PARTITION BY RANGE (id);
		ALTER TABLE messages ATTACH PARTITION m1 FOR VALUES FROM (0) TO (100);
		CREATE TABLE m2 PARTITION OF messages FOR VALUES FROM (200) TO (300) PARTITION BY RANGE (id);
		CREATE TABLE m21 PARTITION OF m2 FOR VALUES FROM (200) TO (300)`
	// ranged is a table in partitions by expiry, which somebody owns.
	ranged = `DROP TABLE messages; CREATE TABLE messages (id bigint, body text, expires_at timestamptz) PARTITION BY RANGE (expires_at);
		CREATE TABLE m1 PARTITION OF messages FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
		CREATE TABLE m2 PARTITION OF messages FOR VALUES FROM ('2020-02-01') TO ('2120-01-01');
		ALTER TABLE messages OWNER TO %role%_owner; ALTER TABLE m1 OWNER TO %role%_owner; ALTER TABLE m2 OWNER TO %role%_owner`
	integers   = "ALTER TABLE messages ALTER expires_at TYPE bigint USING extract(epoch FROM expires_at) * 1000"
	doubles    = "ALTER TABLE messages ALTER expires_at TYPE float8 USING extract(epoch FROM expires_at)"
	renamed    = "DROP INDEX messages_expires_at_idx; ALTER INDEX messages_expires_at_idx1 RENAME TO messages_expires_at_idx"
	cleared    = `DROP TABLE IF EXISTS replies, "Replies"; DROP FUNCTION IF EXISTS f CASCADE`
	ledger     = "ledger: {table: message_cleanup.runs}"
	invalidate = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '"
	trigger    = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
	fired      = "; END $$; CREATE TRIGGER t BEFORE DELETE ON messages FOR EACH ROW EXECUTE FUNCTION f()"
)

func TestCheckFindsEachDefectAloneAndItsSQLMendsIt(t *testing.T) {
	t.Parallel()
	needsTIDRange(t) // else whatever is wrong with the index is two findings
	// What needs the same table shares a database: it is clean in between.
	groups := make(map[string][]defect)
	for _, d := range defects {
		key := d.base + d.yaml
		for len(groups[key]) == 12 { // several of one kind go side by side
			key += "+"
		}
		groups[key] = append(groups[key], d)
	}
	for _, group := range groups {
		t.Run(group[0].name+" and the like", func(t *testing.T) {
			t.Parallel()
			o := newOperator(t, pgtest.Database(t))
			if strings.Contains(group[0].base, "_owner") {
				o.puts("CREATE ROLE %role%_owner")
				t.Cleanup(func() { o.puts("DROP OWNED BY %role%_owner; DROP ROLE %role%_owner") })
			}
			o.puts(group[0].base)
			o.yaml = group[0].yaml
			o.setsUp()
			o.isClean("before anything is planted")
			for _, d := range group {
				if !t.Run(d.name, func(t *testing.T) { o.of(t).meets(d) }) {
					t.Fatal("those after it stand on it")
				}
			}
		})
	}
}

// puts runs SQL as superuser.
func (o *operator) puts(sql string) {
	o.t.Helper()
	pgtest.Exec(o.t, o.conn, strings.NewReplacer("%role%", o.role, "%db%", o.conn.Config().Database).Replace(sql))
}

// of is the same operator in a part of the test.
func (o *operator) of(t *testing.T) *operator {
	part := *o
	part.t = t
	return &part
}

// meets plants a defect, finds it, and mends it, twice: the SQL can be run again.
func (o *operator) meets(d defect) {
	o.puts(d.plant)
	before := o.yaml
	if d.config != "" {
		o.yaml = d.config
	}
	found := o.checks().Findings
	if len(found) != 1 || found[0].Name+" "+found[0].Severity != d.want {
		o.t.Fatalf("found %+v, want %s and nothing else", found, d.want)
	}
	o.t.Log(found[0].Message)
	mend := found[0].SQL
	switch {
	case d.config != "":
		o.yaml, mend = before, nil
	case d.mend != "":
		mend = []string{d.mend}
	case len(mend) == 0:
		o.t.Fatal("it has no SQL that mends it")
	default:
		mend = append(mend, mend...)
	}
	for _, sql := range mend {
		o.t.Log(sql)
		o.puts(sql)
	}
	o.isClean("after it was mended")
	o.puts(cleared)
	o.puts(d.undo)
}

func TestCheckComparesTheClocks(t *testing.T) {
	t.Parallel()
	o := newOperator(t, pgtest.Database(t))
	o.setsUp()
	o.now = func() time.Time { return time.Now().Add(-time.Hour) }
	if c := o.checks(); len(c.Findings) != 1 || c.Findings[0].Name != "clock-skew" || c.Findings[0].Severity != "error" {
		t.Errorf("found %+v, want clock-skew", c.Findings)
	}
}

func TestCheckLooksAtTheTimerAndTheLastRun(t *testing.T) {
	t.Parallel()
	timer := func(enabled, active bool) systemd.Timer {
		return systemd.Timer{Unit: "x.timer", Installed: true, Enabled: enabled, Active: active}
	}
	on := timer(true, true)
	for _, c := range []struct {
		name    string
		units   systemd.Units
		want    string
		command string
	}{
		{"no such timer", systemd.Units{Service: systemd.Service{Result: "exit-code", ExitStatus: 69}}, "", ""},
		{"all is well", systemd.Units{Timer: on, Service: systemd.Service{Result: "success"}}, "", ""},
		{"off", systemd.Units{Timer: timer(false, false)}, "timer-disabled error", "systemctl enable --now x.timer"},
		{"until the next boot", systemd.Units{Timer: timer(false, true)}, "timer-disabled error", "systemctl enable x.timer"},
		{"from the next boot on", systemd.Units{Timer: timer(true, false)}, "timer-stopped error", "systemctl start x.timer"},
		{"failed", systemd.Units{Timer: on, Service: systemd.Service{Result: "exit-code", ExitStatus: 69}}, "last-run-failed error", "systemctl start x"},
		{"killed", systemd.Units{Timer: on, Service: systemd.Service{Result: "signal"}}, "last-run-failed error", "systemctl start x"},
		{"incomplete", systemd.Units{Timer: on, Service: systemd.Service{Result: "exit-code", ExitStatus: 75}}, "last-run-failed warning", "systemctl start x"},
		{"failed, and another is in work", systemd.Units{Timer: on, Service: systemd.Service{Result: "exit-code", ExitStatus: 69, Running: true}}, "", ""},
	} {
		found := checkUnits("x", c.units)
		got, command := "", ""
		if len(found) == 1 {
			got, command = found[0].Name+" "+string(found[0].Severity), found[0].Command
		}
		if len(found) > 1 || got != c.want || command != c.command {
			t.Errorf("%s: found %+v, want %q, %q", c.name, found, c.want, c.command)
		}
	}
}

// The names are a contract with scripts, so all that the code gives are in the
// documentation, with the severity that the table of defects has seen.
func TestEveryNameThatCheckGivesIsDocumented(t *testing.T) {
	t.Parallel()
	documented, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	has := func(name, severity string) {
		row := regexp.MustCompile("(?m)^\\|.*`" + name + "`.* \\| (" + severity + "|both) \\|")
		if !row.Match(documented) {
			t.Errorf("docs/operations.md has no row that says that %s is a(n) %s", name, severity)
		}
	}
	for _, d := range defects {
		name, severity, _ := strings.Cut(d.want, " ")
		has(name, severity)
	}
	given := regexp.MustCompile(`(?:Named\(|Name: +)"([a-z]+(?:-[a-z]+)*)"`)
	for _, folder := range []string{".", "../../internal/cleanup", "../../internal/postgres"} {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range given.FindAllSubmatch(source, -1) {
				has(string(name[1]), "error|warning")
			}
		}
	}
}

// Several things that are wrong at once are all said, those behind an error too.
func TestCheckSaysAsMuchAsItCan(t *testing.T) {
	t.Parallel()
	o := newOperator(t, pgtest.Database(t))
	pgtest.Exec(t, o.conn, "ALTER TABLE messages ENABLE ROW LEVEL SECURITY; ALTER TABLE messages SET (autovacuum_enabled = off)")
	o.yaml = "policies: [{table: nosuch}, {table: messages, column: expires_at}]"
	var names []string
	for _, f := range o.checks().Findings {
		names = append(names, f.Policy+" "+f.Name)
	}
	want := []string{"nosuch table-missing", "messages privileges", "messages row-level-security", "messages index-missing",
		"messages default-missing", "messages autovacuum-off"}
	if !slices.Equal(names, want) {
		t.Errorf("found %q, want %q", names, want)
	}

	o.yaml = "policies: [{table: messages, kolumn: x}]\nguard: {max_rows: many}"
	if c := o.checks(); len(c.Findings) != 2 || c.Findings[0].Name != "configuration" || c.Findings[1].Name != "configuration" {
		t.Errorf("found %+v, want both mistakes of the configuration", c.Findings)
	}
	o.yaml, o.as = "", "postgres:///nosuch?host="+t.TempDir()
	if c := o.checks(); len(c.Findings) != 1 || c.Findings[0].Name != "connection" {
		t.Errorf("found %+v, want connection", c.Findings)
	}
}

// A prepared transaction is the one that stays open by itself.
func TestCheckNamesWhoHoldsTheSpaceBack(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"max_prepared_transactions": "2"}})
	o := newOperator(t, cluster.URL("postgres"))
	o.setsUp()
	o.isClean("before anything is planted")
	pgtest.Exec(t, o.conn, "BEGIN; INSERT INTO messages VALUES (99); PREPARE TRANSACTION 'forgotten'")
	c := o.checks()
	if len(c.Findings) != 1 || c.Findings[0].Name != "old-snapshot" || c.Findings[0].Severity != "warning" {
		t.Fatalf("found %+v, want old-snapshot", c.Findings)
	}
	for _, sql := range c.Findings[0].SQL {
		pgtest.Exec(t, o.conn, sql)
	}
	o.isClean("after it was mended")
}

func TestCheckAtAPrimaryAndAtItsStandby(t *testing.T) {
	t.Parallel()
	primary := pgtest.Private(t, pgtest.Options{})
	standby := pgtest.Standby(t, primary, "second")
	o := newOperator(t, primary.URL("postgres"))
	pgtest.Eventually(t, "the standby to stream", func() bool {
		return pgtest.Int(t, o.conn, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == 1
	})
	o.setsUp()
	o.isClean("before anything is planted")
	o.meets(defect{plant: "REVOKE pg_read_all_stats FROM %role%", want: "standbys-hidden warning"})

	o.as = strings.Replace(o.as, neturl.QueryEscape(primary.Dir), neturl.QueryEscape(standby.Dir), 1)
	pgtest.Eventually(t, "the standby to follow", func() bool {
		c := o.checks()
		return len(c.Findings) == 1 && c.Findings[0].Name == "standby" && c.Findings[0].Severity == "error"
	})
}

// The role that setup makes may do what a run does, for every strategy, and
// nothing else.
func TestSetupMakesARoleThatCanRunAndNothingMore(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{})
	for _, c := range []struct{ name, base, yaml string }{
		{"index", "", "policies: [{table: messages, strategy: index}]"},
		{"heap", "", "policies: [{table: messages, strategy: heap}]"},
		{"auto", parted, ""},
		{"vacuum", "ALTER TABLE messages OWNER TO %role%_owner", "policies: [{table: messages, vacuum: after}]"},
		{"partition", ranged, "policies: [{table: messages, strategy: partition}]"},
		{"row-level security", "ALTER TABLE messages ENABLE ROW LEVEL SECURITY", ""},
		{"a schema", `CREATE SCHEMA "Chat"; ALTER TABLE messages SET SCHEMA "Chat"`, `policies: [{table: '"Chat".messages'}]`},
		{"ledger", "", ledger},
		{"a closed database", "REVOKE ALL ON DATABASE %db% FROM PUBLIC", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.name == "heap" {
				needsTIDRange(t)
			}
			admin := pgtest.Conn(t, cluster.URL("postgres"))
			name := strings.NewReplacer(" ", "_", "-", "_").Replace(c.name)
			pgtest.Exec(t, admin, "CREATE DATABASE "+name+" TEMPLATE template0")
			o := newOperator(t, cluster.URL(name))
			o.role += `_"made"`
			o.as = strings.Replace(cluster.URL(name), "postgres://postgres@", "postgres://"+strings.ReplaceAll(o.role, `"`, "%22")+"@", 1)
			owner := strings.ReplaceAll(o.role, `"`, "") + "_owner"
			pgtest.Exec(t, o.conn, "CREATE ROLE "+owner)
			pgtest.Exec(t, o.conn, strings.NewReplacer("%role%_owner", owner, "%db%", name).Replace(c.base))
			o.yaml = c.yaml
			o.setsUp()

			if status, out := o.does(o.url, "setup", "--role", o.role); status != 0 || !strings.HasPrefix(out, "-- Nothing is missing.") {
				t.Errorf("after setup --apply, setup still prints (exit status %d):\n%s", status, out)
			}
			o.isClean("after setup")
			if status, out := o.does(o.as, "run"); status != 0 || strings.Contains(out, "warning") {
				t.Errorf("run: exit status %d\n%s", status, out)
			}
			o.isClean("after a run")
			looks := []string{"status"}
			if c.name == "ledger" {
				looks = append(looks, "history")
				pgtest.Exec(t, o.conn, "DROP TRIGGER append_only ON message_cleanup.runs")
				o.setsUp()
				o.isClean("after setup of the ledger's trigger")
			}
			for _, command := range looks {
				if status, out := o.does(o.as, command); status != 0 {
					t.Errorf("%s: exit status %d\n%s", command, status, out)
				}
			}

			// What it holds beyond what everybody may, in words of the catalog.
			allowed := "'SELECT', 'DELETE'"
			if strings.Contains(c.yaml, "vacuum") {
				allowed += ", 'MAINTAIN'" // from PostgreSQL 17 on
			}
			role := "'" + pgx.Identifier{o.role}.Sanitize() + "'::regrole"
			if n := pgtest.Int(t, o.conn, `SELECT count(*) FROM pg_roles WHERE oid = `+role+`
				AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR NOT rolcanlogin)`); n > 0 {
				t.Error("it is more than a role that logs in")
			}
			if n := pgtest.Int(t, o.conn, `SELECT count(*) FROM pg_class c, aclexplode(c.relacl) a
				WHERE a.grantee = `+role+` AND c.relname <> 'runs' AND (a.is_grantable OR a.privilege_type NOT IN (`+allowed+`) OR c.relkind = 'p' AND a.privilege_type <> 'SELECT')`); n > 0 {
				t.Error("it has rights on tables beyond what the policy takes, or on a parent beyond SELECT")
			}
			if n := pgtest.Int(t, o.conn, `SELECT count(*) FROM pg_attribute, aclexplode(attacl) a
				WHERE a.grantee = `+role+` AND attrelid <> coalesce(to_regclass('message_cleanup.runs'), 0) AND (a.privilege_type <> 'UPDATE' OR attname <> 'expires_at')`); n > 0 {
				t.Error("it has rights on columns beyond UPDATE of the expiry column")
			}
		})
	}
}

// Applied or not, the SQL is the same, and psql takes it as it is printed.
func TestSetupPrintsWhatItApplies(t *testing.T) {
	t.Parallel()
	o := newOperator(t, pgtest.Database(t))
	pgtest.Exec(t, o.conn, parted)
	_, printed := o.does(o.url, "setup", "--role", o.role)
	if again, _ := o.does(o.url, "setup", "--role", o.role); again == 0 && strings.Contains(printed, "password '") {
		t.Error("a password is printed")
	}
	script := strings.ReplaceAll(printed, "\n-- Nothing of this was run: --apply does it, or psql.\n", "")
	for _, statement := range strings.Split(script, ";\n") {
		pgtest.Exec(t, o.conn, strings.TrimSpace(statement))
	}
	o.isClean("after the printed SQL was run")
	if out := fmt.Sprint(o.does(o.url, "setup", "--role", o.role)); !strings.Contains(out, "Nothing is missing") {
		t.Errorf("setup still prints %s", out)
	}
}
