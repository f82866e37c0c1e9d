package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"message-cleanup/internal/cleanup"
)

// WriteText writes the result for people: each policy in a few lines, then the
// run in one. Errors are not part of it; they go to stderr.
func WriteText(w io.Writer, r cleanup.Result) error {
	var b strings.Builder
	for _, p := range r.Policies {
		writePolicy(&b, p)
	}
	b.WriteString(Summary(r) + "\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// Summary says how a run ended, in one line.
func Summary(r cleanup.Result) string {
	switch r.Outcome() {
	case cleanup.OutcomeDryRun:
		return "dry run: nothing was deleted"
	case cleanup.OutcomeComplete:
		return fmt.Sprintf("complete: %s deleted in %s, and verified that nothing expired is left%s",
			rows(r.Deleted()), Duration(r.Duration), heldBesides(r))
	}
	return fmt.Sprintf("%s: %s deleted in %s", r.Outcome(), rows(r.Deleted()), Duration(r.Duration))
}

// heldBesides qualifies "nothing is left".
func heldBesides(r cleanup.Result) string {
	for _, p := range r.Policies {
		if p.Held != nil && *p.Held > 0 {
			return " but held rows"
		}
	}
	return ""
}

func writePolicy(b *strings.Builder, p cleanup.PolicyResult) {
	if p.Cutoff.IsZero() { // it failed before there was anything else to tell
		fmt.Fprintf(b, "%s: %s\n", p.Name, p.Outcome())
		return
	}
	fmt.Fprintf(b, "%s: rows of %s expired before %s\n", p.Name, p.Table, p.Cutoff.UTC().Format("2006-01-02 15:04:05 UTC"))
	if p.Strategy != "" {
		line(b, "strategy", p.Strategy)
	}
	for _, reason := range p.Reasons {
		line(b, "because", reason)
	}
	for _, warning := range p.Warnings {
		line(b, "warning", warning)
	}
	if p.StopReason != "" {
		rate := ""
		if seconds := p.Duration.Seconds(); p.Deleted > 0 && seconds > 0 {
			rate = ", " + cleanup.FormatCount(int64(float64(p.Deleted)/seconds)) + " rows/s"
		}
		line(b, "deleted", fmt.Sprintf("%s in %s, %s%s", rows(p.Deleted), cleanup.Plural(p.Batches, "batch", "batches"), Duration(p.Duration), rate))
		if len(p.Dropped) > 0 {
			line(b, "dropped", cleanup.Plural(int64(len(p.Dropped)), "partition", "partitions")+": "+strings.Join(p.Dropped, ", "))
		}
		if p.StopReason != cleanup.Exhausted {
			line(b, "stopped", stopped(p.StopReason))
		}
	}
	writeRest(b, p)
	for _, sql := range p.SQL {
		ready := ", ready for EXPLAIN"
		if !strings.HasPrefix(sql, "DELETE ") {
			ready = "" // it drops a partition
		}
		fmt.Fprintf(b, "  first batch%s:\n    %s;\n", ready, strings.ReplaceAll(sql, "\n", "\n    "))
	}
}

// writeRest says what is still there.
func writeRest(b *strings.Builder, p cleanup.PolicyResult) {
	switch {
	case p.Backlog == nil:
		line(b, "left", "not counted")
	case p.StopReason == "":
		line(b, "expired", rows(*p.Backlog)+" would be deleted")
	case *p.Backlog == 0:
		line(b, "left", "no expired row")
	default:
		line(b, "left", expiredRows(*p.Backlog))
	}
	if p.Held != nil && *p.Held > 0 {
		line(b, "held", expiredRows(*p.Held)+" kept by the policy's hold condition")
	}
	if p.Locked > 0 {
		line(b, "locked", expiredRows(p.Locked)+" locked by other transactions to the end; the next run goes on")
	}
	if p.Refused > 0 {
		line(b, "refused", expiredRows(p.Refused)+" that the database does not delete")
		writeRefused(b, p)
	}
	if p.Retries > 0 {
		line(b, "retries", cleanup.FormatCount(p.Retries))
	}
	if p.LedgerHead != "" {
		line(b, "ledger", "row "+p.LedgerHead)
	}
}

// shownRefused is how many refused rows people want to read of.
const shownRefused = 10

// writeRefused names some of the rows.
func writeRefused(b *strings.Builder, p cleanup.PolicyResult) {
	for _, row := range p.RefusedRows[:min(len(p.RefusedRows), shownRefused)] {
		line(b, "", row.Table+" "+row.Key+": "+row.Message)
	}
	if len(p.RefusedRows) > shownRefused {
		line(b, "", fmt.Sprintf("--output json names %d of them", len(p.RefusedRows)))
	}
}

func line(b *strings.Builder, label, text string) {
	fmt.Fprintf(b, "  %-9s %s\n", label, text)
}

func stopped(reason cleanup.StopReason) string {
	switch reason {
	case cleanup.TimeBudget:
		return "limits.max_duration is spent; the next run goes on"
	case cleanup.RowBudget:
		return "limits.max_rows is spent; the next run goes on"
	case cleanup.UnderPressure:
		return "by pressure that lasted, see below; the next run goes on"
	case cleanup.Interrupted:
		return "interrupted; the next run goes on"
	case cleanup.Guard:
		return "a guard said no"
	case cleanup.Failed:
		return "by an error, see below"
	}
	return string(reason)
}

func rows(n int64) string { return cleanup.Plural(n, "row", "rows") }

func expiredRows(n int64) string { return cleanup.Plural(n, "expired row", "expired rows") }

// Duration writes d with as many digits as people read: 340 ms, 2.1 s, 3m12s.
func Duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 59_950*time.Millisecond: // what rounds to 60.0 s is a minute
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return cleanup.FormatDuration(d.Round(time.Second))
}
