package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// setup is one run as the command wires it, with what a test may change.
type setup struct {
	url    string
	policy cleanup.Policy
	opts   postgres.Options
	runner cleanup.Runner
	now    func() time.Time
	skew   time.Duration         // the limit
	locked bool                  // take the run's lock, as the command does
	ledger bool                  // keep one; a run that is in it fails the test if its sums differ
	entry  cleanup.LedgerRow     // of the last run, closed
	begin  func(*postgres.Table) // called before the run begins to delete; may be nil
	end    func(*postgres.Table) // called behind it; may be nil
}

// newSetup is the default policy with batches that are small enough for a test
// to have many.
func newSetup(t *testing.T, url string) *setup {
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	return &setup{
		url: url,
		policy: cleanup.Policy{
			Name: "messages", Table: "messages", Column: "expires_at",
			Strategy: cleanup.Auto, TimeZone: "UTC", Unit: cleanup.Seconds,
		},
		opts: postgres.Options{
			ConnectTimeout: 10 * time.Second, Wait: 30 * time.Second, LockTimeout: 50 * time.Millisecond, Log: log,
		},
		runner: cleanup.Runner{Log: log, BatchTarget: 100 * time.Millisecond, BatchMaxRows: 1_000},
		now:    time.Now,
		skew:   5 * time.Minute,
		locked: true,
	}
}

// run does one run and returns its result; the error of any step is in it.
func (s *setup) run(t *testing.T) cleanup.PolicyResult {
	t.Helper()
	if s.ledger {
		conn := pgtest.Conn(t, s.url)
		if pgtest.Int(t, conn, "SELECT pg_catalog.count(*) FROM pg_catalog.pg_namespace WHERE nspname OPERATOR(pg_catalog.=) 'message_cleanup'") == 0 {
			makeLedger(t, conn, ledgerTable)
		}
	}
	result, err := s.try(t.Context())
	if err != nil {
		result.Err = err
	}
	if s.ledger && (s.entry.Deleted != result.Deleted || !slices.Equal(slices.Sorted(slices.Values(s.entry.Dropped)), slices.Sorted(slices.Values(result.Dropped))) ||
		s.entry.Outcome != result.Outcome() || s.entry.Hash == "") {
		t.Errorf("the run deleted %d rows, dropped %q, and is %s, in the ledger it is: %s",
			result.Deleted, result.Dropped, result.Outcome(), s.entry.Content)
	}
	return result
}

func (s *setup) try(ctx context.Context) (result cleanup.PolicyResult, err error) {
	s.opts.URL, s.opts.Workers = s.url, s.runner.Workers
	db, err := postgres.Open(ctx, s.opts)
	if err != nil {
		return result, err
	}
	defer db.Close()
	server, err := db.Server(ctx, s.now)
	if err != nil {
		return result, err
	}
	if err := server.Check(s.skew); err != nil {
		return result, err
	}
	cutoff := s.policy.Cutoff(server.Clock)
	table, err := db.Inspect(ctx, s.policy, server, cutoff)
	if err != nil {
		return result, err
	}
	plan, err := cleanup.NewPlan(s.policy, table.Facts(), cutoff)
	if err != nil {
		return result, err
	}
	if err := table.CheckPrivileges(); err != nil {
		return result, err
	}
	if s.locked {
		if err := db.Lock(ctx, s.policy.Name, plan.Table, server.Pooled); err != nil {
			return result, err
		}
	}
	if s.begin != nil {
		s.begin(table)
	}
	entry, err := s.open(ctx, db, plan, table)
	if err != nil {
		return result, err
	}
	table.Record(entry)
	result = s.runner.Run(ctx, plan, table)
	if entry != nil {
		if s.entry, err = entry.Close(context.WithoutCancel(ctx), result); err != nil {
			return result, errors.Join(result.Err, err)
		}
	}
	if s.end != nil {
		s.end(table)
	}
	return result, result.Err
}

// open opens the run's row in the ledger, if one is kept.
func (s *setup) open(ctx context.Context, db *postgres.DB, plan cleanup.Plan, table *postgres.Table) (*postgres.Entry, error) {
	if !s.ledger {
		return nil, nil
	}
	ledger := db.Ledger(ledgerTable)
	if err := ledger.Check(ctx); err != nil {
		return nil, err
	}
	if _, err := ledger.CloseUnfinished(ctx, plan.Policy, plan.Table); err != nil {
		return nil, err
	}
	oldest, newest, err := table.Span(ctx, plan)
	if err != nil {
		return nil, err
	}
	return ledger.Begin(ctx, cleanup.LedgerRow{
		OldestExpiry: oldest, NewestExpiry: newest,
		RunID: cleanup.NewRunID(time.Now()), Policy: s.policy.Name, Table: plan.Table,
		Definition: s.policy.String(), DefinitionHash: s.policy.Hash(), Cutoff: &plan.Cutoff,
		Host: "host.example", Version: "1.2.3",
	})
}

// want checks the parts of a result that every test cares for.
func want(t *testing.T, r cleanup.PolicyResult, outcome cleanup.Outcome, deleted int64) {
	t.Helper()
	if r.Err != nil && outcome != cleanup.OutcomeFailed {
		t.Fatalf("error: %v", r.Err)
	}
	if r.Outcome() != outcome {
		t.Errorf("outcome is %s (stopped: %s), want %s", r.Outcome(), r.StopReason, outcome)
	}
	if r.Deleted != deleted {
		t.Errorf("deleted %d rows, want %d", r.Deleted, deleted)
	}
}

// wantKind checks that the run failed with an error for a person.
func wantKind(t *testing.T, r cleanup.PolicyResult, kind cleanup.Kind) {
	t.Helper()
	if r.Err == nil {
		t.Fatalf("no error, outcome %s; want an error of kind %d", r.Outcome(), kind)
	}
	if got := cleanup.KindOf(r.Err); got != kind {
		t.Errorf("error %q is of kind %d, want %d", r.Err, got, kind)
	}
	if cleanup.HintOf(r.Err) == "" {
		t.Errorf("error %q has no hint", r.Err)
	}
}

// table makes a table of n expired and n live rows, in mixed order. Its rows
// are wide enough to fill many pages.
func table(t *testing.T, conn *pgx.Conn, n int) {
	t.Helper()
	pgtest.Exec(t, conn, `
		CREATE TABLE messages (id bigint PRIMARY KEY, body text NOT NULL, expires_at timestamptz);
		CREATE INDEX ON messages (expires_at)`)
	pgtest.Exec(t, conn, fmt.Sprintf(`
		INSERT INTO messages
		SELECT i, repeat('x', 200), now() + CASE WHEN i %% 2 = 0 THEN -1 ELSE 1 END * (i + 60) * interval '1 second'
		FROM generate_series(1, %d) AS i`, 2*n))
	pgtest.Exec(t, conn, "ANALYZE messages")
}

// waiting counts the sessions of this test's database that wait for a lock.
const waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

const expiredRows = "SELECT count(*) FROM messages WHERE expires_at < now()"

// eachStrategy runs a test once for index windows and once for block ranges.
func eachStrategy(t *testing.T, test func(t *testing.T, strategy cleanup.Strategy)) {
	for _, strategy := range []cleanup.Strategy{cleanup.Index, cleanup.Heap} {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			if strategy == cleanup.Heap {
				needsTIDRange(t)
			}
			test(t, strategy)
		})
	}
}

// needsTIDRange skips what PostgreSQL can only from version 14 on.
func needsTIDRange(t *testing.T) {
	if !canTIDRange(t) {
		t.Skip("the server cannot scan ranges of ctid, which PostgreSQL can from version 14")
	}
}

func canTIDRange(t *testing.T) bool { return serverVersion(t) >= 140000 }

func serverVersion(t *testing.T) int64 {
	return pgtest.Int(t, pgtest.Conn(t, pgtest.Database(t)), "SELECT current_setting('server_version_num')::int")
}
