package postgres_test

import (
	"math"
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

// What a run leaves is told with the age of its oldest row: how long before the
// cutoff its time came. Held rows are none of it.
func TestCountTellsHowLongTheOldestIsOverdue(t *testing.T) {
	t.Parallel()
	const forever = time.Duration(math.MaxInt64)
	tests := []struct {
		name    string
		column  string
		oldest  string
		unit    cleanup.Unit
		zone    string
		overdue time.Duration // to the hour
	}{
		{name: "timestamptz", column: "timestamptz", oldest: "now() - interval '5 hours 30 minutes'", overdue: 5 * time.Hour},
		{name: "since ever", column: "timestamptz", oldest: "'-infinity'", overdue: forever},
		{name: "timestamp of a zone", column: "timestamp", oldest: "now() AT TIME ZONE 'Asia/Kathmandu' - interval '5 hours 30 minutes'",
			zone: "Asia/Kathmandu", overdue: 5 * time.Hour},
		{name: "date", column: "date", oldest: "'-infinity'", overdue: forever},
		{name: "milliseconds", column: "bigint", oldest: "extract(epoch FROM now() - interval '5 hours 30 minutes')::bigint * 1000",
			unit: cleanup.Milliseconds, overdue: 5 * time.Hour},
		{name: "the least number", column: "bigint", oldest: "-9223372036854775808", overdue: forever},
		{name: "floating point", column: "float8", oldest: "extract(epoch FROM now() - interval '5 hours 30 minutes')", overdue: 5 * time.Hour},
		{name: "nothing", column: "timestamptz", oldest: "NULL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := pgtest.Conn(t, url)
			pgtest.Exec(t, conn, "CREATE TABLE messages (held boolean, expires_at "+tt.column+"); CREATE INDEX ON messages (expires_at)")
			pgtest.Exec(t, conn, "INSERT INTO messages VALUES (false, "+tt.oldest+"), (false, NULL)")
			if tt.column == "timestamptz" {
				pgtest.Exec(t, conn, "INSERT INTO messages VALUES (true, now() - interval '10 years')")
			}
			s := newSetup(t, url)
			s.policy.Hold = "held"
			if tt.zone != "" {
				s.policy.TimeZone = tt.zone
			}
			if tt.unit != "" {
				s.policy.Unit = tt.unit
			}
			var counts cleanup.Counts
			s.begin = func(table *postgres.Table) {
				var err error
				if counts, err = table.Count(t.Context(), false); err != nil {
					t.Fatal(err)
				}
			}
			s.run(t)
			if got := counts.Overdue; got != tt.overdue && got.Truncate(time.Hour) != tt.overdue {
				t.Errorf("the oldest of %d rows is overdue by %v, want %v", counts.Backlog, got, tt.overdue)
			}
		})
	}
}
