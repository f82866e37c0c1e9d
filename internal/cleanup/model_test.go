package cleanup

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// model is a Database in memory for tests inside a synctest bubble: what it
// does takes simulated time only. Its rows are expired, all of them.
//
// Several workers may use it at once, but then perNext has to stay 0: they wait
// for each other's cut at a mutex, and a bubble's time stands still meanwhile.
type model struct {
	perFlush, perCount, perNext time.Duration

	single  atomic.Int32 // operations in work of those that come one by one
	clashed atomic.Bool  // two of them came at once

	mu               sync.Mutex        // guards all below; time passes outside of it
	leaves           map[string][]*row // in the order of their keys
	perRow, perBatch time.Duration
	others           int64 // transactions that others wrote

	// before is called, with mu held, before the n-th call of an operation,
	// counted from 1: it may change the model, or make the call fail. It may be
	// nil.
	before func(operation string, n int) error
	calls  map[string]int

	// pressure tells what the server says the n-th time it is asked, and may
	// change the model; nil: nobody reads from the server.
	pressure func(n int) (Pressure, error)

	newcomers  []string // leaves that the plan does not know
	holders    []Holder // who holds back the deleted rows
	holdersErr error
	vacuumed   []string                                   // names of leaves
	vacuum     func(ctx context.Context, leaf Leaf) error // what comes of one; nil: it takes a second

	asked   []int // the sizes asked of Next
	commits []*commit
	flushed int // so many of commits are on disk
	lost    int // so many commits were taken back by crashes
	crashes int // a transaction does not outlive one
}

// The operations of the model.
const (
	opNext     = "next"
	opDelete   = "delete"
	opUnlocked = "delete unlocked"
	opSplit    = "split"
	opKey      = "key"
	opFlush    = "flush"
	opCount    = "count"
	opPressure = "pressure"
)

type row struct {
	key         int
	gone        bool
	lockedUntil time.Time
	swallowed   bool // by a trigger: its deletion is accepted and does nothing
	held        bool
	refused     bool // by a foreign key
	slow        bool // it alone takes longer than a batch may
}

// commit is a batch as the model's server remembers it.
type commit struct {
	piece modelPiece
	rows  []*row
}

// lockWait is how long the model's server lets a batch wait for a lock.
const lockWait = 100 * time.Millisecond

// forever is beyond the end of every test.
var forever = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// newModel makes a table with one leaf for each number of rows. A row takes
// 100 µs: a thousand of them, with which every run begins, meet the target of
// newRunner exactly.
func newModel(rows ...int) *model {
	m := &model{leaves: make(map[string][]*row), calls: make(map[string]int), perRow: 100 * time.Microsecond}
	for i, n := range rows {
		leaf := make([]*row, n)
		for key := range leaf {
			leaf[key] = &row{key: key}
		}
		m.leaves[leafName(i)] = leaf
	}
	return m
}

func leafName(i int) string { return "public.messages_" + string(rune('a'+i)) }

func newRunner() *Runner {
	return &Runner{Log: slog.New(slog.DiscardHandler), BatchTarget: 100 * time.Millisecond, BatchMaxRows: 50_000}
}

func (m *model) plan() Plan {
	plan := Plan{Policy: Policy{Name: "messages"}, Table: "public.messages"}
	for i := range len(m.leaves) {
		leaf := Leaf{Name: leafName(i), Index: "i", Expired: float64(len(m.leaves[leafName(i)]))}
		plan.Leaves = append(plan.Leaves, LeafPlan{Leaf: leaf, Strategy: Index, Reason: "configured"})
	}
	return plan
}

// begin starts an operation.
func (m *model) begin(operation string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[operation]++
	if m.before == nil {
		return nil
	}
	return m.before(operation, m.calls[operation])
}

// alone notes whether another operation is in work that has to come one by one.
// It gives others the chance to be, and returns what ends the operation.
func (m *model) alone() (end func()) {
	if m.single.Add(1) > 1 {
		m.clashed.Store(true)
	}
	for range 10 {
		runtime.Gosched()
	}
	return func() { m.single.Add(-1) }
}

// late adds n rows in front of everything, where no cutter looks again. As for
// crash and count, the caller is before, or alone with the model.
func (m *model) late(n int) {
	leaf := m.leaves[leafName(0)]
	first := 0
	if len(leaf) > 0 {
		first = leaf[0].key
	}
	var rows []*row
	for i := range n {
		rows = append(rows, &row{key: first - n + i})
	}
	m.leaves[leafName(0)] = append(rows, leaf...)
}

// crash takes back the last n commits that are not on disk. Connecting again
// finds that out, whichever operation comes next.
func (m *model) crash(n int) error {
	n = min(n, len(m.commits)-m.flushed)
	lost := &LostError{}
	for _, c := range m.commits[len(m.commits)-n:] {
		lost.Pieces = append(lost.Pieces, c.piece)
		lost.Rows += int64(len(c.rows))
		for _, r := range c.rows {
			r.gone = false
		}
	}
	m.commits = m.commits[:len(m.commits)-n]
	m.lost += n
	m.crashes++
	return lost
}

func (m *model) count() (counts Counts) {
	for _, leaf := range m.leaves {
		for _, r := range leaf {
			switch {
			case r.gone:
			case r.held:
				counts.Held++
			default:
				counts.Backlog++
			}
		}
	}
	return counts
}

// wait lets simulated time pass.
func wait(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d <= 0 { // even a timer of 0 would wait until every other worker does
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func (m *model) Cut(leaf LeafPlan) Cutter {
	return &modelCutter{m: m, leaf: leaf.Name, mark: math.MinInt}
}

func (m *model) Flush(ctx context.Context) error {
	defer m.alone()()
	if err := m.begin(opFlush); err != nil {
		return err
	}
	if err := wait(ctx, m.perFlush); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flushed = len(m.commits)
	return nil
}

func (m *model) Count(ctx context.Context, _ bool) (Counts, error) {
	defer m.alone()()
	if err := m.begin(opCount); err != nil {
		return Counts{}, err
	}
	if err := wait(ctx, m.perCount); err != nil {
		return Counts{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count(), nil
}

func (m *model) Newcomers(context.Context) ([]string, error) { return m.newcomers, nil }

func (m *model) Pressure(context.Context) (Pressure, error) {
	if err := m.begin(opPressure); err != nil {
		return Pressure{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pressure == nil {
		return Pressure{}, nil
	}
	return m.pressure(m.calls[opPressure])
}

func (m *model) Holders(context.Context) ([]Holder, error) {
	defer m.alone()()
	return m.holders, m.holdersErr
}

func (m *model) Touched() (touched []Leaf) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, leaf := range m.plan().Leaves {
		if slices.ContainsFunc(m.leaves[leaf.Name], func(r *row) bool { return r.gone }) {
			touched = append(touched, leaf.Leaf)
		}
	}
	return touched
}

func (m *model) Vacuum(ctx context.Context, leaf Leaf) error {
	defer m.alone()()
	m.vacuumed = append(m.vacuumed, leaf.Name)
	if m.vacuum != nil {
		return m.vacuum(ctx, leaf)
	}
	return wait(ctx, time.Second)
}

func (m *model) Unconfirmed() (rows, doubtful int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.commits[m.flushed:] {
		rows += int64(len(c.rows))
	}
	return rows, 0
}

// The errors that the tests inject.
var (
	errPermission = errors.New("permission denied for table messages")
	errDeadlock   = &TransientError{Err: errors.New("deadlock detected")}
	errConnection = &TransientError{Err: errors.New("the connection was lost before the batch was committed")}
)

// failing makes the calls of one operation fail with err, from the first-th to
// the last-th.
func failing(operation string, first, last int, err error) func(string, int) error {
	return func(op string, n int) error {
		if op == operation && n >= first && n <= last {
			return err
		}
		return nil
	}
}
