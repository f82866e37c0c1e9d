package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// The grid is every case crossed with every way. A new case or way is one more
// line here.

// testCase is one content of the table.
type testCase struct {
	name     string
	shuffled bool    // rows lie in an order that has nothing to do with their expiry
	expired  float64 // the share of the rows that has expired
	maxRatio float64 // the limit: message-cleanup's time against ONE big DELETE; 0: none is stated
}

var cases = []testCase{
	{name: "in order, 1 %", expired: 0.01},
	{name: "in order, 5 %", expired: 0.05},
	{name: "in order, 33 %", expired: 0.33},
	{name: "in order, 50 %", expired: 0.5, maxRatio: 1.3},
	{name: "in order, 95 %", expired: 0.95},
	{name: "shuffled, 1 %", shuffled: true, expired: 0.01},
	{name: "shuffled, 5 %", shuffled: true, expired: 0.05},
	{name: "shuffled, 33 %", shuffled: true, expired: 0.33},
	{name: "shuffled, 50 %", shuffled: true, expired: 0.5, maxRatio: 1.1},
	{name: "shuffled, 95 %", shuffled: true, expired: 0.95},
}

// chosenCases are those whose name the pattern matches.
func chosenCases(pattern string) ([]testCase, error) {
	wanted, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("BENCH_CASES: %w", err)
	}
	var chosen []testCase
	for _, c := range cases {
		if wanted.MatchString(c.name) {
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("BENCH_CASES: no case matches %q", pattern)
	}
	return chosen, nil
}

// The limits that hold in every case.
const (
	maxMemory = 40_000_000 // bytes
	maxIdle   = 100 * time.Millisecond
)

// way is one manner of deleting the expired rows.
type way struct {
	name string
	run  func(ctx context.Context, w *workbench, conn *pgx.Conn) (measurement, error)
}

var ways = []way{
	{name: "ONE big DELETE", run: bigDelete},
	{name: "message-cleanup", run: messageCleanup},
	{name: "two workers", run: twoWorkers},
	{name: "loop", run: loop},
}

// The ways that limits speak of, by their place in ways: every ratio is
// against the baseline.
const (
	baseline = 0
	subject  = 1
)

// idleRuns is how often message-cleanup runs on a clean table. These runs are
// short and need no fresh table.
const idleRuns = 7

// measurement is one way having done its work once.
type measurement struct {
	took    time.Duration
	deleted int64 // as the way itself says
	batches []time.Duration
	memory  int64 // bytes, the client's largest resident set; 0: not measured
	wal     int64 // bytes
}

// caseResult is what was measured in one case.
type caseResult struct {
	testCase
	deleted int64           // rows that each way deleted
	rounds  [][]measurement // by round, then by way
	idle    []measurement   // message-cleanup with nothing to do
}

// measure runs all ways on one case, in alternation: what slows the machine
// down for a minute then slows all of them, and ratios are taken per round.
func (w *workbench) measure(ctx context.Context, c testCase) (caseResult, error) {
	result := caseResult{testCase: c}
	w.say("%s: filling a table with %d rows", c.name, w.rows)
	if err := w.prepare(ctx, c); err != nil {
		return result, err
	}
	result.deleted = w.expired
	for round := range w.rounds {
		measured := make([]measurement, len(ways))
		for i := range ways {
			// Whoever comes first in a round may be better or worse off, so each does once.
			n := (i + round) % len(ways)
			m, err := w.measureWay(ctx, ways[n])
			if err != nil {
				return result, fmt.Errorf("%s: %w", ways[n].name, err)
			}
			w.say("%s: round %d of %d: %s took %s", c.name, round+1, w.rounds, ways[n].name, m.took.Round(time.Millisecond))
			measured[n] = m
		}
		result.rounds = append(result.rounds, measured)
	}
	var err error
	if result.idle, err = w.measureIdle(ctx); err != nil {
		return result, fmt.Errorf("nothing to do: %w", err)
	}
	return result, nil
}

// measureWay runs one way on a fresh copy of the table and checks what it did.
func (w *workbench) measureWay(ctx context.Context, way way) (m measurement, err error) {
	conn, err := w.restore(ctx)
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
	m.wal = after - before
	if m.deleted != w.expired {
		return m, fmt.Errorf("says it deleted %d rows, expected %d", m.deleted, w.expired)
	}
	return m, w.verify(ctx, conn)
}

// measureIdle runs message-cleanup on the table that the last way has cleaned.
func (w *workbench) measureIdle(ctx context.Context) ([]measurement, error) {
	if err := w.vacuum(ctx); err != nil {
		return nil, err
	}
	var runs []measurement
	for range idleRuns {
		m, err := messageCleanup(ctx, w, nil)
		if err != nil {
			return nil, err
		}
		if m.deleted != 0 {
			return nil, fmt.Errorf("deleted %d rows", m.deleted)
		}
		runs = append(runs, m)
	}
	return runs, nil
}

// of returns the measurements of one way, by round.
func (r caseResult) of(way int) []measurement {
	var list []measurement
	for _, round := range r.rounds {
		list = append(list, round[way])
	}
	return list
}

// ratio is the median over the rounds of a way's value against the baseline's
// in the same round.
func (r caseResult) ratio(way int, value func(measurement) float64) float64 {
	var ratios []float64
	for _, round := range r.rounds {
		ratios = append(ratios, value(round[way])/value(round[baseline]))
	}
	return median(ratios)
}

func medianOf(list []measurement, value func(measurement) float64) float64 {
	var values []float64
	for _, m := range list {
		values = append(values, value(m))
	}
	return median(values)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func seconds(m measurement) float64 { return m.took.Seconds() }
func wal(m measurement) float64     { return float64(m.wal) }
func memory(m measurement) float64  { return float64(m.memory) }
