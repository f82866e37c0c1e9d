package cleanup

import (
	"slices"
	"strings"
	"time"
)

// History is what the ledger shows of the runs since some day.
type History struct {
	Database string // which one it is in, and whose
	Table    string
	Since    time.Time // the beginning of a day in UTC
	Now      time.Time
	Rows     []LedgerRow // of runs that began since, in the order in which they began
	Gaps     []Gap
	Chain    Chain // of all rows, not only these
}

// NewHistory picks from all rows of a ledger those of some policies since some
// day. current are the policies that are configured; of these, or of any other
// in the ledger, chosen is a part, or nil for all. head is that of VerifyChain.
func NewHistory(rows []LedgerRow, current, chosen []string, since, now time.Time, head string) (History, error) {
	h := History{Since: DayOf(since), Now: now.UTC()}
	var err error
	if h.Chain, err = VerifyChain(rows, head); err != nil {
		return h, err
	}
	if chosen != nil {
		rows = slices.DeleteFunc(slices.Clone(rows), func(r LedgerRow) bool { return !slices.Contains(chosen, r.Policy) })
	}
	h.Gaps = Gaps(rows, current, since, now)
	for _, row := range rows {
		if row.Damage != nil || !row.Started.Before(h.Since) { // one that cannot be read is not left out
			h.Rows = append(h.Rows, row)
		}
	}
	slices.SortStableFunc(h.Rows, func(a, b LedgerRow) int { return a.Started.Compare(b.Started) })
	return h, nil
}

// Deleted returns the rows that were deleted in these runs.
func (h History) Deleted() (sum int64) {
	for _, row := range h.Rows {
		sum += row.Deleted
	}
	return sum
}

// GapNights returns the days of all gaps together.
func (h History) GapNights() (sum int64) {
	for _, gap := range h.Gaps {
		sum += gap.Nights()
	}
	return sum
}

// Err says what a person must look at, or nil.
func (h History) Err() error {
	var problems []string
	if n := int64(len(h.Chain.Findings)); n > 0 {
		problems = append(problems, "the ledger is not as it was written: "+h.Chain.Findings[0].String()+andMore(n))
	}
	if n := int64(len(h.Gaps)); n > 0 {
		first := h.Gaps[0]
		problems = append(problems, Plural(h.GapNights(), "night", "nights")+" without a verified run: policy "+first.Policy+", "+first.String()+andMore(n))
	}
	if problems == nil {
		return nil
	}
	hint := "journalctl -u message-cleanup, or systemctl status message-cleanup.timer, says why"
	if len(h.Chain.Findings) > 0 {
		hint = "find out who may write to the ledger, and compare it with a backup"
	}
	return Errorf(NeedsPerson, hint, "%s", strings.Join(problems, "; "))
}

func andMore(n int64) string {
	if n == 1 {
		return ""
	}
	return ", and " + Plural(n-1, "more", "more")
}
