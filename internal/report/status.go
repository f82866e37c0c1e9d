package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"message-cleanup/internal/cleanup"
)

// Status is what `status` found out: how things stand at an instant.
type Status struct {
	At       time.Time
	Policies []PolicyStatus
	AtWork   string // what a run in work says of itself; "": none is
	Next     NextRun
	Err      error // what kept it from looking at any table
}

// NextRun is when the next run begins.
type NextRun struct {
	At   time.Time // zero: not known, or not planned
	Note string    // by whom; or why there is none, and what to do
}

// PolicyStatus is how one policy stands.
type PolicyStatus struct {
	Policy cleanup.Policy
	Last   LastRun
	cleanup.Status
	Err error // the Status was not read to its end
}

// looked tells whether there is a Status.
func (p PolicyStatus) looked() bool { return p.Err == nil && !p.Cutoff.IsZero() }

// LastRun is what is known of the last run.
type LastRun struct {
	Ended    time.Time // zero: not known, and Note says why, and what to do
	Outcome  string    // complete, incomplete or failed, perhaps with how
	Deleted  *int64    // nil: not known
	Verified time.Time // when a run last found that nothing expired was left; zero: not known
	Note     string    // where it is from
}

// WriteStatus writes the status for people, with bars for a terminal of that
// width.
func WriteStatus(w io.Writer, s Status, width int) error {
	var b strings.Builder
	for _, p := range s.Policies {
		writePolicyStatus(&b, p, s.At, width)
	}
	if s.AtWork != "" {
		fmt.Fprintf(&b, "a run is in work: %s\n", s.AtWork)
	}
	next := "not known: " + s.Next.Note
	if !s.Next.At.IsZero() {
		next = fmt.Sprintf("in %s, at %s (%s)", span(s.Next.At.Sub(s.At)), moment(s.Next.At), s.Next.Note)
	}
	fmt.Fprintf(&b, "next run: %s\n", next)
	_, err := io.WriteString(w, b.String())
	return err
}

func writePolicyStatus(b *strings.Builder, p PolicyStatus, now time.Time, width int) {
	fmt.Fprintf(b, "%s: %s\n", p.Policy.Name, p.Policy)
	line(b, "last run", lastRunText(p.Last, now))
	switch {
	case !p.Last.Verified.IsZero() && p.Last.Verified.Equal(p.Last.Ended):
		line(b, "verified", "at its end: nothing expired was left")
	case !p.Last.Verified.IsZero():
		line(b, "verified", fmt.Sprintf("%s ago, at %s: nothing expired was left", span(now.Sub(p.Last.Verified)), moment(p.Last.Verified)))
	case !p.Last.Ended.IsZero():
		line(b, "verified", "by no run that is known of")
	}
	if !p.looked() {
		line(b, "now", "not known, see below")
		b.WriteString("\n")
		return
	}
	line(b, "backlog", backlogText(p.Status))
	line(b, "next 24h", count(p.day(), "row expires", "rows expire"))
	line(b, "later", count(p.Later, "row expires", "rows expire"))
	if p.Null.Rows > 0 || p.Null.Is == cleanup.Unknown {
		line(b, "never", count(p.Null, "row has", "rows have")+" no "+p.Policy.Column+" (NULL)")
	}
	if p.Policy.Hold != "" {
		line(b, "held", count(p.Held, "expired row", "expired rows")+" kept by the policy's hold condition")
	}
	b.WriteString("\n")
	writeDay(b, p.Day, width)
}

func lastRunText(last LastRun, now time.Time) string {
	if last.Ended.IsZero() {
		return "not known: " + last.Note
	}
	deleted := ""
	if last.Deleted != nil {
		deleted = ": " + rows(*last.Deleted) + " deleted"
	}
	return fmt.Sprintf("%s, %s ago, at %s%s (%s)", last.Outcome, span(now.Sub(last.Ended)), moment(last.Ended), deleted, last.Note)
}

func backlogText(s cleanup.Status) string {
	if s.Backlog == (cleanup.Count{Is: cleanup.Exactly}) {
		return "no expired row"
	}
	text := count(s.Backlog, "expired row", "expired rows")
	if s.Overdue != nil {
		return text + ", the oldest overdue for " + span(*s.Overdue)
	}
	return text + ", how old the oldest is was not found out in time"
}

// day sums the spans up.
func (p PolicyStatus) day() cleanup.Count {
	sum := cleanup.Count{Is: cleanup.Exactly}
	for _, s := range p.Day {
		sum = sum.Plus(s.Count)
	}
	return sum
}

// Bars have a width that still fits a narrow terminal, and no more than is needed
// to compare them.
const (
	leastBar = 10
	mostBar  = 60
	barsAt   = 26 // the column in which they begin
)

// writeDay writes a histogram of what expires in the next 24 hours.
func writeDay(b *strings.Builder, day []cleanup.Span, width int) {
	var most int64
	for _, s := range day {
		most = max(most, s.Rows)
	}
	if most == 0 {
		return
	}
	space := min(max(width-1-barsAt, leastBar), mostBar)
	for _, s := range day {
		bar := int((s.Rows*int64(space) + most - 1) / most) // the least bar is one that can be seen
		text := fmt.Sprintf("  %s - %s %10s  %s", s.From.UTC().Format("15:04"), s.To.UTC().Format("15:04"),
			cleanup.FormatCount(s.Rows), strings.Repeat("#", bar))
		b.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	b.WriteString("  hours are UTC\n\n")
}

// count writes a count for people: "at least 1,000,000 rows".
func count(c cleanup.Count, one, many string) string {
	switch c.Is {
	case cleanup.Unknown:
		return "an unknown number of " + many + " (counting takes too long)"
	case cleanup.Exactly:
		return cleanup.Plural(c.Rows, one, many)
	}
	return string(c.Is) + " " + cleanup.Plural(c.Rows, one, many)
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// span writes a time as people say it: 12 s, 47m, 11h3m, 3 days.
func span(d time.Duration) string {
	const day, century = 24 * time.Hour, 36525 * 24 * time.Hour
	switch {
	case d >= century:
		return "more than 100 years"
	case d >= 2*day:
		return fmt.Sprintf("%d days", d/day)
	case d >= time.Minute:
		return cleanup.FormatDuration(d.Round(time.Minute))
	}
	return Duration(max(0, d))
}
