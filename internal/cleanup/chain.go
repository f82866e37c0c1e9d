package cleanup

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Chain is what the verification of a ledger says.
type Chain struct {
	Closed   int64  // rows in the chain
	Open     int64  // rows of runs that are at work, or were killed since
	Head     string // LedgerRow.Head of the last row; "": there is none
	Findings []ChainFinding
}

// ChainFinding is one thing that is wrong with the ledger, and with which row.
type ChainFinding struct {
	Position int64  `json:"position"` // where in the chain; 0: the row has no place in it
	RunID    string `json:"run_id"`   // "": the row is not there
	Policy   string `json:"policy"`
	Problem  string `json:"problem"`
}

func (f ChainFinding) String() string {
	name := "a row"
	if f.Position > 0 {
		name = fmt.Sprintf("row %d", f.Position)
	}
	if f.RunID != "" {
		name += fmt.Sprintf(" (policy %s, run %s)", f.Policy, f.RunID)
	}
	return name + " " + f.Problem
}

// ParseHead reads what LedgerRow.Head writes.
func ParseHead(s string) (position int64, hash string, err error) {
	number, hash, _ := strings.Cut(s, ":")
	position, err = strconv.ParseInt(number, 10, 64)
	if err != nil || position < 1 || len(hash) != 64 || strings.Trim(hash, "0123456789abcdef") != "" {
		return 0, "", fmt.Errorf("%q is not the head of a ledger, which looks like 17:5f2c... with 64 digits", s)
	}
	return position, hash, nil
}

// VerifyChain checks all rows of a ledger and returns what is wrong, in the
// order of the chain. Its error is that head cannot be read. head is the newest one that was kept elsewhere, or "": it
// alone tells whether rows were removed from the end, or a whole chain was made
// anew, which anybody can who may write to the table and knows how.
func VerifyChain(rows []LedgerRow, head string) (Chain, error) {
	c := &verification{hashes: make(map[string]int64)}
	var open []LedgerRow
	for _, row := range rows {
		if row.Position == nil {
			open = append(open, row)
			continue
		}
		c.closed = append(c.closed, row)
		c.hashes[row.Hash] = *row.Position
	}
	slices.SortStableFunc(c.closed, func(a, b LedgerRow) int { return cmp.Compare(*a.Position, *b.Position) })
	for i := range c.closed {
		c.check(i)
	}
	if err := c.checkHead(head); err != nil {
		return Chain{}, err
	}
	for _, row := range open {
		c.checkOpen(row)
	}
	result := Chain{Closed: int64(len(c.closed)), Open: int64(len(open)), Findings: c.findings}
	if len(c.closed) > 0 {
		result.Head = c.closed[len(c.closed)-1].Head()
	}
	return result, nil
}

// verification is the closed rows in order, and what was found so far.
type verification struct {
	closed   []LedgerRow
	hashes   map[string]int64 // where the row with a hash stands
	findings []ChainFinding
}

func (c *verification) found(row LedgerRow, problem string) {
	f := ChainFinding{RunID: row.RunID, Policy: row.Policy, Problem: problem}
	if row.Position != nil {
		f.Position = *row.Position
	}
	c.findings = append(c.findings, f)
}

// foundMissing tells of rows that are not there.
func (c *verification) foundMissing(from, to int64) {
	for position := from; position <= min(to, from+9); position++ {
		c.findings = append(c.findings, ChainFinding{Position: position, Problem: "is missing: it was removed"})
	}
	if to > from+9 {
		c.findings = append(c.findings, ChainFinding{Position: from + 10, Problem: fmt.Sprintf("and all up to row %d are missing too", to)})
	}
}

// check checks a row by itself, and against the one before it.
func (c *verification) check(i int) {
	row := c.closed[i]
	intact := row.Sum() == row.Hash
	switch {
	case row.Damage != nil:
		c.found(row, fmt.Sprintf("was edited: %v", row.Damage))
	case row.Hash == "":
		c.found(row, "has a place in the chain and no hash: it was edited or inserted")
	case !intact:
		c.found(row, "was edited or inserted: its hash is that of another content")
	}
	if i == 0 {
		c.foundMissing(1, *row.Position-1)
		if intact && row.Previous != "" && *row.Position == 1 {
			c.found(row, "was not the first row: those before it were removed")
		}
		return
	}
	before := c.closed[i-1]
	if *row.Position == *before.Position {
		c.found(row, "has the same place as another: one of them was inserted")
		return
	}
	c.foundMissing(*before.Position+1, *row.Position-1)
	if *row.Position > *before.Position+1 || row.Previous == before.Hash || row.Previous == before.Sum() {
		return
	}
	if at, known := c.hashes[row.Previous]; known && at < *before.Position {
		for _, between := range c.closed[:i] {
			if *between.Position > at {
				c.found(between, fmt.Sprintf("was inserted: row %d followed row %d when it was written", *row.Position, at))
			}
		}
		return
	}
	if intact && before.Sum() == before.Hash {
		c.found(before, fmt.Sprintf("was replaced: row %d followed another one when it was written", *row.Position))
	}
}

func (c *verification) checkHead(head string) error {
	if head == "" {
		return nil
	}
	position, hash, err := ParseHead(head)
	if err != nil {
		return err
	}
	last := int64(0)
	for _, row := range c.closed {
		last = *row.Position
		switch {
		case last == position && row.Hash != hash:
			c.found(row, "was replaced: the head that was kept has another hash")
		case last > position:
			c.found(row, fmt.Sprintf("is behind the head that was kept, row %d: it was inserted, unless that is not the newest head", position))
		}
	}
	c.foundMissing(last+1, position)
	return nil
}

// checkOpen checks a row without a place in the chain. While its run is at work
// that is as it should be.
func (c *verification) checkOpen(row LedgerRow) {
	switch {
	case row.Damage != nil:
		c.found(row, fmt.Sprintf("was edited: %v", row.Damage))
	case row.Hash != "":
		c.found(row, "was taken out of the chain: it has a hash and no place")
	case row.Outcome != "" || row.Finished != nil || row.Previous != "":
		c.found(row, "is not in the chain and tells how it ended: it was inserted, or taken out of the chain")
	default:
		for _, later := range c.closed {
			if later.Policy == row.Policy && later.Table == row.Table && later.Outcome == OutcomeComplete && later.Started.After(row.Started) {
				c.found(row, fmt.Sprintf("is open although row %d, of a later run, would have closed it: it was inserted, or taken out of the chain", *later.Position))
				return
			}
		}
	}
}
