package cleanup

import (
	"context"
	"math"
	"slices"
	"sort"
	"time"
)

// modelCutter cuts as windows of an index do: it never looks back.
type modelCutter struct {
	m    *model
	leaf string
	mark int // the next piece begins here
}

func (c *modelCutter) Next(ctx context.Context, rows int) (Piece, error) {
	defer c.m.alone()()
	if err := c.m.begin(opNext); err != nil {
		return nil, err
	}
	if err := wait(ctx, c.m.perNext); err != nil {
		return nil, err
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.m.asked = append(c.m.asked, rows)
	from, left := c.mark, rows
	for _, r := range c.m.between(c.leaf, from, math.MaxInt) {
		if left == 0 {
			c.mark = r.key
			return modelPiece{c.m, c.leaf, from, c.mark}, nil
		}
		if !r.gone {
			left--
		}
	}
	c.mark = math.MaxInt
	if left == rows {
		return nil, nil
	}
	return modelPiece{c.m, c.leaf, from, c.mark}, nil
}

// between returns a leaf's rows from one key up to another.
func (m *model) between(leaf string, low, high int) []*row {
	rows := m.leaves[leaf]
	at := func(key int) int {
		return sort.Search(len(rows), func(i int) bool { return rows[i].key >= key })
	}
	return rows[at(low):at(high)]
}

type modelPiece struct {
	m         *model
	leaf      string
	low, high int
}

func (p modelPiece) Delete(ctx context.Context) (Batch, error) {
	if err := p.m.begin(opDelete); err != nil {
		return Batch{}, err
	}
	p.m.mu.Lock()
	locked := slices.ContainsFunc(p.rows(), isLocked)
	p.m.mu.Unlock()
	if locked {
		if err := wait(ctx, lockWait); err != nil {
			return Batch{}, err
		}
		return Batch{}, ErrLocked
	}
	return p.delete(ctx)
}

func (p modelPiece) DeleteUnlocked(ctx context.Context) (Batch, error) {
	if err := p.m.begin(opUnlocked); err != nil {
		return Batch{}, err
	}
	return p.delete(ctx)
}

func isLocked(r *row) bool { return time.Now().Before(r.lockedUntil) }

// rows are those that a DELETE of the piece would touch now.
func (p modelPiece) rows() (rows []*row) {
	for _, r := range p.m.between(p.leaf, p.low, p.high) {
		if !r.gone && !r.held {
			rows = append(rows, r)
		}
	}
	return rows
}

// delete is one transaction: it takes its time, then happens all at once, or
// not at all if the server crashed meanwhile.
func (p modelPiece) delete(ctx context.Context) (batch Batch, err error) {
	p.m.mu.Lock()
	touched := p.rows()
	batch.Took = time.Duration(len(touched)) * p.m.perRow // perBatch is the way there and back
	takes, crashes := p.m.perBatch+batch.Took, p.m.crashes
	p.m.mu.Unlock()

	if err := wait(ctx, takes); err != nil {
		return Batch{}, err
	}
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	if p.m.crashes != crashes {
		return Batch{}, errConnection
	}
	c := &commit{piece: p}
	for _, r := range touched {
		switch {
		case r.gone: // the same piece, in the hands of two workers
		case isLocked(r):
			batch.Locked++
		case !r.swallowed:
			r.gone = true
			c.rows = append(c.rows, r)
		}
	}
	p.m.commits = append(p.m.commits, c)
	batch.Deleted, batch.Others = int64(len(c.rows)), p.m.others
	return batch, nil
}
