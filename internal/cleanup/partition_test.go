package cleanup

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// messagesByMonth has two partitions that are wholly expired, one of which is
// made of two leaves, one that is partly expired, and one that an earlier run
// detached.
func messagesByMonth() Table {
	leaf := func(oid uint32, name string) Leaf {
		return Leaf{OID: oid, Name: name, Index: "i", Rows: 1000, Expired: 900, Pages: 10, Correlation: 1}
	}
	return Table{
		Name: "messages", TIDRange: true,
		Leaves: []Leaf{leaf(1, "january"), leaf(2, "february_a"), leaf(3, "february_b"), leaf(4, "march")},
		Expired: []ExpiredPartition{
			{OID: 9, Name: "december", Detached: true, Rows: 500},
			{OID: 1, Name: "january", Leaves: []uint32{1}},
			{OID: 20, Name: "february", Leaves: []uint32{2, 3}},
		},
	}
}

func TestDroppedPartitionIsCountedAndTeachesThePacerNothing(t *testing.T) {
	t.Parallel()
	p := &policyRun{Runner: newRunner()}
	p.pacer = newPacer(p.BatchTarget, p.BatchMaxRows, 0, 1)
	before := p.pacer.rows
	for _, took := range []time.Duration{time.Hour, time.Microsecond} {
		p.account(nil, Batch{Deleted: 1_000_000, Took: took, Dropped: "january"}, before)
	}
	if p.pacer.rows != before {
		t.Errorf("the next batch has %d rows, want %d", p.pacer.rows, before)
	}
	if diff := cmp.Diff([]string{"january", "january"}, p.result.Dropped); diff != "" || p.result.Deleted != 2_000_000 || p.result.Batches != 2 {
		t.Errorf("dropped %v, deleted %d in %d batches", p.result.Dropped, p.result.Deleted, p.result.Batches)
	}
}

func TestPlanDropsExpiredPartitionsOnlyIfToldTo(t *testing.T) {
	t.Parallel()
	const (
		facts = "about 90 % expired, correlation 1.00; cost in pages by index: about 9, by heap: 20"
		whole = "all of it is expired, by its bounds"
	)
	rows := []string{"january by index: " + facts, "february_a by index: " + facts, "february_b by index: " + facts, "march by index: " + facts}
	kept := func(name, why string) string { return name + " by index: not dropped whole: " + why + "; " + facts }
	const bounds = "its bounds do not say that all of it is expired"
	tests := []struct {
		name     string
		policy   Policy
		change   func(*Table)
		strategy string
		reasons  []string
		expired  float64
	}{
		{"auto", Policy{Strategy: Auto}, nil, "index",
			append(rows[:4:4], "strategy: partition would drop 2 expired partitions whole"), 3600},
		{"auto, and one that cannot be dropped", Policy{Strategy: Auto}, func(t *Table) { t.Expired[1].Obstacle = "a view" }, "index",
			append(rows[:4:4], "strategy: partition would drop 1 expired partition whole"), 3600},
		{"auto, with a hold", Policy{Strategy: Auto, Hold: "h"}, nil, "index", rows, 3600},
		{"index", Policy{Strategy: Index}, nil, "index",
			[]string{"january by index: configured", "february_a by index: configured", "february_b by index: configured", "march by index: configured"}, 3600},
		{"partition", Policy{Strategy: Partition}, nil, "index+partition", []string{
			"december by partition: an earlier run began to detach it, and did not come to drop it",
			"january by partition: " + whole, "february by partition: " + whole, kept("march", bounds)}, 500 + 900 + 1800 + 900},
		{"partition, and one that cannot be dropped", Policy{Strategy: Partition}, func(t *Table) { t.Expired[2].Obstacle = "a view" }, "index+partition", []string{
			"december by partition: an earlier run began to detach it, and did not come to drop it",
			"january by partition: " + whole, kept("february_a", "a view"), kept("february_b", "a view"), kept("march", bounds)}, 500 + 3600},
		{"partition, with a where", Policy{Strategy: Partition, Where: "w"}, nil, "index", []string{
			kept("january", "the policy has a where condition"), kept("february_a", "the policy has a where condition"),
			kept("february_b", "the policy has a where condition"), kept("march", bounds)}, 3600},
		{"partition, with a hold", Policy{Strategy: Partition, Hold: "h"}, nil, "index", []string{
			kept("january", "the policy has a hold condition"), kept("february_a", "the policy has a hold condition"),
			kept("february_b", "the policy has a hold condition"), kept("march", bounds)}, 3600},
		{"partition, but there are none", Policy{Strategy: Partition}, func(t *Table) { t.Name, t.Expired, t.Leaves = "january", nil, t.Leaves[:1] }, "index",
			[]string{"not dropped whole: the table has no partitions; " + facts}, 900},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			table := messagesByMonth()
			if tt.change != nil {
				tt.change(&table)
			}
			plan, err := NewPlan(tt.policy, table, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			var r PolicyResult
			r.Describe(plan)
			if diff := cmp.Diff(tt.reasons, r.Reasons); diff != "" {
				t.Errorf("reasons (-want +got):\n%s", diff)
			}
			if r.Strategy != tt.strategy || plan.Expired() != tt.expired {
				t.Errorf("strategy %s for %v rows, want %s for %v", r.Strategy, plan.Expired(), tt.strategy, tt.expired)
			}
		})
	}
}
