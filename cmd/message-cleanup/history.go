package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/config"
	"message-cleanup/internal/report"
)

// historyFlags are the flags of history.
type historyFlags struct {
	policies []string
	since    string
	verify   bool
	head     string
	html     string
}

func (a *app) historyCommand() *cobra.Command {
	var flags historyFlags
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Show and verify what the ledger has of past runs",
		Long: `History shows the runs that are on record in the table of ledger.table, one line
for each policy and run, and the nights without a verified run: the days in UTC,
from the first run on, on which no run began that found that nothing expired was
left. It always checks whether the ledger is as it was written: a row that was
edited, inserted or removed is named.

Rows that were removed from the end cannot be missed by looking at the table. Give
the newest head that you have elsewhere, such as in the journal of another host:
  history --verify --head 17:5f2c...

With --html it writes one page for an auditor, with a chart of what was deleted
and left, and all that is on record, which needs nothing else to be shown.
--output may be csv too.

Exit status:
  0   no night without a verified run, and the ledger is as it was written
  64  usage
  65  a person must look: there are such nights, or the ledger is not
  69  the database cannot be reached
  77  permission denied
  78  configuration, or there is no ledger`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return a.history(flags) },
	}
	cmd.Flags().StringArrayVar(&flags.policies, "policy", nil, "only this policy, by its `name` (repeatable)")
	cmd.Flags().StringVar(&flags.since, "since", "30d", "only runs since that long ago, or since a `date`: 90d, 2026-01-01")
	cmd.Flags().BoolVar(&flags.verify, "verify", false, "say only whether the ledger is as it was written")
	cmd.Flags().StringVar(&flags.head, "head", "", "the newest `row:hash` that was kept elsewhere")
	cmd.Flags().StringVar(&flags.html, "html", "", "write one page for an auditor to this `file`")
	return cmd
}

func (a *app) history(flags historyFlags) error {
	if flags.html != "" && (flags.verify || a.global.output != "text") {
		return usageError{fmt.Errorf("--html goes with neither --verify nor --output %s", a.global.output)}
	}
	if flags.verify && a.global.output == "csv" {
		return usageError{fmt.Errorf("--verify has no csv")}
	}
	since, err := parseSince(flags.since, a.now())
	if err != nil {
		return usageError{fmt.Errorf("--since: %w", err)}
	}
	if flags.head != "" {
		if _, _, err := cleanup.ParseHead(flags.head); err != nil {
			return usageError{fmt.Errorf("--head: %w", err)}
		}
	}
	ctx, cancel := untilSignal()
	defer cancel()
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	h, err := a.readHistory(ctx, cfg, flags, since)
	if err != nil {
		return err
	}
	if err := a.writeHistory(h, flags); err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	if flags.verify {
		h.Gaps = nil // not asked for
	}
	return h.Err()
}

// readHistory reads the ledger.
func (a *app) readHistory(ctx context.Context, cfg *config.Config, flags historyFlags, since time.Time) (cleanup.History, error) {
	if cfg.Ledger.Table == "" {
		return cleanup.History{}, cleanup.Errorf(cleanup.Configuration, "set ledger.table, e.g. to message_cleanup.runs",
			"there is no history: no ledger is configured")
	}
	db, err := a.connectOnce(ctx, cfg)
	if err != nil {
		return cleanup.History{}, err
	}
	defer db.Close()
	rows, err := db.Ledger(cfg.Ledger.Table).Rows(ctx)
	if err != nil {
		return cleanup.History{}, err
	}
	var current, known []string
	for _, p := range cfg.Policies {
		current = append(current, p.Name)
	}
	known = current
	for _, row := range rows {
		if !slices.Contains(known, row.Policy) {
			known = append(known, row.Policy)
		}
	}
	for _, name := range flags.policies {
		if !slices.Contains(known, name) {
			return cleanup.History{}, usageError{fmt.Errorf("--policy: there is no policy %q, only %s", name, strings.Join(known, ", "))}
		}
	}
	h, err := cleanup.NewHistory(rows, current, flags.policies, since, a.now(), flags.head)
	h.Database, h.Table = db.Address(), cfg.Ledger.Table
	return h, err
}

func (a *app) writeHistory(h cleanup.History, flags historyFlags) error {
	switch {
	case flags.html != "":
		return a.writePage(flags.html, h)
	case a.global.output == "json":
		if flags.verify {
			h.Rows, h.Gaps = nil, nil
		}
		return report.WriteHistoryJSON(a.stdout, h)
	case a.global.output == "csv":
		return report.WriteHistoryCSV(a.stdout, h)
	case flags.verify:
		return report.WriteChain(a.stdout, h.Chain)
	}
	return report.WriteHistory(a.stdout, h)
}

// writePage writes the page when all of it is there.
func (a *app) writePage(name string, h cleanup.History) error {
	var page bytes.Buffer
	if err := report.WriteHistoryHTML(&page, h, buildVersion()); err != nil {
		return err
	}
	if err := os.WriteFile(name, page.Bytes(), 0o644); err != nil {
		return cleanup.Errorf(cleanup.Configuration, "name a file in a directory that you may write to", "%w", err)
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %s since %s\n", name, cleanup.Plural(int64(len(h.Rows)), "run", "runs"), h.Since.Format(time.DateOnly))
	return err
}

// parseSince reads how long ago, or a day.
func parseSince(s string, now time.Time) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		return day, nil
	}
	d, err := config.ParseDuration(s)
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("%q is neither a date, such as 2026-01-31, nor a time ago, such as 30d", s)
	}
	return now.Add(-d), nil
}
