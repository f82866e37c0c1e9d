package postgres_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

// An application that writes is noticed by a role that may see nothing of it,
// in whichever database it works.
func TestOthersWhoWriteAreNoticedInAnyDatabase(t *testing.T) {
	for name, elsewhere := range map[string]bool{"in the same database": false, "in another database": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := pgtest.Conn(t, url)
			table(t, conn, 50_000)
			app := conn
			if elsewhere {
				app = pgtest.Conn(t, pgtest.Database(t))
			}
			pgtest.Exec(t, app, "CREATE TABLE chat (id int)")

			s := newSetup(t, url)
			s.runner.BatchMaxRows = 500
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			noticed := make(chan struct{})
			s.runner.Log = slog.New(onEvent{cleanup.EventCompany, func() { close(noticed); cancel() }})
			written := writeUntil(ctx, app)
			r, _ := s.try(ctx)
			cancel()
			if err := <-written; err != nil {
				t.Fatal(err)
			}
			select {
			case <-noticed:
			default:
				t.Errorf("deleted %d rows in %d batches without noticing those who wrote meanwhile", r.Deleted, r.Batches)
			}
		})
	}
}

// writeUntil commits one row after the other.
func writeUntil(ctx context.Context, app *pgx.Conn) <-chan error {
	ended := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if _, err := app.Exec(context.WithoutCancel(ctx), "INSERT INTO chat VALUES (1)"); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	return ended
}

// Where nobody else writes, several workers are no company for one another.
func TestARunIsNoCompanyForItself(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"autovacuum": "off"}})
	url := cluster.URL("postgres")
	conn := pgtest.Conn(t, url)
	for _, workers := range []int{1, 4} {
		pgtest.Exec(t, conn, "DROP TABLE IF EXISTS messages")
		table(t, conn, 20_000)
		s := newSetup(t, url)
		var noticed atomic.Bool
		s.runner.Log = slog.New(onEvent{cleanup.EventCompany, func() { noticed.Store(true) }})
		s.runner.Workers, s.runner.BatchMaxRows = workers, 200
		want(t, s.run(t), cleanup.OutcomeComplete, 20_000)
		if noticed.Load() {
			t.Errorf("%d workers alone on a server took themselves for company", workers)
		}
	}
}
