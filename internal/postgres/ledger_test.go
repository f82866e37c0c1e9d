package postgres_test

import (
	"strings"
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

// The role that runs can neither change nor remove what is on record, and its
// owner cannot by mistake.
func TestClosedRowsStayAsTheyAre(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	table(t, conn, 10)
	s := newSetup(t, url)
	s.ledger = true
	want(t, s.run(t), cleanup.OutcomeComplete, 10)
	role, asRole := pgtest.Role(t, conn, url)
	grants, err := postgres.LedgerGrants(ledgerTable, role)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range grants {
		pgtest.Exec(t, conn, sql)
	}
	for _, tt := range []struct{ url, sql, want string }{
		{asRole, "DELETE FROM message_cleanup.runs", "permission denied"},
		{asRole, "UPDATE message_cleanup.runs SET started = now()", "permission denied"},
		{asRole, "UPDATE message_cleanup.runs SET deleted = 0", "is closed"},
		{url, "UPDATE message_cleanup.runs SET hash = NULL", "is closed"},
		{url, "DELETE FROM message_cleanup.runs", "is closed"},
	} {
		if _, err := pgtest.Conn(t, tt.url).Exec(t.Context(), tt.sql); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %s", tt.sql, err, tt.want)
		}
	}
}

// Somebody removes the run's row, or another run closes it because it takes this
// one for dead: no batch is committed after that.
func TestWhatCannotBePutOnRecordIsNotDeleted(t *testing.T) {
	t.Parallel()
	for name, meddle := range map[string]string{
		"removed": "DELETE FROM message_cleanup.runs",
		"closed":  "UPDATE message_cleanup.runs SET outcome = 'unfinished', position = 1, previous = '', hash = 'x'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := pgtest.Conn(t, url)
			table(t, conn, 5_000)
			makeLedger(t, conn, ledgerTable)
			s := newSetup(t, url)
			s.ledger = true
			s.runner.Progress = func(p cleanup.Progress) {
				if p.Batches == 2 {
					pgtest.Exec(t, conn, meddle)
				}
			}
			r, err := s.try(t.Context())
			r.Err = err
			wantKind(t, r, cleanup.NeedsPerson)
			if gone := 10_000 - pgtest.Int(t, conn, "SELECT count(*) FROM messages"); gone != r.Deleted || gone >= 5_000 {
				t.Errorf("%d rows are gone, %d are reported", gone, r.Deleted)
			}
		})
	}
}

// The ledger knows of two runs that ended without a word; the next closes their
// rows, and finds nothing to close itself.
func TestTheNextRunClosesWhatNeverFinished(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	makeLedger(t, conn, ledgerTable)
	ledger := open(t, url).Ledger(ledgerTable)
	if err := ledger.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	policy := cleanup.Policy{Name: "messages", Table: "messages", Column: "expires_at"}
	for _, name := range []string{"messages", "messages", "of another policy"} {
		if _, err := ledger.Begin(t.Context(), cleanup.LedgerRow{
			RunID: cleanup.NewRunID(time.Now()), Policy: name, Table: "public.messages", Definition: "d", Host: "h", Version: "v",
		}); err != nil {
			t.Fatal(err)
		}
	}
	for i, wanted := range []int{2, 0} {
		rows, err := ledger.CloseUnfinished(t.Context(), policy, "public.messages")
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != wanted {
			t.Fatalf("try %d: %d rows closed, want %d", i, len(rows), wanted)
		}
		for _, row := range rows {
			if row.Outcome != cleanup.OutcomeUnfinished || row.Finished != nil || row.Hash == "" || row.Damage != nil {
				t.Errorf("%+v", row)
			}
		}
	}
	summary, err := ledger.Summary(t.Context(), "messages")
	if err != nil {
		t.Fatal(err)
	}
	if summary.Runs != 2 || summary.Verified != nil || summary.Last == nil || summary.Last.Outcome != cleanup.OutcomeUnfinished {
		t.Errorf("%+v", summary)
	}
}
