package cleanup

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// StopReason says why a policy's cleanup ended.
type StopReason string

const (
	Exhausted     StopReason = "exhausted"   // no expired row was found any more
	TimeBudget    StopReason = "time_budget" // limits.max_duration is spent
	RowBudget     StopReason = "row_budget"  // limits.max_rows is spent
	UnderPressure StopReason = "pressure"    // for longer than pace.max_pause
	Interrupted   StopReason = "interrupted" // SIGTERM or SIGINT
	Guard         StopReason = "guard"       // a guard said no, nothing was deleted
	Failed        StopReason = "failed"      // see the error
)

// Outcome is the end of a run, or of a policy in it, in one word.
type Outcome string

const (
	OutcomeComplete   Outcome = "complete"   // counted: nothing expired is left but held rows
	OutcomeIncomplete Outcome = "incomplete" // something expired is left, or it was not counted
	OutcomeFailed     Outcome = "failed"     // there is an error
	OutcomeDryRun     Outcome = "dry-run"    // nothing was to be deleted
)

// PolicyResult is what a run did for one policy. It is valid beside an error.
type PolicyResult struct {
	Name       string
	Table      string
	Cutoff     time.Time
	Strategy   string   // "index", "heap", or "heap+index" over several partitions
	Reasons    []string // why this strategy
	Warnings   []string
	SQL        []string // a dry run's first batches
	StopReason StopReason

	Deleted  int64         // rows deleted, and known to be durable
	Backlog  *int64        // expired rows left, held rows apart; nil: not counted
	Held     *int64        // expired rows that hold keeps; nil: not counted
	Overdue  time.Duration // of the oldest row of a Backlog: how long before the cutoff its time came
	Locked   int64         // expired rows that other transactions held locked to the end
	Refused  int64         // expired rows that the database does not delete, or not together with the rows around them
	Dropped  []string      // partitions dropped whole; their rows are part of Deleted
	Batches  int64
	Retries  int64
	Duration time.Duration
	Err      error

	LedgerHead string // the place and hash of its row in the ledger, LedgerRow.Head; "": it has none

	RefusedRows []RefusedRow                  // the first of the refused rows, at most a hundred
	Batched     Histogram                     // how long the server worked on batches
	Paused      map[PauseReason]time.Duration // not deleting; rests are those of all workers together
}

// Outcome tells how the policy ended.
func (r PolicyResult) Outcome() Outcome {
	switch {
	case r.Err != nil && KindOf(r.Err) != Incomplete:
		return OutcomeFailed
	case r.Err != nil:
		return OutcomeIncomplete
	case r.StopReason == "":
		return OutcomeDryRun
	case r.Backlog != nil && *r.Backlog == 0:
		return OutcomeComplete
	}
	return OutcomeIncomplete
}

// Describe puts the plan into the result.
func (r *PolicyResult) Describe(plan Plan) {
	r.Name, r.Table, r.Cutoff, r.Warnings = plan.Policy.Name, plan.Table, plan.Cutoff, plan.Warnings
	var names []string
	for _, leaf := range plan.Leaves {
		names = append(names, string(leaf.Strategy))
		reason := leaf.Reason
		if len(plan.Leaves) > 1 || leaf.Name != plan.Table {
			reason = leaf.Name + " by " + string(leaf.Strategy) + ": " + reason
		}
		r.Reasons = append(r.Reasons, reason)
	}
	if advice := plan.advice(); advice != "" {
		r.Reasons = append(r.Reasons, advice)
	}
	slices.Sort(names)
	r.Strategy = strings.Join(slices.Compact(names), "+")
	if plan.Skipped > 0 {
		r.Reasons = append(r.Reasons, Plural(int64(plan.Skipped), "partition", "partitions")+" skipped: the bounds say that nothing in there is expired")
	}
}

// Result is one run over all chosen policies.
type Result struct {
	RunID    string
	Start    time.Time // the server's clock where it was read, else the host's
	Duration time.Duration
	DryRun   bool
	Policies []PolicyResult
	Err      error // what kept the whole run from its work
}

// Deleted returns the rows deleted over all policies.
func (r Result) Deleted() int64 {
	var sum int64
	for _, p := range r.Policies {
		sum += p.Deleted
	}
	return sum
}

// Error returns everything that went wrong, or nil.
func (r Result) Error() error {
	errs := []error{r.Err}
	for _, p := range r.Policies {
		if p.Err != nil {
			errs = append(errs, fmt.Errorf("policy %s: %w", p.Name, p.Err))
		}
	}
	return errors.Join(errs...)
}

// Success tells whether the run did all that it should: it is complete, or a
// dry run that went through.
func (r Result) Success() bool {
	outcome := r.Outcome()
	return outcome == OutcomeComplete || outcome == OutcomeDryRun
}

// Outcome is the worst of the policies' outcomes: failed before incomplete
// before complete.
func (r Result) Outcome() Outcome {
	outcome := OutcomeComplete
	if r.DryRun {
		outcome = OutcomeDryRun
	}
	if r.Err != nil && KindOf(r.Err) != Incomplete {
		return OutcomeFailed
	}
	if r.Err != nil {
		outcome = OutcomeIncomplete
	}
	for _, p := range r.Policies {
		switch p.Outcome() {
		case OutcomeFailed:
			return OutcomeFailed
		case OutcomeIncomplete:
			outcome = OutcomeIncomplete
		}
	}
	return outcome
}

// NewRunID returns a UUID of version 7 (RFC 9562): ids sort by the time of
// their run.
func NewRunID(now time.Time) string {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:8], uint64(now.UnixMilli())<<16)
	_, _ = rand.Read(id[6:]) // crypto/rand.Read never fails: it crashes the program instead
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	s := hex.EncodeToString(id[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// Plural writes n with separators, and the word that fits: "1 row", "2 rows".
func Plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return FormatCount(n) + " " + many
}

// FormatSize writes a number of bytes with the unit that people read it in, as
// PostgreSQL names it: "12.3GB". A kB is 1024 bytes.
func FormatSize(bytes int64) string {
	size, unit := float64(bytes), "B"
	for _, larger := range []string{"kB", "MB", "GB", "TB"} {
		if size < 1023.95 { // what rounds to 1024 is one of the next
			break
		}
		size, unit = size/1024, larger
	}
	return strings.TrimSuffix(strconv.FormatFloat(size, 'f', 1, 64), ".0") + unit
}

// FormatCount writes n with separators: 1,234,567.
func FormatCount(n int64) string {
	s := strconv.FormatInt(n, 10)
	start := len(s) - 3
	for ; start > 0 && s[start-1] != '-'; start -= 3 {
		s = s[:start] + "," + s[start:]
	}
	return s
}
