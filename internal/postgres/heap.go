package postgres

import (
	"context"
	"fmt"

	"message-cleanup/internal/cleanup"
)

// heapCutter cuts a leaf into ranges of blocks, in physical order: each page
// is read and dirtied once. It needs TID range scans, PostgreSQL 14 and later.
type heapCutter struct {
	table *Table
	leaf  cleanup.LeafPlan
	name  string // of the leaf, quoted

	measured bool
	block    int64 // where the next range begins
	end      int64 // the block behind the last one

	within string // a condition on all pieces, or ""; its parameters start at $2
	args   []string
}

func newHeapCutter(t *Table, leaf cleanup.LeafPlan) *heapCutter {
	return &heapCutter{table: t, leaf: leaf, name: t.quoted[leaf.OID]}
}

// Next implements cleanup.Cutter.
func (c *heapCutter) Next(ctx context.Context, rows int, _ bool) (cleanup.Piece, error) {
	piece, err := c.next(ctx, rows)
	return asPiece(piece), err
}

func (c *heapCutter) next(ctx context.Context, rows int) (*piece, error) {
	if !c.measured {
		if err := c.measure(ctx); err != nil {
			return nil, err
		}
	}
	if c.block >= c.end {
		return nil, nil
	}
	from := c.block
	c.block = min(c.end, from+max(1, int64(float64(rows)/c.leaf.RowsPerPage())))

	p := &piece{table: c.table, leaf: c.name, planned: c.leaf.Leaf, byTID: true}
	n := len(c.args) + 2
	p.bounds = []string{fmt.Sprintf("ctid >= $%d::tid AND ctid < $%d::tid", n, n+1)}
	p.args = append(append(p.args, c.args...), tid(from), tid(c.block))
	if c.within != "" {
		p.bounds = append(p.bounds, "("+c.within+") IS TRUE")
	}
	return p, nil
}

// tid is the place before the first row of a block.
func tid(block int64) string { return fmt.Sprintf("(%d,0)", block) }

// measure fixes the end of the last range. Rows that come behind it later are
// found by the verification.
func (c *heapCutter) measure(ctx context.Context) error {
	rows, err := c.table.db.query(ctx,
		"SELECT pg_relation_size($1::regclass) / current_setting('block_size')::int", c.name)
	if err != nil {
		return fmt.Errorf("measure %s: %w", c.leaf.Name, err)
	}
	if c.end, err = integer(rows); err != nil {
		return fmt.Errorf("measure %s: %w", c.leaf.Name, err)
	}
	c.measured = true
	return nil
}
