package cleanup

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pages is how a reason says what the strategies cost.
func pages(byIndex, byHeap string) string {
	return "cost in pages by index: about " + byIndex + ", by heap: " + byHeap
}

func TestChooseComparesWhatTheVisitedPagesCost(t *testing.T) {
	t.Parallel()
	nan := math.NaN()
	tests := []struct {
		name        string
		pages       int64
		rows        float64
		expired     float64
		correlation float64
		want        Strategy
		reason      string
	}{
		{"in order, little expired", 1000, 20_000, 1000, 1, Index,
			"about 5 % expired, correlation 1.00; " + pages("50", "2,000")},
		{"in order, nearly all expired", 1000, 20_000, 19_000, 1, Index, pages("950", "2,000")},
		{"in order, all expired", 1000, 20_000, 20_000, 1, Index, pages("1,000", "2,000")},
		{"in reverse order, little expired", 1000, 20_000, 1000, -1, Index,
			"correlation -1.00; " + pages("50", "2,000")},
		{"shuffled, nearly two rows for each page", 1000, 20_000, 1999, 0, Index, pages("1,999", "2,000")},
		{"shuffled, two rows for each page: a tie", 1000, 20_000, 2000, 0, Index, pages("2,000", "2,000")},
		{"shuffled, a row more than that", 1000, 20_000, 2001, 0, Heap, pages("2,001", "2,000")},
		{"unknown order counts as shuffled, up to a tie", 1000, 20_000, 2000, nan, Index, "correlation 0.00"},
		{"unknown order counts as shuffled, beyond it", 1000, 20_000, 2001, nan, Heap, "correlation 0.00"},
		// The squared correlation is a quarter: the index visits a quarter of a
		// quarter of the pages, and three quarters of a page for each row.
		{"partly in order", 1000, 16_000, 4000, 0.5, Heap, pages("3,062", "2,000")},
		{"partly in reverse order", 1000, 16_000, 4000, -0.5, Heap, "correlation -0.50; " + pages("3,062", "2,000")},
		{"partly in order, less expired", 1000, 16_000, 2000, 0.5, Index, pages("1,531", "2,000")},
		{"nothing expired", 1000, 20_000, 0, 0, Index, "about 0 % expired"},
		{"an empty table", 0, 0, 0, nan, Index, "about 0 % expired, correlation 0.00; " + pages("0", "0")},
		{"more expired than the statistics know rows", 1000, 100, 5000, 1, Index, "about 100 % expired"},
		{"never analyzed", 1000, -1, 1_000_000, 0, Index, "index i; the table was never analyzed"},
		// Beyond what the server keeps in memory a page out of order costs four.
		{"larger than memory, shuffled, a tie", 4000, 80_000, 2000, 0, Index, pages("8,000", "8,000")},
		{"larger than memory, shuffled, beyond it", 4000, 80_000, 2001, 0, Heap, pages("8,004", "8,000")},
		{"larger than memory, in order", 4000, 80_000, 80_000, 1, Index, pages("4,000", "8,000")},
		{"just in memory", 3000, 60_000, 6000, 0, Index, pages("6,000", "6,000")},
		{"a page too large for memory", 3001, 60_000, 6000, 0, Heap, pages("24,000", "6,002")},
	}
	server := ServerFacts{Buffers: 3000, RandomCost: 4}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			leaf := Leaf{
				Name: "public.messages", Index: "i", Pages: tt.pages, Rows: tt.rows,
				Expired: tt.expired, Correlation: tt.correlation,
			}
			for _, wanted := range []Strategy{Auto, ""} {
				got, reason, err := choose(wanted, leaf, Table{TIDRange: true, Server: server})
				if err != nil || got != tt.want || !strings.Contains(reason, tt.reason) {
					t.Errorf("choose(%q) = %q because %q, %v; want %q because %q", wanted, got, reason, err, tt.want, tt.reason)
				}
			}
		})
	}
}

func TestLeavesWhoseRowsHaveNoPlaceOfTheirOwnHere(t *testing.T) {
	t.Parallel()
	table := Table{TIDRange: true}
	foreign := Leaf{Name: "public.there", Foreign: "shard_1", Rows: -1}
	other := Leaf{Name: "public.messages", Method: "other", Index: "expiry", Pages: 1000, Rows: 20_000, Expired: 10_000}
	for _, wanted := range []Strategy{Auto, Index, Partition} {
		for _, leaf := range []Leaf{foreign, other} {
			if got, _, err := choose(wanted, leaf, table); got != Index || err != nil {
				t.Errorf("%s of %s: %q, %v; want index", wanted, leaf.Name, got, err)
			}
		}
	}
	_, _, err := choose(Heap, foreign, table)
	wantError(t, err, Configuration, "strategy heap: public.there is a foreign table")
	_, _, err = choose(Heap, other, table)
	wantError(t, err, Configuration, "strategy heap: public.messages is kept by access method other")
	other.Index = ""
	_, _, err = choose(Auto, other, table)
	wantError(t, err, Configuration, "public.messages has no usable index, and public.messages is kept by access method other")
}

func TestChooseByWhatTheTableAndTheServerOffer(t *testing.T) {
	t.Parallel()
	// By its pages auto would take the heap.
	const without, with = "", "messages_expires_at_idx"
	tests := []struct {
		name     string
		wanted   Strategy
		index    string
		tidRange bool
		want     Strategy
		text     string // of the reason, or of the error
		hint     string
	}{
		{"auto, both", Auto, with, true, Heap, "about 50 % expired", ""},
		{"auto, no index", Auto, without, true, Heap, "no valid btree index starts with the expiry column", ""},
		{"auto, an old server", Auto, with, false, Index, "index messages_expires_at_idx; the server cannot scan ranges of ctid", ""},
		{"auto, neither", Auto, without, false, "", "public.messages has no usable index, and the server cannot", "create an index"},
		{"index, both", Index, with, true, Index, "configured", ""},
		{"index, an old server", Index, with, false, Index, "configured", ""},
		{"index, no index", Index, without, true, "", "strategy index: public.messages has no valid btree index", "set strategy: auto"},
		{"index, neither", Index, without, false, "", "strategy index: public.messages has no valid btree index", "create the index"},
		{"heap, both", Heap, with, true, Heap, "configured", ""},
		{"heap, no index", Heap, without, true, Heap, "configured", ""},
		{"heap, an old server", Heap, with, false, "", "strategy heap: the server cannot scan ranges of ctid", "set strategy: auto"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			leaf := Leaf{Name: "public.messages", Index: tt.index, Pages: 1000, Rows: 20_000, Expired: 10_000}
			got, reason, err := choose(tt.wanted, leaf, Table{TIDRange: tt.tidRange})
			if got != tt.want {
				t.Errorf("choose() = %q, want %q", got, tt.want)
			}
			if tt.want == "" {
				wantError(t, err, Configuration, tt.text)
				if !strings.Contains(HintOf(err), tt.hint) {
					t.Errorf("hint %q, want %q", HintOf(err), tt.hint)
				}
			} else if err != nil || !strings.Contains(reason, tt.text) {
				t.Errorf("reason %q, error %v; want %q", reason, err, tt.text)
			}
		})
	}
}

func TestAPlanSaysThatItsFactsAreFromASample(t *testing.T) {
	t.Parallel()
	leaf := Leaf{Index: "i", Pages: 1000, Rows: 20_000, Expired: 10_000, Sampled: 100}
	_, reason, err := choose(Auto, leaf, Table{TIDRange: true})
	const want = "statistics are old or missing; a sample of about 100 pages says: about 50 % expired"
	if err != nil || !strings.HasPrefix(reason, want) {
		t.Errorf("reason %q, error %v; want %q", reason, err, want)
	}
}

func TestRowsPerPageIsNeverBelowOne(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		rows  float64
		pages int64
		want  float64
	}{
		{"never analyzed", -1, 1000, rowsPerPage},
		{"no page", 0, 0, rowsPerPage},
		{"rows, but no page yet known", 100, 0, rowsPerPage},
		{"no row, but pages", 0, 1000, 1},
		{"fewer rows than pages", 999, 1000, 1},
		{"a row for each page", 1000, 1000, 1},
		{"more rows than pages", 1500, 1000, 1.5},
		{"many", 20_000, 1000, 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := (Leaf{Rows: tt.rows, Pages: tt.pages}).RowsPerPage(); got != tt.want {
				t.Errorf("RowsPerPage() = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestNewPlanChoosesForEachLeaf(t *testing.T) {
	t.Parallel()
	policy := Policy{Name: "messages", Table: "messages", Strategy: Auto}
	cutoff := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	ordered := Leaf{OID: 1, Name: "public.m_1", Index: "i", Pages: 1000, Rows: 20_000, Expired: 1000, Correlation: 1}
	bare := Leaf{OID: 2, Name: "public.m_2", Pages: 10, Rows: 100, Expired: 50, Correlation: 1}
	table := Table{
		Name: "public.messages", TIDRange: true, Leaves: []Leaf{ordered, bare},
		Skipped: 3, Warnings: []Finding{{Text: "a trigger"}},
	}
	got, err := NewPlan(policy, table, cutoff)
	if err != nil {
		t.Fatal(err)
	}
	want := Plan{
		Policy: policy, Table: "public.messages", Cutoff: cutoff, Skipped: 3, Warnings: []string{"a trigger"},
		Leaves: []LeafPlan{
			{ordered, Index, "about 5 % expired, correlation 1.00; " + pages("50", "2,000")},
			{bare, Heap, "no valid btree index starts with the expiry column"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	if got.Expired() != 1050 {
		t.Errorf("Expired() = %v, want 1050", got.Expired())
	}
}

// One leaf that cannot be cut fails the plan: half a table is not a policy.
func TestNewPlanRefusesATableWithALeafThatCannotBeCut(t *testing.T) {
	t.Parallel()
	table := Table{Name: "public.messages", Leaves: []Leaf{{Name: "public.m_1", Index: "i", Rows: -1}, {Name: "public.m_2"}}}
	plan, err := NewPlan(Policy{Name: "messages"}, table, time.Time{})
	wantError(t, err, Configuration, "public.m_2 has no usable index")
	if plan.Policy.Name != "messages" || plan.Table != "public.messages" {
		t.Errorf("the plan beside the error does not say whose it is: %+v", plan)
	}
}

func TestDescribePutsThePlanIntoTheResult(t *testing.T) {
	t.Parallel()
	cutoff := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	leaf := func(name string, strategy Strategy, reason string) LeafPlan {
		return LeafPlan{Leaf: Leaf{Name: name}, Strategy: strategy, Reason: reason}
	}
	tests := []struct {
		name     string
		leaves   []LeafPlan
		skipped  int
		strategy string
		reasons  []string
	}{
		{"a table", []LeafPlan{leaf("public.m", Index, "configured")}, 0, "index", []string{"configured"}},
		{"one partition", []LeafPlan{leaf("public.m_1", Heap, "no index")}, 0, "heap",
			[]string{"public.m_1 by heap: no index"}},
		{"partitions of one strategy", []LeafPlan{leaf("public.m_1", Index, "a"), leaf("public.m_2", Index, "b")}, 0, "index",
			[]string{"public.m_1 by index: a", "public.m_2 by index: b"}},
		{"partitions of two strategies, and skipped ones",
			[]LeafPlan{leaf("public.m_1", Index, "a"), leaf("public.m_2", Heap, "b"), leaf("public.m_3", Index, "c")}, 1234, "heap+index",
			[]string{
				"public.m_1 by index: a", "public.m_2 by heap: b", "public.m_3 by index: c",
				"1,234 partitions skipped: the bounds say that nothing in there is expired",
			}},
		{"one partition skipped", nil, 1, "",
			[]string{"1 partition skipped: the bounds say that nothing in there is expired"}},
		{"all partitions skipped", nil, 2, "",
			[]string{"2 partitions skipped: the bounds say that nothing in there is expired"}},
		{"no partition at all", nil, 0, "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got PolicyResult
			got.Describe(Plan{
				Policy: Policy{Name: "messages"}, Table: "public.m", Cutoff: cutoff,
				Leaves: tt.leaves, Skipped: tt.skipped, Warnings: []string{"w"},
			})
			want := PolicyResult{
				Name: "messages", Table: "public.m", Cutoff: cutoff, Strategy: tt.strategy,
				Reasons: tt.reasons, Warnings: []string{"w"},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}
