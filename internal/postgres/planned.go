package postgres

import (
	"context"
	"fmt"
	"strconv"
	"sync"

	"message-cleanup/internal/cleanup"
)

// A leaf is deleted from by its name, for SQL knows no other way. What stands
// behind the name may change while a run is at work: another table takes it, the
// leaf is detached because somebody wants to keep it, the expiry column gets
// another type, of which the cutoff is another instant. So every batch looks,
// when it has deleted and before it commits, whether the leaf is what the plan
// was made for. Until then its own lock keeps all of that from happening.

// asPlanned is true for a leaf, $1 by name and $2 by oid, that is a part of what
// it was, $3; the second value, if its column has the type that it had, $4. It
// comes behind batchEnd, and costs the server about 45 µs.
func (p *piece) asPlanned() statement {
	e, leaf := p.table.expiry, p.planned
	return statement{
		sql: batchEnd + `,
       $1::regclass::oid = $2::oid AND coalesce(pg_catalog.pg_partition_root($2::oid)::oid, 0::oid) = $3::oid,
       pg_catalog.pg_typeof((NULL::` + p.leaf + `).` + e.column + `)::text = $4`,
		args: []string{p.leaf, oidText(leaf.OID), p.table.root, p.table.facts.ColumnType},
	}
}

func oidText(oid uint32) string { return strconv.FormatUint(uint64(oid), 10) }

// typeChanged is the end of a policy: the next run writes the cutoff anew.
func (t *Table) typeChanged() error {
	return cleanup.Errorf(cleanup.Incomplete, "the next run plans for the new type",
		"column %s of %s got another type while the run was at work: nothing more is deleted", t.expiry.column, t.facts.Name)
}

// lost are the leaves that are not, or no longer, what the plan was made for.
type lost struct {
	mu     sync.Mutex
	leaves map[uint32]bool // by their oid
}

func (l *lost) add(oid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.leaves == nil {
		l.leaves = make(map[uint32]bool)
	}
	l.leaves[oid] = true
}

func (l *lost) has(oid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leaves[oid]
}

const lostQuery = `
SELECT CASE WHEN c.oid IS NULL THEN 'was dropped'
            WHEN to_regclass($2) IS NULL THEN 'was renamed'
            WHEN to_regclass($2)::oid <> c.oid THEN 'was replaced by another table'
            WHEN coalesce(pg_partition_root(c.oid)::oid, 0) <> $3::oid THEN 'was detached'
            ELSE '' END
FROM (SELECT $1::oid AS oid) AS planned LEFT JOIN pg_catalog.pg_class c USING (oid)`

// lose finds out what became of a leaf that is not as planned. It returns the
// err that it is given if the leaf is there nevertheless.
func (t *Table) lose(ctx context.Context, leaf cleanup.Leaf, err error) (cleanup.Batch, error) {
	rows, askErr := t.db.query(ctx, lostQuery, oidText(leaf.OID), t.quoted[leaf.OID], t.root)
	if askErr != nil {
		return cleanup.Batch{}, askErr
	}
	became := rows[0][0]
	if became == "" {
		return cleanup.Batch{}, err
	}
	t.lost.add(leaf.OID)
	return cleanup.Batch{Lost: leaf.Name + " " + became}, nil
}

// leafCutter cuts a leaf for as long as it is there.
type leafCutter struct {
	cleanup.Cutter
	table *Table
	leaf  cleanup.Leaf
}

// Next implements cleanup.Cutter.
func (c leafCutter) Next(ctx context.Context, rows int, quietly bool) (cleanup.Piece, error) {
	if c.table.lost.has(c.leaf.OID) {
		return nil, nil
	}
	next, err := c.Cutter.Next(ctx, rows, quietly)
	if SQLState(err) != undefinedTable {
		return next, err
	}
	batch, err := c.table.lose(ctx, c.leaf, err)
	if err != nil {
		return nil, err
	}
	return lostPiece(batch), nil
}

// lostPiece has the news of a leaf that cannot be cut any more.
type lostPiece cleanup.Batch

// Delete implements cleanup.Piece.
func (p lostPiece) Delete(context.Context) (cleanup.Batch, error) { return cleanup.Batch(p), nil }

// DeleteUnlocked implements cleanup.Piece.
func (p lostPiece) DeleteUnlocked(context.Context) (cleanup.Batch, error) {
	return cleanup.Batch(p), nil
}

const newcomersQuery = belowQuery + `
SELECT c.oid, format('%I.%I', n.nspname, c.relname)
FROM tree JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'f')
ORDER BY n.nspname, c.relname`

// Newcomers implements cleanup.Database.
func (t *Table) Newcomers(ctx context.Context) (names []string, err error) {
	rows, err := t.db.query(ctx, newcomersQuery, t.oid)
	if err != nil {
		return nil, fmt.Errorf("look for new partitions of %s: %w", t.facts.Name, err)
	}
	for _, row := range rows {
		oid, err := strconv.ParseUint(row[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("oid: %w", err)
		}
		if _, known := t.quoted[uint32(oid)]; !known {
			names = append(names, row[1])
		}
	}
	return names, nil
}
