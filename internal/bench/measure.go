package main

import (
	"context"
	"fmt"
	"math"
	"time"
)

// idleRuns is how often message-cleanup runs on a clean table. These runs are
// short and need no fresh table.
const idleRuns = 7

// measure runs all ways on one case, in alternation: what slows the machine
// down for a minute then slows all of them, and ratios are taken per round.
// A way that fails is said to have failed and not tried again; it does not
// take the measurements of the others with it.
func (w *workbench) measure(ctx context.Context, c testCase) (caseResult, error) {
	result := caseResult{
		Case: c.name, Shuffled: c.shuffled, Expired: c.expired, Index: !c.noIndex, Rows: c.rows,
		Failures: map[string]string{},
	}
	for _, way := range c.ways {
		result.Ways = append(result.Ways, way.name)
	}
	if err := w.prepare(ctx, c); err != nil {
		return result, err
	}
	rounds := w.rounds
	if c.rounds > 0 {
		rounds = min(rounds, c.rounds)
	}
	for round := range rounds {
		measured := map[string]measurement{}
		for i := range c.ways {
			// Whoever comes first in a round may be better or worse off, so each does once.
			way := c.ways[(i+round)%len(c.ways)]
			if result.Failures[way.name] != "" {
				continue
			}
			m, err := w.measureWay(ctx, c, way)
			if ctx.Err() != nil {
				return result, ctx.Err()
			}
			if err != nil {
				w.say("%s: %s FAILED: %v", c.name, way.name, err)
				result.Failures[way.name] = err.Error()
				continue
			}
			w.say("%s: round %d of %d: %s took %.3f s%s", c.name, round+1, rounds, way.name, m.Seconds, m.remark())
			measured[way.name] = m
		}
		result.Rounds = append(result.Rounds, measured)
	}
	if !c.idle {
		return result, nil
	}
	var err error
	if result.Idle, err = w.measureIdle(ctx); err != nil {
		return result, fmt.Errorf("nothing to do: %w", err)
	}
	return result, nil
}

// measureWay runs one way on a fresh copy of the tables and checks what it did.
func (w *workbench) measureWay(ctx context.Context, c testCase, way way) (m measurement, err error) {
	w.table, w.tableRows = "messages", c.rows
	if way.table != "" {
		w.table = way.table
	}
	if way.rows > 0 {
		w.tableRows = way.rows
	}
	w.expired = int64(math.Round(float64(w.tableRows) * c.expired))

	conn, err := w.restore(ctx, c.alter)
	if err != nil {
		return m, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	before, err := w.walPosition(ctx)
	if err != nil {
		return m, err
	}
	if m, err = way.run(ctx, w, conn); err != nil {
		return m, err
	}
	after, err := w.walPosition(ctx)
	if err != nil {
		return m, err
	}
	m.WAL = after - before
	if m.Deleted != w.expired && !m.Stopped {
		return m, fmt.Errorf("says it deleted %d rows, expected %d", m.Deleted, w.expired)
	}
	return m, w.verify(ctx, conn, m.Deleted)
}

// measureIdle runs message-cleanup on the table that the last way has cleaned.
func (w *workbench) measureIdle(ctx context.Context) ([]measurement, error) {
	if err := w.vacuum(ctx); err != nil {
		return nil, err
	}
	var runs []measurement
	for range idleRuns {
		m, err := messageCleanup("")(ctx, w, nil)
		if err != nil {
			return nil, err
		}
		if m.Deleted != 0 {
			return nil, fmt.Errorf("deleted %d rows", m.Deleted)
		}
		runs = append(runs, m)
	}
	return runs, nil
}

// since takes the time of what began then.
func since(started time.Time) float64 { return time.Since(started).Seconds() }
