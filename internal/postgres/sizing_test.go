package postgres_test

import (
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

// A thousand rows in the middle of the table cost the server far more than the
// others: by a trigger, by a cascade, or by values so wide that they lie
// elsewhere. Batches get smaller as soon as they
// come, and large again behind them.
func TestBatchesShrinkWhereRowsAreDearAndGrowBehindThem(t *testing.T) {
	tests := []struct{ name, sql string }{
		{"slow trigger", `
			CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN PERFORM pg_sleep(0.001); RETURN OLD; END $$;
			CREATE TRIGGER linger BEFORE DELETE ON messages FOR EACH ROW WHEN (OLD.dear) EXECUTE FUNCTION linger()`},
		{"cascade", `
			CREATE TABLE reactions (message_id bigint);
			INSERT INTO reactions SELECT i FROM generate_series(4001, 5000) AS i, generate_series(1, 250);
			CREATE INDEX ON reactions (message_id);
			ALTER TABLE reactions ADD FOREIGN KEY (message_id) REFERENCES messages ON DELETE CASCADE`},
		{"wide values", `
			ALTER TABLE messages ALTER body SET STORAGE EXTERNAL;
			UPDATE messages SET body = repeat('x', 400000) WHERE dear`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := pgtest.Conn(t, url)
			pgtest.Exec(t, conn, `
				CREATE TABLE messages (id bigint PRIMARY KEY, body text, dear bool, expires_at timestamptz);
				INSERT INTO messages
				SELECT i, 'hi', i BETWEEN 4001 AND 5000, now() - (20000 - i) * interval '1 second' - interval '1 hour'
				FROM generate_series(1, 20000) AS i;
				CREATE INDEX ON messages (expires_at)`)
			pgtest.Exec(t, conn, tt.sql)
			pgtest.Exec(t, conn, "ANALYZE messages")

			s := newSetup(t, url)
			s.policy.Strategy = cleanup.Index
			s.runner.BatchTarget, s.runner.BatchMaxRows = 40*time.Millisecond, 1_000
			least, last := s.runner.BatchMaxRows, 0
			s.runner.Progress = func(p cleanup.Progress) {
				if p.Phase == cleanup.Deleting {
					least, last = min(least, p.Rows), max(last, p.Rows*int(p.Deleted/19_000))
				}
			}
			want(t, s.run(t), cleanup.OutcomeComplete, 20_000)
			if least > 400 {
				t.Errorf("the smallest batch had %d rows, though a thousand dear ones take far longer than the target", least)
			}
			if last < 2*least {
				t.Errorf("the last batches had %d rows, hardly more than the smallest one with %d", last, least)
			}
		})
	}
}
