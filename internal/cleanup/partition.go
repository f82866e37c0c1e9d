package cleanup

import "fmt"

// ExpiredPartition is a partition all rows of which are expired, as its bounds
// prove, and the topmost one of which that is true. It can be dropped, with all
// that lies below it, in place of deleting its rows.
type ExpiredPartition struct {
	OID      uint32
	Name     string   // schema-qualified, quoted where SQL needs it
	Leaves   []uint32 // what it is made of, by their oid
	Obstacle string   // why it has to be cleaned by rows nevertheless; "": nothing

	// Detached says that an earlier run began to detach it and did not come to
	// drop it. Its leaves are not among the table's any more.
	Detached bool
	Rows     float64 // of a detached one
}

// planPartitions plans what is to be dropped. It returns for every leaf that is
// not part of that why not, or nil if nothing is to be dropped at all.
func (p *Plan) planPartitions(table Table) (kept map[uint32]string) {
	leaves := make(map[uint32]Leaf)
	kept = make(map[uint32]string)
	for _, leaf := range table.Leaves {
		leaves[leaf.OID] = leaf
		kept[leaf.OID] = "its bounds do not say that all of it is expired"
		if leaf.Name == table.Name {
			kept[leaf.OID] = "the table has no partitions"
		}
		if leaf.Foreign != "" {
			kept[leaf.OID] = "only its name would go, and none of its rows"
		}
	}
	for _, partition := range table.Expired {
		obstacle := partition.Obstacle
		switch {
		case p.Policy.Where != "":
			obstacle = "the policy has a where condition"
		case p.Policy.Hold != "":
			obstacle = "the policy has a hold condition"
		}
		if p.Policy.Strategy == Auto && obstacle == "" && !partition.Detached {
			p.Droppable++
		}
		for _, oid := range partition.Leaves {
			kept[oid] = obstacle
		}
		if p.Policy.Strategy == Partition && obstacle == "" {
			p.Leaves = append(p.Leaves, partition.plan(leaves))
			for _, oid := range partition.Leaves {
				delete(kept, oid)
			}
		}
	}
	if p.Policy.Strategy != Partition {
		return nil
	}
	return kept
}

// plan is the plan to drop the partition as a whole.
func (e ExpiredPartition) plan(leaves map[uint32]Leaf) LeafPlan {
	whole := Leaf{OID: e.OID, Name: e.Name, Rows: e.Rows, Expired: e.Rows}
	if e.Detached {
		return LeafPlan{whole, Partition, "an earlier run began to detach it, and did not come to drop it"}
	}
	for _, oid := range e.Leaves {
		leaf := leaves[oid]
		whole.Pages += leaf.Pages
		whole.Rows += max(0, leaf.Rows)
		whole.Expired += leaf.Expired
	}
	return LeafPlan{whole, Partition, "all of it is expired, by its bounds"}
}

// advice tells those who leave the choice to the plan what only they can choose:
// what is dropped takes other rights, and runs no trigger.
func (p Plan) advice() string {
	if p.Droppable == 0 {
		return ""
	}
	return fmt.Sprintf("strategy: partition would drop %s whole", Plural(int64(p.Droppable), "expired partition", "expired partitions"))
}
