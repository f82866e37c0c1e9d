package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"message-cleanup/internal/cleanup"
)

// checkJSON and findingJSON are a contract with scripts, as runJSON is.
type checkJSON struct {
	Success   bool          `json:"success"` // no error was found; there may be warnings
	Timestamp time.Time     `json:"timestamp"`
	Database  string        `json:"database"`
	Errors    int64         `json:"errors"`
	Warnings  int64         `json:"warnings"`
	Findings  []findingJSON `json:"findings"`
}

type findingJSON struct {
	Name     string           `json:"name"`
	Severity cleanup.Severity `json:"severity"`
	Policy   string           `json:"policy,omitempty"`
	Message  string           `json:"message"`
	SQL      []string         `json:"sql"`
	Command  string           `json:"command,omitempty"`
	Hint     string           `json:"hint,omitempty"`
}

// WriteCheckJSON writes a check as one object on one line.
func WriteCheckJSON(w io.Writer, c cleanup.Checkup) error {
	out := checkJSON{
		Success: c.Clean(), Timestamp: c.Start.UTC(), Database: c.Database,
		Errors: c.Findings.Count(cleanup.SeverityError), Warnings: c.Findings.Count(cleanup.SeverityWarning),
		Findings: []findingJSON{},
	}
	for _, f := range c.Findings {
		out.Findings = append(out.Findings, findingJSON{f.Name, f.Severity, f.Policy, f.Text, orEmpty(f.SQL), f.Command, f.Hint})
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(out)
}

// shownSQL is how many statements of one finding people are shown. A table may
// have a thousand partitions.
const shownSQL = 6

// WriteCheck writes a check for people: each finding in a few lines, with what
// mends it ready to be copied, then the whole in one.
func WriteCheck(w io.Writer, c cleanup.Checkup) error {
	var b strings.Builder
	if c.Database != "" {
		b.WriteString(c.Database + "\n")
	}
	for _, f := range c.Findings {
		fmt.Fprintf(&b, "%s: %s", f.Severity, f.Name)
		if f.Policy != "" {
			b.WriteString(", policy " + f.Policy)
		}
		b.WriteByte('\n')
		line(&b, "found", strings.ReplaceAll(f.Text, "\n", "\n"+indent))
		writeMend(&b, f)
	}
	if len(c.Findings) == 0 {
		b.WriteString("clean: nothing found\n")
	} else {
		fmt.Fprintf(&b, "%s, %s\n", cleanup.Plural(c.Findings.Count(cleanup.SeverityError), "error", "errors"),
			cleanup.Plural(c.Findings.Count(cleanup.SeverityWarning), "warning", "warnings"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// indent is where the text of a line begins.
const indent = "            "

func writeMend(b *strings.Builder, f cleanup.Finding) {
	label, sql := "mend", f.SQL
	if f.Command != "" { // it does the same
		line(b, label, f.Command)
		sql = nil
	}
	for i, statement := range sql {
		if i == shownSQL-1 && len(sql) > shownSQL {
			line(b, label, fmt.Sprintf("-- and %s more: --output json has them all", cleanup.FormatCount(int64(len(sql)-i))))
			break
		}
		line(b, label, strings.ReplaceAll(statement, "\n", "\n"+indent)+";")
		label = ""
	}
	if f.Hint != "" {
		line(b, "hint", f.Hint)
	}
}
