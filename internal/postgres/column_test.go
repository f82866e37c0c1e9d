package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

// Values on both sides of the cutoff, as near as the type can tell, for every
// kind of column. The run's cutoff is fixed by its retention: exactly as long
// as from a fixed instant until now cannot be configured, so each value is
// given relative to the server's clock, an hour away where a type is coarse.
func TestEveryKindOfColumn(t *testing.T) {
	cases := []struct {
		column  string
		zone    string
		unit    cleanup.Unit
		expired []string // SQL expressions
		live    []string
	}{
		{column: "timestamptz",
			expired: []string{"now() - interval '1 microsecond'", "now()", "'-infinity'", "'4713-01-01 BC'"},
			live:    []string{"now() + interval '1 hour'", "'infinity'", "NULL", "'294276-12-31'"}},
		{column: "timestamptz(0)", expired: []string{"now() - interval '1 minute'"}, live: []string{"now() + interval '1 hour'"}},
		{column: "timestamp",
			expired: []string{"now() AT TIME ZONE 'UTC' - interval '1 minute'", "'-infinity'"},
			live:    []string{"now() AT TIME ZONE 'UTC' + interval '10 minutes'", "'infinity'", "NULL"}},
		{column: "timestamp", zone: "Asia/Kathmandu",
			expired: []string{"now() AT TIME ZONE 'Asia/Kathmandu' - interval '1 minute'"},
			live:    []string{"now() AT TIME ZONE 'Asia/Kathmandu' + interval '10 minutes'"}},
		{column: "date",
			expired: []string{"(now() AT TIME ZONE 'UTC')::date - 1", "(now() AT TIME ZONE 'UTC')::date", "'-infinity'"},
			live:    []string{"(now() AT TIME ZONE 'UTC')::date + 1", "'infinity'", "NULL"}},
		{column: "date", zone: "Pacific/Kiritimati",
			expired: []string{"(now() AT TIME ZONE 'Pacific/Kiritimati')::date"},
			live:    []string{"(now() AT TIME ZONE 'Pacific/Kiritimati')::date + 1"}},
		{column: "bigint", unit: cleanup.Seconds,
			expired: []string{"extract(epoch FROM now())::bigint - 1", "0", "-9223372036854775808"},
			live:    []string{"extract(epoch FROM now())::bigint + 3600", "9223372036854775807", "NULL"}},
		{column: "integer", unit: cleanup.Seconds,
			expired: []string{"extract(epoch FROM now())::int - 1", "-2147483648"}, live: []string{"2147483647", "extract(epoch FROM now())::int + 3600"}},
		{column: "bigint", unit: cleanup.Milliseconds,
			expired: []string{"(extract(epoch FROM now()) * 1000)::bigint - 1"}, live: []string{"(extract(epoch FROM now()) * 1000)::bigint + 3600000"}},
		{column: "integer", unit: cleanup.Milliseconds, // too small for today: all are of 1970
			expired: []string{"2147483647", "0"}, live: []string{"NULL"}},
		{column: "bigint", unit: cleanup.Microseconds,
			expired: []string{"(extract(epoch FROM now()) * 1000000)::bigint - 1"}, live: []string{"(extract(epoch FROM now()) * 1000000)::bigint + 3600000000"}},
		{column: "double precision", unit: cleanup.Seconds,
			expired: []string{"extract(epoch FROM now()) - 0.001", "'-Infinity'"},
			live:    []string{"extract(epoch FROM now()) + 3600", "'Infinity'", "'NaN'", "NULL"}},
		{column: "double precision", unit: cleanup.Milliseconds,
			expired: []string{"extract(epoch FROM now()) * 1000 - 1"}, live: []string{"extract(epoch FROM now()) * 1000 + 3600000"}},
	}
	for _, c := range cases {
		t.Run(fmt.Sprint(c.column, " ", c.zone, c.unit), func(t *testing.T) {
			eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
				url := pgtest.Database(t)
				conn := pgtest.Conn(t, url)
				pgtest.Exec(t, conn, "CREATE TABLE messages (lives boolean, expires_at "+c.column+"); CREATE INDEX ON messages (expires_at)")
				for _, value := range c.expired {
					pgtest.Exec(t, conn, "INSERT INTO messages SELECT false, "+value+" FROM generate_series(1, 20)")
				}
				for _, value := range c.live {
					pgtest.Exec(t, conn, "INSERT INTO messages VALUES (true, "+value+")")
				}
				s := newSetup(t, url)
				s.policy.Strategy, s.ledger = strategy, true
				s.runner.BatchMaxRows = 7 // windows and ties in every value
				if c.zone != "" {
					s.policy.TimeZone = c.zone
				}
				if c.unit != "" {
					s.policy.Unit = c.unit
				}
				want(t, s.run(t), cleanup.OutcomeComplete, 20*int64(len(c.expired)))
				if pgtest.Int(t, conn, "SELECT count(*) FROM messages WHERE lives") != int64(len(c.live)) {
					t.Error("a row that had not expired is gone")
				}
			})
		})
	}
}

func TestRetentionKeepsRowsAfterTheirTime(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	pgtest.Exec(t, conn, `CREATE TABLE log (id int, created_at timestamptz);
		CREATE INDEX ON log (created_at);
		INSERT INTO log VALUES (1, now() - interval '2 days 1 second'), (2, now() - interval '2 days' + interval '1 hour')`)
	s := newSetup(t, url)
	s.policy.Table, s.policy.Column, s.policy.Retention = "log", "created_at", 48*time.Hour
	want(t, s.run(t), cleanup.OutcomeComplete, 1)
	if pgtest.Int(t, conn, "SELECT id FROM log") != 2 {
		t.Error("the wrong row is left")
	}
}

// A timestamp without zone means what the policy says, in whatever zones the
// server and the role live.
func TestTimestampIsReadInThePolicysZoneOnly(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		cluster := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"timezone": "America/New_York", "datestyle": "SQL, DMY"}})
		url := cluster.URL("postgres")
		conn := pgtest.Conn(t, url)
		pgtest.Exec(t, conn, `CREATE TABLE messages (lives boolean, expires_at timestamp); CREATE INDEX ON messages (expires_at);
			INSERT INTO messages SELECT true, now() AT TIME ZONE 'UTC' + i * interval '10 minutes' FROM generate_series(1, 100) AS i;
			INSERT INTO messages SELECT false, now() AT TIME ZONE 'UTC' - i * interval '10 minutes' FROM generate_series(1, 100) AS i`)
		role, asRole := pgtest.Role(t, conn, url)
		pgtest.Exec(t, conn, "ALTER ROLE "+role+" SET timezone = 'Asia/Tokyo'; ALTER ROLE "+role+" SET datestyle = 'German'; GRANT ALL ON messages TO "+role)
		s := newSetup(t, asRole)
		s.policy.Strategy = strategy
		s.runner.BatchMaxRows = 30
		want(t, s.run(t), cleanup.OutcomeComplete, 100)
		if pgtest.Int(t, conn, "SELECT count(*) FROM messages WHERE lives") != 100 {
			t.Error("a row that had not expired is gone")
		}
	})
}
