package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/config"
	"message-cleanup/internal/postgres"
	"message-cleanup/internal/report"
	"message-cleanup/internal/systemd"
)

func (a *app) statusCommand() *cobra.Command {
	var policies []string
	var warning, critical string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the last run ended, what is left, what expires next, and when the next run is",
		Long: `Status tells for each policy how the last run ended and when a run last
verified that nothing expired was left; how many rows are expired now, and for
how long the oldest has been; how many expire within 24 hours, and when; and when
the next run begins. It only reads, and is quick on large tables: it reads no
more than a million entries of the expiry index for each number, and says so
("at least", "about") if that was not enough.

What it says of the last run is from the ledger, from the file of
metrics.textfile and from systemd, whichever knows of the latest one; the next
run is from systemd's timer.

With --warning or --critical it is a plugin for Nagios, Icinga and their kin: it
writes one line with performance data, and judges by how long the oldest expired
row is overdue. Rows expire all day and are deleted at night, so a day is usual:
--warning 26h --critical 50h.

Exit status:
  0   it was found out
  64  usage
  69  the database cannot be reached
  70  internal error
  77  permission denied
  78  configuration

Exit status with --warning or --critical:
  0   OK
  1   WARNING
  2   CRITICAL
  3   UNKNOWN: it was not found out, whatever the reason`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("warning") || cmd.Flags().Changed("critical") {
				return a.statusPlugin(policies, warning, critical)
			}
			return a.status(policies)
		},
	}
	cmd.Flags().StringArrayVar(&policies, "policy", nil, "only this policy, by its `name` (repeatable)")
	cmd.Flags().StringVar(&warning, "warning", "", "as a plugin: WARNING if the oldest expired row is overdue for longer than this `duration`")
	cmd.Flags().StringVar(&critical, "critical", "", "as a plugin: CRITICAL if the oldest expired row is overdue for longer than this `duration`")
	return cmd
}

// status prints how things stand. What can be told is told, whatever else cannot.
func (a *app) status(names []string) error {
	s, err := a.readStatus(names)
	if err != nil {
		return err
	}
	if a.global.output == "json" {
		err = report.WriteStatusJSON(a.stdout, s)
	} else {
		err = report.WriteStatus(a.stdout, s, a.width())
	}
	if err != nil {
		return fmt.Errorf("write the status: %w", err)
	}
	if s.Err != nil {
		return s.Err
	}
	var all []error
	for _, p := range s.Policies {
		if p.Err != nil {
			all = append(all, fmt.Errorf("policy %s: %w", p.Policy.Name, p.Err))
		}
	}
	return errors.Join(all...)
}

// statusPlugin prints one line, whatever happens, and exits with its alert.
func (a *app) statusPlugin(names []string, warning, critical string) error {
	var s report.Status
	var err error
	limits := make([]time.Duration, 2)
	for i, flag := range []struct{ name, value string }{{"--warning", warning}, {"--critical", critical}} {
		if flag.value == "" {
			continue
		}
		if limits[i], err = config.ParseDuration(flag.value); err != nil {
			s.Err = fmt.Errorf("%s: %w", flag.name, err)
		}
	}
	switch {
	case s.Err != nil:
	case limits[0] > limits[1] && limits[1] > 0:
		s.Err = errors.New("--warning must be shorter than --critical")
	case a.global.output == "json":
		s.Err = errors.New("--output json does not go with --warning and --critical")
	default:
		if s, err = a.readStatus(names); err != nil {
			s.Err = err
		}
	}
	alert, err := report.WritePlugin(a.stdout, s, limits[0], limits[1])
	if err != nil {
		return fmt.Errorf("write the status: %w", err)
	}
	return exitError{int(alert)}
}

// width is that of the terminal that stdout is, or of one that people once had.
func (a *app) width() int {
	if out, ok := a.stdout.(*os.File); ok {
		if width, _, err := term.GetSize(int(out.Fd())); err == nil {
			return width
		}
	}
	return 80
}

// systemdTimeout bounds what is asked of systemd.
const systemdTimeout = 2 * time.Second

// readStatus finds out how things stand. An error is that it could not begin;
// what went wrong later is in the status.
func (a *app) readStatus(names []string) (report.Status, error) {
	s := report.Status{At: a.now()}
	cfg, err := a.loadConfig()
	if err != nil {
		return s, err
	}
	if cfg.Policies, err = chosenPolicies(cfg.Policies, names); err != nil {
		return s, err
	}
	var service systemd.Service
	s.Next, service = a.askSystemd()
	if service.Running {
		s.AtWork = cmp.Or(service.Status, "it has just begun")
	}
	for _, policy := range cfg.Policies {
		s.Policies = append(s.Policies, report.PolicyStatus{Policy: policy, Last: latest(runOfMetrics(cfg.Metrics.Textfile, policy.Name), runOfService(service))})
	}
	s.Err = a.lookAtTables(cfg, &s)
	return s, nil
}

// lookAtTables fills in how each policy's table stands, and what the ledger tells.
func (a *app) lookAtTables(cfg *config.Config, s *report.Status) error {
	ctx, cancel := untilSignal()
	defer cancel()
	db, err := a.connectOnce(ctx, cfg)
	if err != nil {
		return err
	}
	defer db.Close()
	server, err := db.Server(ctx, a.now)
	if err != nil {
		return err
	}
	s.At = server.Clock
	for i := range s.Policies {
		p := &s.Policies[i]
		if cfg.Ledger.Table != "" {
			p.Last = latest(a.runOfLedger(ctx, db.Ledger(cfg.Ledger.Table), p.Policy.Name), p.Last)
		}
		p.Status, p.Err = db.Status(ctx, p.Policy, server)
	}
	return nil
}

// askSystemd tells when the timer starts the next run, and how the last one of
// the service ended.
func (a *app) askSystemd() (report.NextRun, systemd.Service) {
	name := unitOf(a.global.config)
	if name == "" {
		return report.NextRun{Note: "no unit reads this configuration"}, systemd.Service{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), systemdTimeout)
	defer cancel()
	units, err := systemd.ReadUnits(ctx, name)
	if err != nil {
		return report.NextRun{Note: "systemd does not answer here; the crontab, or the log of message-cleanup schedule, has it"}, systemd.Service{}
	}
	timer := units.Timer
	next := report.NextRun{At: timer.Next, Note: timer.Unit}
	switch {
	case !timer.Installed:
		next.Note = "systemd knows no " + timer.Unit
	case !timer.Active:
		next = report.NextRun{Note: timer.Unit + " is off: systemctl enable --now " + timer.Unit}
	case units.Service.Running:
		next = report.NextRun{Note: timer.Unit + " plans it when the run in work has ended"}
	case !timer.Enabled:
		next.Note += ", until the next boot only: systemctl enable " + timer.Unit
	}
	return next, units.Service
}

// latest returns what is known of the last run by those who were asked: the first
// of them tells the most, and a later one counts if it knows of a later run.
// Of a run that was killed there are no metrics, of one that did not reach the
// database there is nothing in the ledger. A minute is for clocks, and for what
// a program does after it has left word.
func latest(told ...report.LastRun) (last report.LastRun) {
	for _, run := range told {
		verified := last.Verified
		if run.Verified.After(verified) {
			verified = run.Verified
		}
		if run.Ended.Sub(last.Ended) > time.Minute || last.Note == "" {
			last = run
		}
		last.Verified = verified
	}
	if last.Note == "" {
		last.Note = "keep a ledger (ledger.table) or set metrics.textfile, and each run leaves word; or look into the log"
	}
	return last
}

// runOfMetrics is what the metrics tell of a policy's last run.
func runOfMetrics(textfile, policy string) report.LastRun {
	if textfile == "" {
		return report.LastRun{}
	}
	last, err := report.ReadLastRun(textfile, policy)
	switch {
	case err != nil:
		last.Note = err.Error()
	case last.Ended.IsZero():
		last.Note = "no run has left " + textfile + " yet"
	}
	return last
}

// runOfService is what systemd tells of it.
func runOfService(service systemd.Service) report.LastRun {
	if service.Ended.IsZero() {
		return report.LastRun{}
	}
	last := report.LastRun{Ended: service.Ended, Outcome: serviceOutcome(service), Note: "systemd"}
	if service.Result == "success" {
		last.Verified = service.Ended
	}
	return last
}

// runOfLedger is what the ledger tells of it.
func (a *app) runOfLedger(ctx context.Context, ledger *postgres.Ledger, policy string) report.LastRun {
	summary, err := ledger.Summary(ctx, policy)
	if err != nil {
		return report.LastRun{Note: "the ledger: " + err.Error()}
	}
	last := report.LastRun{Note: "the ledger"}
	if summary.Verified != nil {
		last.Verified = *summary.Verified
	}
	row := summary.Last
	if row == nil {
		last.Note = "the ledger has no run of it yet"
		return last
	}
	last.Ended, last.Deleted, last.Outcome = row.Started, &row.Deleted, string(row.Outcome)
	switch {
	case row.Finished != nil:
		last.Ended = *row.Finished
	case row.Outcome == "":
		last.Outcome = "begun, and at work or killed"
	}
	return last
}

// serviceOutcome says how a run of the service ended.
func serviceOutcome(service systemd.Service) string {
	switch {
	case service.Result == "success":
		return string(cleanup.OutcomeComplete)
	case service.Result == "exit-code" && service.ExitStatus == exitTempFail:
		return string(cleanup.OutcomeIncomplete)
	case service.Result == "exit-code":
		return fmt.Sprintf("%s with exit status %d", cleanup.OutcomeFailed, service.ExitStatus)
	}
	return fmt.Sprintf("%s by %s", cleanup.OutcomeFailed, service.Result)
}
