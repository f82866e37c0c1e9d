package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"message-cleanup/internal/postgres"
)

func (a *app) setupCommand() *cobra.Command {
	var role string
	var apply bool
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Print the SQL that prepares the database, or run it",
		Long: `Setup prints the SQL that is missing before the first run: the role and what it
needs, and nothing more; the index on the expiry column; the column's default;
the ledger, if one is configured.
What is there already is left alone. Each statement can be run again without
harm. With --apply it runs them, one by one.

Printing takes no privilege. What is printed is for a superuser, or for the
owner of the tables once the role is there.

Exit status: that of run`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return a.setup(role, apply) },
	}
	cmd.Flags().StringVar(&role, "role", "message-cleanup", "the role that makes the runs, by its `name`")
	cmd.Flags().BoolVar(&apply, "apply", false, "run the SQL")
	return cmd
}

func (a *app) setup(role string, apply bool) error {
	ctx, cancel := untilSignal()
	defer cancel()
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	db, err := a.connectOnce(ctx, cfg)
	if err != nil {
		return err
	}
	defer db.Close()
	server, err := db.Server(ctx, a.now)
	if err != nil {
		return err
	}
	steps, err := db.Setup(ctx, server, postgres.Setup{
		Role: role, Policies: cfg.Policies, MaxLag: cfg.Pace.MaxReplicaLag, Ledger: cfg.Ledger.Table,
	})
	if err != nil {
		return err
	}
	write := a.printStep
	if a.global.output == "json" {
		write = a.printStepJSON
	}
	for i, step := range steps {
		if err := write(step, i > 0 && steps[i-1].Policy == step.Policy && steps[i-1].Why == step.Why); err != nil {
			return fmt.Errorf("write the SQL: %w", err)
		}
		if !apply {
			continue
		}
		if err := db.Apply(ctx, step.SQL); err != nil {
			first, _, _ := strings.Cut(step.SQL, "\n")
			return fmt.Errorf("%s: %w", first, err)
		}
	}
	if a.global.output == "json" {
		return nil
	}
	end := "Nothing of this was run: --apply does it, or psql."
	switch {
	case len(steps) == 0:
		end = "Nothing is missing. To be sure: message-cleanup check"
	case apply:
		end = "All of this was run. To be sure: message-cleanup check"
	}
	_, err = fmt.Fprintf(a.stdout, "-- %s\n", end)
	return err
}

// printStep prints SQL that psql takes as it is.
func (a *app) printStep(step postgres.Step, sameReason bool) error {
	why := ""
	switch {
	case sameReason:
	case step.Policy != "":
		why = "-- policy " + strings.ReplaceAll(step.Policy, "\n", " ") + ": " + step.Why + "\n"
	default:
		why = "-- " + step.Why + "\n"
	}
	_, err := fmt.Fprintf(a.stdout, "%s%s;\n", why, step.SQL)
	return err
}

// printStepJSON prints one object on one line for each step.
func (a *app) printStepJSON(step postgres.Step, _ bool) error {
	encoder := json.NewEncoder(a.stdout)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(struct {
		Policy string `json:"policy,omitempty"`
		Why    string `json:"why"`
		SQL    string `json:"sql"`
	}{step.Policy, step.Why, step.SQL})
}
