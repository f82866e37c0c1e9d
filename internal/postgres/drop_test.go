package postgres_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

// months makes a table with a partition for each of n expired months, of 100
// rows each, and one for the rows that have not expired, of 100 more.
func months(t *testing.T, conn *pgx.Conn, n int) {
	t.Helper()
	pgtest.Exec(t, conn, `
		CREATE TABLE messages (id int, body text, expires_at timestamptz) PARTITION BY RANGE (expires_at);
		CREATE INDEX ON messages (expires_at); -- what is not dropped needs one on PostgreSQL 13
		CREATE TABLE live PARTITION OF messages FOR VALUES FROM ('2101-01-01Z') TO (MAXVALUE);
		INSERT INTO messages SELECT i, 'live', '2102-01-01Z' FROM generate_series(1, 100) AS i`)
	for i := range n {
		pgtest.Exec(t, conn, fmt.Sprintf(`
			CREATE TABLE m%02[1]d PARTITION OF messages FOR VALUES FROM ('%[2]d-01-01Z') TO ('%[3]d-01-01Z');
			INSERT INTO messages SELECT i, 'old', '%[2]d-01-01Z'::timestamptz + i * interval '1 day' FROM generate_series(1, 100) AS i`,
			i, 2000+i, 2001+i))
	}
}

// wantLive checks that the rows that have not expired are still there, and
// nothing else is, in no table.
func wantLive(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	if n := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); n != 100 {
		t.Errorf("%d rows are left, want 100", n)
	}
	if n := pgtest.Int(t, conn, "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relname ~ '^m[0-9]+$'"); n != 0 {
		t.Errorf("%d expired partitions are left", n)
	}
}

// eachWay runs a test with partitions that are detached concurrently, and with
// such that are not because there is a default partition beside them.
func eachWay(t *testing.T, test func(t *testing.T, s *setup, conn *pgx.Conn)) {
	for _, way := range []string{"concurrently", "with a default partition"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := pgtest.Conn(t, url)
			months(t, conn, 3)
			if way == "concurrently" {
				needsTIDRange(t) // the same version brought both
			} else {
				pgtest.Exec(t, conn, "CREATE TABLE rest PARTITION OF messages DEFAULT")
			}
			s := newSetup(t, url)
			s.policy.Strategy, s.ledger = cleanup.Partition, true
			test(t, s, conn)
		})
	}
}

func TestExpiredPartitionsAreDroppedAndTheirRowsCounted(t *testing.T) {
	eachWay(t, func(t *testing.T, s *setup, conn *pgx.Conn) {
		events := &bytes.Buffer{}
		s.runner.Log = slog.New(slog.NewTextHandler(events, nil))
		r := s.run(t)
		want(t, r, cleanup.OutcomeComplete, 300)
		wantDropped(t, r, "public.m00", "public.m01", "public.m02")
		wantLive(t, conn)
		if n := strings.Count(events.String(), `msg="partition dropped"`); n != 3 || !strings.Contains(events.String(), "partition=public.m01 rows=100 duration_ms=") {
			t.Errorf("%d partitions logged in:\n%s", n, events)
		}
		want(t, s.run(t), cleanup.OutcomeComplete, 0)
	})
}

func TestWorkersDropPartitions(t *testing.T) {
	eachWay(t, func(t *testing.T, s *setup, conn *pgx.Conn) {
		s.runner.Workers = 3
		r := s.run(t)
		want(t, r, cleanup.OutcomeComplete, 300)
		wantLive(t, conn)
	})
}

// A reader of the whole table that stays in its transaction holds a lock on
// every partition. Nobody else waits; the run waits in vain, says for whom, and
// the next one goes on.
func TestPartitionThatSomebodyReadsIsLeftAndTheNextRunGoesOn(t *testing.T) {
	eachWay(t, func(t *testing.T, s *setup, conn *pgx.Conn) {
		events := &lockedBuffer{}
		s.opts.Log = slog.New(slog.NewTextHandler(events, nil))
		reader, application := pgtest.Conn(t, s.url), pgtest.Conn(t, s.url)
		pgtest.Exec(t, reader, "SET application_name = 'reporting'; BEGIN; SELECT count(*) FROM messages")
		stop := use(t, application)
		r := s.run(t)
		stop()
		want(t, r, cleanup.OutcomeIncomplete, 0)
		if r.Locked != 300 || r.Backlog == nil || *r.Backlog != 300 {
			t.Errorf("locked %d, backlog %v, want 300", r.Locked, r.Backlog)
		}
		if text := events.String(); !strings.Contains(text, "(reporting), idle in transaction since") {
			t.Errorf("nothing is said of the reader: %s", text)
		}
		pgtest.Exec(t, reader, "COMMIT")
		r = s.run(t)
		want(t, r, cleanup.OutcomeComplete, 300)
		wantLive(t, conn)
	})
}

// While the run waits for the reader's lock, it has shut out nobody.
func TestPartitionIsDroppedWhenItsReaderIsDone(t *testing.T) {
	eachWay(t, func(t *testing.T, s *setup, conn *pgx.Conn) {
		reader := pgtest.Conn(t, s.url)
		pgtest.Exec(t, reader, "BEGIN; SELECT count(*) FROM messages")
		done := false
		s.runner.Log = slog.New(onEvent{cleanup.EventRetry, func() {
			if !done {
				done = true
				pgtest.Exec(t, reader, "COMMIT")
			}
		}})
		r := s.run(t)
		want(t, r, cleanup.OutcomeComplete, 300)
		wantLive(t, conn)
		if !done {
			t.Error("the run did not wait for the reader")
		}
	})
}

// Rows that come and go in other partitions meanwhile are nobody's business.
func TestOtherPartitionsAreInUseMeanwhile(t *testing.T) {
	eachWay(t, func(t *testing.T, s *setup, conn *pgx.Conn) {
		stop := use(t, pgtest.Conn(t, s.url))
		r := s.run(t)
		stop()
		want(t, r, cleanup.OutcomeComplete, 300)
		wantLive(t, conn)
	})
}

// use uses the table as an application would, all partitions of it, until it is
// told to stop. It fails if it has to wait for seconds.
func use(t *testing.T, conn *pgx.Conn) (stop func()) {
	stopped := make(chan struct{})
	var group sync.WaitGroup
	pgtest.Exec(t, conn, "SET lock_timeout = '5s'")
	group.Go(func() {
		for {
			select {
			case <-stopped:
				return
			default:
				pgtest.Exec(t, conn, `SELECT count(*) FROM messages; INSERT INTO messages VALUES (-1, 'new', '2102-01-01Z')`)
				pgtest.Exec(t, conn, `UPDATE messages SET body = 'newer' WHERE id = -1; DELETE FROM messages WHERE id = -1`)
			}
		}
	})
	return func() {
		close(stopped)
		group.Wait()
	}
}

// A run may end at any step. The comment tells what it was about, and the next
// run goes on from there.
func TestHalfDroppedPartitionIsFinishedByTheNextRun(t *testing.T) {
	t.Parallel()
	needsTIDRange(t)
	const mark = "message-cleanup detached this partition to drop it; to undo: " +
		"ALTER TABLE public.messages ATTACH PARTITION public.m01 FOR VALUES FROM ('2001-01-01 00:00:00+00') TO ('2002-01-01 00:00:00+00')"
	steps := []struct {
		name string
		do   func(t *testing.T, conn, reader *pgx.Conn)
		left []string // what is to be dropped, by name
	}{
		{"marked", func(*testing.T, *pgx.Conn, *pgx.Conn) {}, nil},
		{"being detached", func(t *testing.T, conn, reader *pgx.Conn) {
			pgtest.Exec(t, reader, "BEGIN; SELECT count(*) FROM messages")
			pgtest.Exec(t, conn, "SET lock_timeout = '10ms'")
			_, err := conn.Exec(t.Context(), "ALTER TABLE messages DETACH PARTITION m01 CONCURRENTLY")
			if err == nil {
				t.Error("the DETACH did not wait")
			}
			pgtest.Exec(t, reader, "COMMIT")
		}, nil},
		{"detached", func(t *testing.T, conn, _ *pgx.Conn) {
			pgtest.Exec(t, conn, "ALTER TABLE messages DETACH PARTITION m01 CONCURRENTLY")
		}, nil},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := pgtest.Conn(t, url)
			months(t, conn, 3)
			pgtest.Exec(t, conn, "COMMENT ON TABLE m01 IS '"+strings.ReplaceAll(mark, "'", "''")+"\nnot ''the first''\\'")
			step.do(t, conn, pgtest.Conn(t, url))

			s := newSetup(t, url)
			_, plan := planned(t, url, s.policy) // auto
			if detached := step.name != "marked"; detached != strings.Contains(fmt.Sprint(plan.Warnings), "public.m01, which an earlier run detached") {
				t.Errorf("warnings for strategy auto: %q", plan.Warnings)
			}
			s.policy.Strategy = cleanup.Partition
			r := s.run(t)
			want(t, r, cleanup.OutcomeComplete, 300)
			wantLive(t, conn)
		})
	}
}

// What is detached and marked, but not for this table or not expired, is left.
func TestDetachedTableThatIsNotToBeDroppedIsLeft(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	months(t, conn, 1)
	const mark = "message-cleanup detached this partition to drop it; to undo: ALTER TABLE public."
	pgtest.Exec(t, conn, `
		CREATE TABLE other (LIKE messages); COMMENT ON TABLE other IS '`+mark+`messages_2 ATTACH PARTITION public.other DEFAULT';
		CREATE TABLE unmarked (LIKE messages); COMMENT ON TABLE unmarked IS 'detached from public.messages';
		CREATE TABLE fresh (LIKE messages); COMMENT ON TABLE fresh IS '`+mark+`messages ATTACH PARTITION public.fresh DEFAULT';
		INSERT INTO fresh VALUES (1, 'old', '2000-01-01'), (2, 'new', '2101-01-01');
		CREATE TABLE never (LIKE messages); COMMENT ON TABLE never IS '`+mark+`messages ATTACH PARTITION public.never DEFAULT';
		INSERT INTO never VALUES (1, 'old', '2000-01-01'), (2, 'never', NULL);
		CREATE TABLE expired (LIKE messages); COMMENT ON TABLE expired IS '`+mark+`messages ATTACH PARTITION public.expired DEFAULT';
		INSERT INTO expired VALUES (1, 'old', '2000-01-01'), (2, 'old', '-infinity')`)
	s := newSetup(t, url)
	s.policy.Strategy = cleanup.Partition
	r := s.run(t)
	want(t, r, cleanup.OutcomeComplete, 102)
	wantDropped(t, r, "public.expired", "public.m00")
	warnings := fmt.Sprint(r.Warnings)
	for _, name := range []string{"fresh", "never"} {
		if !strings.Contains(warnings, "public."+name+", which an earlier run detached to drop it, holds rows that have not expired") ||
			!strings.Contains(warnings, "to undo: ALTER TABLE public.messages ATTACH PARTITION public."+name+" DEFAULT") {
			t.Errorf("no warning of %s in %s", name, warnings)
		}
	}
	if len(r.Warnings) != 2 {
		t.Errorf("warnings: %q", r.Warnings)
	}
	if n := pgtest.Int(t, conn, "SELECT (SELECT count(*) FROM fresh) + (SELECT count(*) FROM never) + (SELECT count(*) FROM other)"); n != 4 {
		t.Errorf("%d rows are left, want 4", n)
	}
}

// The server's processes of the run are killed when it is told that a partition
// was dropped, again and again.
func TestKilledBackendsLoseNoPartition(t *testing.T) {
	eachWay(t, func(t *testing.T, s *setup, conn *pgx.Conn) {
		kills := 0
		s.runner.Progress = func(cleanup.Progress) {
			if kills++; kills <= 2 {
				pgtest.Exec(t, conn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
					WHERE datname = current_database() AND application_name = 'message-cleanup'`)
			}
		}
		r := s.run(t)
		want(t, r, cleanup.OutcomeComplete, 300)
		wantLive(t, conn)
	})
}

// The answer to the COMMIT that drops is lost, after the server got it, or with
// it: the partition counts once.
func TestLostAnswerToADropIsAskedFor(t *testing.T) {
	for _, committed := range []bool{true, false} {
		t.Run(fmt.Sprintf("committed %v", committed), func(t *testing.T) {
			eachWay(t, func(t *testing.T, s *setup, conn *pgx.Conn) {
				at := pgtest.Message{}
				commits := 0
				s.url = pgtest.Wire(t, s.url, func(m pgtest.Message) bool {
					if m.SQL == "commit" && m.Index < 8 { // alone, or behind what the ledger gets
						if commits++; commits == 2 {
							at = m.Place()
							at.FromServer = committed
						}
					}
					return commits == 2 && m.Place() == at
				})
				r := s.run(t)
				want(t, r, cleanup.OutcomeComplete, 300)
				wantDropped(t, r, "public.m00", "public.m01", "public.m02")
				wantLive(t, conn)
				if tried := r.Retries > 0; tried == committed {
					t.Errorf("%d retries although the COMMIT arrived: %v", r.Retries, committed)
				}
			})
		})
	}
}

// Between the plan and the drop, somebody puts a row into the partition that
// its new bounds allow.
func TestPartitionThatIsNotExpiredAfterAllIsAttachedAgain(t *testing.T) {
	eachWay(t, func(t *testing.T, s *setup, conn *pgx.Conn) {
		pgtest.Exec(t, conn, "COMMENT ON TABLE m01 IS 'the ''second'''")
		s.runner.Log = slog.New(onEvent{cleanup.EventDropped, func() {
			pgtest.Exec(t, conn, `DROP TABLE m02; ALTER TABLE messages DETACH PARTITION m01;
				ALTER TABLE messages DETACH PARTITION live;
				ALTER TABLE messages ATTACH PARTITION m01 FOR VALUES FROM ('2001-01-01Z') TO (MAXVALUE);
				INSERT INTO messages VALUES (1, 'new', '2150-01-01Z')`)
		}})
		r := s.run(t)
		wantKind(t, r, cleanup.NeedsPerson)
		if text := r.Err.Error(); !strings.Contains(text, "partition public.m01 is not dropped: it holds rows that have not expired; it is attached again") {
			t.Errorf("error: %s", text)
		}
		if n := pgtest.Int(t, conn, "SELECT count(*) FROM messages WHERE tableoid = 'm01'::regclass AND obj_description('m01'::regclass, 'pg_class') = 'the ''second'''"); n != 101 {
			t.Errorf("%d rows in the partition and under its comment, want 101", n)
		}
	})
}

// What stands in the way of the DROP came after the plan was made.
func TestPartitionThatCannotBeDroppedIsAttachedAgain(t *testing.T) {
	eachWay(t, func(t *testing.T, s *setup, conn *pgx.Conn) {
		s.runner.Log = slog.New(onEvent{cleanup.EventDropped, func() {
			pgtest.Exec(t, conn, "CREATE OR REPLACE VIEW second AS SELECT * FROM m01")
		}})
		r := s.run(t)
		wantKind(t, r, cleanup.NeedsPerson)
		if text := r.Err.Error(); r.Deleted != 100 || !strings.Contains(text, "view second depends on table m01") || !strings.Contains(text, "it is attached again") {
			t.Errorf("deleted %d, error: %s", r.Deleted, text)
		}
		if n := pgtest.Int(t, conn, "SELECT count(*) FROM messages WHERE obj_description(tableoid, 'pg_class') IS NULL"); n != 300 {
			t.Errorf("%d rows in partitions without a mark, want 300", n)
		}
	})
}

func TestAutoDropsNothingAndSaysWhatCouldBe(t *testing.T) {
	eachWay(t, func(t *testing.T, s *setup, conn *pgx.Conn) {
		s.policy.Strategy = cleanup.Auto
		r := s.run(t)
		want(t, r, cleanup.OutcomeComplete, 300)
		if len(r.Dropped) > 0 || pgtest.Int(t, conn, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'messages'::regclass AND inhrelid::regclass::text ~ '^m'") != 3 {
			t.Errorf("dropped %v", r.Dropped)
		}
		if !strings.Contains(fmt.Sprint(r.Reasons), "strategy: partition would drop 3 expired partitions whole") {
			t.Errorf("reasons: %q", r.Reasons)
		}
	})
}

func TestPartitionsBehindATransactionPooler(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{TCP: true})
	conn := pgtest.Conn(t, cluster.URL("postgres"))
	months(t, conn, 3)
	s := newSetup(t, pgbouncer(t, cluster.TCPURL("postgres")))
	s.policy.Strategy = cleanup.Partition
	want(t, s.run(t), cleanup.OutcomeComplete, 300)
	wantLive(t, conn)
}
