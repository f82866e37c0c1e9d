package cleanup

import (
	"maps"
	"slices"
	"time"
)

// Gap is days in a row on which no run of a policy found that nothing expired
// was left.
type Gap struct {
	Policy string
	From   time.Time // the first of these days, at 00:00 UTC
	To     time.Time // the last of them, at 00:00 UTC
}

const day = 24 * time.Hour

// Nights returns how many days the gap has.
func (g Gap) Nights() int64 { return int64(g.To.Sub(g.From)/day) + 1 }

// nightLimit is how old the last verified run may be before today is a gap too.
// A timer with a random delay, and runs of different lengths, move a little.
const nightLimit = 26 * time.Hour

// Gaps returns the days in UTC, from since on, on which no verified run of a
// policy began. They count from the policy's first run. Yesterday is the last of
// them, or today if the last verified run is more than 26 hours ago. A policy
// that is none of current has been given up: its last run ends it.
func Gaps(rows []LedgerRow, current []string, since, now time.Time) []Gap {
	type record struct {
		first, last, verified time.Time
		days                  map[time.Time]bool // with a verified run
	}
	policies := make(map[string]*record)
	for _, row := range rows {
		if row.Damage != nil {
			continue
		}
		r := policies[row.Policy]
		if r == nil {
			r = &record{first: row.Started, days: make(map[time.Time]bool)}
			policies[row.Policy] = r
		}
		if row.Started.Before(r.first) {
			r.first = row.Started
		}
		r.last = later(r.last, row.Started)
		if row.Outcome == OutcomeComplete {
			r.verified = later(r.verified, row.Started)
			r.days[DayOf(row.Started)] = true
		}
	}
	var gaps []Gap
	for _, name := range slices.Sorted(maps.Keys(policies)) {
		r := policies[name]
		end := DayOf(now).Add(-day)
		switch {
		case !slices.Contains(current, name):
			end = DayOf(r.last)
		case now.Sub(later(r.verified, r.first)) > nightLimit:
			end = DayOf(now)
		}
		var gap *Gap
		for at := later(DayOf(r.first), DayOf(since)); !at.After(end); at = at.Add(day) {
			if r.days[at] {
				gap = nil
				continue
			}
			if gap == nil {
				gaps = append(gaps, Gap{Policy: name, From: at})
				gap = &gaps[len(gaps)-1]
			}
			gap.To = at
		}
	}
	return gaps
}

// DayOf returns the beginning of t's day in UTC.
func DayOf(t time.Time) time.Time { return t.UTC().Truncate(day) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// String writes the days of a gap: "2026-03-02", "2026-03-02 to 2026-03-05".
func (g Gap) String() string {
	from, to := g.From.Format(time.DateOnly), g.To.Format(time.DateOnly)
	if from == to {
		return from
	}
	return from + " to " + to
}
