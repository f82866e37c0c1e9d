package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

// status reads the status of the setup's policy.
func (s *setup) status(t *testing.T) cleanup.Status {
	t.Helper()
	s.opts.URL = s.url
	db, err := postgres.Open(t.Context(), s.opts)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	server, err := db.Server(t.Context(), s.now)
	if err != nil {
		t.Fatal(err)
	}
	status, err := db.Status(t.Context(), s.policy, server)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

func exactly(rows int64) cleanup.Count { return cleanup.Count{Rows: rows, Is: cleanup.Exactly} }

// day sums up what expires in the next 24 hours, and tells what expires in the
// first 3 of them.
func day(s cleanup.Status) (all, soon cleanup.Count) {
	all, soon = exactly(0), exactly(0)
	for _, span := range s.Day {
		all = all.Plus(span.Count)
		if span.From.Before(s.Day[0].From.Add(3 * time.Hour)) {
			soon = soon.Plus(span.Count)
		}
	}
	return all, soon
}

// The same rows in every kind of column: 2 overdue, 1 held, 3 soon, 4 within a
// day, 5 later, 6 that never expire, and one that the policy does not cover.
func TestStatusOfEveryKindOfColumn(t *testing.T) {
	t.Parallel()
	const epoch = "extract(epoch FROM now() + %s)"
	tests := []struct {
		column, at string // the value of a time relative to now
		unit       cleanup.Unit
		zone       string
		retention  time.Duration
		never      string
	}{
		{column: "timestamptz", at: "now() + %s", never: "infinity"},
		{column: "timestamptz", at: "now() + %s - interval '30 days'", retention: 30 * 24 * time.Hour},
		{column: "timestamp", at: "(now() + %s) AT TIME ZONE 'Asia/Kathmandu'", zone: "Asia/Kathmandu", never: "infinity"},
		{column: "bigint", at: "(" + epoch + " * 1000)::bigint", unit: cleanup.Milliseconds},
		{column: "integer", at: epoch + "::int"},
		{column: "float8", at: epoch, never: "infinity"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.column, " ", tt.unit, tt.retention), func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := pgtest.Conn(t, url)
			pgtest.Exec(t, conn, "CREATE TABLE messages (kind text, legal_hold boolean, expires_at "+tt.column+"); CREATE INDEX ON messages (expires_at)")
			insert := func(rows int, kind, hold, interval string) {
				pgtest.Exec(t, conn, fmt.Sprintf("INSERT INTO messages SELECT '%s', %s, %s FROM generate_series(1, %d)",
					kind, hold, fmt.Sprintf(tt.at, "interval '"+interval+"'"), rows))
			}
			insert(2, "chat", "NULL", "-5 hours -30 minutes")
			insert(1, "chat", "true", "-9 hours")
			insert(3, "chat", "false", "1 minute")
			insert(4, "chat", "false", "23 hours 30 minutes")
			insert(5, "chat", "false", "25 hours")
			insert(1, "letter", "false", "1 hour")
			insert(1, "letter", "false", "-1 hour")
			insert(1, "chat", "true", "2 hours")
			pgtest.Exec(t, conn, "INSERT INTO messages SELECT 'chat', false, NULL FROM generate_series(1, 6)")
			if tt.never != "" {
				pgtest.Exec(t, conn, "INSERT INTO messages VALUES ('chat', false, '"+tt.never+"')")
			}
			s := newSetup(t, url)
			s.policy.Where, s.policy.Hold, s.policy.Retention = "kind = 'chat' -- not the letters", "legal_hold -- nor these", tt.retention
			if tt.unit != "" {
				s.policy.Unit = tt.unit
			}
			if tt.zone != "" {
				s.policy.TimeZone = tt.zone
			}
			got := s.status(t)
			if got.Overdue == nil || got.Overdue.Truncate(time.Hour) != 5*time.Hour {
				t.Errorf("the oldest is overdue for %v, want 5.5 hours", got.Overdue)
			}
			all, soon := day(got)
			counts := []cleanup.Count{got.Backlog, got.Held, soon, all, got.Later, got.Null}
			if diff := cmp.Diff([]cleanup.Count{exactly(2), exactly(1), exactly(3), exactly(7), exactly(5), exactly(6)}, counts); diff != "" {
				t.Errorf("backlog, held, soon, within a day, later, NULL (-want +got):\n%s", diff)
			}
		})
	}
}

// A day expires as a whole, at its midnight.
func TestStatusOfDates(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	pgtest.Exec(t, pgtest.Conn(t, url), `CREATE TABLE messages AS
		SELECT (now() AT TIME ZONE 'UTC')::date + n AS expires_at FROM generate_series(-1, 2) AS n`)
	got := newSetup(t, url).status(t)
	all, _ := day(got)
	if got.Backlog != exactly(2) || all != exactly(1) || got.Later != exactly(1) {
		t.Errorf("backlog %v, within a day %v, later %v; want yesterday and today, tomorrow, the day after", got.Backlog, all, got.Later)
	}
}

func TestStatusOfAnEmptyTable(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	pgtest.Exec(t, pgtest.Conn(t, url), "CREATE TABLE messages (expires_at timestamptz)")
	got := newSetup(t, url).status(t)
	all, _ := day(got)
	if got.Backlog != exactly(0) || got.Overdue == nil || *got.Overdue != 0 || all != exactly(0) || got.Later != exactly(0) {
		t.Errorf("an empty table has the status %+v", got)
	}
}

// slowAfter is a condition that takes a second for each row behind the first n,
// as a table does that is large and cold.
func slowAfter(n int) string {
	return fmt.Sprintf("CASE WHEN id > %d THEN pg_sleep(1) IS NOT NULL ELSE true END", n)
}

func TestStatusOfATableThatIsTooLargeToCount(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	pgtest.Exec(t, conn, `
		CREATE TABLE messages AS SELECT i AS id, now() + (i - 5000) * interval '1 minute' AS expires_at FROM generate_series(1, 10000) AS i;
		CREATE INDEX ON messages (expires_at)`)
	s := newSetup(t, url)
	s.policy.Where = slowAfter(1000)

	// Nobody knows how many come, as long as there are no statistics.
	got := s.status(t)
	if want := (cleanup.Count{Rows: 100, Is: cleanup.AtLeast}); got.Backlog != want {
		t.Errorf("backlog is %v, want %v", got.Backlog, want)
	}
	if got.Overdue == nil {
		t.Error("the oldest was not found, though it is the first of the index")
	}
	if all, _ := day(got); all.Is != cleanup.Unknown || got.Later.Is != cleanup.Unknown {
		t.Errorf("within a day %v, later %v; want that they are not known", all, got.Later)
	}

	// The planner takes the condition for true of a half of the rows.
	pgtest.Exec(t, conn, "ANALYZE messages")
	got = s.status(t)
	all, _ := day(got)
	if all.Is != cleanup.About || all.Rows < 500 || all.Rows > 1500 || got.Later.Is != cleanup.About || got.Later.Rows < 1000 {
		t.Errorf("within a day %v, later %v; want about 720 and 1780", all, got.Later)
	}

	s.policy.Where = slowAfter(0)
	if got := s.status(t); got.Backlog.Is != cleanup.Unknown || got.Overdue != nil {
		t.Errorf("backlog is %v, the oldest overdue for %v; want that neither is known", got.Backlog, got.Overdue)
	}
}

// Whatever the statistics say, it reads the expiry index and, where a vacuum has
// been, nothing else: here they say that all rows are expired and none are NULL.
func TestStatusReadsTheIndexAlone(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	pgtest.Exec(t, conn, `
		CREATE TABLE messages (body text, expires_at timestamptz) WITH (autovacuum_enabled = off);
		INSERT INTO messages SELECT repeat('x', 500), now() - interval '1 day' FROM generate_series(1, 1000);
		CREATE INDEX ON messages (expires_at);
		ANALYZE messages;
		INSERT INTO messages SELECT repeat('x', 500), now() + i * interval '10 seconds' FROM generate_series(1, 50000) AS i`)
	pgtest.Exec(t, conn, "VACUUM (FREEZE) messages") // waits for pages that the checkpointer has
	// What was read until now is told some time later.
	pgtest.Eventually(t, "the statistics of what was written", func() bool {
		return pgtest.Int(t, conn, "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'messages'") == 51_000
	})
	pgtest.Exec(t, conn, "SELECT pg_stat_reset_single_table_counters('messages'::regclass)")
	got := newSetup(t, url).status(t)
	if all, _ := day(got); got.Backlog != exactly(1000) || all.Rows < 8600 {
		t.Fatalf("backlog %v, within a day %v", got.Backlog, all)
	}
	pgtest.Eventually(t, "the statistics of what was read", func() bool {
		return pgtest.Int(t, conn, "SELECT idx_scan FROM pg_stat_user_tables WHERE relname = 'messages'") >= 5
	})
	if n := pgtest.Int(t, conn, "SELECT seq_scan * 1000000 + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'messages'"); n != 0 {
		t.Errorf("scans of the table, and rows that were looked up: %d, want none", n)
	}
}

func TestStatusOfPartitions(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	pgtest.Exec(t, pgtest.Conn(t, url), `
		CREATE TABLE messages (expires_at timestamptz) PARTITION BY RANGE (expires_at);
		CREATE TABLE messages_old PARTITION OF messages FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
		CREATE TABLE messages_new PARTITION OF messages FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
		INSERT INTO messages VALUES ('2020-01-01'), (now() - interval '1 second'), (now() + interval '1 hour'), (now() + interval '1 year')`)
	got := newSetup(t, url).status(t)
	all, _ := day(got)
	if got.Backlog != exactly(2) || all != exactly(1) || got.Later != exactly(1) {
		t.Errorf("backlog %v, within a day %v, later %v", got.Backlog, all, got.Later)
	}
}
