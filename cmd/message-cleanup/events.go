package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/postgres"
	"message-cleanup/internal/systemd"
)

// announce makes the start of a run its first entry in the journal, before the
// configuration is read, and whatever the level. journald looks up the unit of an
// entry after the fact, in /proc, and misses it if the sender is gone by then. A
// run that fails at once would be lost to `journalctl -u`: of 200 services that
// said one thing and ended, 2 to 5 % were. What it has looked up it keeps, so the
// entries after this one are found too.
func (a *app) announce(result cleanup.Result) {
	if !systemd.StderrIsJournal() {
		return
	}
	a.log = slog.New(systemd.NewJournalHandler(nil)).With("run_id", result.RunID)
	logStart(a.log, result)
}

func logStart(log *slog.Logger, result cleanup.Result) {
	log.Info(cleanup.EventRunStarted, "version", buildVersion(), "dry_run", result.DryRun)
}

// logPlan logs what a policy's run will do, and why.
func logPlan(log *slog.Logger, plan cleanup.Plan, result cleanup.PolicyResult) {
	about := []any{"policy", plan.Policy.Name, "table", plan.Table}
	log.Info(cleanup.EventPlanned, append(about, "cutoff", plan.Cutoff, "strategy", result.Strategy,
		"definition", plan.Policy.String(), "reasons", strings.Join(result.Reasons, "; "))...)
	for _, warning := range plan.Warnings {
		log.Warn(cleanup.EventWarning, append(about, "warning", warning)...)
	}
}

// logPolicy logs how a policy's run ended, but for its error.
func logPolicy(log *slog.Logger, p cleanup.PolicyResult) {
	attrs := []any{
		"policy", p.Name, "table", p.Table,
		"outcome", string(p.Outcome()), "stop_reason", string(p.StopReason),
		"deleted", p.Deleted, "batches", p.Batches,
	}
	if !p.Cutoff.IsZero() { // zero: it failed before the cutoff was known
		attrs = append(attrs, "cutoff", p.Cutoff)
	}
	if p.Backlog != nil {
		attrs = append(attrs, "backlog", *p.Backlog, "held", *p.Held)
	}
	attrs = append(attrs, "locked", p.Locked, "refused", p.Refused, "retries", p.Retries,
		"duration_ms", p.Duration.Milliseconds())
	if p.LedgerHead != "" {
		attrs = append(attrs, "ledger_head", p.LedgerHead)
	}
	level := slog.LevelInfo
	if p.Outcome() == cleanup.OutcomeIncomplete {
		level = slog.LevelWarn
	}
	log.Log(context.Background(), level, cleanup.EventPolicyFinished, attrs...)
}

// logged tells whether errors go to the log, where programs read it, as soon as
// they happen. Otherwise people read them, below the report.
func (a *app) logged() bool {
	if a.log == nil && systemd.StderrIsJournal() { // the configuration could not be read
		a.log = slog.New(systemd.NewJournalHandler(nil))
	}
	return a.log != nil
}

// complainOf says what went wrong with a policy.
func (a *app) complainOf(p cleanup.PolicyResult) {
	a.complain(cleanup.EventPolicyFailed, fmt.Errorf("policy %s: %w", p.Name, p.Err), "policy", p.Name, "table", p.Table)
}

// complain says what went wrong.
func (a *app) complain(event string, err error, about ...any) {
	hint := cleanup.HintOf(err)
	if _, usage := errors.AsType[usageError](err); usage {
		hint = "message-cleanup --help lists commands and flags"
	}
	if a.logged() {
		attrs := append(about, "error", err)
		if hint != "" {
			attrs = append(attrs, "hint", hint)
		}
		if state := postgres.SQLState(err); state != "" {
			attrs = append(attrs, "sqlstate", state)
		}
		level := slog.LevelError
		if cleanup.KindOf(err) == cleanup.Incomplete {
			level = slog.LevelWarn
		}
		a.log.Log(context.Background(), level, event, attrs...)
		if !a.errorsOnStderr {
			return
		}
	}
	for text := range strings.SplitSeq(makeVisible(err.Error()), "\n") {
		fmt.Fprintln(a.stderr, "message-cleanup:", text)
	}
	if hint != "" {
		fmt.Fprintln(a.stderr, "hint:", makeVisible(hint))
	}
}
