package cleanup

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Policy says which rows of one table expire, when, and how long after that
// they are kept.
type Policy struct {
	Name  string // unique in one configuration; what people call the policy
	Table string // an SQL name: schema-qualified, or found by search_path

	Column    string        // an SQL name: the column that tells when a row expires
	Retention time.Duration // how long after the column's time a row is kept; never negative
	TimeZone  string        // the zone in which a column without a zone is read, an IANA name
	Unit      Unit          // the unit of an integer or floating-point column

	// Where and Hold are the operator's own SQL conditions. The policy covers
	// only rows for which Where is true (empty: all); a row for which Hold is
	// true is counted and kept. A condition that is NULL is not true.
	Where string
	Hold  string

	Strategy Strategy
	Vacuum   Vacuum
}

// String says the policy as one sentence, for logs and plans.
func (p Policy) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "delete rows of %s once %s has passed", p.Table, p.Column)
	if p.Retention > 0 {
		fmt.Fprintf(&b, " by more than %s", FormatDuration(p.Retention))
	}
	if p.Where != "" {
		fmt.Fprintf(&b, ", where %s", p.Where)
	}
	if p.Hold != "" {
		fmt.Fprintf(&b, ", but keep those held by %s", p.Hold)
	}
	return b.String()
}

// Hash identifies which rows the policy covers and when they expire: SHA-256, in
// hexadecimal. How they are deleted is no part of it.
func (p Policy) Hash() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %q %q %q %q",
		p.Table, p.Column, p.Retention.Microseconds(), p.TimeZone, p.Unit, p.Where, p.Hold))
	return hex.EncodeToString(sum[:])
}

// Cutoff returns the instant before which a row is expired, in UTC and to the
// microsecond, which is as fine as PostgreSQL's clock. start is the server's
// clock at the start of the run; every policy of a run uses the same start.
func (p Policy) Cutoff(start time.Time) time.Time {
	return start.UTC().Add(-p.Retention).Truncate(time.Microsecond)
}

// Strategy names how a table is cut into batches.
type Strategy string

const (
	Auto  Strategy = "auto"  // the plan chooses, table by table
	Index Strategy = "index" // windows of the expiry column, found in its btree index
	Heap  Strategy = "heap"  // ranges of blocks, in physical order

	// Partition drops partitions that are wholly expired, and chooses like Auto
	// for what is left.
	Partition Strategy = "partition"
)

// Strategies lists the valid values of a policy's strategy.
var Strategies = []Strategy{Auto, Index, Heap, Partition}

// Vacuum says whether a run vacuums what it deleted from.
type Vacuum string

const (
	VacuumNever Vacuum = "never" // autovacuum does it
	VacuumAfter Vacuum = "after" // after the verification
)

// Vacuums lists the valid values of a policy's vacuum.
var Vacuums = []Vacuum{VacuumNever, VacuumAfter}

// Unit is the unit in which a number counts from 1970-01-01 00:00 UTC.
type Unit string

const (
	Seconds      Unit = "s"
	Milliseconds Unit = "ms"
	Microseconds Unit = "us"
)

// Units lists the valid values of a policy's unit.
var Units = []Unit{Seconds, Milliseconds, Microseconds}

// PerSecond returns how many units make one second.
func (u Unit) PerSecond() int64 {
	switch u {
	case Milliseconds:
		return 1_000
	case Microseconds:
		return 1_000_000
	}
	return 1
}

// FormatDuration writes d as a configuration would: "2d", "36h", "1m30s".
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
