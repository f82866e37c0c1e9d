package cleanup

import (
	"fmt"
	"math"
	"time"
)

// Table is what the catalog and the statistics say of a policy's table. It
// costs nothing to read: no row of the table is looked at.
type Table struct {
	Name       string // schema-qualified, quoted where SQL needs it
	ColumnType string // the expiry column's type, as PostgreSQL writes it
	TIDRange   bool   // the server scans ranges of ctid: PostgreSQL 14 and later
	Server     ServerFacts
	Leaves     []Leaf             // the tables that hold the rows and may hold expired ones
	Expired    []ExpiredPartition // what could be dropped in place of its leaves
	Skipped    int                // partitions that by their bounds hold nothing expired
	Warnings   []Finding
}

// ServerFacts are the settings of the server that a plan depends on.
type ServerFacts struct {
	Buffers    int64   // pages that it keeps in memory: shared_buffers
	RandomCost float64 // of a page out of order, in pages read in order: random_page_cost / seq_page_cost
	WALBuffers int64   // bytes of log that it holds before somebody has to write it: wal_buffers
}

// Leaf is one table that holds rows itself: a table without partitions, or a
// partition without partitions of its own.
type Leaf struct {
	OID   uint32
	Name  string // schema-qualified, quoted where SQL needs it
	Index string // a valid btree index that starts with the expiry column, or ""

	Foreign string // the foreign server that has the rows, quoted where SQL needs it; "": this one
	Method  string // the table access method that keeps them, if that is not PostgreSQL's own heap

	Pages       int64   // of 8 kB, as the table is now
	Rows        float64 // in all, estimated by the server; negative: never analyzed
	Expired     float64 // before the cutoff, estimated by the planner
	Correlation float64 // of physical order and expiry order, -1 to 1; NaN: unknown
	Sampled     int64   // pages that were read for these facts, because the statistics are old or missing; 0: none
}

// Placeless tells whether the ctid of a row says nothing of its place: the leaf is
// on another server, or of another access method than heap.
func (l Leaf) Placeless() bool { return l.Foreign != "" || l.Method != "" }

// rowsPerPage is a guess for tables that were never analyzed: rows of about
// 160 bytes. Batches are sized by time, so a wrong guess corrects itself.
const rowsPerPage = 50

// RowsPerPage estimates how many rows one page holds; it is never below 1.
func (l Leaf) RowsPerPage() float64 {
	if l.Rows < 0 || l.Pages == 0 {
		return rowsPerPage
	}
	return max(1, l.Rows/float64(l.Pages))
}

// Plan is what a run will do for one policy, and why. It is made before
// anything is deleted.
type Plan struct {
	Policy   Policy
	Table    string
	Cutoff   time.Time
	Leaves   []LeafPlan
	Skipped  int
	Warnings []string
	Server   ServerFacts

	// Droppable is how many partitions strategy Partition would drop, where the
	// choice was left to Auto, which never does.
	Droppable int
}

// LeafPlan is the strategy for one leaf, or for a partition that is dropped whole, and
// the reason for it.
type LeafPlan struct {
	Leaf
	Strategy Strategy
	Reason   string
}

// NewPlan chooses a strategy for each leaf of the table.
func NewPlan(policy Policy, table Table, cutoff time.Time) (Plan, error) {
	plan := Plan{
		Policy: policy, Table: table.Name, Cutoff: cutoff,
		Skipped: table.Skipped, Server: table.Server,
	}
	for _, warning := range table.Warnings {
		plan.Warnings = append(plan.Warnings, warning.Text)
	}
	kept := plan.planPartitions(table)
	for _, leaf := range table.Leaves {
		whyNot, byRows := kept[leaf.OID]
		if kept != nil && !byRows {
			continue // its partition is dropped whole
		}
		strategy, reason, err := choose(policy.Strategy, leaf, table)
		if err != nil {
			return plan, err
		}
		if byRows {
			reason = "not dropped whole: " + whyNot + "; " + reason
		}
		plan.Leaves = append(plan.Leaves, LeafPlan{Leaf: leaf, Strategy: strategy, Reason: reason})
	}
	return plan, nil
}

// Expired estimates the expired rows of all leaves, for progress only.
func (p Plan) Expired() float64 {
	var sum float64
	for _, l := range p.Leaves {
		sum += l.Expired
	}
	return sum
}

// noRanges tells why a leaf cannot be cut into ranges of blocks, and the name of
// that as a finding; "": it can.
func (t Table) noRanges(leaf Leaf) (reason, name string) {
	switch {
	case leaf.Foreign != "":
		return leaf.Name + " is a foreign table, whose blocks are not to be seen", "foreign-table"
	case leaf.Method != "":
		return leaf.Name + " is kept by access method " + leaf.Method + ", whose rows need not have a place that stays", "access-method"
	case !t.TIDRange:
		return "the server cannot scan ranges of ctid, which PostgreSQL can from version 14", "server-too-old"
	}
	return "", ""
}

// choose decides how one leaf is cut into batches.
//
// The rule of Auto compares what it costs to visit the pages, since both delete
// the same rows. Block ranges visit every page twice, in order: to delete and,
// without an index that would lead to what is left, to verify. Windows of the
// index visit the expired rows' share of the pages when rows lie in expiry
// order, and up to one page for each expired row when they do not, and those
// pages come out of order: on a table that the server's memory cannot hold, each
// costs what the server's settings say. The squared correlation mixes the two,
// as it does in PostgreSQL's own cost of an index scan (cost_index in
// src/backend/optimizer/path/costsize.c).
func choose(wanted Strategy, leaf Leaf, table Table) (Strategy, string, error) {
	noRanges, name := table.noRanges(leaf)
	if leaf.Foreign != "" && wanted != Heap {
		return Index, "windows of the column, without a look at the indexes: it is a foreign table on server " + leaf.Foreign, nil
	}
	switch wanted {
	case Index:
		if leaf.Index == "" {
			hint := "create the index, or set strategy: auto"
			if noRanges != "" {
				hint = "create the index; there is no other way: " + noRanges
			}
			return "", "", Errorf(Configuration, hint,
				"strategy index: %s has no valid btree index that starts with the expiry column", leaf.Name).Named("index-missing")
		}
		return Index, "configured", nil
	case Heap:
		if noRanges != "" {
			return "", "", Errorf(Configuration, "set strategy: auto", "strategy heap: %s", noRanges).Named(name)
		}
		return Heap, "configured", nil
	}

	switch {
	case leaf.Index == "" && noRanges != "":
		return "", "", Errorf(Configuration, "create an index that starts with the expiry column",
			"%s has no usable index, and %s", leaf.Name, noRanges).Named("index-missing")
	case leaf.Index == "":
		return Heap, "no valid btree index starts with the expiry column", nil
	case noRanges != "":
		return Index, fmt.Sprintf("index %s; %s", leaf.Index, noRanges), nil
	case leaf.Rows < 0:
		return Index, fmt.Sprintf("index %s; the table was never analyzed", leaf.Index), nil
	}

	correlation := leaf.Correlation
	if math.IsNaN(correlation) {
		correlation = 0
	}
	ordered := correlation * correlation
	share := min(1, leaf.Expired/max(1, leaf.Rows))
	random := 1.0
	if leaf.Pages > table.Server.Buffers {
		random = max(1, table.Server.RandomCost)
	}
	byIndex := ordered*share*float64(leaf.Pages) + (1-ordered)*leaf.Expired*random
	byHeap := 2 * float64(leaf.Pages)
	facts := fmt.Sprintf("about %.0f %% expired, correlation %.2f; cost in pages by index: about %s, by heap: %s",
		100*share, correlation, FormatCount(int64(byIndex)), FormatCount(int64(byHeap)))
	if leaf.Sampled > 0 {
		facts = fmt.Sprintf("statistics are old or missing; a sample of about %s says: %s",
			Plural(leaf.Sampled, "page", "pages"), facts)
	}
	if byHeap < byIndex {
		return Heap, facts, nil
	}
	return Index, facts, nil
}
