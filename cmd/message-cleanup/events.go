package main

import (
	"log/slog"
	"strings"
	"time"

	"message-cleanup/internal/cleanup"
)

// logPlan logs what a policy's run will do, and why.
func logPlan(log *slog.Logger, plan cleanup.Plan, result cleanup.PolicyResult) {
	log = log.With("policy", plan.Policy.Name, "table", plan.Table)
	log.Info(cleanup.EventPlanned, "cutoff", plan.Cutoff, "strategy", result.Strategy,
		"definition", plan.Policy.String(), "reasons", strings.Join(result.Reasons, "; "))
	for _, warning := range plan.Warnings {
		log.Warn(cleanup.EventWarning, "warning", warning)
	}
}

// logPolicy logs how a policy's run ended. An error is not logged here: it is
// said once, at the end.
func logPolicy(log *slog.Logger, p cleanup.PolicyResult) {
	attrs := []any{
		"outcome", string(p.Outcome()), "stop_reason", string(p.StopReason),
		"deleted", p.Deleted, "batches", p.Batches,
	}
	if p.Backlog != nil {
		attrs = append(attrs, "backlog", *p.Backlog, "held", *p.Held)
	}
	attrs = append(attrs, "locked", p.Locked, "refused", p.Refused, "retries", p.Retries,
		"duration_ms", p.Duration.Milliseconds())
	level := slog.LevelInfo
	if p.Outcome() == cleanup.OutcomeIncomplete {
		level = slog.LevelWarn
	}
	log = log.With("policy", p.Name, "table", p.Table, "cutoff", p.Cutoff.Format(time.RFC3339Nano))
	log.Log(nil, level, cleanup.EventPolicyFinished, attrs...)
}
