package cleanup

import (
	"context"
	"errors"
	"math"
	"slices"
	"sort"
	"strconv"
	"time"
)

// modelCutter cuts as windows of an index do: it never looks back.
type modelCutter struct {
	m    *model
	leaf string
	mark int // the next piece begins here
}

func (c *modelCutter) Next(ctx context.Context, rows int, _ bool) (Piece, error) {
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
	if slices.ContainsFunc(touched, func(r *row) bool { return r.slow }) {
		return Batch{}, &TooLongError{Errorf(Incomplete, "look for a foreign key", "canceled")}
	}
	if slices.ContainsFunc(touched, func(r *row) bool { return r.refused && !isLocked(r) }) {
		return Batch{}, &RefusedError{Err: errForeignKey, Hint: "delete what refers to it"}
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

// errForeignKey is why the model's server refuses a row.
var errForeignKey = errors.New("violates foreign key constraint")

func (p modelPiece) Split(ctx context.Context) (int64, []Divisible, error) {
	if err := p.m.begin(opSplit); err != nil {
		return 0, nil, err
	}
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	rows := p.rows()
	if len(rows) < 2 {
		return int64(len(rows)), nil, nil
	}
	var parts []Divisible
	rest := p
	for quarter := 1; quarter < 4; quarter++ {
		if cut := rows[len(rows)*quarter/4].key; cut > rows[0].key && cut > rest.low {
			part := rest
			part.high, rest.low = cut, cut
			parts = append(parts, part)
		}
	}
	return int64(len(rows)), append(parts, rest), nil
}

func (p modelPiece) Key(ctx context.Context) (table, key string, err error) {
	if err := p.m.begin(opKey); err != nil {
		return "", "", err
	}
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	for _, r := range p.rows() {
		key = strconv.Itoa(r.key)
	}
	return p.leaf, key, nil
}
