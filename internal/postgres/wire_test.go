package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

// scenario is a run that can be repeated, with the wire cut at another message
// each time.
type scenario struct {
	url    string
	conn   *pgx.Conn
	setup  func(url string) *setup
	fill   string // SQL that makes the table as it was; 300 rows of it are expired
	ledger bool
	before func() // the message is lost; nil: nothing happens
}

const (
	wireTable = `CREATE TABLE messages (id bigint PRIMARY KEY, body text NOT NULL, expires_at timestamptz);
		CREATE INDEX ON messages (expires_at)`
	wireFill = `TRUNCATE messages; INSERT INTO messages
		SELECT i, repeat('x', 200), now() + CASE WHEN i % 4 > 0 THEN -1 ELSE 1 END * (i + 60) * interval '1 second'
		FROM generate_series(1, 400) AS i`
	wireExpired = 300
)

func newScenario(t *testing.T, strategy cleanup.Strategy, workers, batch int) *scenario {
	s := &scenario{url: pgtest.Database(t), fill: wireFill}
	s.conn = pgtest.Conn(t, s.url)
	pgtest.Exec(t, s.conn, wireTable)
	s.setup = func(url string) *setup {
		run := newSetup(t, url)
		run.policy.Strategy, run.runner.Workers, run.runner.BatchMaxRows, run.ledger = strategy, workers, batch, s.ledger
		return run
	}
	return s
}

// prepare fills the table, when the server has noticed that the last run is over.
func (s *scenario) prepare(t *testing.T) {
	pgtest.Eventually(t, "the last run's lock to be given back", func() bool {
		return pgtest.Int(t, s.conn, `SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
			WHERE locktype = 'advisory' AND datname = current_database()`) == 0
	})
	pgtest.Exec(t, s.conn, s.fill)
}

// record returns all that is said in an undisturbed run.
func (s *scenario) record(t *testing.T) []pgtest.Message {
	s.prepare(t)
	var mu sync.Mutex // what a run says in the end is still on its way when it has returned
	var said []pgtest.Message
	r := s.setup(pgtest.Wire(t, s.url, func(m pgtest.Message) bool {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, m)
		return false
	})).run(t)
	want(t, r, cleanup.OutcomeComplete, wireExpired)
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(said)
}

// cut runs with the wire cut once, at a message.
func (s *scenario) cut(t *testing.T, at pgtest.Message) cleanup.PolicyResult {
	s.prepare(t)
	var met atomic.Bool
	r := s.setup(pgtest.Wire(t, s.url, func(m pgtest.Message) bool {
		if m.Place() != at.Place() || !met.CompareAndSwap(false, true) {
			return false
		}
		if s.before != nil {
			s.before()
		}
		return true
	})).run(t)
	if !met.Load() {
		t.Errorf("%v was never said: nothing was tested", at)
	}
	return r
}

// check cuts at one message after the other. Whichever is lost: the run goes on,
// exactly the expired rows are gone, and each is counted once.
func (s *scenario) check(t *testing.T, messages []pgtest.Message) {
	if len(messages) == 0 {
		t.Fatal("no message to cut at")
	}
	for _, m := range messages {
		r := s.cut(t, m)
		gone := 400 - pgtest.Int(t, s.conn, "SELECT count(*) FROM messages")
		if r.Err != nil || r.Outcome() != cleanup.OutcomeComplete || r.Deleted != wireExpired || gone != wireExpired {
			t.Errorf("cut at %v: %s with %d rows deleted, of which %d are gone (%v)", m, r.Outcome(), r.Deleted, gone, r.Err)
		}
	}
}

// thin leaves out most messages of the server: it sends them when it has done all
// that was asked for, so only the first and the last of an answer differ.
func thin(messages []pgtest.Message) (few []pgtest.Message) {
	for i, m := range messages {
		if !m.FromServer || m.Index == 0 || i == len(messages)-1 {
			few = append(few, m)
		}
	}
	return few
}

// round selects the request, and its answer, whose SQL contains a text, the nth
// such from 0, and so many of those behind it on the same connection.
func round(said []pgtest.Message, sql string, nth, behind int) (selected []pgtest.Message) {
	for _, first := range said {
		if !strings.Contains(first.SQL, sql) {
			continue
		}
		if nth--; nth >= 0 {
			continue
		}
		for _, m := range said {
			if m.Conn == first.Conn && m.Round >= first.Round && m.Round <= first.Round+behind && m.Type != 'X' {
				selected = append(selected, m)
			}
		}
		break
	}
	return selected
}

func TestWireCutAtEveryMessageOfABatch(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		s := newScenario(t, strategy, 1, 100)
		messages := round(s.record(t), "DELETE FROM ONLY", 1, 1)
		if sent := messages[0]; len(messages) < 38 || sent.Type != 'P' {
			t.Fatalf("%d messages from %v on: not a batch and its COMMIT", len(messages), sent)
		}
		s.check(t, messages)
	})
}

// A batch whose COMMIT got lost is done again; one of which only the answer got
// lost is not.
func TestLostAnswerToACommitIsAskedFor(t *testing.T) {
	for _, ledger := range []bool{false, true} {
		t.Run(fmt.Sprintf("ledger %v", ledger), func(t *testing.T) {
			eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
				s := newScenario(t, strategy, 1, 100)
				s.ledger = ledger
				batch := round(s.record(t), "DELETE FROM ONLY", 1, 1)
				for _, m := range batch {
					if m.Round == batch[0].Round {
						continue // the DELETE
					}
					arrived := m.FromServer || m.Type == 'S' // what is lost is behind the COMMIT
					s.before = nil
					if arrived && !m.FromServer {
						// The driver has what a lost connection was doing cancelled.
						s.before = func() {
							pgtest.Eventually(t, "the COMMIT to be done", func() bool {
								return pgtest.Int(t, s.conn, "SELECT count(backend_xid) FROM pg_stat_activity WHERE datname = current_database()") == 0
							})
						}
					}
					r := s.cut(t, m)
					want(t, r, cleanup.OutcomeComplete, wireExpired)
					if tried := r.Retries > 0; tried == arrived {
						t.Errorf("cut at %v: %d retries", m, r.Retries)
					}
				}
			})
		})
	}
}

func TestWireCutAtEveryMessageOfABatchOfOneOfSeveralWorkers(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		s := newScenario(t, strategy, 3, 10)
		// The first batch of the second of three workers' connections, which begins
		// with a question about earlier ones. Which rows it deletes differs from run
		// to run, not what it says.
		s.check(t, thin(round(s.record(t), "pg_last_wal_replay_lsn", 1, 2)))
	})
}

func TestWireCutAtEveryMessageBesidesTheBatches(t *testing.T) {
	cases := []struct {
		name     string
		messages func(said []pgtest.Message) []pgtest.Message
	}{
		{"a worker's connection begins", func(said []pgtest.Message) (start []pgtest.Message) {
			session := round(said, "pg_last_wal_replay_lsn", 0, 0)
			for _, m := range said {
				if m.Conn == session[0].Conn && m.Round == 0 {
					start = append(start, m)
				}
			}
			return append(start, session...)
		}},
		{"the flush", func(said []pgtest.Message) []pgtest.Message { return round(said, "pg_logical_emit_message", 0, 0) }},
		{"the verification", func(said []pgtest.Message) []pgtest.Message { return round(said, "count(*) FILTER", 0, 0) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScenario(t, cleanup.Index, 1, 100)
			s.check(t, thin(c.messages(s.record(t))))
		})
	}
}

// A run that loses its lock's connection before it has the lock deletes nothing,
// and leaves no lock behind.
func TestWireCutAtEveryMessageOfTheLock(t *testing.T) {
	t.Parallel()
	s := newScenario(t, cleanup.Index, 1, 100)
	for _, m := range thin(round(s.record(t), "pg_try_advisory_lock", 0, 0)) {
		r := s.cut(t, m)
		if left := pgtest.Int(t, s.conn, "SELECT count(*) FROM messages"); r.Deleted != 400-left || r.Err != nil && cleanup.KindOf(r.Err) != cleanup.Incomplete {
			t.Errorf("cut at %v: %d rows deleted, %d are left (%v)", m, r.Deleted, left, r.Err)
		}
		pgtest.Eventually(t, "the lock to be free", func() bool {
			return pgtest.Int(t, s.conn, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == 0
		})
	}
}

// A drop takes several steps. Each is lost once as a whole and once without its
// answer; the one that drops, and its COMMIT, message by message.
func TestWireCutAtEveryStepOfAPartitionDrop(t *testing.T) {
	t.Parallel()
	s := newScenario(t, cleanup.Partition, 1, 100)
	s.fill = `DROP TABLE IF EXISTS messages, old;
		CREATE TABLE messages (id bigint, expires_at timestamptz) PARTITION BY RANGE (expires_at);
		CREATE TABLE old PARTITION OF messages FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
		CREATE TABLE current PARTITION OF messages FOR VALUES FROM ('2020-01-01') TO (MAXVALUE);
		CREATE INDEX ON messages (expires_at);
		INSERT INTO messages SELECT i, '2019-01-01' FROM generate_series(1, 300) AS i;
		INSERT INTO messages SELECT i, 'infinity' FROM generate_series(1, 100) AS i`
	said := s.record(t)
	drop := round(said, "DROP TABLE", 0, 1)
	for _, m := range round(said, "pg_last_wal_replay_lsn", 0, 100) {
		if m.Index == 0 {
			drop = append(drop, m)
		}
	}
	s.check(t, drop)
}
