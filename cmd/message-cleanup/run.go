package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/config"
	"message-cleanup/internal/postgres"
	"message-cleanup/internal/report"
	"message-cleanup/internal/systemd"
)

func (a *app) runCommand() *cobra.Command {
	var policies []string
	var dryRun bool
	var acknowledged bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Delete expired rows (what the service runs)",
		Long: `Run deletes the expired rows of every policy, or of the chosen ones, and
verifies that none is left. With --dry-run it deletes nothing and says how many
rows are expired, how they would be deleted, and why so.

Exit status:
  0   complete and verified, or a dry run
  64  usage
  65  a person must look: a guard said no, or rows that the database does not delete
  69  the database cannot be reached
  70  internal error
  75  incomplete, the next run goes on: a budget is spent, rows are locked, a
      standby is behind, the run was interrupted, or another run is in work
  77  permission denied
  78  configuration`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return a.run(policies, dryRun, acknowledged) },
	}
	cmd.Flags().StringArrayVar(&policies, "policy", nil, "only this policy, by its `name` (repeatable)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "delete nothing, say what would be done")
	cmd.Flags().BoolVar(&acknowledged, "acknowledge-restore", false, "clean a restored backup, which the ledger tells from the database of the last run")
	return cmd
}

// run is the whole program: configuration, one run, its report.
func (a *app) run(names []string, dryRun, acknowledged bool) error {
	ctx, stop, end := a.handleSignals()
	defer end()
	return a.finish(a.oneRun(ctx, stop, names, dryRun, acknowledged))
}

// oneRun reads the configuration and makes one run. It ends after its current
// batches when stop is closed.
func (a *app) oneRun(ctx context.Context, stop <-chan struct{}, names []string, dryRun, acknowledged bool) cleanup.Result {
	start := a.now()
	result := cleanup.Result{RunID: cleanup.NewRunID(start), Start: start.UTC(), DryRun: dryRun}
	a.announce(result)

	cfg, err := a.loadConfig()
	if err != nil {
		result.Err, result.Duration = err, a.now().Sub(start)
		a.leaveMetrics(config.MetricsTextfile(a.configOptions()), result, nil)
		return result
	}
	all := cfg.Policies
	if cfg.Policies, result.Err = chosenPolicies(all, names); result.Err != nil {
		return result
	}
	display := a.startDisplay(cfg, result.RunID)
	a.atWork.Store(display)
	defer a.atWork.Store(nil)
	r := &execution{app: a, cfg: cfg, display: display, stop: stop, result: &result, acknowledged: acknowledged}
	r.execute(ctx)
	result.Duration = a.now().Sub(start)
	display.close(result)
	a.leaveMetrics(cfg.Metrics.Textfile, result, all)
	return result
}

// leaveMetrics writes the figures of a run for Prometheus, if there is a file for
// them. That it cannot is no reason for the run to fail: the alert on a run that
// is missing tells.
func (a *app) leaveMetrics(textfile string, result cleanup.Result, policies []cleanup.Policy) {
	if textfile == "" || result.DryRun {
		return
	}
	var names []string
	for _, p := range policies {
		names = append(names, p.Name)
	}
	if err := report.WriteMetrics(textfile, result, names, buildVersion()); err != nil {
		a.complain(cleanup.EventNoMetrics, cleanup.Errorf(cleanup.Incomplete,
			"metrics.textfile must lie in a directory where this user may write; the service may in /var/lib/message-cleanup", "%w", err))
	}
}

// finish reports the result and returns the exit status as an error.
func (a *app) finish(result cleanup.Result) error {
	write := report.WriteText
	if a.global.output == "json" {
		write = report.WriteJSON
	}
	// In the journal the events say it all, and a text on stdout would be there
	// twice.
	told := systemd.StderrIsJournal() && !result.DryRun && a.global.output == "text"
	if !told && (a.global.output == "json" || len(result.Policies) > 0) {
		if err := write(a.stdout, result); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	if result.Err != nil {
		a.complain(cleanup.EventRunFailed, result.Err)
	}
	for _, p := range result.Policies {
		if p.Err != nil && !a.logged() {
			a.complainOf(p)
		}
	}
	if status := resultStatus(result); status != exitOK {
		return exitError{status}
	}
	return nil
}

// chosenPolicies returns the policies of these names, in the order of the
// configuration; all of them if no name is given.
func chosenPolicies(all []cleanup.Policy, names []string) ([]cleanup.Policy, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []cleanup.Policy
	var known []string
	for _, p := range all {
		known = append(known, p.Name)
		if slices.Contains(names, p.Name) {
			chosen = append(chosen, p)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, usageError{fmt.Errorf("--policy: there is no policy %s, only %s", quoted(name), strings.Join(known, ", "))}
		}
	}
	return chosen, nil
}

// execution is one run at work.
type execution struct {
	*app
	cfg     *config.Config
	display *display
	stop    <-chan struct{} // closed: end after the current batch

	acknowledged bool // a restored backup is to be cleaned

	db     *postgres.DB
	server postgres.Server
	runner *cleanup.Runner
	result *cleanup.Result
	ledger *postgres.Ledger // nil: none is kept
	entry  *postgres.Entry  // of the policy at hand; nil: none is open
}

// execute connects, and deletes policy by policy. Each is attempted even when
// another failed.
func (r *execution) execute(ctx context.Context) {
	log, started := r.display.log, time.Now()
	if !systemd.StderrIsJournal() { // there, announce has said it
		logStart(log, *r.result)
	}
	if r.result.Err = r.connect(ctx); r.result.Err != nil {
		return
	}
	defer r.db.Close()

	r.runner = &cleanup.Runner{
		Log:          log,
		BatchTarget:  r.cfg.Batch.Target,
		BatchMaxRows: r.cfg.Batch.MaxRows,
		Workers:      r.cfg.Workers,
		DutyCycle:    r.cfg.Pace.DutyCycle,
		Pressure: cleanup.PressureLimits{
			ReplicaLag: r.cfg.Pace.MaxReplicaLag,
			SlotWAL:    int64(r.cfg.Pace.MaxSlotWAL),
			Pause:      r.cfg.Pace.MaxPause,
		},
		MaxRows:  r.cfg.Limits.MaxRows,
		Stop:     r.stop,
		Progress: r.display.progress,
	}
	if r.cfg.Limits.MaxDuration > 0 {
		r.runner.Deadline = started.Add(r.cfg.Limits.MaxDuration)
	}
	for _, policy := range r.cfg.Policies {
		result := r.attempt(ctx, policy)
		r.result.Policies = append(r.result.Policies, result)
		logPolicy(log, result)
		if result.Err != nil && r.logged() {
			r.complainOf(result)
		}
	}
	log.Info(cleanup.EventRunFinished, "outcome", string(r.result.Outcome()), "deleted", r.result.Deleted())
}

// connect opens the database and refuses one on which nothing must be deleted.
func (r *execution) connect(ctx context.Context) (err error) {
	r.db, err = postgres.Open(ctx, postgres.Options{
		URL:            r.cfg.Database.URL,
		ConnectTimeout: r.cfg.Database.ConnectTimeout,
		Wait:           r.cfg.Database.Wait,
		LockTimeout:    r.cfg.Batch.Target,
		Workers:        r.cfg.Workers,
		Log:            r.display.log,
		Stop:           r.stop,
		Waiting:        r.display.waiting,
	})
	if err != nil {
		return err
	}
	if r.server, err = r.db.Server(ctx, r.now); err == nil && !r.result.DryRun {
		err = r.server.Check(r.cfg.Guard.MaxClockSkew)
	}
	if err == nil {
		err = r.openLedger(ctx)
	}
	if err != nil {
		r.db.Close()
		return err
	}
	r.result.Start = r.server.Clock
	return nil
}

// attempt runs one policy, and says how it ended in the result and in the ledger.
func (r *execution) attempt(ctx context.Context, policy cleanup.Policy) cleanup.PolicyResult {
	started := time.Now()
	defer r.db.Unlock(ctx)
	result, err := r.policy(ctx, policy)
	if err != nil {
		result.Err = err
	}
	// The runner gives its own reason. What ended before it is a guard's no,
	// or a failure.
	if err != nil && result.StopReason == "" {
		result.StopReason = cleanup.Failed
		if cleanup.KindOf(err) == cleanup.NeedsPerson {
			result.StopReason = cleanup.Guard
		}
	}
	r.record(ctx, policy, &result)
	result.Duration = time.Since(started)
	return result
}

// policy inspects, plans and runs one policy. Its result is valid beside an
// error.
func (r *execution) policy(ctx context.Context, policy cleanup.Policy) (result cleanup.PolicyResult, err error) {
	result.Name, result.Table = policy.Name, policy.Table
	defer r.display.phase(policy.Name + ": inspecting the table")()

	cutoff := policy.Cutoff(r.server.Clock)
	table, err := r.db.Inspect(ctx, policy, r.server, cutoff)
	if err != nil {
		return result, err
	}
	plan, err := cleanup.NewPlan(policy, table.Facts(), cutoff)
	for _, warning := range r.server.Warnings() {
		plan.Warnings = append(plan.Warnings, warning.Text)
	}
	result.Describe(plan)
	if err != nil {
		return result, err
	}
	logPlan(r.display.log, plan, result)

	if r.result.DryRun {
		return result, r.preview(ctx, table, plan, &result)
	}
	if err := table.CheckPrivileges(); err != nil {
		return result, err
	}
	if err := r.db.Lock(ctx, policy.Name, plan.Table, r.server.Pooled); err != nil {
		return result, err
	}
	if err := r.checkRestored(ctx, policy); err != nil {
		return result, err
	}
	if err := r.begin(ctx, plan, table); err != nil {
		return result, err
	}
	if err := table.CheckGuards(ctx, r.cfg.Guard.MaxRows, r.cfg.Guard.MaxFraction); err != nil {
		return result, err
	}
	result = r.runner.Run(ctx, plan, table)
	return result, result.Err
}

// preview fills the result of a dry run: what would be deleted, and how.
func (r *execution) preview(ctx context.Context, table *postgres.Table, plan cleanup.Plan, result *cleanup.PolicyResult) error {
	if err := r.server.Check(r.cfg.Guard.MaxClockSkew); err != nil {
		result.Warnings = append(result.Warnings, "a run would end at once: "+err.Error())
	}
	if err := r.checkRestored(ctx, plan.Policy); err != nil {
		result.Warnings = append(result.Warnings, "a run would end at once: "+err.Error())
	}
	if err := table.CheckGuards(ctx, r.cfg.Guard.MaxRows, r.cfg.Guard.MaxFraction); cleanup.KindOf(err) == cleanup.NeedsPerson && err != nil {
		result.Warnings = append(result.Warnings, "a run would end at once: "+err.Error())
	} else if err != nil {
		return fmt.Errorf("check the guards: %w", err)
	}
	counts, err := table.Count(ctx, false)
	if err != nil {
		return fmt.Errorf("count the expired rows: %w", err)
	}
	result.Backlog, result.Held = &counts.Backlog, &counts.Held
	for _, leaf := range plan.Leaves {
		sql, err := table.FirstBatch(ctx, leaf, min(cleanup.FirstRows, r.cfg.Batch.MaxRows))
		if err != nil {
			return fmt.Errorf("cut the first batch of %s: %w", leaf.Name, err)
		}
		if sql != "" {
			result.SQL = append(result.SQL, sql)
			break
		}
	}
	return nil
}
