package postgres_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
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
	grantLedger(t, conn, role)
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

// The ledger tells from when to when the rows expired that a run found, whatever
// kind of column says so, and nothing where it cannot be told.
func TestTheSpanOfWhatIsExpired(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	db := open(t, url)
	server, err := db.Server(t.Context(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct{ column, values, zone, unit, index, want string }{
		{"timestamptz", "'2026-01-01 10:00+01', '2025-12-31 23:00:00.123456+00', '2100-01-01', NULL, 'infinity'", "", "", "yes", "2025-12-31T23:00:00.123456Z 2026-01-01T09:00:00Z"},
		{"timestamptz", "'-infinity', '2026-01-01 10:00+00'", "", "", "yes", "- 2026-01-01T10:00:00Z"},
		{"timestamptz", "'4713-01-01 BC', '2026-01-01 10:00+00'", "", "", "yes", "- 2026-01-01T10:00:00Z"},
		{"timestamptz", "'2100-01-01'", "", "", "yes", "- -"},
		{"timestamptz", "'2026-01-01 10:00+00'", "", "", "", "- -"},
		{"timestamp", "'2026-01-01 10:00'", "Asia/Kathmandu", "", "yes", "2026-01-01T04:15:00Z 2026-01-01T04:15:00Z"},
		{"date", "'2026-01-01', '2025-01-01'", "Asia/Kathmandu", "", "yes", "2024-12-31T18:15:00Z 2025-12-31T18:15:00Z"},
		{"bigint", "1700000000123, 0", "", "ms", "yes", "1970-01-01T00:00:00Z 2023-11-14T22:13:20.123Z"},
		{"bigint", "-9223372036854775808, 0", "", "s", "yes", "- -"},
		{"double precision", "1700000000.5, '-Infinity'", "", "s", "yes", "- 2023-11-14T22:13:20.5Z"},
	} {
		if tt.index == "" && server.Version < 140000 {
			continue // it needs one
		}
		name := fmt.Sprint("t", i)
		pgtest.Exec(t, conn, "CREATE TABLE "+name+" (expires_at "+tt.column+"); INSERT INTO "+name+" SELECT unnest(ARRAY["+tt.values+"]::"+tt.column+"[])")
		if tt.index != "" {
			pgtest.Exec(t, conn, "CREATE INDEX ON "+name+" (expires_at)")
		}
		policy := newSetup(t, url).policy
		policy.Table = name
		if tt.zone != "" {
			policy.TimeZone = tt.zone
		}
		if tt.unit != "" {
			policy.Unit = cleanup.Unit(tt.unit)
		}
		table, err := db.Inspect(t.Context(), policy, server, server.Clock)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := cleanup.NewPlan(policy, table.Facts(), server.Clock)
		if err != nil {
			t.Fatal(err)
		}
		oldest, newest, err := table.Span(t.Context(), plan)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, end := range []*time.Time{oldest, newest} {
			if end == nil {
				got = append(got, "-")
			} else {
				got = append(got, end.Format(time.RFC3339Nano))
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s of %s: %q, want %q", tt.values, tt.column, got, tt.want)
		}
	}
}
