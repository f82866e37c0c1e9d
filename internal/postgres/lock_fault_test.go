package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

// Many sessions lock rows everywhere, again and again, and extend one now and
// then. Nobody waits for long, and what one pass finds locked, the next run gets.
func TestLockStorm(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		table(t, conn, 2_000)
		pgtest.Exec(t, conn, "ALTER TABLE messages ADD extended bool")
		ctx, cancel := context.WithCancel(t.Context())
		var storms []<-chan error
		for range 4 {
			storms = append(storms, storm(ctx, pgtest.Conn(t, url)))
		}
		pgtest.Eventually(t, "the storm to begin", func() bool {
			return pgtest.Int(t, conn, "SELECT count(*) FROM messages WHERE extended") > 0
		})
		s := newSetup(t, url)
		s.policy.Strategy, s.runner.Workers, s.runner.BatchMaxRows = strategy, 3, 200
		first, err := s.try(t.Context())
		cancel()
		for _, ended := range storms {
			if err := <-ended; err != nil {
				t.Errorf("the storm had to wait: %v", err)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		second := s.run(t)
		want(t, second, cleanup.OutcomeComplete, second.Deleted)
		left := pgtest.Int(t, conn, "SELECT count(*) FROM messages")
		if gone := 4_000 - left; first.Deleted+second.Deleted != gone {
			t.Errorf("%d and %d rows are reported, %d are gone", first.Deleted, second.Deleted, gone)
		}
		extended := pgtest.Int(t, conn, "SELECT count(*) FROM messages WHERE extended")
		if left != 2_000+extended {
			t.Errorf("%d rows are left, want 2,000 and the %d that were extended", left, extended)
		}
	})
}

// storm locks rows until ctx is done. It fails if it has to wait for seconds.
func storm(ctx context.Context, conn *pgx.Conn) <-chan error {
	ended := make(chan error, 1)
	go func() {
		err := error(nil)
		for err == nil && ctx.Err() == nil {
			_, err = conn.Exec(context.WithoutCancel(ctx), `
				SET lock_timeout = '5s';
				BEGIN;
				SELECT FROM messages WHERE id % 97 = (random() * 97)::int AND expires_at < now() FOR UPDATE SKIP LOCKED;
				UPDATE messages SET extended = true, expires_at = now() + interval '1 hour'
				WHERE id = (SELECT id FROM messages WHERE expires_at < now() LIMIT 1 FOR UPDATE SKIP LOCKED);
				COMMIT`)
		}
		ended <- err
	}()
	return ended
}

// What role and database have set for everybody else does not end a batch; here
// the first ones take longer.
func TestStatementTimeoutsOfTheRoleDoNotEndABatch(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		table(t, conn, 3_000)
		name, urlAsRole := pgtest.Role(t, conn, url)
		pgtest.Exec(t, conn, `
			GRANT SELECT, DELETE, UPDATE ON messages TO `+name+`;
			ALTER ROLE `+name+` SET statement_timeout = '100ms'; ALTER ROLE `+name+` SET lock_timeout = '1ms';
			ALTER ROLE `+name+` SET idle_in_transaction_session_timeout = '1ms';
			CREATE SEQUENCE batches; GRANT USAGE ON batches TO `+name+`;
			CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN IF nextval('batches') <= 2 THEN PERFORM pg_sleep(0.2); END IF; RETURN NULL; END $$;
			CREATE TRIGGER linger AFTER DELETE ON messages FOR EACH STATEMENT EXECUTE FUNCTION linger()`)
		s := newSetup(t, urlAsRole)
		s.policy.Strategy = strategy
		r := s.run(t)
		want(t, r, cleanup.OutcomeComplete, 3_000)
		if r.Retries > 0 {
			t.Errorf("%d retries", r.Retries)
		}
	})
}

// An administrator cancels the statement, or it takes longer than a minute: the
// batch is rolled back, and the run ends with what it did before.
func TestCancelledStatementEndsTheRunWithAnExactCount(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		table(t, conn, 5_000)
		admin, app := pgtest.Conn(t, url), pgtest.Conn(t, url)
		s := newSetup(t, url)
		s.policy.Strategy, s.opts.LockTimeout = strategy, time.Minute
		before := s.midRun(func() { pgtest.Exec(t, app, "BEGIN; SELECT FROM messages FOR UPDATE") })
		done := make(chan cleanup.PolicyResult)
		go func() { done <- s.run(t) }()
		pgtest.Eventually(t, "a batch to wait", func() bool { return pgtest.Int(t, conn, waiting) > 0 })
		pgtest.Exec(t, admin, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
		r := <-done
		wantKind(t, r, cleanup.Incomplete)
		if gone := 10_000 - pgtest.Int(t, conn, "SELECT count(*) FROM messages"); r.Deleted != gone || gone != *before {
			t.Errorf("reports %d rows, %d are gone, and %d were before", r.Deleted, gone, *before)
		}
	})
}
