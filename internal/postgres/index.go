package postgres

import (
	"context"
	"fmt"
	"strconv"

	"message-cleanup/internal/cleanup"
)

// indexCutter cuts a leaf into windows of the expiry column. A window begins
// where the last one ended, so that index entries of deleted rows, which stay
// until a vacuum, are never read again: without that low-water mark each batch
// would step over everything deleted before it.
type indexCutter struct {
	table *Table
	leaf  cleanup.LeafPlan
	name  string // of the leaf, quoted

	low   string // where the next window begins, inclusive; "" is before everything
	past  bool   // low itself is used up
	tie   *heapCutter
	done  bool
	ahead chan boundary // the end of the next window, being looked for; nil: not yet

	follower *follower // nil: with several workers there is no processor to spare
}

func newIndexCutter(t *Table, leaf cleanup.LeafPlan) *indexCutter {
	c := &indexCutter{table: t, leaf: leaf, name: t.quoted[leaf.OID]}
	if cap(t.db.sessions) > 1 {
		return c
	}
	e := t.expiry
	c.follower = &follower{db: t.db, read: func(from, to string) statement {
		sql := "SELECT count(*) FROM ONLY " + c.name + " WHERE " + e.column + " < $1::" + e.cast
		if from == "" {
			return statement{sql, []string{to}}
		}
		return statement{sql + " AND " + e.column + " >= $2::" + e.cast, []string{to, from}}
	}}
	return c
}

// boundary is the end of a window.
type boundary struct {
	value string
	found bool // false: fewer rows are left than asked for
	rows  int  // how many were asked for
	err   error
}

// Next implements cleanup.Cutter.
func (c *indexCutter) Next(ctx context.Context, rows int, quietly bool) (cleanup.Piece, error) {
	if c.tie != nil {
		piece, err := c.tie.next(ctx, rows)
		if err != nil || piece != nil {
			return asPiece(piece), err
		}
		c.tie, c.past = nil, true
	}
	if c.done {
		return nil, nil
	}
	high := c.boundary(ctx, rows)
	if high.err != nil {
		return nil, onServer(c.leaf.Leaf, high.err)
	}
	if high.found && high.value == c.low && !c.past {
		return c.cutTie(ctx, rows, quietly)
	}
	piece, begin := c.window(high.value, high.found), c.low
	c.low, c.past, c.done = high.value, false, !high.found
	if !c.done {
		c.prefetch(ctx, rows, begin, !quietly && rows >= followedRows)
	}
	return piece, nil
}

// boundary returns the end of the next window: the one that was looked for
// while the last window was deleted, unless the batch has to be smaller: it took
// too long, or a row budget is nearly spent.
func (c *indexCutter) boundary(ctx context.Context, rows int) boundary {
	if c.ahead != nil {
		high := <-c.ahead
		c.ahead = nil
		if high.err == nil && high.rows <= rows {
			return high
		}
	}
	return c.lookAhead(ctx, rows)
}

// prefetch looks for the end of the next window while the current one, which
// begins at begin, is deleted, and then may follow up to there.
func (c *indexCutter) prefetch(ctx context.Context, rows int, begin string, follow bool) {
	ahead := make(chan boundary, 1)
	c.ahead = ahead
	sql, args := c.lookAheadSQL(rows) // before c changes
	go func() {
		ahead <- c.runLookAhead(ctx, rows, sql, args)
		if follow && c.follower != nil && begin != "" {
			c.follower.follow(ctx, begin)
		}
	}()
}

// lookAhead finds the value that lies rows entries ahead, by an index-only
// scan as far as the visibility map allows.
func (c *indexCutter) lookAhead(ctx context.Context, rows int) boundary {
	sql, args := c.lookAheadSQL(rows)
	return c.runLookAhead(ctx, rows, sql, args)
}

func (c *indexCutter) lookAheadSQL(rows int) (string, []string) {
	e := c.table.expiry
	sql := "SELECT " + e.column + " FROM ONLY " + c.name + " WHERE " + e.expired()
	args := []string{e.bound, strconv.Itoa(rows)}
	if c.low != "" {
		sql += " AND " + c.above("$3")
		args = append(args, c.low)
	}
	return sql + " ORDER BY " + e.column + " OFFSET $2::bigint LIMIT 1", args
}

func (c *indexCutter) runLookAhead(ctx context.Context, rows int, sql string, args []string) boundary {
	answer, err := c.table.db.query(ctx, sql, args...)
	if err != nil || len(answer) == 0 {
		return boundary{rows: rows, err: err}
	}
	return boundary{value: answer[0][0], found: true, rows: rows}
}

// above is the condition for values that are not used up.
func (c *indexCutter) above(parameter string) string {
	operator := " >= "
	if c.past {
		operator = " > "
	}
	return c.table.expiry.column + operator + parameter + "::" + c.table.expiry.cast
}

// window makes a piece of the rows from low up to high, or up to the cutoff.
func (c *indexCutter) window(high string, bounded bool) cleanup.Piece {
	e := c.table.expiry
	p := &piece{table: c.table, leaf: c.name, planned: c.leaf.Leaf}
	if c.low != "" {
		p.bounds, p.args = []string{c.above("$2")}, []string{c.low}
	}
	if bounded {
		p.args = append(p.args, high)
		p.bounds = append(p.bounds, fmt.Sprintf("%s < $%d::%s", e.column, len(p.args)+1, e.cast))
	}
	return p
}

// cutTie serves a value that more rows share than a batch may hold: it is cut
// into block ranges, between the first and the last block that holds the value.
func (c *indexCutter) cutTie(ctx context.Context, rows int, quietly bool) (cleanup.Piece, error) {
	e := c.table.expiry
	equal := e.column + " = $2::" + e.cast
	if c.leaf.Placeless() || !c.table.tidRange {
		piece := &piece{table: c.table, leaf: c.name, planned: c.leaf.Leaf, bounds: []string{equal}, args: []string{c.low}}
		c.past = true
		return piece, nil
	}
	answer, err := c.table.db.query(ctx, "SELECT min(ctid), max(ctid) FROM ONLY "+c.name+
		" WHERE "+e.expired()+" AND "+equal, e.bound, c.low)
	if err != nil {
		return nil, err
	}
	if answer[0][0] == "" { // deleted by somebody else meanwhile
		c.past = true
		return c.Next(ctx, rows, quietly)
	}
	first, err := parseBlock(answer[0][0])
	if err != nil {
		return nil, err
	}
	last, err := parseBlock(answer[0][1])
	if err != nil {
		return nil, err
	}
	c.tie = &heapCutter{
		table: c.table, leaf: c.leaf, name: c.name, measured: true, block: first, end: last + 1,
		within: equal, args: []string{c.low},
	}
	return c.Next(ctx, rows, quietly)
}

// parseBlock reads the block number of a ctid in its text form, "(block,row)".
func parseBlock(ctid string) (int64, error) {
	var block, row int64
	if _, err := fmt.Sscanf(ctid, "(%d,%d)", &block, &row); err != nil {
		return 0, fmt.Errorf("ctid %q: %w", ctid, err)
	}
	return block, nil
}

// asPiece keeps a nil *piece from becoming a non-nil interface.
func asPiece(p *piece) cleanup.Piece {
	if p == nil {
		return nil
	}
	return p
}
