package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/config"
	"message-cleanup/internal/postgres"
	"message-cleanup/internal/report"
)

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Say what would go wrong tonight, and what mends it",
		Long: `Check looks for everything that would keep the next runs from their work:
configuration, connection, server, privileges, tables, indexes, foreign keys,
rows without a time that makes sense, the ledger, the timer and its last run. It changes nothing, and
looks at rows only as far as an index leads, or for a few seconds.

Each finding has a name, what was found, and the statement or command that mends
it. An error is what a run would fail by, leave rows for, or get in the way of
others with. A warning is what somebody should know; it does not change the exit
status.

Run it as the role that makes the runs: privileges are those of this role.

Exit status:
  0   no error was found
  64  usage
  65  errors were found`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return a.check() },
	}
}

// check says what it finds, and more the farther it comes.
func (a *app) check() error {
	ctx, cancel := untilSignal()
	defer cancel()
	c := &checkup{app: a, Checkup: cleanup.Checkup{Start: a.now().UTC()}}
	c.configuration(ctx)
	c.host(ctx)
	write := report.WriteCheck
	if a.global.output == "json" {
		write = report.WriteCheckJSON
	}
	if err := write(a.stdout, c.Checkup); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if !c.Clean() {
		return exitError{exitNeedsPerson}
	}
	return nil
}

// checkup is one check at work.
type checkup struct {
	*app
	cleanup.Checkup
	cfg    *config.Config
	db     *postgres.DB
	server postgres.Server
}

// fail adds what a run would end with.
func (c *checkup) fail(policy string, err error) {
	c.Findings.Add(cleanup.FindingOf(policy, err))
}

func (c *checkup) configuration(ctx context.Context) {
	var err error
	if c.cfg, err = c.loadConfig(); err == nil {
		c.database(ctx)
		return
	}
	wrong, ok := errors.AsType[config.Errors](err)
	if !ok {
		c.fail("", err)
		return
	}
	var findings []cleanup.Finding
	for _, e := range wrong {
		hint := e.Hint
		e.Hint = ""
		findings = append(findings, cleanup.Finding{
			Name: "configuration", Severity: cleanup.SeverityError, Text: e.Error(), Hint: hint,
		})
	}
	c.Findings.Add(findings...)
}

// database connects once: who asks wants to know now.
func (c *checkup) database(ctx context.Context) {
	var err error
	c.db, err = c.connectOnce(ctx, c.cfg)
	if err != nil {
		c.fail("", err)
		return
	}
	defer c.db.Close()
	if c.server, err = c.db.Server(ctx, c.now); err != nil {
		c.fail("", err)
		return
	}
	c.Database = fmt.Sprintf("%s, PostgreSQL %d, %s", c.db.Address(), c.server.Version/10000, c.db.Encryption())

	findings, err := c.db.CheckServer(ctx, c.server, c.cfg.Guard.MaxClockSkew, c.cfg.Pace.MaxReplicaLag)
	c.Findings.Add(findings...)
	if err != nil {
		c.fail("", err)
	}
	if c.cfg.Ledger.Table != "" {
		c.Findings.Add(c.db.CheckLedger(ctx, c.cfg.Ledger.Table)...)
	}
	for i, policy := range c.cfg.Policies {
		zoned := c.isSet(fmt.Sprintf("policies[%d].time_zone", i), c.cfg)
		c.Findings.Add(c.db.CheckTable(ctx, policy, zoned, c.server)...)
		if err := c.policy(ctx, policy); err != nil {
			c.fail(policy.Name, err)
		}
	}
}

// policy goes the way of a run up to where it would begin to delete.
func (c *checkup) policy(ctx context.Context, policy cleanup.Policy) error {
	cutoff := policy.Cutoff(c.server.Clock)
	table, err := c.db.Inspect(ctx, policy, c.server, cutoff)
	if err != nil {
		return err
	}
	facts := table.Facts()
	for i := range facts.Warnings {
		facts.Warnings[i].Policy = policy.Name
	}
	c.Findings.Add(facts.Warnings...)
	if _, err := cleanup.NewPlan(policy, facts, cutoff); err != nil && !c.Findings.Have("index-invalid", policy.Name) {
		c.fail(policy.Name, err)
	}
	if err := table.CheckPrivileges(); err != nil {
		c.fail(policy.Name, err)
	}
	if err := table.CheckConditions(ctx); err != nil {
		return err
	}
	if err := table.CheckGuards(ctx, c.cfg.Guard.MaxRows, c.cfg.Guard.MaxFraction); err != nil {
		c.fail(policy.Name, err)
	}
	if c.cfg.Ledger.Table != "" { // whether it is there, CheckLedger has said
		if err := c.db.Ledger(c.cfg.Ledger.Table).CheckRestored(ctx, policy.Name); err != nil && cleanup.KindOf(err) == cleanup.NeedsPerson {
			c.fail(policy.Name, err)
		}
	}
	findings, err := table.CheckRows(ctx, policy, c.server.Clock)
	c.Findings.Add(findings...)
	return err
}
