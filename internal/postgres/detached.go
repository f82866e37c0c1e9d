package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"message-cleanup/internal/cleanup"
)

// A partition that is to be dropped gets a mark before it is detached: a line in
// front of its comment. By that the next run knows it again, should this one
// come to its end in between; and a person sees what it is, and how to undo it.
const markPrefix = "message-cleanup detached this partition to drop it; to undo: "

// marked returns the comment of a table with the mark in front.
func marked(undo, comment string) string {
	return markPrefix + undo + "\n" + unmarked(comment)
}

// unmarked returns the comment as it was before.
func unmarked(comment string) string {
	if !strings.HasPrefix(comment, markPrefix) {
		return comment
	}
	_, former, _ := strings.Cut(comment, "\n")
	return former
}

// attachSQL undoes a DETACH. The mark holds it, and detachedQuery looks for how
// it begins.
func attachSQL(parent, name, bound string) string {
	return "ALTER TABLE " + parent + " ATTACH PARTITION " + name + " " + bound
}

// detachedQuery lists what is marked as detached from a table, or from a
// partitioned table below it; and what is still being detached, by anybody.
const detachedQuery = `
WITH RECURSIVE tree(oid, pending) AS (
  SELECT $1::oid, false
  UNION ALL
  SELECT i.inhrelid, coalesce((to_jsonb(i) ->> 'inhdetachpending')::bool, false)
  FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
), parent(begin) AS (
  SELECT $2 || format('ALTER TABLE %I.%I ATTACH PARTITION ', n.nspname, c.relname)
  FROM tree JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'p'
), marked(oid, comment) AS (
  SELECT d.objoid, d.description FROM pg_catalog.pg_description d
  WHERE d.classoid = 'pg_class'::regclass AND d.objsubid = 0
    AND EXISTS (SELECT FROM parent WHERE starts_with(d.description, parent.begin))
)
SELECT c.oid, format('%I.%I', n.nspname, c.relname), coalesce(tree.pending, false),
       substr(split_part(marked.comment, E'\n', 1), length($2) + 1),
       pg_has_role(c.relowner, 'USAGE'),
       (SELECT i.inhparent::regclass FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)
FROM marked FULL JOIN (SELECT * FROM tree WHERE pending) AS tree USING (oid)
JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE tree.pending OR NOT c.relispartition AND c.relkind IN ('r', 'p')
ORDER BY n.nspname, c.relname`

// readDetached finds what earlier runs detached and did not come to drop. What
// may not be dropped, now, is left, and a warning names it.
func (t *Table) readDetached(ctx context.Context, policy cleanup.Policy, root string) error {
	rows, err := t.db.query(ctx, detachedQuery, root, markPrefix)
	if err != nil {
		return err
	}
	for _, row := range rows {
		name, undo, owned := row[1], row[3], row[4] == "t"
		oid, err := strconv.ParseUint(row[0], 10, 32)
		if err != nil {
			return fmt.Errorf("oid: %w", err)
		}
		finalize := ""
		if row[2] == "t" {
			finalize = fmt.Sprintf("ALTER TABLE %s DETACH PARTITION %s FINALIZE", row[5], name)
		}
		if undo == "" {
			t.warnf("partition-detached", "%s is being detached by somebody else, or was and is not at its end: its rows are not looked at; the end: %s", name, finalize)
			continue
		}
		if finalize != "" {
			undo = finalize + "; " + undo
		}
		switch {
		case policy.Strategy != cleanup.Partition || policy.Where != "" || policy.Hold != "":
			t.warnf("partition-detached", "%s, which an earlier run detached and did not come to drop, is left: only strategy: partition without where and hold drops it; to undo: %s", name, undo)
			continue
		case !owned:
			t.warnf("partition-detached", "%s, which an earlier run detached and did not come to drop, is left: the role is not a member of its owner; to undo: %s", name, undo)
			continue
		}
		n, unexpired, err := t.countDetached(ctx, name)
		if state := SQLState(err); state == undefinedTable || state == lockNotAvailable {
			continue // another run is in work on it
		}
		if err != nil {
			return fmt.Errorf("count %s, which an earlier run detached: %w", name, err)
		}
		if unexpired {
			t.warnf("partition-detached", "%s, which an earlier run detached to drop it, holds rows that have not expired, and is left: was the retention raised? to undo: %s", name, undo)
			continue
		}
		t.drops.hide(uint32(oid), name)
		t.facts.Expired = append(t.facts.Expired, cleanup.ExpiredPartition{
			OID: uint32(oid), Name: name, Detached: true, Rows: float64(n),
		})
	}
	return nil
}

func (t *Table) warnf(name, format string, args ...any) {
	t.facts.Warnings = append(t.facts.Warnings, cleanup.Finding{
		Name: name, Severity: cleanup.SeverityWarning, Text: fmt.Sprintf(format, args...),
	})
}

// wholeSettings let a table's constraint answer, where it has one, whether it
// holds unexpired rows.
const wholeSettings = "SELECT pg_catalog.set_config('constraint_exclusion', 'on', true)"

// wholeSQL counts the rows of a table, by whatever index is the smallest, and
// tells whether there are some that have not expired, which an index on the
// column tells at once.
func (t *Table) wholeSQL(name string) string {
	return "SELECT count(*),\n       EXISTS (SELECT FROM " + name + " WHERE " + t.expiry.unexpired() + ")\n" +
		"       OR EXISTS (SELECT FROM " + name + " WHERE " + t.expiry.column + " IS NULL)\nFROM " + name
}

func (t *Table) countDetached(ctx context.Context, name string) (rows int64, unexpired bool, err error) {
	answer, err := t.db.queryWith(ctx, wholeSettings, t.wholeSQL(name), t.expiry.bound)
	if err != nil {
		return 0, false, err
	}
	rows, err = strconv.ParseInt(answer[0][0], 10, 64)
	return rows, answer[0][1] == "t", err
}
