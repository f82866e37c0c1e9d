package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
)

// holdersQuery finds who keeps rows that were deleted by the transaction $1, and
// later ones, from being reclaimed, the oldest first. It reads what ComputeXidHorizons in
// src/backend/storage/ipc/procarray.c looks at for a table that is no catalog:
//
//   - transactions of this database, by their snapshot and, idle under READ
//     COMMITTED without one, by their own id; vacuums do not count,
//   - walsenders of any database, whose snapshot is a standby's feedback,
//   - prepared transactions of this database,
//   - the xmin of slots. Their catalog_xmin holds back catalogs alone.
//
// Snapshots are shown to every role; since when, and what the session does, only
// to its own and to pg_read_all_stats.
const holdersQuery = `
SELECT h.kind, h.id, h.owner, h.application, h.state,
       coalesce((extract(epoch FROM clock_timestamp() - h.since) * 1000000)::bigint::text, '')
FROM (
  SELECT CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_stat_replication r WHERE r.pid = a.pid) THEN 'walsender' ELSE 'process' END AS kind,
         a.pid::text AS id, coalesce(a.usename, '') AS owner, coalesce(a.application_name, '') AS application,
         coalesce(a.state, '') AS state, a.xact_start AS since,
         greatest(age(a.backend_xmin), age(a.backend_xid)) AS age
  FROM pg_catalog.pg_stat_activity a
  WHERE a.pid <> pg_backend_pid()
    AND (a.datid IS NULL OR a.datname = current_database())
    AND a.leader_pid IS NULL
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.pid = a.pid)
  UNION ALL
  SELECT 'prepared', quote_literal(gid), owner, '', '', prepared, age(transaction)
  FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()
  UNION ALL
  SELECT 'slot', slot_name, '', '', CASE WHEN active THEN 'active' ELSE 'inactive' END, NULL, age(xmin)
  FROM pg_catalog.pg_replication_slots
) AS h
WHERE h.age >= age($1::text::xid8::xid)
ORDER BY h.age DESC, h.since`

// Holders implements cleanup.Database.
func (t *Table) Holders(ctx context.Context) ([]cleanup.Holder, error) {
	t.touched.mu.Lock()
	first := t.touched.first
	t.touched.mu.Unlock()
	if first == 0 {
		return nil, nil
	}
	return t.db.holders(ctx, strconv.FormatUint(first, 10))
}

func (db *DB) holders(ctx context.Context, xid string) ([]cleanup.Holder, error) {
	rows, err := db.query(ctx, holdersQuery, xid)
	if err != nil {
		return nil, fmt.Errorf("ask the server for its oldest transactions: %w", err)
	}
	var holders []cleanup.Holder
	for _, row := range rows {
		h := db.holder(row[0], row[1], row[2], row[3], row[4])
		if row[5] != "" && row[0] != "walsender" { // it has no transaction, and its feedback no time
			micros, err := strconv.ParseInt(row[5], 10, 64)
			if err != nil {
				return nil, fmt.Errorf("read the age of a transaction: %w", err)
			}
			h.Held = time.Duration(micros) * time.Microsecond
		}
		holders = append(holders, h)
	}
	return holders, nil
}

// holder says in words who it is, and what can be done.
func (db *DB) holder(kind, id, owner, application, state string) cleanup.Holder {
	who := fmt.Sprintf("(user %s, application %q", owner, application)
	end := fmt.Sprintf("SELECT pg_terminate_backend(%s)", id)
	switch {
	case kind == "walsender":
		return cleanup.Holder{Name: "the standby of server process " + id + " " + who + ")",
			Hint: "look for a long query on that standby, whose hot_standby_feedback is on"}
	case kind == "prepared":
		return cleanup.Holder{Name: "prepared transaction " + id + " (user " + owner + ")", Stays: true,
			Hint: "end it: COMMIT PREPARED " + id + ", or ROLLBACK PREPARED " + id, End: "ROLLBACK PREPARED " + id}
	case kind == "slot" && state == "active":
		return cleanup.Holder{Name: "the standby of replication slot " + id,
			Hint: "look for a long query on that standby, whose hot_standby_feedback is on"}
	case kind == "slot":
		drop := "SELECT pg_drop_replication_slot('" + id + "')"
		return cleanup.Holder{Name: "replication slot " + id + ", which nobody uses", Stays: true,
			Hint: "let its standby come back, or drop it: " + drop, End: drop}
	case state == "":
		role := pgx.Identifier{db.config.User}.Sanitize()
		return cleanup.Holder{Name: "server process " + id + " " + who + ")", End: end,
			Hint: "to see since when and what it does: GRANT pg_read_all_stats TO " + role + "; to end it: " + end}
	case state == "active":
		return cleanup.Holder{Name: "server process " + id + " " + who + ", in a statement)", End: end,
			Hint: "wait for its end, or end it: " + end}
	}
	return cleanup.Holder{Name: "server process " + id + " " + who + ", " + state + ")", End: end,
		Hint: "end it: " + end + ", and look why it leaves a transaction open"}
}
