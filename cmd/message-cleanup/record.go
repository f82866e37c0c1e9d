package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/postgres"
)

// openLedger finds the ledger, if one is configured. A dry run keeps none.
func (r *execution) openLedger(ctx context.Context) error {
	if r.cfg.Ledger.Table == "" || r.result.DryRun {
		return nil
	}
	r.ledger = r.db.Ledger(r.cfg.Ledger.Table)
	return r.ledger.Check(ctx)
}

// checkRestored refuses a restored backup, if there is a ledger to tell.
func (r *execution) checkRestored(ctx context.Context, policy cleanup.Policy) error {
	if r.cfg.Ledger.Table == "" || r.acknowledged {
		return nil
	}
	return r.db.Ledger(r.cfg.Ledger.Table).CheckRestored(ctx, policy.Name)
}

// begin opens the run's row of a policy in the ledger, in which table will put
// its batches on record, and closes the rows of runs that never came to it. The
// policy's lock is held.
func (r *execution) begin(ctx context.Context, plan cleanup.Plan, table *postgres.Table) error {
	if r.ledger == nil {
		return nil
	}
	unfinished, err := r.ledger.CloseUnfinished(ctx, plan.Policy, plan.Table)
	for _, row := range unfinished {
		r.display.log.Warn(cleanup.EventUnfinished, "policy", row.Policy, "table", row.Table,
			"unfinished_run_id", row.RunID, "started", row.Started, "deleted", row.Deleted, "ledger_head", row.Head())
	}
	if err != nil {
		return err
	}
	row := r.row(plan.Policy, plan.Table, &plan.Cutoff)
	if row.OldestExpiry, row.NewestExpiry, err = table.Span(ctx, plan); err != nil {
		return err
	}
	r.entry, err = r.ledger.Begin(ctx, row)
	table.Record(r.entry)
	return err
}

func (r *execution) row(policy cleanup.Policy, table string, cutoff *time.Time) cleanup.LedgerRow {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return cleanup.LedgerRow{
		RunID: r.result.RunID, Policy: policy.Name, Table: table,
		Definition: policy.String(), DefinitionHash: policy.Hash(), Cutoff: cutoff,
		Host: host, Version: buildVersion(),
	}
}

// recordLimit bounds the ledger's last word after the run was told to end at
// once.
const recordLimit = 5 * time.Second

// record closes the policy's row in the ledger; a policy that failed before it
// had one gets one. A run that cannot be put on record is not complete.
func (r *execution) record(ctx context.Context, policy cleanup.Policy, result *cleanup.PolicyResult) {
	if r.ledger == nil || cleanup.KindOf(result.Err) == cleanup.Unavailable { // then it stays open, for the next run to close
		return
	}
	if ctx.Err() != nil {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordLimit)
		defer cancel()
		ctx = limited
	}
	row, err := r.closeRow(ctx, policy, *result)
	if err == nil && result.Err == nil && row.Deleted != result.Deleted {
		err = fmt.Errorf("the ledger has %d deleted rows, the run counted %d", row.Deleted, result.Deleted)
	}
	result.LedgerHead = row.Head()
	switch {
	case err != nil && result.Err != nil:
		result.Err = fmt.Errorf("%w; besides: %w", result.Err, err)
	case err != nil:
		result.Err, result.StopReason = err, cleanup.Failed
	}
}

func (r *execution) closeRow(ctx context.Context, policy cleanup.Policy, result cleanup.PolicyResult) (cleanup.LedgerRow, error) {
	entry := r.entry
	r.entry = nil
	if entry == nil {
		var cutoff *time.Time
		if !result.Cutoff.IsZero() {
			cutoff = &result.Cutoff
		}
		var err error
		if entry, err = r.ledger.Begin(ctx, r.row(policy, result.Table, cutoff)); err != nil {
			return cleanup.LedgerRow{}, err
		}
	}
	return entry.Close(ctx, result)
}
