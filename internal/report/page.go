package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"time"

	"message-cleanup/internal/cleanup"
)

//go:embed history.html.tmpl
var pageText string

var pageTemplate = template.Must(template.New("history").Funcs(template.FuncMap{
	"count":    cleanup.FormatCount,
	"maybe":    optional,
	"plural":   cleanup.Plural,
	"day":      func(t time.Time) string { return t.Format(time.DateOnly) },
	"second":   second,
	"duration": Duration,
}).Parse(pageText))

// second writes an instant as people read it, in UTC; none is a dash.
func second(at any) string {
	if t, ok := at.(*time.Time); ok && t != nil {
		at = *t
	}
	if t, ok := at.(time.Time); ok && !t.IsZero() {
		return t.UTC().Format(time.DateTime)
	}
	return "–"
}

// WriteHistoryHTML writes a history as one page that needs nothing else: no
// script, no font, nothing from outside. version is that of this program.
func WriteHistoryHTML(w io.Writer, h cleanup.History, version string) error {
	p := page{History: h, Version: version, Days: int64(h.Now.Sub(firstDay(h))/day) + 1}
	for _, row := range h.Rows {
		i := slices.IndexFunc(p.Policies, func(p policyPage) bool { return p.Name == row.Policy })
		if i < 0 {
			i = len(p.Policies)
			p.Policies = append(p.Policies, policyPage{Name: row.Policy})
		}
		p.Policies[i].add(row)
		if row.SystemIdentifier != nil {
			p.System = fmt.Sprint(*row.SystemIdentifier)
		}
	}
	for i := range p.Policies {
		policy := &p.Policies[i]
		for _, gap := range h.Gaps {
			if gap.Policy == policy.Name {
				policy.Gaps = append(policy.Gaps, gap)
			}
		}
		policy.Chart = newChart(policy.rows, policy.Gaps, firstDay(h), cleanup.DayOf(h.Now))
	}
	return pageTemplate.Execute(w, p)
}

const day = 24 * time.Hour

// firstDay is where charts begin: a ledger may be younger than what was asked
// for.
func firstDay(h cleanup.History) time.Time {
	if len(h.Rows) == 0 {
		return h.Since
	}
	first := cleanup.DayOf(h.Rows[0].Started)
	if first.Before(h.Since) { // of a row that cannot be read
		return h.Since
	}
	return first
}

// page is what the template shows.
type page struct {
	cleanup.History
	Version  string
	System   string // the database system's identifier, "" if no run could read it
	Days     int64
	Policies []policyPage
}

// policyPage is one policy on the page.
type policyPage struct {
	Name        string
	Definitions []definition // more than one: it was changed
	Runs        int64
	Verified    int64 // runs
	Deleted     int64
	Gaps        []cleanup.Gap
	Chart       chart

	rows []cleanup.LedgerRow
}

// definition is what a policy was for some time.
type definition struct {
	Text, Hash, Table string
	From, To          time.Time // when the first and the last run with it began
}

func (p *policyPage) add(row cleanup.LedgerRow) {
	p.rows = append(p.rows, row)
	p.Runs++
	p.Deleted += row.Deleted
	if row.Outcome == cleanup.OutcomeComplete {
		p.Verified++
	}
	last := len(p.Definitions) - 1
	if last < 0 || p.Definitions[last].Hash != row.DefinitionHash {
		p.Definitions = append(p.Definitions, definition{row.Definition, row.DefinitionHash, row.Table, row.Started, row.Started})
		last++
	}
	p.Definitions[last].To = row.Started
}

// The chart's measures, in pixels from the upper left corner.
const (
	chartLeft    = 76.0
	chartWidth   = 880.0 // of what is drawn
	deletedTop   = 24.0
	deletedHigh  = 150.0
	leftTop      = 212.0
	leftHigh     = 60.0
	chartBottom  = leftTop + leftHigh
	dayLabels    = 9 // at most
	leastVisible = 1.5
)

// chart has two panels over the same days: what was deleted, and what was left.
type chart struct {
	Bars   []bar
	Gaps   []bar
	Scales []tick // of both panels
	Days   []tick
}

type bar struct {
	X, Y, Width, Height float64
	Class, Title        string
}

// tick is a label at a place.
type tick struct {
	X, Y float64
	Text string
}

// newChart draws the runs of one policy. A day's backlog is what its last run
// counted.
func newChart(runs []cleanup.LedgerRow, gaps []cleanup.Gap, from, to time.Time) chart {
	type sums struct {
		deleted int64
		left    *int64
	}
	days := make(map[time.Time]*sums)
	for _, row := range runs {
		at := cleanup.DayOf(row.Started)
		if days[at] == nil {
			days[at] = &sums{}
		}
		days[at].deleted += row.Deleted
		if row.Backlog != nil {
			days[at].left = row.Backlog
		}
	}
	var most sums
	for _, s := range days {
		most.deleted = max(most.deleted, s.deleted)
		if s.left != nil && (most.left == nil || *s.left > *most.left) {
			most.left = s.left
		}
	}
	n := int(to.Sub(from)/day) + 1
	wide := chartWidth / float64(n)
	x := func(at time.Time) float64 { return chartLeft + float64(at.Sub(from)/day)*wide }
	topDeleted, topLeft := ceiling(most.deleted), int64(1)
	if most.left != nil {
		topLeft = ceiling(*most.left)
	}
	var c chart
	add := func(at time.Time, value, top int64, base, high float64, class, title string) {
		height := float64(value) / float64(top) * high
		if value > 0 {
			height = max(leastVisible, height)
		}
		c.Bars = append(c.Bars, bar{round(x(at) + wide*0.1), round(base + high - height), round(wide * 0.8), round(height), class, title})
	}
	for i := range n {
		at := from.Add(time.Duration(i) * day)
		if s := days[at]; s != nil {
			title := fmt.Sprintf("%s: %s deleted", at.Format(time.DateOnly), rows(s.deleted))
			left := "not counted"
			if s.left != nil {
				left = cleanup.FormatCount(*s.left) + " left"
			}
			add(at, s.deleted, topDeleted, deletedTop, deletedHigh, "deleted", title+", "+left)
			if s.left != nil {
				add(at, *s.left, topLeft, leftTop, leftHigh, "left", title+", "+left)
			}
		}
		if every := (n + dayLabels - 1) / dayLabels; i%every == 0 {
			c.Days = append(c.Days, tick{round(x(at) + wide/2), chartBottom + 18, at.Format(time.DateOnly)})
		}
	}
	for _, gap := range gaps {
		c.Gaps = append(c.Gaps, bar{
			X: round(x(gap.From)), Y: deletedTop, Width: round(float64(gap.Nights()) * wide), Height: chartBottom - deletedTop,
			Title: gap.String() + ": no verified run",
		})
	}
	for _, panel := range []struct {
		top        int64
		base, high float64
	}{{topDeleted, deletedTop, deletedHigh}, {topLeft, leftTop, leftHigh}} {
		c.Scales = append(c.Scales, tick{chartLeft, panel.base, cleanup.FormatCount(panel.top)}, tick{chartLeft, panel.base + panel.high, "0"})
	}
	return c
}

// ceiling returns the next of 1, 2 and 5 times a power of ten.
func ceiling(n int64) int64 {
	if n <= 1 {
		return 1
	}
	power := int64(math.Pow10(int(math.Log10(float64(n)))))
	for _, factor := range []int64{1, 2, 5, 10} {
		if factor*power >= n {
			return factor * power
		}
	}
	return n
}

func round(x float64) float64 { return math.Round(x*10) / 10 }
