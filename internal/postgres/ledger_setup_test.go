package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

const ledgerTable = "message_cleanup.runs"

// grantLedger lets a role keep the ledger, as setup would.
func grantLedger(t *testing.T, conn *pgx.Conn, role string) {
	t.Helper()
	grants, err := postgres.LedgerGrants(ledgerTable, role)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range grants {
		pgtest.Exec(t, conn, sql)
	}
}

// makeLedger makes the ledger as setup would.
func makeLedger(t *testing.T, conn *pgx.Conn, table string) {
	t.Helper()
	statements, err := postgres.LedgerSQL(table)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range statements {
		pgtest.Exec(t, conn, sql)
	}
}

func open(t *testing.T, url string) *postgres.DB {
	t.Helper()
	opts := newSetup(t, url).opts
	opts.URL = url
	db, err := postgres.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

func TestTheLedgerIsMadeAgainWithoutHarm(t *testing.T) {
	t.Parallel()
	for _, name := range []string{ledgerTable, "runs", `"Audit's"."The ""runs"""`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := pgtest.Conn(t, url)
			makeLedger(t, conn, name)
			makeLedger(t, conn, name)
			if err := open(t, url).Ledger(name).Check(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatIsNotTheNameOfALedgerIsRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", ".", "a.", ".a", "a.b.c", `"a`, `"a"b`, "a b", "a;b", "1a", "a-b", `""`} {
		if statements, err := postgres.LedgerSQL(name); err == nil {
			t.Errorf("%q: %s", name, statements)
		}
	}
}

// What the ledger lacks is said by its kind, and mended by the grants.
func TestTheLedgerSaysWhatItLacks(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	role, asRole := pgtest.Role(t, conn, url)
	ledger := open(t, asRole).Ledger(ledgerTable)
	wantKind := func(kind cleanup.Kind, hint string) {
		t.Helper()
		err := ledger.Check(t.Context())
		if err == nil || cleanup.KindOf(err) != kind || !strings.Contains(cleanup.HintOf(err), hint) {
			t.Fatalf("error %v (kind %d), hint %q; want kind %d, hint %q", err, cleanup.KindOf(err), cleanup.HintOf(err), kind, hint)
		}
	}
	wantKind(cleanup.Configuration, "message-cleanup setup")
	makeLedger(t, conn, ledgerTable)
	wantKind(cleanup.Permission, "GRANT USAGE ON SCHEMA")
	grants, err := postgres.LedgerGrants(ledgerTable, role)
	if err != nil {
		t.Fatal(err)
	}
	for i, sql := range grants {
		if i > 0 {
			wantKind(cleanup.Permission, grants[i])
		}
		pgtest.Exec(t, conn, sql)
	}
	if err := ledger.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, conn, "ALTER TABLE message_cleanup.runs RENAME host TO machine")
	wantKind(cleanup.Configuration, "another version")
}

func TestALedgerWithoutRowsHasAnEmptySummary(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	makeLedger(t, pgtest.Conn(t, url), ledgerTable)
	summary, err := open(t, url).Ledger(ledgerTable).Summary(t.Context(), "messages")
	if err != nil {
		t.Fatal(err)
	}
	if summary != (cleanup.LedgerSummary{}) {
		t.Errorf("%+v", summary)
	}
}
