package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"message-cleanup/internal/cleanup"
)

// Partitions may lie on other servers, as foreign tables. Such a leaf is cut into
// windows of the expiry column, and each of its batches is one DELETE that the
// other server executes as a whole, in a transaction of its own there. By
// postgres_fdw that is REPEATABLE READ: a row that somebody changes meanwhile
// makes the batch fail, and it is tried again.

// checkForeign refuses a foreign leaf whose DELETE would not be sent as a whole.
// The rows would be read then and deleted one by one, by their ctid alone, which
// on a server where the table has partitions is that of other rows too.
func (t *Table) checkForeign(ctx context.Context, quoted string, leaf cleanup.Leaf, mayDelete bool) error {
	if mayDelete { // else the server does not explain it either, and the run is refused for that
		p := &piece{table: t, leaf: quoted, planned: leaf}
		rows, err := t.db.queryOfRole(ctx, "SELECT", explain+p.deleteSQL(), p.parameters()...)
		if err != nil {
			return onServer(leaf, err)
		}
		plan, err := readPlan(rows)
		if err != nil {
			return err
		}
		if !plan.sentWhole() {
			return cleanup.Errorf(cleanup.Configuration,
				"it must have no trigger, where and hold no function that server "+leaf.Foreign+" may not have, and the foreign data wrapper has to be able to; or clean it there",
				"foreign table %s on server %s: the DELETE would not be executed there as a whole", leaf.Name, leaf.Foreign).Named("foreign-table")
		}
	}
	return t.adviseServer(ctx, leaf)
}

// sentWhole tells whether a DELETE is carried out by one statement elsewhere.
func (n planNode) sentWhole() bool {
	if len(n.Plans) != 1 || n.Plans[0].Type != "ModifyTable" {
		return false
	}
	scans := n.Plans[0].Plans
	return len(scans) == 1 && scans[0].Type == "Foreign Scan" && scans[0].Operation == "Delete"
}

const serverOptionsQuery = `
SELECT coalesce((SELECT o.option_value FROM pg_options_to_table(s.srvoptions) o WHERE o.option_name = 'options'), '')
FROM pg_catalog.pg_foreign_server s WHERE quote_ident(s.srvname) = $1`

// adviseServer warns of what only the foreign server's options can make right:
// settings are local to a transaction of this server, and do not reach the other.
func (t *Table) adviseServer(ctx context.Context, leaf cleanup.Leaf) error {
	options, err := t.db.value(ctx, serverOptionsQuery, leaf.Foreign)
	if err != nil {
		return err
	}
	change, wanted := "SET", options
	if options == "" {
		change = "ADD"
	}
	if !strings.Contains(options, "lock_timeout=") {
		wanted += fmt.Sprintf(" -c lock_timeout=%dms", t.db.opts.LockTimeout.Milliseconds())
	}
	if !strings.Contains(options, "row_security=off") {
		wanted += " -c row_security=off"
	}
	if wanted == options || t.advised[leaf.Foreign] {
		return nil
	}
	t.advised[leaf.Foreign] = true
	t.warnf("foreign-server", "on server %[1]s a batch may wait a minute for a lock, or row-level security hide rows without an error: "+
		"ALTER SERVER %[1]s OPTIONS (%[2]s options '%[3]s')", leaf.Foreign, change, strings.ReplaceAll(strings.TrimSpace(wanted), "'", "''"))
	return nil
}

// onServer adds to an error on a foreign leaf where that is.
func onServer(leaf cleanup.Leaf, err error) error {
	if err == nil || leaf.Foreign == "" {
		return err
	}
	_, transient := errors.AsType[*cleanup.TransientError](err)
	err = fmt.Errorf("foreign table %s on server %s: %w", leaf.Name, leaf.Foreign, err)
	if transient {
		hint := "the next run goes on; look whether server " + leaf.Foreign + " runs and can be reached from this one"
		return &cleanup.TransientError{Err: &cleanup.Error{Kind: cleanup.Incomplete, Err: err, Hint: hint}}
	}
	return err
}
