package postgres_test

import (
	"strings"
	"testing"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

// What PostgreSQL 13 cannot do is said, with what to do instead.
func TestPostgreSQL13NeedsAnIndexAndSaysSo(t *testing.T) {
	t.Parallel()
	if canTIDRange(t) {
		t.Skip("this is about PostgreSQL 13")
	}
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	table(t, conn, 3_000)
	pgtest.Exec(t, conn, "DROP INDEX messages_expires_at_idx")

	s := newSetup(t, url)
	for strategy, want := range map[cleanup.Strategy][2]string{
		cleanup.Heap: {"strategy heap: the server cannot scan ranges of ctid, which PostgreSQL can from version 14", "set strategy: auto"},
		cleanup.Auto: {"public.messages has no usable index, and the server cannot scan ranges of ctid, which PostgreSQL can from version 14",
			"create an index that starts with the expiry column"},
		cleanup.Index: {"strategy index: public.messages has no valid btree index that starts with the expiry column",
			"create the index; there is no other way: the server cannot scan ranges of ctid, which PostgreSQL can from version 14"},
	} {
		s.policy.Strategy = strategy
		r := s.run(t)
		wantKind(t, r, cleanup.Configuration)
		if r.Err.Error() != want[0] || cleanup.HintOf(r.Err) != want[1] {
			t.Errorf("strategy %s: %v (hint: %s)\nwant %s (hint: %s)", strategy, r.Err, cleanup.HintOf(r.Err), want[0], want[1])
		}
	}

	pgtest.Exec(t, conn, "CREATE INDEX ON messages (expires_at)")
	s.policy.Strategy = cleanup.Auto
	r := s.run(t)
	want(t, r, cleanup.OutcomeComplete, 3_000)
	if reason := strings.Join(r.Reasons, "\n"); !strings.Contains(reason, "messages_expires_at_idx; the server cannot scan ranges of ctid") {
		t.Errorf("the reason is %q", reason)
	}
}

// These claims are made by a PostgreSQL: the engines themselves were not to be had.
func TestServerThatOnlySpeaksLikePostgreSQLIsRefusedBeforeAnythingElse(t *testing.T) {
	for name, claim := range map[string]string{
		"CockroachDB CCL v24.3.0":         "CockroachDB CCL v24.3.0 (x86_64-pc-linux-gnu, built 2024/11/18 15:09:23, go1.22.8)",
		"PostgreSQL 15.12-YB-2.25.2.0-b0": "PostgreSQL 15.12-YB-2.25.2.0-b0 on x86_64-pc-linux-gnu, compiled by clang",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			conn := pgtest.Conn(t, url)
			table(t, conn, 10)
			pgtest.Exec(t, conn, "ALTER FUNCTION pg_catalog.version() RENAME TO version_in_truth")
			pgtest.Exec(t, conn, "CREATE FUNCTION pg_catalog.version() RETURNS text LANGUAGE sql AS $$ SELECT '"+claim+"' $$")
			r := newSetup(t, url).run(t)
			wantKind(t, r, cleanup.Configuration)
			if !strings.HasPrefix(r.Err.Error(), "the server is "+name+", which only speaks like PostgreSQL") {
				t.Errorf("error %v", r.Err)
			}
		})
	}
}

func TestTableThatCitusDistributesIsRefused(t *testing.T) {
	t.Parallel()
	url := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"allow_system_table_mods": "on"}}).URL("postgres")
	conn := pgtest.Conn(t, url)
	pgtest.Exec(t, conn, `
		CREATE TABLE messages (id bigint, expires_at timestamptz) PARTITION BY LIST (id);
		CREATE TABLE far PARTITION OF messages FOR VALUES IN (1);
		CREATE INDEX ON messages (expires_at);
		INSERT INTO messages VALUES (1, now() - interval '1 hour')`)
	// As Citus' own script makes it, and for somebody else's table.
	pgtest.Exec(t, conn, `
		CREATE TABLE pg_catalog.pg_dist_partition (logicalrelid regclass NOT NULL, partmethod "char" NOT NULL, partkey text);
		CREATE TABLE other (id bigint);
		INSERT INTO pg_dist_partition VALUES ('other', 'h', '')`)
	s := newSetup(t, url)
	want(t, s.run(t), cleanup.OutcomeComplete, 1)
	pgtest.Exec(t, conn, "INSERT INTO pg_dist_partition VALUES ('far', 'h', '')")
	r := s.run(t)
	wantKind(t, r, cleanup.Configuration)
	if !strings.Contains(r.Err.Error(), "far is distributed by Citus") {
		t.Errorf("error %v", r.Err)
	}
}
