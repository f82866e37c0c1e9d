package postgres

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

// A server takes over that is further behind than batches are remembered. What
// became of the rest cannot be told, and is not guessed.
func TestFailoverBeyondWhatIsRememberedIsSaid(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{})
	if err := errors.Join(cluster.Stop("immediate"), cluster.StartServer()); err != nil { // a recovery ends somewhere
		t.Fatal(err)
	}
	conn, err := pgconn.Connect(t.Context(), cluster.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())

	var f fates
	s := &session{}
	for range remembered + 1 {
		f.add(&transaction{session: s, server: incarnation{timeline: "00000000"}, xid: "3", deleted: "F0000000/0", rows: 1, reported: true})
	}
	f.flushed(1) // the server had that
	if len(f.durable) != remembered || f.forgotten == nil {
		t.Fatalf("%d batches are remembered, want %d", len(f.durable), remembered)
	}
	for _, tt := range []struct {
		forgotten uint64
		known     bool
	}{{1, true}, {0xF0000000 << 32, false}} {
		f.forgotten.ended = tt.forgotten
		_, err := f.settle(t.Context(), conn, s)
		if known := err == nil; known != tt.known {
			t.Errorf("what was forgotten up to %X: %v", tt.forgotten, err)
		}
		if err != nil && cleanup.KindOf(err) != cleanup.NeedsPerson {
			t.Errorf("%v is of kind %d", err, cleanup.KindOf(err))
		}
	}
}
