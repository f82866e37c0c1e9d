package postgres_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

// cutoff2020 is the cutoff of tests that only look at the plan.
var cutoff2020 = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// planned says for each leaf of the plan, or partition, by what strategy it is
// cleaned, and returns the whole plan besides.
func planned(t *testing.T, url string, policy cleanup.Policy) (map[string]cleanup.Strategy, cleanup.Plan) {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Options{URL: url, LockTimeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	server, err := db.Server(t.Context(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	table, err := db.Inspect(t.Context(), policy, server, cutoff2020)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := cleanup.NewPlan(policy, table.Facts(), cutoff2020)
	if err != nil {
		t.Fatal(err)
	}
	strategies := make(map[string]cleanup.Strategy)
	for _, leaf := range plan.Leaves {
		name := strings.TrimPrefix(leaf.Name, "public.")
		if strategies[name] != "" {
			t.Errorf("%s is in the plan twice", name)
		}
		strategies[name] = leaf.Strategy
	}
	return strategies, plan
}

const (
	dropped = cleanup.Partition
	byRows  = cleanup.Heap // of partitions without an index
)

func TestTopmostExpiredPartitionIsDropped(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		sql  string
		want map[string]cleanup.Strategy
	}{
		{"up to the cutoff, and a microsecond beyond",
			`CREATE TABLE messages (id int, expires_at timestamptz) PARTITION BY RANGE (expires_at);
			CREATE TABLE old PARTITION OF messages FOR VALUES FROM (MINVALUE) TO ('2019-01-01Z');
			CREATE TABLE upto PARTITION OF messages FOR VALUES FROM ('2019-01-01Z') TO ('2020-01-01Z');
			CREATE TABLE late PARTITION OF messages FOR VALUES FROM ('2020-01-01Z') TO (MAXVALUE)`,
			map[string]cleanup.Strategy{"old": dropped, "upto": dropped}},
		{"a microsecond beyond the cutoff",
			`CREATE TABLE messages (id int, expires_at timestamptz) PARTITION BY RANGE (expires_at);
			CREATE TABLE upto PARTITION OF messages FOR VALUES FROM ('2019-01-01Z') TO ('2020-01-01 00:00:00.000001Z')`,
			map[string]cleanup.Strategy{"upto": byRows}},
		{"default partition",
			`CREATE TABLE messages (id int, expires_at timestamptz) PARTITION BY RANGE (expires_at);
			CREATE TABLE old PARTITION OF messages FOR VALUES FROM ('2001-01-01Z') TO ('2019-01-01Z');
			CREATE TABLE rest PARTITION OF messages DEFAULT`,
			map[string]cleanup.Strategy{"old": dropped, "rest": byRows}},
		{"a default partition that a constraint bounds",
			`CREATE TABLE messages (id int, expires_at timestamptz) PARTITION BY RANGE (expires_at);
			CREATE TABLE rest PARTITION OF messages (CHECK (expires_at < '2001-01-01Z')) DEFAULT`,
			map[string]cleanup.Strategy{"rest": byRows}},
		{"sub-partitions of all kinds below",
			`CREATE TABLE messages (id int, expires_at timestamptz) PARTITION BY RANGE (expires_at);
			CREATE TABLE h PARTITION OF messages FOR VALUES FROM ('2001-01-01Z') TO ('2002-01-01Z') PARTITION BY HASH (id);
			CREATE TABLE h0 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 0);
			CREATE TABLE h1 PARTITION OF h FOR VALUES WITH (MODULUS 2, REMAINDER 1);
			CREATE TABLE l PARTITION OF messages FOR VALUES FROM ('2002-01-01Z') TO ('2003-01-01Z') PARTITION BY LIST (id);
			CREATE TABLE l1 PARTITION OF l FOR VALUES IN (1);
			CREATE TABLE l_rest PARTITION OF l DEFAULT;
			CREATE TABLE r PARTITION OF messages FOR VALUES FROM ('2003-01-01Z') TO ('2004-01-01Z') PARTITION BY RANGE (expires_at);
			CREATE TABLE r0 PARTITION OF r FOR VALUES FROM (MINVALUE) TO (MAXVALUE)`,
			map[string]cleanup.Strategy{"h": dropped, "l": dropped, "r": dropped}},
		{"partly expired, with sub-partitions",
			`CREATE TABLE messages (id int, expires_at timestamptz) PARTITION BY RANGE (expires_at);
			CREATE TABLE r PARTITION OF messages FOR VALUES FROM ('2019-01-01Z') TO ('2021-01-01Z') PARTITION BY RANGE (expires_at);
			CREATE TABLE r2019 PARTITION OF r FOR VALUES FROM ('2019-01-01Z') TO ('2020-01-01Z');
			CREATE TABLE r2020 PARTITION OF r FOR VALUES FROM ('2020-01-01Z') TO ('2021-01-01Z');
			CREATE TABLE h PARTITION OF messages FOR VALUES FROM ('2018-01-01Z') TO ('2019-01-01Z') PARTITION BY HASH (id);
			CREATE TABLE h0 PARTITION OF h FOR VALUES WITH (MODULUS 1, REMAINDER 0)`,
			map[string]cleanup.Strategy{"r2019": dropped, "h": dropped}},
		{"place for later rows, of which there is no partition yet",
			`CREATE TABLE messages (id int, expires_at timestamptz) PARTITION BY RANGE (expires_at);
			CREATE TABLE r PARTITION OF messages FOR VALUES FROM ('2019-01-01Z') TO ('2021-01-01Z') PARTITION BY RANGE (expires_at);
			CREATE TABLE r2019 PARTITION OF r FOR VALUES FROM ('2019-01-01Z') TO ('2020-01-01Z');
			CREATE TABLE empty PARTITION OF messages FOR VALUES FROM ('2001-01-01Z') TO ('2002-01-01Z') PARTITION BY RANGE (expires_at)`,
			map[string]cleanup.Strategy{"r2019": dropped}},
		{"below a list and a hash",
			`CREATE TABLE messages (id int, tenant int, expires_at timestamptz) PARTITION BY LIST (tenant);
			CREATE TABLE t1 PARTITION OF messages FOR VALUES IN (1) PARTITION BY RANGE (expires_at);
			CREATE TABLE t1_old PARTITION OF t1 FOR VALUES FROM ('2001-01-01Z') TO ('2019-01-01Z');
			CREATE TABLE t1_new PARTITION OF t1 FOR VALUES FROM ('2019-01-01Z') TO ('2029-01-01Z');
			CREATE TABLE t2 PARTITION OF messages FOR VALUES IN (2) PARTITION BY HASH (id);
			CREATE TABLE t2_0 PARTITION OF t2 FOR VALUES WITH (MODULUS 1, REMAINDER 0) PARTITION BY RANGE (expires_at);
			CREATE TABLE t2_0_old PARTITION OF t2_0 FOR VALUES FROM ('2001-01-01Z') TO ('2019-01-01Z');
			CREATE TABLE t3 PARTITION OF messages FOR VALUES IN (3)`,
			map[string]cleanup.Strategy{"t1_old": dropped, "t1_new": byRows, "t2_0_old": dropped, "t3": byRows}},
		{"a key of several columns",
			`CREATE TABLE messages (id int, expires_at timestamptz) PARTITION BY RANGE (expires_at, id);
			CREATE TABLE old PARTITION OF messages FOR VALUES FROM (MINVALUE, MINVALUE) TO ('2019-01-01Z', 5);
			CREATE TABLE at_cutoff PARTITION OF messages FOR VALUES FROM ('2019-01-01Z', 5) TO ('2020-01-01Z', 5)`,
			map[string]cleanup.Strategy{"old": dropped, "at_cutoff": byRows}},
		{"the column comes second in the key",
			`CREATE TABLE messages (id int, expires_at timestamptz) PARTITION BY RANGE (id, expires_at);
			CREATE TABLE a PARTITION OF messages FOR VALUES FROM (1, '2001-01-01Z') TO (1, '2002-01-01Z')`,
			map[string]cleanup.Strategy{"a": byRows}},
		{"an expression of the column, and a constraint",
			`CREATE TABLE messages (id int, expires_at timestamptz) PARTITION BY RANGE (timezone('UTC', expires_at));
			CREATE TABLE a PARTITION OF messages (CHECK (expires_at < '2002-01-01Z')) FOR VALUES FROM ('2001-01-01Z') TO ('2002-01-01Z')`,
			map[string]cleanup.Strategy{"a": byRows}},
		{"another column, and a constraint, which NULL meets",
			`CREATE TABLE messages (id int, expires_at timestamptz, created_at timestamptz) PARTITION BY RANGE (created_at);
			CREATE TABLE a PARTITION OF messages (CHECK (expires_at < '2002-01-01Z')) FOR VALUES FROM ('2001-01-01Z') TO ('2002-01-01Z')`,
			map[string]cleanup.Strategy{"a": byRows}},
		{"inheritance",
			`CREATE TABLE messages (id int, expires_at timestamptz);
			CREATE TABLE child (CHECK (expires_at < '2002-01-01Z' AND expires_at IS NOT NULL)) INHERITS (messages)`,
			map[string]cleanup.Strategy{"messages": byRows, "child": byRows}},
		{"no partitions",
			`CREATE TABLE messages (id int, expires_at timestamptz)`,
			map[string]cleanup.Strategy{"messages": byRows}},
		{"timestamp without time zone, in UTC",
			`CREATE TABLE messages (id int, expires_at timestamp) PARTITION BY RANGE (expires_at);
			CREATE TABLE a PARTITION OF messages FOR VALUES FROM ('2019-01-01') TO ('2020-01-01');
			CREATE TABLE b PARTITION OF messages FOR VALUES FROM ('2020-01-01') TO ('2020-01-01 00:00:00.000001')`,
			map[string]cleanup.Strategy{"a": dropped}},
		{"date",
			`CREATE TABLE messages (id int, expires_at date) PARTITION BY RANGE (expires_at);
			CREATE TABLE a PARTITION OF messages FOR VALUES FROM ('2019-12-30') TO ('2020-01-01');
			CREATE TABLE b PARTITION OF messages FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')`,
			map[string]cleanup.Strategy{"a": dropped}},
		{"bigint",
			`CREATE TABLE messages (id int, expires_at bigint) PARTITION BY RANGE (expires_at);
			CREATE TABLE a PARTITION OF messages FOR VALUES FROM (0) TO (1577836800);
			CREATE TABLE b PARTITION OF messages FOR VALUES FROM (1577836800) TO (1577836801)`,
			map[string]cleanup.Strategy{"a": dropped}},
		{"integer",
			`CREATE TABLE messages (id int, expires_at int) PARTITION BY RANGE (expires_at);
			CREATE TABLE a PARTITION OF messages FOR VALUES FROM (0) TO (1577836800);
			CREATE TABLE b PARTITION OF messages FOR VALUES FROM (1577836800) TO (1577836801)`,
			map[string]cleanup.Strategy{"a": dropped}},
		{"names that need quotes",
			`CREATE TABLE messages (id int, expires_at timestamptz) PARTITION BY RANGE (expires_at);
			CREATE TABLE "The ""old"" ones" PARTITION OF messages FOR VALUES FROM (MINVALUE) TO ('2019-01-01Z')`,
			map[string]cleanup.Strategy{`"The ""old"" ones"`: dropped}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			needsTIDRange(t)
			url := pgtest.Database(t)
			conn := pgtest.Conn(t, url)
			pgtest.Exec(t, conn, tt.sql)
			policy := newSetup(t, url).policy
			policy.Strategy = cleanup.Partition
			got, _ := planned(t, url, policy)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

// obstacles are what keeps an expired partition from being dropped.
var obstacles = []struct {
	name string
	sql  string
	set  func(*cleanup.Policy)
	says string
}{
	{"where", ``, func(p *cleanup.Policy) { p.Where = "id > 0" }, "the policy has a where condition"},
	{"hold", ``, func(p *cleanup.Policy) { p.Hold = "id < 0" }, "the policy has a hold condition"},
	{"foreign key to the table", `ALTER TABLE messages ADD PRIMARY KEY (id, expires_at);
		CREATE TABLE replies (id int, at timestamptz, FOREIGN KEY (id, at) REFERENCES messages ON DELETE CASCADE)`, nil,
		"foreign key replies_id_at_fkey of public.replies refers to it"},
	{"foreign key to the partition", `ALTER TABLE old ADD PRIMARY KEY (id);
		CREATE TABLE replies (id int REFERENCES old)`, nil, "foreign key replies_id_fkey of public.replies refers to it"},
	{"view", `CREATE VIEW old_ones AS SELECT * FROM old`, nil, "rule _RETURN on view public.old_ones depends on it"},
	{"another table has a column of its type", `CREATE TABLE copies (copy old)`, nil, "column copy of table public.copies depends on it"},
	{"trigger", `CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$;
		CREATE TRIGGER archive BEFORE DELETE ON messages FOR EACH ROW EXECUTE FUNCTION keep()`, nil,
		"trigger archive of public.old would not be fired"},
	{"rule", `CREATE RULE archive AS ON DELETE TO old DO ALSO NOTHING`, nil, "rule archive of public.old would not be followed"},
	{"publication", `CREATE PUBLICATION changes FOR TABLE messages; ALTER TABLE old REPLICA IDENTITY FULL`, nil, "publication changes would not tell its subscribers"},
}

func TestObstacleMakesAPartitionGoByRows(t *testing.T) {
	t.Parallel()
	for _, tt := range obstacles {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := pgtest.Conn(t, url)
			pgtest.Exec(t, conn, twoYears+";"+tt.sql)
			s := newSetup(t, url)
			s.policy.Strategy = cleanup.Partition
			if tt.set != nil {
				tt.set(&s.policy)
			}
			_, plan := planned(t, url, s.policy)
			if reason := plan.Leaves[0].Reason; plan.Leaves[0].Name != "public.old" || !strings.Contains(reason, tt.says) {
				t.Errorf("%s because %q, want %q", plan.Leaves[0].Name, reason, tt.says)
			}
			r := s.run(t)
			want(t, r, cleanup.OutcomeComplete, 100)
			if len(r.Dropped) > 0 || strings.Contains(r.Strategy, "partition") {
				t.Errorf("dropped %v by %s", r.Dropped, r.Strategy)
			}
		})
	}
}

// Only who owns both may detach and drop. The role may still delete rows.
func TestWithoutOwnershipAPartitionGoesByRows(t *testing.T) {
	t.Parallel()
	for _, owned := range []string{"", "messages", "old", "messages, old"} {
		t.Run(owned, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := pgtest.Conn(t, url)
			role, asRole := pgtest.Role(t, conn, url)
			pgtest.Exec(t, conn, twoYears)
			for _, table := range strings.Split(owned, ", ") {
				if table != "" {
					pgtest.Exec(t, conn, "ALTER TABLE "+table+" OWNER TO "+role)
				}
			}
			pgtest.Exec(t, conn, "GRANT SELECT, DELETE, UPDATE ON messages, old, new TO "+role)
			s := newSetup(t, asRole)
			s.policy.Strategy = cleanup.Partition
			r := s.run(t)
			want(t, r, cleanup.OutcomeComplete, 100)
			if both := owned == "messages, old"; both {
				wantDropped(t, r, "public.old")
				return
			}
			warnings := fmt.Sprint(r.Warnings)
			if owner := conn.Config().User; len(r.Dropped) > 0 || !strings.Contains(warnings, "GRANT "+owner+` TO "`+role+`"`) {
				t.Errorf("dropped %v; warnings %s", r.Dropped, warnings)
			}
		})
	}
}

// Views of the table, other triggers and constraints, and what belongs to a
// partition, are no obstacles.
func TestWhatGoesWithAPartitionIsNoObstacle(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	pgtest.Exec(t, conn, twoYears+`;
		CREATE TABLE users (id int PRIMARY KEY);
		INSERT INTO users SELECT generate_series(1, 200);
		ALTER TABLE messages ADD FOREIGN KEY (id) REFERENCES users, ADD CHECK (id > 0);
		CREATE VIEW all_of_them AS SELECT * FROM messages;
		ALTER TABLE old ADD PRIMARY KEY (id);
		CREATE SEQUENCE numbers OWNED BY old.id; ALTER TABLE old ALTER id SET DEFAULT nextval('numbers');
		CREATE INDEX ON messages (expires_at);
		CREATE STATISTICS correlated ON id, expires_at FROM old;
		CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
		CREATE TRIGGER inserted BEFORE INSERT ON old FOR EACH ROW WHEN (NEW.id > 0) EXECUTE FUNCTION pass();
		CREATE PUBLICATION changes FOR ALL TABLES WITH (publish = 'insert, update')`)
	s := newSetup(t, url)
	s.policy.Strategy = cleanup.Partition
	r := s.run(t)
	want(t, r, cleanup.OutcomeComplete, 100)
	wantDropped(t, r, "public.old")
	if r.Batches != 1 {
		t.Errorf("%d batches, want 1", r.Batches)
	}
}

// twoYears has 100 rows in an expired partition, old, and 100 others in new.
const twoYears = `
	CREATE TABLE messages (id int, expires_at timestamptz) PARTITION BY RANGE (expires_at);
	CREATE INDEX ON messages (expires_at);
	CREATE TABLE old PARTITION OF messages FOR VALUES FROM ('2001-01-01Z') TO ('2002-01-01Z');
	CREATE TABLE new PARTITION OF messages FOR VALUES FROM ('2101-01-01Z') TO ('2102-01-01Z');
	INSERT INTO messages SELECT i, '2001-01-01Z'::timestamptz + i * interval '1 day' + i % 2 * interval '100 years' FROM generate_series(1, 200) AS i`

func wantDropped(t *testing.T, r cleanup.PolicyResult, partitions ...string) {
	t.Helper()
	if diff := cmp.Diff(partitions, r.Dropped); diff != "" {
		t.Errorf("dropped partitions (-want +got):\n%s", diff)
	}
	for _, p := range partitions {
		if r.Err == nil && !strings.Contains(fmt.Sprint(r.Reasons), p+" by partition: ") {
			t.Errorf("no reason for %s in %q", p, r.Reasons)
		}
	}
}
