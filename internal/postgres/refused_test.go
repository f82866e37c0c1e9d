package postgres_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

// refer makes rows of messages, chosen by a condition, that cannot be deleted:
// others refer to them.
func refer(t *testing.T, conn *pgx.Conn, condition string) {
	t.Helper()
	pgtest.Exec(t, conn, `CREATE TABLE replies (message_id bigint CONSTRAINT replies_fkey REFERENCES messages);
		CREATE INDEX ON replies (message_id)`)
	pgtest.Exec(t, conn, "INSERT INTO replies SELECT id FROM messages WHERE "+condition)
}

// wantRefused checks a run that left so many rows, all of them refused, and
// deleted the others.
func wantRefused(t *testing.T, r cleanup.PolicyResult, refused, deleted int64) {
	t.Helper()
	wantKind(t, r, cleanup.NeedsPerson)
	if r.StopReason != cleanup.Exhausted || r.Outcome() != cleanup.OutcomeFailed {
		t.Errorf("stopped: %s, outcome %s; want exhausted and failed", r.StopReason, r.Outcome())
	}
	if r.Refused != refused || r.Deleted != deleted || r.Backlog == nil || *r.Backlog != refused {
		t.Errorf("refused %d, deleted %d, backlog %v; want %d, %d and %d", r.Refused, r.Deleted, r.Backlog, refused, deleted, refused)
	}
}

func TestRefusedRowsStandAloneAndTheOthersAreDeleted(t *testing.T) {
	cases := []struct{ name, condition string }{
		{"one", "id = 4242"},
		{"the first and the last", "id IN (2, 10000)"},
		{"neighbours by expiry", "id BETWEEN 5000 AND 5040 AND id % 2 = 0"},
		{"here and there", "id % 500 = 0"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
				for _, workers := range []int{1, 3} {
					url := pgtest.Database(t)
					conn := pgtest.Conn(t, url)
					table(t, conn, 5_000)
					refer(t, conn, c.condition)
					refused := pgtest.Int(t, conn, "SELECT count(*) FROM replies")

					s := newSetup(t, url)
					s.policy.Strategy, s.runner.Workers = strategy, workers
					r := s.run(t)

					wantRefused(t, r, refused, 5_000-refused)
					var want []string
					for _, row := range r.RefusedRows {
						want = append(want, row.Key)
					}
					if named := pgtest.Int(t, conn, "SELECT count(*) FROM replies WHERE 'id=' || message_id = ANY ($1)", want); named != refused {
						t.Errorf("%v are named, %d rows are refused", want, refused)
					}
					if left := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); left != 5_000+refused {
						t.Errorf("%d rows are left, want the live ones and the refused ones", left)
					}
				}
			})
		})
	}
}

// Whatever refuses: the row is named with what the server said of it, and with
// nothing that it holds but its key.
func TestRefusedRowIsNamedAndItsContentIsNot(t *testing.T) {
	const trigger = `CREATE TRIGGER no BEFORE DELETE ON messages FOR EACH ROW EXECUTE FUNCTION no()`
	cases := []struct{ name, sql, message string }{
		{"a foreign key", `CREATE TABLE replies (message_id bigint CONSTRAINT replies_fkey REFERENCES messages); INSERT INTO replies VALUES (2)`,
			`update or delete on table "messages" violates foreign key constraint "replies_fkey" on table "replies" (SQLSTATE 23503)`},
		{"a foreign key that is checked at the end", `CREATE TABLE replies (message_id bigint CONSTRAINT replies_fkey REFERENCES messages DEFERRABLE INITIALLY DEFERRED); INSERT INTO replies VALUES (2)`,
			`update or delete on table "messages" violates foreign key constraint "replies_fkey" on table "replies" (SQLSTATE 23503)`},
		{"RAISE", `CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN IF OLD.id = 2 THEN RAISE E'under\n\x1b[31maudit' USING DETAIL = OLD.body; END IF; RETURN OLD; END $$; ` + trigger,
			"under  [31maudit (SQLSTATE P0001)"},
		{"RAISE with a code of its own", `CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN IF OLD.id = 2 THEN RAISE 'under audit' USING ERRCODE = 'AU001'; END IF; RETURN OLD; END $$; ` + trigger,
			"under audit (SQLSTATE AU001)"},
		{"a copy that is there already", `CREATE TABLE archive (id bigint PRIMARY KEY, body text); INSERT INTO archive VALUES (2, 'secret');
			CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO archive VALUES (OLD.id, OLD.body); RETURN OLD; END $$; ` + trigger,
			`duplicate key value violates unique constraint "archive_pkey" (SQLSTATE 23505)`},
		{"a value that a trigger cannot read", `CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN IF OLD.id = 2 THEN PERFORM OLD.body::int; END IF; RETURN OLD; END $$; ` + trigger,
			"a function that a trigger calls met a value that it cannot work with (SQLSTATE 22P02)"},
		{"a trigger that changes the row", `CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN IF OLD.id = 2 THEN UPDATE messages SET body = 'secret' WHERE id = 2; END IF; RETURN OLD; END $$; ` + trigger,
			"tuple to be deleted was already modified by an operation triggered by the current command (SQLSTATE 27000)"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := pgtest.Conn(t, url)
			table(t, conn, 50)
			pgtest.Exec(t, conn, "UPDATE messages SET body = 'secret'; "+c.sql)
			s := newSetup(t, url)
			log := &bytes.Buffer{}
			s.runner.Log = slog.New(slog.NewTextHandler(log, nil))
			r := s.run(t)
			wantRefused(t, r, 1, 49)
			if diff := cmp.Diff([]cleanup.RefusedRow{{Table: "public.messages", Key: "id=2", Message: c.message}}, r.RefusedRows); diff != "" {
				t.Errorf("refused rows (-want +got):\n%s", diff)
			}
			if n := strings.Count(log.String(), cleanup.EventRefused); n != 1 || !strings.Contains(log.String(), "key=\"id=2\"") {
				t.Errorf("the log names the row %d times, want once:\n%s", n, log)
			}
			if !strings.Contains(r.Err.Error(), "1 expired row is left") || !strings.Contains(r.Err.Error(), c.message) {
				t.Errorf("error is %v", r.Err)
			}
			if all := fmt.Sprint(r.Err, cleanup.HintOf(r.Err), r.RefusedRows, log); strings.Contains(all, "secret") {
				t.Errorf("what the row holds is told: %s", all)
			}
		})
	}
}

func TestRefusedRowsAreNamedByTheirWholeKey(t *testing.T) {
	cases := []struct{ name, key, want string }{
		{"several columns", `PRIMARY KEY ("tenant's", id) INCLUDE (body)`, "tenant's=7, id=2"},
		{"none", `CHECK (id > 0)`, "ctid=(0,2)"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
				url := pgtest.Database(t)
				conn := pgtest.Conn(t, url)
				pgtest.Exec(t, conn, `CREATE TABLE messages (id int, "tenant's" int, body text, expires_at timestamptz, `+c.key+`);
					CREATE INDEX ON messages (expires_at);
					INSERT INTO messages SELECT i, 7, '', now() - interval '1 hour' FROM generate_series(1, 100) AS i;
					CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
					CREATE TRIGGER no BEFORE DELETE ON messages FOR EACH ROW WHEN (OLD.id = 2) EXECUTE FUNCTION no()`)
				s := newSetup(t, url)
				s.policy.Strategy = strategy
				r := s.run(t)
				wantRefused(t, r, 1, 99)
				if len(r.RefusedRows) != 1 || r.RefusedRows[0].Key != c.want {
					t.Errorf("named %+v, want %s", r.RefusedRows, c.want)
				}
			})
		})
	}
}

// Ties are cut by place, in partitions with triggers and keys of their own, also
// where rows are locked beside.
func TestRefusedRowsAmongTiesLocksAndPartitions(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		pgtest.Exec(t, conn, `
			CREATE TABLE messages (id int PRIMARY KEY, body text, expires_at timestamptz) PARTITION BY HASH (id);
			CREATE TABLE messages_0 PARTITION OF messages FOR VALUES WITH (MODULUS 2, REMAINDER 0);
			CREATE TABLE messages_1 PARTITION OF messages FOR VALUES WITH (MODULUS 2, REMAINDER 1);
			CREATE INDEX ON messages (expires_at);
			INSERT INTO messages SELECT i, repeat('x', 200), '2020-02-02' FROM generate_series(1, 6000) AS i;
			INSERT INTO messages SELECT i, repeat('x', 200), now() - i * interval '1 second' FROM generate_series(6001, 8000) AS i;
			ANALYZE messages`)
		refer(t, conn, "id % 1000 IN (0, 1)")
		app := pgtest.Conn(t, url)
		pgtest.Exec(t, app, "BEGIN; SELECT FROM messages WHERE id % 1000 = 500 FOR UPDATE")

		s := newSetup(t, url)
		s.policy.Strategy, s.runner.Workers, s.opts.LockTimeout = strategy, 2, 5*time.Millisecond
		r := s.run(t)
		wantKind(t, r, cleanup.NeedsPerson)
		if r.Deleted != 8_000-24 || r.Refused != 16 || r.Locked != 8 || *r.Backlog != 24 {
			t.Errorf("deleted %d, refused %d, locked %d, backlog %d; want 7,976, 16, 8 and 24", r.Deleted, r.Refused, r.Locked, *r.Backlog)
		}
		pgtest.Exec(t, app, "ROLLBACK")
		pgtest.Exec(t, conn, "DROP TABLE replies")
		want(t, newSetup(t, url).run(t), cleanup.OutcomeComplete, 24)
	})
}

// A trigger that allows small deletions only is no refusal of any row.
func TestTriggerAgainstLargeStatementsMeetsSmallerOnes(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		table(t, conn, 3_000)
		pgtest.Exec(t, conn, `CREATE FUNCTION few() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN IF (SELECT count(*) FROM gone) > 300 THEN RAISE 'too many'; END IF; RETURN NULL; END $$;
			CREATE TRIGGER few AFTER DELETE ON messages REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION few()`)
		s := newSetup(t, url)
		s.policy.Strategy = strategy
		r := s.run(t)
		want(t, r, cleanup.OutcomeComplete, 3_000)
		if r.Refused != 0 || r.RefusedRows != nil {
			t.Errorf("%d rows are said to be refused: %v", r.Refused, r.RefusedRows)
		}
	})
}

// What fails for every row alike is told at once, not searched for.
func TestErrorThatSpeaksOfNoRowEndsThePolicy(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	table(t, conn, 3_000)
	role, asRole := pgtest.Role(t, conn, url)
	pgtest.Exec(t, conn, "GRANT SELECT, DELETE, UPDATE ON messages TO "+role)
	pgtest.Exec(t, conn, `CREATE TABLE audit (id bigint);
		CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (OLD.id); RETURN OLD; END $$;
		CREATE TRIGGER audit BEFORE DELETE ON messages FOR EACH ROW EXECUTE FUNCTION audit()`)
	r := newSetup(t, asRole).run(t)
	wantKind(t, r, cleanup.Permission)
	if r.StopReason != cleanup.Failed || r.Refused != 0 {
		t.Errorf("stopped: %s, refused %d", r.StopReason, r.Refused)
	}
}

func TestBatchThatTakesTooLongIsTriedInQuarters(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		url := pgtest.Database(t)
		conn := pgtest.Conn(t, url)
		table(t, conn, 64)
		pgtest.Exec(t, conn, `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.01); RETURN OLD; END $$;
			CREATE TRIGGER slow BEFORE DELETE ON messages FOR EACH ROW EXECUTE FUNCTION slow()`)
		s := newSetup(t, url)
		s.policy.Strategy, s.opts.BatchTimeout = strategy, 300*time.Millisecond
		r := s.run(t)
		want(t, r, cleanup.OutcomeComplete, 64)
		if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "tried in quarters") || !strings.Contains(r.Warnings[0], "foreign key") {
			t.Errorf("warnings are %q", r.Warnings)
		}
	})
}

func TestRowThatAloneTakesTooLongEndsThePolicy(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	table(t, conn, 10)
	pgtest.Exec(t, conn, `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); RETURN OLD; END $$;
		CREATE TRIGGER slow BEFORE DELETE ON messages FOR EACH ROW WHEN (OLD.id = 2) EXECUTE FUNCTION slow()`)
	s := newSetup(t, url)
	s.opts.BatchTimeout = 100 * time.Millisecond
	r := s.run(t)
	wantKind(t, r, cleanup.Incomplete)
	if !strings.Contains(cleanup.HintOf(r.Err), "foreign key") {
		t.Errorf("hint is %q", cleanup.HintOf(r.Err))
	}
}

func TestTableThatPublishesDeletionsWithoutIdentityNeedsAPerson(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"wal_level": "logical"}})
	conn := pgtest.Conn(t, cluster.URL("postgres"))
	table(t, conn, 10)
	pgtest.Exec(t, conn, "ALTER TABLE messages DROP CONSTRAINT messages_pkey; CREATE PUBLICATION p FOR TABLE messages")
	r := newSetup(t, cluster.URL("postgres")).run(t)
	wantKind(t, r, cleanup.NeedsPerson)
	if !strings.Contains(cleanup.HintOf(r.Err), "REPLICA IDENTITY") {
		t.Errorf("hint is %q", cleanup.HintOf(r.Err))
	}
}
