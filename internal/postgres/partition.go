package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
)

// Which partitions can be dropped whole is found out here; drop.go drops them.

// partitionsQuery lists the partitions below a table, a parent before what is
// below it. byColumn: the parent is cut into ranges of the column, and this is
// one of them. Such a partition holds no NULL in the column, as a default
// partition may. inhdetachpending came with PostgreSQL 14.
const partitionsQuery = `
WITH RECURSIVE tree(oid, parent, pending, depth) AS (
  SELECT $1::oid, 0::oid, false, 0
  UNION ALL
  SELECT i.inhrelid, i.inhparent, coalesce((to_jsonb(i) ->> 'inhdetachpending')::bool, false), depth + 1
  FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
)
SELECT c.oid, tree.parent, n.nspname, c.relname, format('%I.%I', n.nspname, c.relname), c.relkind,
       p.partstrat = 'r' AND p.partdefid <> c.oid AND a.attname IS NOT NULL,
       tree.pending,
       has_table_privilege(c.oid, 'SELECT')
FROM tree
JOIN pg_catalog.pg_class c USING (oid)
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = tree.parent
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = tree.parent AND a.attnum = p.partattrs[0] AND a.attname = $2
ORDER BY tree.depth, n.nspname, c.relname`

// partition is a partition at any depth below the table.
type partition struct {
	oid, parent uint32
	quoted      string
	shown       string // for people
	byColumn    bool
	pending     bool // DETACH ... CONCURRENTLY was begun and not ended
	readable    bool
	leaves      []*partition // itself, or what is below it
	foreign     bool         // one of these is a foreign table
}

// readPartitions finds the topmost partitions that are wholly expired, and those
// that earlier runs did not come to drop.
func (t *Table) readPartitions(ctx context.Context, policy cleanup.Policy, root, column string) error {
	if policy.Strategy != cleanup.Auto && policy.Strategy != cleanup.Partition {
		return nil
	}
	rows, err := t.db.query(ctx, partitionsQuery, root, column)
	if err != nil {
		return err
	}
	partitions, err := parsePartitions(rows)
	if err != nil {
		return err
	}
	unexpired, err := t.estimate(ctx, t.name, t.expiry.unexpired(), pruneByBounds)
	if err != nil {
		return err
	}
	settled := make(map[uint32]bool) // it, or something above it, is found or pending
	found := make(map[string]*partition)
	for _, p := range partitions {
		if settled[p.oid] = settled[p.parent] || p.pending; settled[p.oid] {
			if p.pending {
				for _, leaf := range p.leaves {
					t.drops.leaving[leaf.oid] = true
				}
			}
			continue
		}
		expired, err := t.isExpired(ctx, p, unexpired)
		if err != nil {
			return fmt.Errorf("partition %s: %w", p.shown, err)
		}
		if expired {
			settled[p.oid] = true
			found[strconv.FormatUint(uint64(p.oid), 10)] = p
		}
	}
	// What is still on its way out comes first: until then no other can go.
	if err := t.readDetached(ctx, policy, root); err != nil {
		return err
	}
	return t.readObstacles(ctx, policy, found)
}

func parsePartitions(rows [][]string) ([]*partition, error) {
	byOID := make(map[uint32]*partition)
	var all []*partition
	for _, row := range rows {
		oid, err := strconv.ParseUint(row[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("oid: %w", err)
		}
		parent, err := strconv.ParseUint(row[1], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("oid: %w", err)
		}
		p := &partition{
			oid: uint32(oid), parent: uint32(parent), quoted: pgx.Identifier{row[2], row[3]}.Sanitize(), shown: row[4],
			byColumn: row[6] == "t", pending: row[7] == "t", readable: row[8] == "t",
		}
		all, byOID[p.oid] = append(all, p), p
		if kind := row[5]; kind == "p" {
			continue
		}
		for above := p; above != nil; above = byOID[above.parent] {
			above.leaves = append(above.leaves, p)
			above.foreign = above.foreign || row[5] == "f"
		}
	}
	return all, nil
}

// How the planner is asked for a proof that something holds no unexpired row: by
// the bounds of all that lies below a table, or by the table's own bounds alone.
// The second is the stricter: a partition of a month, of which only the first
// days exist yet, is not expired when these are.
const (
	pruneByBounds      = "SELECT set_config('enable_partition_pruning', 'on', true)"
	excludeByOwnBounds = `
SELECT set_config('enable_partition_pruning', 'off', true), set_config('constraint_exclusion', 'on', true)`
)

// isExpired tells whether a partition is of a kind that can be dropped and, by
// its bounds, holds no row that has not expired, now or later. unexpired has the
// leaves that may hold some.
func (t *Table) isExpired(ctx context.Context, p *partition, unexpired map[string]float64) (bool, error) {
	if !p.byColumn || p.foreign || len(p.leaves) == 0 ||
		slices.ContainsFunc(p.leaves, func(leaf *partition) bool { _, may := unexpired[leaf.quoted]; return may }) {
		return false, nil
	}
	if p.leaves[0] == p {
		return true, nil
	}
	if !p.readable {
		return false, nil
	}
	rest, err := t.estimate(ctx, p.quoted, t.expiry.unexpired(), excludeByOwnBounds)
	return len(rest) == 0, err
}

// obstaclesQuery tells for partitions what speaks against dropping them: an owner
// of whose role this one is no member; what DROP or DETACH would refuse, and what a DROP would not do that a DELETE
// does. A foreign key or trigger of a partitioned table has a copy in each
// partition, which before PostgreSQL 15 counts as internal. What depends on a partition because it is a part of it, goes with it.
const obstaclesQuery = `
SELECT top.oid,
  (SELECT format('%I', pg_get_userbyid(c.relowner)) FROM pg_catalog.pg_class c
   WHERE (c.oid = top.oid OR c.oid = (SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = top.oid))
     AND NOT pg_has_role(c.relowner, 'USAGE') LIMIT 1),
  coalesce(
  (SELECT format('foreign key %I of %s refers to it', k.conname, k.conrelid::regclass)
   FROM pg_catalog.pg_constraint k
   WHERE k.contype = 'f' AND k.confrelid = ANY (below || above) ORDER BY k.conparentid, k.oid LIMIT 1),
  (SELECT format('trigger %I of %s would not be fired', g.tgname, g.tgrelid::regclass)
   FROM pg_catalog.pg_trigger g
   WHERE g.tgrelid = ANY (below) AND (NOT g.tgisinternal OR g.tgparentid <> 0) AND g.tgtype & 8 <> 0 AND g.tgenabled <> 'D' LIMIT 1),
  (SELECT format('rule %I of %s would not be followed', r.rulename, r.ev_class::regclass)
   FROM pg_catalog.pg_rewrite r WHERE r.ev_class = ANY (below) AND r.ev_type = '4' LIMIT 1),
  (SELECT format('publication %I would not tell its subscribers', b.pubname)
   FROM pg_catalog.pg_publication b, pg_get_publication_tables(b.pubname) published
   WHERE b.pubdelete AND published.relid = ANY (below || above) LIMIT 1),
  (SELECT pg_describe_object(d.classid, d.objid, d.objsubid) || ' depends on it'
   FROM pg_catalog.pg_depend d
   WHERE d.deptype = 'n'
     AND (d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY (below)
          OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN
             (SELECT unnest(ARRAY[y.oid, y.typarray]) FROM pg_catalog.pg_type y WHERE y.typrelid = ANY (below)))
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend own
                     WHERE own.classid = d.classid AND own.objid = d.objid AND own.deptype <> 'n'
                       AND own.refclassid = 'pg_class'::regclass AND own.refobjid = ANY (below))
   LIMIT 1),
  '')
FROM unnest($1::oid[]) AS top(oid),
     LATERAL (SELECT array_agg(relid::oid) AS below FROM pg_partition_tree(top.oid)) AS lower,
     LATERAL (SELECT array_agg(relid::oid) AS above FROM pg_partition_ancestors(top.oid)) AS upper
ORDER BY top.oid::regclass::text`

// readObstacles puts the partitions that were found among the facts.
func (t *Table) readObstacles(ctx context.Context, policy cleanup.Policy, found map[string]*partition) error {
	if len(found) == 0 {
		return nil
	}
	oids := "{"
	for oid := range found {
		if oids != "{" {
			oids += ","
		}
		oids += oid
	}
	rows, err := t.db.query(ctx, obstaclesQuery, oids+"}")
	if err != nil {
		return err
	}
	owner, drops := "", policy.Strategy == cleanup.Partition && policy.Where == "" && policy.Hold == ""
	for _, row := range rows {
		p := found[row[0]]
		expired := cleanup.ExpiredPartition{OID: p.oid, Name: p.shown, Obstacle: row[2]}
		if row[1] != "" {
			owner = row[1]
			expired.Obstacle = "the role is not a member of its owner " + owner
		}
		for _, leaf := range p.leaves {
			expired.Leaves = append(expired.Leaves, leaf.oid)
			t.drops.whole[leaf.oid] = drops && expired.Obstacle == ""
		}
		t.facts.Expired = append(t.facts.Expired, expired)
	}
	if owner != "" && drops {
		t.warnf("privileges", "expired partitions are emptied row by row, for only an owner may drop them: GRANT %s TO %s",
			owner, pgx.Identifier{t.db.config.User}.Sanitize())
	}
	return nil
}
