package postgres_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

func TestDeletesWhatIsExpiredAndNothingElse(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		table(t, conn, 5_000)
		pgtest.Exec(t, conn, `INSERT INTO messages VALUES (-1, 'kept', NULL), (-2, 'kept', 'infinity'), (-3, 'gone', '-infinity')`)

		s := newSetup(t, url)
		s.policy.Strategy = strategy
		r := s.run(t)

		want(t, r, cleanup.OutcomeComplete, 5_001)
		if left := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); left != 5_002 {
			t.Errorf("%d rows are left, want the 5,000 live ones and the two that never expire", left)
		}
		if r.Batches < 5 {
			t.Errorf("only %d batches: batch.max_rows was not kept to", r.Batches)
		}
		if r.Strategy != string(strategy) {
			t.Errorf("strategy %s was used, %s configured", r.Strategy, strategy)
		}
	})
}

func TestRowWhoseExpiryIsExtendedWhileTheBatchWaitsSurvives(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		table(t, conn, 100)
		app := pgtest.Conn(t, url)
		pgtest.Exec(t, app, "BEGIN; UPDATE messages SET expires_at = now() + interval '1 day' WHERE id = 2")

		s := newSetup(t, url)
		s.policy.Strategy = strategy
		s.opts.LockTimeout = time.Minute // the batch waits, as the usual loop does
		done := make(chan cleanup.PolicyResult)
		go func() { done <- s.run(t) }()
		pgtest.Eventually(t, "a batch to wait for the row", func() bool {
			return pgtest.Int(t, conn, waiting) > 0
		})
		pgtest.Exec(t, app, "COMMIT")

		want(t, <-done, cleanup.OutcomeComplete, 99)
		if pgtest.Int(t, conn, "SELECT count(*) FROM messages WHERE id = 2") != 1 {
			t.Error("the row that was given more time is gone")
		}
	})
}

func TestRowsInsertedDuringTheRunAreDeletedIfExpired(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		table(t, conn, 3_000)
		app := pgtest.Conn(t, url)

		s := newSetup(t, url)
		s.policy.Strategy = strategy
		inserted := false
		s.runner.Progress = func(p cleanup.Progress) {
			if p.Batches == 3 && !inserted {
				inserted = true
				// Behind the window and in front of it, expired and not.
				pgtest.Exec(t, app, `INSERT INTO messages VALUES
					(-1, 'late', '-infinity'), (-2, 'late', now() - interval '2 minutes'), (-3, 'live', now() + interval '1 minute')`)
			}
		}
		r := s.run(t)

		want(t, r, cleanup.OutcomeComplete, 3_002)
		if left := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); left != 3_001 {
			t.Errorf("%d rows are left, want 3,001", left)
		}
	})
}

func TestLockedRowsAreLeftForTheNextRun(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		table(t, conn, 5_000)
		app := pgtest.Conn(t, url)
		pgtest.Exec(t, app, "BEGIN; SELECT FROM messages WHERE id IN (SELECT 2 * i FROM generate_series(2001, 3000) AS i) FOR UPDATE")

		s := newSetup(t, url)
		s.policy.Strategy = strategy
		r := s.run(t)

		want(t, r, cleanup.OutcomeIncomplete, 4_000)
		if r.Locked != 1_000 || r.Backlog == nil || *r.Backlog != 1_000 {
			t.Errorf("locked %d, backlog %v; want 1,000 of both", r.Locked, r.Backlog)
		}
		pgtest.Exec(t, app, "ROLLBACK")
		want(t, s.run(t), cleanup.OutcomeComplete, 1_000)
	})
}

func TestRowsThatAreUnlockedMeanwhileAreDeletedInTheLastPass(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		table(t, conn, 5_000)
		app := pgtest.Conn(t, url)
		pgtest.Exec(t, app, "BEGIN; SELECT FROM messages WHERE id IN (2, 4) FOR UPDATE")

		s := newSetup(t, url)
		s.policy.Strategy = strategy
		s.runner.Progress = func(p cleanup.Progress) {
			if p.Deleted >= 4_000 && !app.PgConn().IsClosed() {
				_ = app.Close(t.Context())
			}
		}
		r := s.run(t)
		want(t, r, cleanup.OutcomeComplete, 5_000)
		if r.Locked != 0 {
			t.Errorf("%d rows are said to be locked", r.Locked)
		}
	})
}

// A role that may not lock rows leaves a batch with a locked row whole, says
// so, and gets the rest.
func TestRoleWithoutUpdateLeavesBatchesWithLockedRows(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	table(t, conn, 5_000)
	role, asRole := pgtest.Role(t, conn, url)
	pgtest.Exec(t, conn, "GRANT SELECT, DELETE ON messages TO "+role)
	app := pgtest.Conn(t, url)
	pgtest.Exec(t, app, "BEGIN; SELECT FROM messages WHERE id = 5000 FOR UPDATE")

	r := newSetup(t, asRole).run(t)
	if r.Outcome() != cleanup.OutcomeIncomplete || r.Locked == 0 || r.Locked > 1_000 || r.Deleted != 5_000-r.Locked {
		t.Errorf("outcome %s, deleted %d, locked %d", r.Outcome(), r.Deleted, r.Locked)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "GRANT UPDATE") {
		t.Errorf("warnings are %q, want one that names the grant", r.Warnings)
	}
	pgtest.Exec(t, app, "ROLLBACK")
	want(t, newSetup(t, asRole).run(t), cleanup.OutcomeComplete, r.Locked)
}

func TestOneValueSharedByMoreRowsThanABatch(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	rows := 1_000_000
	if testing.Short() {
		rows = 50_000
	}
	pgtest.Exec(t, conn, `CREATE TABLE messages (id bigint, expires_at timestamptz)`)
	// Live rows in between, so that pages are mixed, and a few values around the tie.
	pgtest.Exec(t, conn, fmt.Sprintf(`
		INSERT INTO messages
		SELECT i, CASE WHEN i %% 3 = 0 THEN now() + interval '1 day' WHEN i %% 1000 = 1 THEN now() - i * interval '1 minute'
		               ELSE date_trunc('day', now()) - interval '30 days' END
		FROM generate_series(1, %d) AS i`, rows*3/2))
	pgtest.Exec(t, conn, "CREATE INDEX ON messages (expires_at); ANALYZE messages")
	expired := pgtest.Int(t, conn, expiredRows)

	s := newSetup(t, url)
	s.policy.Strategy = cleanup.Index
	s.runner.BatchMaxRows = 50_000
	r := s.run(t)
	want(t, r, cleanup.OutcomeComplete, expired)
	if least := expired / 100_000; r.Batches < least && canTIDRange(t) {
		t.Errorf("%d batches for %d rows: the tie was not cut", r.Batches, expired)
	}
}

func TestUnexpiredRowWithTheCtidOfAnExpiredOneSurvives(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		pgtest.Exec(t, conn, `
			CREATE TABLE messages (id bigint, tenant int, expires_at timestamptz) PARTITION BY LIST (tenant);
			CREATE TABLE messages_1 PARTITION OF messages FOR VALUES IN (1);
			CREATE TABLE messages_2 PARTITION OF messages FOR VALUES IN (2);
			CREATE INDEX ON messages (expires_at);
			INSERT INTO messages SELECT i, 1, now() - interval '1 hour' FROM generate_series(1, 500) AS i;
			INSERT INTO messages SELECT i, 2, now() + interval '1 hour' FROM generate_series(1, 500) AS i`)
		app := pgtest.Conn(t, url)
		pgtest.Exec(t, app, "BEGIN; SELECT FROM messages_1 WHERE id = 7 FOR UPDATE") // the path by ctid too

		s := newSetup(t, url)
		s.policy.Strategy = strategy
		r := s.run(t)
		want(t, r, cleanup.OutcomeIncomplete, 499)
		if pgtest.Int(t, conn, "SELECT count(*) FROM messages_2") != 500 {
			t.Error("unexpired rows of another partition are gone")
		}
	})
}

func TestPartitionsAboveTheCutoffAreSkipped(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	pgtest.Exec(t, conn, `
		CREATE TABLE messages (id bigint, expires_at timestamptz) PARTITION BY RANGE (expires_at);
		CREATE TABLE old PARTITION OF messages FOR VALUES FROM (MINVALUE) TO ('2001-01-01');
		CREATE TABLE mid PARTITION OF messages FOR VALUES FROM ('2001-01-01') TO ('2100-01-01') PARTITION BY HASH (id);
		CREATE TABLE mid_0 PARTITION OF mid FOR VALUES WITH (MODULUS 2, REMAINDER 0);
		CREATE TABLE mid_1 PARTITION OF mid FOR VALUES WITH (MODULUS 2, REMAINDER 1);
		CREATE TABLE far PARTITION OF messages FOR VALUES FROM ('2100-01-01') TO (MAXVALUE);
		CREATE TABLE rest PARTITION OF messages DEFAULT;
		CREATE INDEX ON messages (expires_at);
		INSERT INTO messages SELECT i, '2000-06-01' FROM generate_series(1, 100) AS i;
		INSERT INTO messages SELECT i, now() - interval '1 hour' FROM generate_series(1, 100) AS i;
		INSERT INTO messages SELECT i, now() + interval '1 hour' FROM generate_series(1, 100) AS i;
		INSERT INTO messages SELECT i, '2200-01-01' FROM generate_series(1, 100) AS i;
		INSERT INTO messages SELECT i, NULL FROM generate_series(1, 100) AS i;
		ANALYZE`)
	r := newSetup(t, url).run(t)
	want(t, r, cleanup.OutcomeComplete, 200)
	reasons := strings.Join(r.Reasons, "\n")
	if strings.Contains(reasons, "far") || !strings.Contains(reasons, "mid_0") || !strings.Contains(reasons, "skipped") {
		t.Errorf("reasons do not tell that far was skipped and mid_0 was not:\n%s", reasons)
	}
}

func TestChildrenOfAnInheritedTableAreCleaned(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	table(t, conn, 10)
	pgtest.Exec(t, conn, `CREATE TABLE child () INHERITS (messages);
		CREATE INDEX ON child (expires_at);
		INSERT INTO child SELECT -i, '', now() - interval '1 hour' FROM generate_series(1, 10) AS i`)
	want(t, newSetup(t, url).run(t), cleanup.OutcomeComplete, 20)
}

func TestTableNamesThatNeedQuoting(t *testing.T) {
	for _, name := range []string{`"Chat Messages"`, `"a""b"`, `"100%s"`, `"$1"`, `"select"`, `"Other Schema"."x.y"`, `"múltiple 表"`} {
		t.Run(name, func(t *testing.T) {
			eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
				url := pgtest.Database(t)
				conn := pgtest.Conn(t, url)
				pgtest.Exec(t, conn, `CREATE SCHEMA "Other Schema"; CREATE TABLE `+name+` ("expires ""At"" %d" timestamptz);
					CREATE INDEX ON `+name+` ("expires ""At"" %d");
					INSERT INTO `+name+` SELECT now() - interval '1 hour' FROM generate_series(1, 50);
					INSERT INTO `+name+` VALUES (now() + interval '1 hour')`)
				s := newSetup(t, url)
				s.policy.Table, s.policy.Column, s.policy.Strategy = name, `"expires ""At"" %d"`, strategy
				want(t, s.run(t), cleanup.OutcomeComplete, 50)
			})
		})
	}
}

func TestEmptyTableAndTableWithoutIndexOrPrimaryKey(t *testing.T) {
	t.Parallel()
	needsTIDRange(t)
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	pgtest.Exec(t, conn, "CREATE TABLE messages (expires_at timestamptz)")
	want(t, newSetup(t, url).run(t), cleanup.OutcomeComplete, 0)
	pgtest.Exec(t, conn, "INSERT INTO messages SELECT now() + i * interval '1 minute' FROM generate_series(-5000, 5000) AS i")
	want(t, newSetup(t, url).run(t), cleanup.OutcomeComplete, 5_000+1)
}

func TestWhereLimitsAndHoldKeeps(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		table(t, conn, 1_000)
		pgtest.Exec(t, conn, `ALTER TABLE messages ADD legal_hold boolean;
			UPDATE messages SET legal_hold = true WHERE id IN (2, 4, 6);
			UPDATE messages SET legal_hold = false WHERE id = 8`)
		s := newSetup(t, url)
		s.policy.Strategy = strategy
		s.policy.Where = "id <= 1000 -- a comment at the end"
		s.policy.Hold = "legal_hold -- NULL is not held"
		r := s.run(t)
		want(t, r, cleanup.OutcomeComplete, 497)
		if *r.Held != 3 {
			t.Errorf("held %d, want 3", *r.Held)
		}
		if pgtest.Int(t, conn, expiredRows) != 503 {
			t.Error("rows outside of where, or held ones, are gone")
		}
	})
}

func TestBudgetsEndTheRunAsIncomplete(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	table(t, conn, 5_000)
	s := newSetup(t, url)
	s.policy.Strategy = cleanup.Index
	s.runner.MaxRows = 1_500
	r := s.run(t)
	want(t, r, cleanup.OutcomeIncomplete, 1_500)
	if r.StopReason != cleanup.RowBudget || *r.Backlog != 3_500 {
		t.Errorf("stopped by %s with a backlog of %d", r.StopReason, *r.Backlog)
	}
	s = newSetup(t, url)
	s.runner.Deadline = time.Now()
	if r = s.run(t); r.StopReason != cleanup.TimeBudget || r.Deleted != 0 || *r.Backlog != 3_500 {
		t.Errorf("stopped by %s after %d rows", r.StopReason, r.Deleted)
	}
}

// The end of the second window was looked for before the budget was nearly
// spent: it may not count on rows that are not there to spend.
func TestRowBudgetIsKeptAlthoughWindowsAreFoundAhead(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	table(t, conn, 5_000)
	s := newSetup(t, url)
	s.policy.Strategy = cleanup.Index
	s.runner.MaxRows = 1_700
	r := s.run(t)
	want(t, r, cleanup.OutcomeIncomplete, 1_700)
	if r.StopReason != cleanup.RowBudget || *r.Backlog != 3_300 {
		t.Errorf("stopped by %s with a backlog of %d", r.StopReason, *r.Backlog)
	}
}

// A dry run counts before anything is cut: the index leads to what is expired,
// and to no deleted row.
func TestCountBeforeDeletingReadsTheIndex(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	pgtest.Exec(t, conn, `CREATE TABLE messages (id bigint, expires_at timestamptz);
		INSERT INTO messages SELECT i, now() + (i - 10) * interval '1 minute' FROM generate_series(1, 20000) AS i;
		CREATE INDEX ON messages (expires_at)`)
	pgtest.Exec(t, conn, "VACUUM ANALYZE messages")
	s := newSetup(t, url)
	s.opts.URL = url
	db, err := postgres.Open(t.Context(), s.opts)
	if err != nil {
		t.Fatal(err)
	}
	server, err := db.Server(t.Context(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	table, err := db.Inspect(t.Context(), s.policy, server, server.Clock)
	if err != nil {
		t.Fatal(err)
	}
	if counts, err := table.Count(t.Context(), false); err != nil || counts.Backlog != 10 {
		t.Errorf("counted %+v (%v), want a backlog of 10", counts, err)
	}
	db.Close() // the server's account of scans is complete when the connection has ended
	pgtest.Eventually(t, "the server to have seen a scan of the index", func() bool {
		return pgtest.Int(t, conn, "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE relname = 'messages'") >= 10 // the planner reads one or two
	})
}
