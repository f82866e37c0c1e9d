package report

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"message-cleanup/internal/cleanup"
)

// historyJSON and what is in it are a contract with scripts, as runJSON is.
// Runs have the names of the ledger's columns.
type historyJSON struct {
	Success   bool                `json:"success"` // no night without a verified run, and the ledger as it was written
	Timestamp time.Time           `json:"timestamp"`
	Since     time.Time           `json:"since"`
	Ledger    string              `json:"ledger"`
	Runs      []cleanup.LedgerRow `json:"runs"`
	Gaps      []gapJSON           `json:"gaps"`
	Chain     chainJSON           `json:"chain"`
	Error     string              `json:"error,omitempty"`
	Hint      string              `json:"hint,omitempty"`
}

type gapJSON struct {
	Policy string `json:"policy"`
	From   string `json:"from"` // a day in UTC
	To     string `json:"to"`   // the last day
	Nights int64  `json:"nights"`
}

type chainJSON struct {
	Rows     int64                  `json:"rows"` // closed
	Open     int64                  `json:"open"`
	Head     string                 `json:"head"`
	Findings []cleanup.ChainFinding `json:"findings"`
}

// WriteHistoryJSON writes a history as one object on one line.
func WriteHistoryJSON(w io.Writer, h cleanup.History) error {
	out := historyJSON{
		Success: h.Err() == nil, Timestamp: h.Now, Since: h.Since, Ledger: h.Table,
		Runs: h.Rows, Gaps: []gapJSON{},
		Chain: chainJSON{h.Chain.Closed, h.Chain.Open, h.Chain.Head, h.Chain.Findings},
	}
	if out.Runs == nil {
		out.Runs = []cleanup.LedgerRow{}
	}
	if out.Chain.Findings == nil {
		out.Chain.Findings = []cleanup.ChainFinding{}
	}
	for _, gap := range h.Gaps {
		out.Gaps = append(out.Gaps, gapJSON{gap.Policy, gap.From.Format(time.DateOnly), gap.To.Format(time.DateOnly), gap.Nights()})
	}
	out.Error, out.Hint = words(h.Err())
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(out)
}

// csvColumns are the ledger's, those first that people look for.
var csvColumns = []struct {
	name  string
	value func(cleanup.LedgerRow) string
}{
	{"started", func(r cleanup.LedgerRow) string { return instant(&r.Started) }},
	{"finished", func(r cleanup.LedgerRow) string { return instant(r.Finished) }},
	{"policy", func(r cleanup.LedgerRow) string { return r.Policy }},
	{"outcome", func(r cleanup.LedgerRow) string { return string(r.Outcome) }},
	{"stop_reason", func(r cleanup.LedgerRow) string { return string(r.StopReason) }},
	{"cutoff", func(r cleanup.LedgerRow) string { return instant(r.Cutoff) }},
	{"deleted", func(r cleanup.LedgerRow) string { return strconv.FormatInt(r.Deleted, 10) }},
	{"backlog", func(r cleanup.LedgerRow) string { return number(r.Backlog) }},
	{"held", func(r cleanup.LedgerRow) string { return number(r.Held) }},
	{"locked", func(r cleanup.LedgerRow) string { return strconv.FormatInt(r.Locked, 10) }},
	{"refused", func(r cleanup.LedgerRow) string { return strconv.FormatInt(r.Refused, 10) }},
	{"batches", func(r cleanup.LedgerRow) string { return strconv.FormatInt(r.Batches, 10) }},
	{"dropped_partitions", func(r cleanup.LedgerRow) string { return strings.Join(r.Dropped, ", ") }},
	{"oldest_expiry", func(r cleanup.LedgerRow) string { return instant(r.OldestExpiry) }},
	{"newest_expiry", func(r cleanup.LedgerRow) string { return instant(r.NewestExpiry) }},
	{"table_name", func(r cleanup.LedgerRow) string { return r.Table }},
	{"definition", func(r cleanup.LedgerRow) string { return r.Definition }},
	{"definition_hash", func(r cleanup.LedgerRow) string { return r.DefinitionHash }},
	{"host", func(r cleanup.LedgerRow) string { return r.Host }},
	{"version", func(r cleanup.LedgerRow) string { return r.Version }},
	{"system_identifier", func(r cleanup.LedgerRow) string { return number(r.SystemIdentifier) }},
	{"timeline", func(r cleanup.LedgerRow) string { return number(r.Timeline) }},
	{"run_id", func(r cleanup.LedgerRow) string { return r.RunID }},
	{"position", func(r cleanup.LedgerRow) string { return number(r.Position) }},
	{"previous", func(r cleanup.LedgerRow) string { return r.Previous }},
	{"hash", func(r cleanup.LedgerRow) string { return r.Hash }},
}

func instant(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func number(n *int64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatInt(*n, 10)
}

// WriteHistoryCSV writes one line for each run, below one of names.
func WriteHistoryCSV(w io.Writer, h cleanup.History) error {
	out := csv.NewWriter(w)
	var record []string
	for _, c := range csvColumns {
		record = append(record, c.name)
	}
	_ = out.Write(record) // its error is kept
	for _, row := range h.Rows {
		record = record[:0]
		for _, c := range csvColumns {
			record = append(record, c.value(row))
		}
		_ = out.Write(record)
	}
	out.Flush()
	return out.Error()
}

// WriteHistory writes a history for people: a line for each run, the gaps where
// they are, and what it comes to.
func WriteHistory(w io.Writer, h cleanup.History) error {
	t := table{{"STARTED (UTC)", "POLICY", "OUTCOME", "DELETED", "LEFT", "HELD", "TOOK", "STOPPED BY"}}
	gaps := slices.SortedStableFunc(slices.Values(h.Gaps), func(a, b cleanup.Gap) int { return a.From.Compare(b.From) })
	gap := func(before time.Time) { // those that begin before
		for ; len(gaps) > 0 && gaps[0].From.Before(before); gaps = gaps[1:] {
			t = append(t, []string{gaps[0].From.Format(time.DateOnly), gaps[0].Policy, "GAP: " + nights(gaps[0])})
		}
	}
	for _, row := range h.Rows {
		gap(cleanup.DayOf(row.Started))
		t = append(t, historyLine(row))
	}
	gap(h.Now)
	var b strings.Builder
	if len(t) > 1 {
		t.write(&b, "lllrrrrl")
	}
	fmt.Fprintf(&b, "%s since %s, %s deleted; ", cleanup.Plural(int64(len(h.Rows)), "run", "runs"), h.Since.Format(time.DateOnly), rows(h.Deleted()))
	switch {
	case len(h.Rows) == 0 && len(h.Gaps) == 0:
		b.WriteString("nothing to verify\n")
	case len(h.Gaps) == 0:
		b.WriteString("no night without a verified run\n")
	default:
		b.WriteString(cleanup.Plural(h.GapNights(), "night", "nights") + " without a verified run\n")
	}
	writeChain(&b, h.Chain)
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteChain writes what the verification of a ledger found, for people.
func WriteChain(w io.Writer, chain cleanup.Chain) error {
	var b strings.Builder
	for _, f := range chain.Findings {
		b.WriteString(f.String() + "\n")
	}
	writeChain(&b, chain)
	_, err := io.WriteString(w, b.String())
	return err
}

func writeChain(b *strings.Builder, chain cleanup.Chain) {
	b.WriteString("ledger: " + cleanup.Plural(chain.Closed, "row", "rows"))
	if n := int64(len(chain.Findings)); n > 0 {
		b.WriteString(", NOT as they were written: " + cleanup.Plural(n, "finding", "findings"))
	} else {
		b.WriteString(", each as it was written")
	}
	if chain.Open > 0 {
		fmt.Fprintf(b, "; %d not closed", chain.Open)
	}
	if chain.Head != "" {
		b.WriteString("\nhead:   " + chain.Head)
	}
	b.WriteByte('\n')
}

func historyLine(r cleanup.LedgerRow) []string {
	outcome, took, stopped := string(r.Outcome), "", string(r.StopReason)
	if outcome == "" {
		outcome = "not closed"
	}
	if r.StopReason == cleanup.Exhausted || stopped == outcome {
		stopped = ""
	}
	if r.Finished != nil {
		took = Duration(r.Finished.Sub(r.Started))
	}
	if r.Damage != nil {
		outcome = "EDITED"
	}
	return []string{
		r.Started.UTC().Format(time.DateTime), r.Policy, outcome, cleanup.FormatCount(r.Deleted),
		optional(r.Backlog), optional(r.Held), took, stopped,
	}
}

func optional(n *int64) string {
	if n == nil {
		return "-"
	}
	return cleanup.FormatCount(*n)
}

func nights(g cleanup.Gap) string {
	if n := g.Nights(); n > 1 {
		return fmt.Sprintf("%d nights without a verified run, to %s", n, g.To.Format(time.DateOnly))
	}
	return "no verified run"
}

// table is lines of cells. A line may be shorter than the first: its last cell
// then goes as far as it likes.
type table [][]string

// write writes the table with its columns aligned, l or r.
func (t table) write(b *strings.Builder, align string) {
	widths := make([]int, len(t[0]))
	for _, line := range t {
		for i, cell := range line {
			if i < len(line)-1 || len(line) == len(widths) {
				widths[i] = max(widths[i], utf8.RuneCountInString(cell))
			}
		}
	}
	for _, line := range t {
		var out strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(cell)))
			if align[i] == 'r' {
				out.WriteString(pad + cell + "  ")
			} else {
				out.WriteString(cell + pad + "  ")
			}
		}
		b.WriteString(strings.TrimRight(out.String(), " ") + "\n")
	}
}
