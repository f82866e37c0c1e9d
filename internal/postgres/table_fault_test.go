package postgres_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

// midRun does something to the table when two batches are deleted and
// committed, while a single worker has no batch in work. It returns where the
// rows of these batches will stand.
func (s *setup) midRun(do func()) (before *int64) {
	before = new(int64)
	s.runner.Progress = func(p cleanup.Progress) {
		if p.Batches >= 2 && *before == 0 {
			*before = p.Deleted
			do()
		}
	}
	return before
}

// altered makes a table of 5,000 expired and 5,000 live rows, and a run in the
// middle of which the statements are executed.
func altered(t *testing.T, strategy cleanup.Strategy, statements string) (s *setup, conn *pgx.Conn, before *int64) {
	url := pgtest.Database(t)
	conn = pgtest.Conn(t, url)
	table(t, conn, 5_000)
	s = newSetup(t, url)
	s.policy.Strategy = strategy
	before = s.midRun(func() { pgtest.Exec(t, conn, statements) })
	return s, conn, before
}

func TestTableDroppedInMidRunEndsTheRunWithAnExactCount(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		s, _, before := altered(t, strategy, "DROP TABLE messages")
		r := s.run(t)
		wantKind(t, r, cleanup.Configuration)
		want(t, r, cleanup.OutcomeFailed, *before)
		if !strings.Contains(r.Err.Error(), `relation "public.messages" does not exist`) {
			t.Errorf("error: %v", r.Err)
		}
	})
}

// It may be gone before the first batch, too.
func TestTableDroppedBeforeTheFirstBatch(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		s, conn, _ := altered(t, strategy, "")
		s.begin = func(*postgres.Table) { pgtest.Exec(t, conn, "DROP TABLE messages") }
		r := s.run(t)
		wantKind(t, r, cleanup.Configuration)
		want(t, r, cleanup.OutcomeFailed, 0)
	})
}

func TestTableRenamedInMidRunIsLeftAlone(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		s, conn, before := altered(t, strategy, "ALTER TABLE messages RENAME TO archived")
		r := s.run(t)
		wantKind(t, r, cleanup.Configuration)
		want(t, r, cleanup.OutcomeFailed, *before)
		if left := pgtest.Int(t, conn, "SELECT count(*) FROM archived"); left != 10_000-*before {
			t.Errorf("%d rows are left under the new name, want %d", left, 10_000-*before)
		}
	})
}

// Another table under the name is not the one that was planned for: the guards
// have not seen it. The next run plans for it.
func TestTableReplacedInMidRunIsLeftForTheNextRun(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		s, conn, before := altered(t, strategy, `
			ALTER TABLE messages RENAME TO archived;
			CREATE TABLE messages (LIKE archived INCLUDING ALL);
			INSERT INTO messages SELECT * FROM archived`)
		r := s.run(t)
		want(t, r, cleanup.OutcomeIncomplete, *before)
		for name, rows := range map[string]int64{"messages": 10_000 - *before, "archived": 10_000 - *before} {
			if left := pgtest.Int(t, conn, "SELECT count(*) FROM "+name); left != rows {
				t.Errorf("%d rows are left in %s, want %d", left, name, rows)
			}
		}
		wantWarning(t, r, "public.messages")
		s.runner.Progress = nil
		want(t, s.run(t), cleanup.OutcomeComplete, 5_000-*before)
	})
}

func wantWarning(t *testing.T, r cleanup.PolicyResult, text string) {
	t.Helper()
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], text) {
		t.Errorf("warnings %q, want one of %s", r.Warnings, text)
	}
}

// The cutoff was written for the column's type. As another one it means another
// instant: here one that is nine hours later.
func TestColumnAlteredInMidRunLosesNoLiveRow(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		pgtest.Exec(t, conn, `
			CREATE TABLE messages (id bigint PRIMARY KEY, expires_at timestamp);
			CREATE INDEX ON messages (expires_at);
			INSERT INTO messages SELECT i, (now() + CASE WHEN i <= 5000 THEN -1 ELSE 1 END * interval '1 hour') AT TIME ZONE 'Asia/Tokyo'
			FROM generate_series(1, 10000) AS i;
			ANALYZE messages`)
		s := newSetup(t, url)
		s.policy.Strategy, s.policy.TimeZone = strategy, "Asia/Tokyo"
		s.midRun(func() {
			pgtest.Exec(t, conn, "ALTER TABLE messages ALTER expires_at TYPE timestamptz USING expires_at AT TIME ZONE 'Asia/Tokyo'")
		})
		r := s.run(t)
		if live := pgtest.Int(t, conn, "SELECT count(*) FROM messages WHERE id > 5000"); live != 5_000 {
			t.Errorf("%d live rows are left, want 5,000", live)
		}
		wantKind(t, r, cleanup.Incomplete)
		if gone := 10_000 - pgtest.Int(t, conn, "SELECT count(*) FROM messages"); gone != r.Deleted {
			t.Errorf("reports %d rows, %d are gone", r.Deleted, gone)
		}
		s.runner.Progress = nil
		want(t, s.run(t), cleanup.OutcomeComplete, 5_000-r.Deleted)
	})
}

func TestColumnDroppedInMidRunEndsTheRunWithAnExactCount(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		s, conn, before := altered(t, strategy, "ALTER TABLE messages DROP COLUMN expires_at")
		r := s.run(t)
		wantKind(t, r, cleanup.Configuration)
		want(t, r, cleanup.OutcomeFailed, *before)
		if left := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); left != 10_000-*before {
			t.Errorf("%d rows are left, want %d", left, 10_000-*before)
		}
	})
}

// What the truncation took is not counted: this run did not delete it.
func TestTableTruncatedInMidRun(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		s, conn, before := altered(t, strategy, `
			TRUNCATE messages;
			INSERT INTO messages SELECT i, '', now() + interval '1 hour' FROM generate_series(1, 100) AS i;
			INSERT INTO messages SELECT i, '', now() - interval '2 minutes' FROM generate_series(101, 200) AS i`)
		want(t, s.run(t), cleanup.OutcomeComplete, *before+100)
		if left := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); left != 100 {
			t.Errorf("%d rows are left, want 100", left)
		}
	})
}

// The rows that are left move to the front of the table, where no block range
// looks again in this pass.
func TestRowsMovedInMidRunAreDeletedAndNoOthers(t *testing.T) {
	for _, statement := range []string{
		"VACUUM FULL messages", "CLUSTER messages USING messages_pkey",
		"ALTER TABLE messages ALTER body TYPE varchar, ADD late timestamptz DEFAULT clock_timestamp()", // rewrites it
	} {
		t.Run(strings.Fields(statement)[0], func(t *testing.T) {
			for _, workers := range []int{1, 3} {
				t.Run(fmt.Sprint(workers), func(t *testing.T) {
					eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
						s, conn, _ := altered(t, strategy, statement)
						s.runner.Workers = workers
						want(t, s.run(t), cleanup.OutcomeComplete, 5_000)
						if left := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); left != 5_000 {
							t.Errorf("%d rows are left, want 5,000", left)
						}
					})
				})
			}
		})
	}
}

// partitioned is a table of three partitions of 2,000 expired rows each, a
// fourth of 100 live ones, and a fifth that is not attached.
func partitioned(t *testing.T, strategy cleanup.Strategy, statements string) (*setup, *pgx.Conn) {
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	pgtest.Exec(t, conn, `
		CREATE TABLE messages (id int, expires_at timestamptz) PARTITION BY LIST (id);
		CREATE INDEX ON messages (expires_at);
		CREATE TABLE p1 PARTITION OF messages FOR VALUES IN (1);
		CREATE TABLE p2 PARTITION OF messages FOR VALUES IN (2);
		CREATE TABLE p3 PARTITION OF messages FOR VALUES IN (3);
		CREATE TABLE live PARTITION OF messages FOR VALUES IN (4);
		CREATE TABLE p5 (LIKE messages INCLUDING ALL);
		INSERT INTO messages SELECT p, now() - i * interval '1 minute' FROM generate_series(1, 3) AS p, generate_series(1, 2000) AS i;
		INSERT INTO messages SELECT 4, now() + interval '1 hour' FROM generate_series(1, 100);
		INSERT INTO p5 SELECT 5, now() - i * interval '1 minute' FROM generate_series(1, 2000) AS i`)
	pgtest.Exec(t, conn, "ANALYZE")
	s := newSetup(t, url)
	s.policy.Strategy = strategy
	s.midRun(func() { pgtest.Exec(t, conn, statements) })
	return s, conn
}

// Whoever detaches a partition wants to keep it.
func TestPartitionDetachedInMidRunIsLeftAlone(t *testing.T) {
	for _, how := range []string{"", " CONCURRENTLY"} {
		t.Run("DETACH"+how, func(t *testing.T) {
			eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
				needsTIDRange(t) // the same version brought CONCURRENTLY
				s, conn := partitioned(t, strategy, "ALTER TABLE messages DETACH PARTITION p2"+how)
				r := s.run(t)
				want(t, r, cleanup.OutcomeComplete, 4_000)
				wantWarning(t, r, "public.p2")
				if left := pgtest.Int(t, conn, "SELECT count(*) FROM p2"); left != 2_000 {
					t.Errorf("%d rows are left in the detached partition, want 2,000", left)
				}
				if left := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); left != 100 {
					t.Errorf("%d rows are left in the table, want 100", left)
				}
			})
		})
	}
}

// So do tools that manage partitions, every night.
func TestPartitionDroppedInMidRunDoesNotHinderTheOthers(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		s, conn := partitioned(t, strategy, "DROP TABLE p2")
		r := s.run(t)
		want(t, r, cleanup.OutcomeComplete, 4_000)
		wantWarning(t, r, "public.p2")
		if left := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); left != 100 {
			t.Errorf("%d rows are left, want 100", left)
		}
	})
}

func TestPartitionAttachedInMidRunIsFoundByTheVerification(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		s, conn := partitioned(t, strategy, "ALTER TABLE messages ATTACH PARTITION p5 FOR VALUES IN (5)")
		r := s.run(t)
		want(t, r, cleanup.OutcomeIncomplete, 6_000)
		if r.Refused != 0 || r.Backlog == nil || *r.Backlog != 2_000 {
			t.Errorf("refused %d, backlog %v; want a backlog of 2,000", r.Refused, r.Backlog)
		}
		wantWarning(t, r, "public.p5")
		s.runner.Progress = nil
		want(t, s.run(t), cleanup.OutcomeComplete, 2_000)
		if left := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); left != 100 {
			t.Errorf("%d rows are left, want 100", left)
		}
	})
}

// A table lock that lasts is waited for, a minute at most; nothing is lost by it.
func TestTableLockedInMidRunIsWaitedFor(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		s, conn, _ := altered(t, strategy, "BEGIN; LOCK TABLE messages")
		retries := 0
		s.runner.Log = slog.New(onEvent{cleanup.EventRetry, func() {
			if retries++; retries == 3 {
				pgtest.Exec(t, conn, "COMMIT")
			}
		}})
		r := s.run(t)
		want(t, r, cleanup.OutcomeComplete, 5_000)
		if retries < 3 {
			t.Error("the run did not wait")
		}
	})
}
