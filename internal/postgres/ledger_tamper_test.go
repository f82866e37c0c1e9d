package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

// tampering is a ledger of five closed rows, and a copy of it without any
// constraint or trigger, which a superuser would have taken away.
type tampering struct {
	*testing.T
	conn   *pgx.Conn
	ledger *postgres.Ledger // the copy
	rows   []cleanup.LedgerRow
}

func newTampering(t *testing.T) *tampering {
	url := pgtest.Database(t)
	tt := &tampering{T: t, conn: pgtest.Conn(t, url)}
	makeLedger(t, tt.conn, ledgerTable)
	db := open(t, url)
	ledger := db.Ledger(ledgerTable)
	if err := ledger.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 1, 2, 0, 0, 123456000, time.UTC)
	for i := range 5 {
		entry, err := ledger.Begin(t.Context(), cleanup.LedgerRow{
			RunID: cleanup.NewRunID(at), Policy: []string{"messages", `"<&>' é`}[i%2], Table: "public.messages",
			Definition: "delete", DefinitionHash: "0", Cutoff: &at, OldestExpiry: &at, NewestExpiry: &at, Host: "h", Version: "v",
		})
		if err != nil {
			t.Fatal(err)
		}
		result := cleanup.PolicyResult{StopReason: cleanup.Exhausted, Backlog: new(int64(0)), Held: new(int64(1))}
		row, err := entry.Close(t.Context(), result)
		if err != nil {
			t.Fatal(err)
		}
		tt.rows = append(tt.rows, row)
	}
	pgtest.Exec(t, tt.conn, "CREATE TABLE tampered AS TABLE message_cleanup.runs")
	tt.ledger = db.Ledger("tampered")
	return tt
}

// findings verifies the copy after statements, and restores it.
func (tt *tampering) findings(head string, statements ...string) []cleanup.ChainFinding {
	tt.Helper()
	for _, sql := range statements {
		pgtest.Exec(tt, tt.conn, sql)
	}
	rows, err := tt.ledger.Rows(tt.Context())
	if err != nil {
		tt.Fatal(err)
	}
	chain, err := cleanup.VerifyChain(rows, head)
	if err != nil {
		tt.Fatal(err)
	}
	pgtest.Exec(tt, tt.conn, "DELETE FROM tampered; INSERT INTO tampered TABLE message_cleanup.runs")
	return chain.Findings
}

// rehash gives a row of the copy the hash that its content should have, as
// somebody would who knows how.
func (tt *tampering) rehash(position int64) {
	tt.Helper()
	rows, err := tt.ledger.Rows(tt.Context())
	if err != nil {
		tt.Fatal(err)
	}
	for _, row := range rows {
		if row.Position != nil && *row.Position == position {
			pgtest.Exec(tt, tt.conn, "UPDATE tampered SET hash = $1 WHERE position = $2", row.Sum(), position)
		}
	}
}

// names tells which rows findings are about.
func names(findings []cleanup.ChainFinding) string {
	var positions []int64
	for _, f := range findings {
		positions = append(positions, f.Position)
	}
	slices.Sort(positions)
	return fmt.Sprint(slices.Compact(positions))
}

func TestAnUntouchedLedgerIsIntact(t *testing.T) {
	t.Parallel()
	tt := newTampering(t)
	for _, head := range []string{"", tt.rows[4].Head()} {
		if f := tt.findings(head); len(f) > 0 {
			t.Errorf("%v", f)
		}
	}
	for i, row := range tt.rows {
		if row.Position == nil || *row.Position != int64(i+1) || i > 0 && row.Previous != tt.rows[i-1].Hash {
			t.Errorf("row %d: %s", i, row.Content)
		}
	}
}

// Whichever column of whichever row is changed: that row is named, and no other.
func TestAnEditedRowIsNamed(t *testing.T) {
	t.Parallel()
	tt := newTampering(t)
	others := map[string][]string{
		"uuid":                     {"'00000000-0000-0000-0000-000000000000'"},
		"text":                     {"'changed'", "''", "NULL"},
		"bigint":                   {"77", "-1", "NULL"},
		"timestamp with time zone": {"'2020-01-01'", "'infinity'", "'0044-03-15 BC'", "NULL"},
		"ARRAY":                    {"'{public.m1}'", "'{NULL}'", "NULL"},
	}
	columns, err := tt.conn.Query(t.Context(), "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'tampered' ORDER BY ordinal_position")
	if err != nil {
		t.Fatal(err)
	}
	type column struct{ Name, Type string }
	all, err := pgx.CollectRows(columns, pgx.RowToStructByPos[column])
	if err != nil || len(all) != 26 {
		t.Fatal(err, all)
	}
	tried := 0
	for _, c := range all {
		for _, value := range others[c.Type] {
			for position := range int64(5) {
				position++
				if pgtest.Int(t, tt.conn, fmt.Sprintf("SELECT count(*) FROM tampered WHERE position = %d AND %s IS DISTINCT FROM %s", position, c.Name, value)) == 0 {
					continue // it is that already
				}
				tried++
				f := tt.findings("", fmt.Sprintf("UPDATE tampered SET %s = %s WHERE position = %d", c.Name, value, position))
				wanted := fmt.Sprintf("[%d]", position)
				if c.Name == "position" {
					wanted = "" // its old place is missing too
				}
				named := slices.ContainsFunc(f, func(f cleanup.ChainFinding) bool {
					return f.RunID == tt.rows[position-1].RunID || c.Name == "run_id" && f.Position == position
				})
				if !named || wanted != "" && names(f) != wanted {
					t.Errorf("row %d, %s = %s: found %v", position, c.Name, value, f)
				}
			}
		}
	}
	if tried < 26*5 {
		t.Errorf("only %d edits were tried", tried)
	}
}

func TestWhatElseIsDoneToTheLedgerIsNamed(t *testing.T) {
	t.Parallel()
	tt := newTampering(t)
	columns := "policy, table_name, definition, definition_hash, cutoff, started, finished, outcome, stop_reason, deleted, batches, dropped_partitions, " +
		"backlog, held, locked, refused, oldest_expiry, newest_expiry, host, version, system_identifier, timeline"
	insert := func(position, previous, hash string, from int) string {
		return fmt.Sprintf("INSERT INTO tampered (run_id, %s, position, previous, hash) SELECT gen_random_uuid(), %s, %s, %s, %s FROM tampered WHERE position = %d",
			columns, columns, position, previous, hash, from)
	}
	head := tt.rows[4].Head()
	for _, test := range []struct {
		name string
		head string
		do   func()
		want string // the places of the rows that are named
		says string
	}{
		{"the first removed", "", func() { pgtest.Exec(t, tt.conn, "DELETE FROM tampered WHERE position = 1") }, "[1]", "is missing"},
		{"one in the middle removed", "", func() { pgtest.Exec(t, tt.conn, "DELETE FROM tampered WHERE position = 3") }, "[3]", "is missing"},
		{"two in the middle removed", "", func() { pgtest.Exec(t, tt.conn, "DELETE FROM tampered WHERE position IN (2, 3)") }, "[2 3]", "is missing"},
		{"the last removed", head, func() { pgtest.Exec(t, tt.conn, "DELETE FROM tampered WHERE position = 5") }, "[5]", "is missing"},
		{"all removed", head, func() { pgtest.Exec(t, tt.conn, "DELETE FROM tampered") }, "[1 2 3 4 5]", "is missing"},
		{"all but the last removed, which is made the first", "", func() {
			pgtest.Exec(t, tt.conn, "DELETE FROM tampered WHERE position < 5; UPDATE tampered SET position = 1")
			tt.rehash(1)
		}, "[1]", "not the first row"},
		{"two rows swapped", "", func() {
			pgtest.Exec(t, tt.conn, "UPDATE tampered SET position = 5 - position WHERE position IN (2, 3)")
		}, "[2 3]", "was edited"},
		{"the contents of two rows swapped", "", func() {
			pgtest.Exec(t, tt.conn, "UPDATE tampered a SET deleted = b.deleted + 1, run_id = b.run_id FROM tampered b WHERE a.position IN (2, 3) AND b.position = 5 - a.position")
		}, "[2 3]", "was edited"},
		{"edited with the hash that it should have then", "", func() {
			pgtest.Exec(t, tt.conn, "UPDATE tampered SET deleted = 7 WHERE position = 3")
			tt.rehash(3)
		}, "[3]", "was replaced: row 4 followed another"},
		{"the last edited with the hash that it should have then", head, func() {
			pgtest.Exec(t, tt.conn, "UPDATE tampered SET deleted = 7 WHERE position = 5")
			tt.rehash(5)
		}, "[5]", "was replaced: the head"},
		{"inserted at the end", "", func() { pgtest.Exec(t, tt.conn, insert("6", "hash", "hash", 5)) }, "[6]", "edited or inserted"},
		{"inserted at the end with the hash that it should have", head, func() {
			pgtest.Exec(t, tt.conn, insert("6", "hash", "hash", 5))
			tt.rehash(6)
		}, "[6]", "behind the head"},
		{"inserted beside another", "", func() {
			pgtest.Exec(t, tt.conn, insert("3", "previous", "hash", 3))
		}, "[3]", "edited or inserted"},
		{"inserted in the middle, the rest moved and given new hashes", "", func() {
			pgtest.Exec(t, tt.conn, "UPDATE tampered SET position = position + 1 WHERE position > 3")
			pgtest.Exec(t, tt.conn, insert("4", "hash", "hash", 3))
			for _, position := range []int64{4, 5, 6} {
				tt.rehash(position)
			}
		}, "[4 5]", "was inserted: row 5 followed row 3"},
		{"inserted without a place, as if it had ended", "", func() { pgtest.Exec(t, tt.conn, insert("NULL", "NULL", "NULL", 3)) }, "[0]", "is not in the chain"},
		{"inserted without a place, as if at work", "", func() {
			pgtest.Exec(t, tt.conn, insert("NULL", "NULL", "NULL", 3))
			pgtest.Exec(t, tt.conn, "UPDATE tampered SET finished = NULL, outcome = NULL WHERE position IS NULL")
		}, "[0]", "is open although row 5"},
	} {
		test.do()
		f := tt.findings(test.head)
		var text []string
		for _, finding := range f {
			text = append(text, finding.String())
		}
		if names(f) != test.want || !strings.Contains(strings.Join(text, "\n"), test.says) {
			t.Errorf("%s: want %s and %q, found:\n%s", test.name, test.want, test.says, strings.Join(text, "\n"))
		}
	}
}

func TestWhatIsNoHeadIsRefused(t *testing.T) {
	t.Parallel()
	for _, head := range []string{"17", "17:", "x:" + strings.Repeat("a", 64), "0:" + strings.Repeat("a", 64), "1:" + strings.Repeat("A", 64), strings.Repeat("a", 64)} {
		if _, err := cleanup.VerifyChain(nil, head); err == nil {
			t.Errorf("%q was accepted", head)
		}
	}
}
