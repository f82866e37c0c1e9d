package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

// Without statistics, or with some from before most rows came, a look at a
// hundred pages tells which strategy suits the table.
func TestABoundedSampleDecidesWhereStatisticsAreStaleOrMissing(t *testing.T) {
	needsTIDRange(t)
	const half, few, shuffled, ordered = 0.5, 0.01, "hashint8(i)", "i"
	tests := []struct {
		name    string
		expired float64
		order   string
		before  string // before the rows come
		after   string
		want    cleanup.Strategy
		sampled bool
	}{
		{"never analyzed, shuffled, half expired", half, shuffled, "", "", cleanup.Heap, true},
		{"never analyzed, in order, half expired", half, ordered, "", "", cleanup.Index, true},
		{"never analyzed, shuffled, few expired", few, shuffled, "", "", cleanup.Index, true},
		{"stale, shuffled, half expired", half, shuffled,
			"INSERT INTO messages SELECT -i, '', now() + interval '1 day' FROM generate_series(1, 1000) AS i; ANALYZE messages", "", cleanup.Heap, true},
		{"analyzed, shuffled, half expired", half, shuffled, "", "ANALYZE messages", cleanup.Heap, false},
		{"analyzed, in order, half expired", half, ordered, "", "ANALYZE messages", cleanup.Index, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := pgtest.Conn(t, url)
			pgtest.Exec(t, conn, `
				CREATE TABLE messages (id bigint PRIMARY KEY, body text NOT NULL, expires_at timestamptz) WITH (autovacuum_enabled = off);
				CREATE INDEX ON messages (expires_at);`+tt.before)
			const rows = 20_000
			expired := int(rows * tt.expired)
			pgtest.Exec(t, conn, fmt.Sprintf(`
				INSERT INTO messages
				SELECT i, repeat('x', 200), now() - interval '1 minute' + (i - %d) * interval '1 second' + CASE WHEN i > %[1]d THEN interval '1 day' ELSE '0' END
				FROM generate_series(1, %d) AS i ORDER BY %s`, expired, rows, tt.order))
			flushStatistics(t, conn)
			if tt.after != "" {
				pgtest.Exec(t, conn, tt.after)
				pgtest.Eventually(t, "the statistics to know of it", func() bool { // until PostgreSQL 14 a process collects them
					return pgtest.Int(t, conn, "SELECT pg_stat_get_mod_since_analyze('messages'::regclass)") == 0
				})
			}

			r := newSetup(t, url).run(t)
			want(t, r, cleanup.OutcomeComplete, int64(expired))
			if r.Strategy != string(tt.want) {
				t.Errorf("strategy %s, want %s", r.Strategy, tt.want)
			}
			if sampled := strings.Contains(r.Reasons[0], "a sample of"); sampled != tt.sampled {
				t.Errorf("because %q; sampled: want %t", r.Reasons[0], tt.sampled)
			}
		})
	}
}

// flushStatistics waits until the server knows how many rows were changed.
func flushStatistics(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	pgtest.Eventually(t, "the statistics to know the rows", func() bool {
		return pgtest.Int(t, conn, "SELECT pg_stat_get_tuples_inserted('messages'::regclass)") >= 20_000
	})
}
