package postgres

import (
	"context"
	"fmt"
	"strconv"

	"message-cleanup/internal/cleanup"
)

// lastServerQuery finds the last run of a policy that was let at the rows, and
// which server that was on.
func (l *Ledger) lastServerQuery() string {
	return `
SELECT system_identifier, coalesce(timeline, 0), to_char(started AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')
FROM ` + l.name + `
WHERE policy = $1 AND system_identifier IS NOT NULL
  AND (hash IS NULL OR outcome IN ('complete', 'incomplete', 'unfinished') OR batches > 0)
ORDER BY started DESC, run_id DESC LIMIT 1`
}

// targetQuery tells up to where a server was recovered, if not to the end of its
// log. What was configured for a recovery stays in force until somebody removes it.
const targetQuery = `
SELECT coalesce(string_agg(name || ' = ' || setting, ', ' ORDER BY name), '')
FROM pg_catalog.pg_settings
WHERE name IN ('recovery_target', 'recovery_target_lsn', 'recovery_target_name', 'recovery_target_time', 'recovery_target_xid')
  AND setting <> ''`

// CheckRestored refuses a database that is not the one that the last run of the
// policy was on: a dump that was read into another server, or a backup that was
// recovered to a point in the past. Whoever restores one may want back what has
// expired since. A standby that was promoted has a new timeline as well, and lost
// nothing that a person would miss: it is let through.
//
// Where the role may not ask for the server's identity, nothing is refused.
func (l *Ledger) CheckRestored(ctx context.Context, policy string) error {
	if err := l.found(ctx); err != nil {
		return err
	}
	rows, err := l.db.query(ctx, l.lastServerQuery(), policy)
	if err != nil {
		return fmt.Errorf("look for the last run in the ledger, %s: %w", l.name, err)
	}
	if len(rows) == 0 {
		return nil
	}
	last, err := integers(rows[0][:2])
	if err != nil {
		return fmt.Errorf("read the ledger: %w", err)
	}
	system, err := l.ask(ctx, systemQuery)
	if err != nil || system == nil {
		return err
	}
	if *system != last[0] {
		return l.restored(policy, rows[0][2], "on another server, of system identifier "+rows[0][0]+" and not "+strconv.FormatInt(*system, 10))
	}
	timeline, err := l.ask(ctx, timelineQuery)
	if err != nil || timeline == nil || last[1] == 0 || *timeline == last[1] {
		return err
	}
	target, err := l.db.value(ctx, targetQuery)
	if err != nil {
		return fmt.Errorf("ask up to where the server was recovered: %w", err)
	}
	if *timeline > last[1] && target == "" {
		return nil
	}
	change := fmt.Sprintf("on timeline %d and not %d", last[1], *timeline)
	if target != "" {
		change += ", to which the server was recovered with " + target
	}
	return l.restored(policy, rows[0][2], change)
}

func (l *Ledger) restored(policy, last, change string) error {
	return cleanup.Errorf(cleanup.NeedsPerson,
		"if nothing is missed that has expired, let one run through: message-cleanup run --acknowledge-restore",
		"this seems to be a restored backup, nothing was deleted: the last run of policy %s, at %s, was %s", policy, last, change).Named("restored-backup")
}
