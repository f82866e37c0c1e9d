// Message-cleanup deletes expired rows from PostgreSQL, in batches, and
// verifies that none is left. See the README for how to use it, and
// ARCHITECTURE.md for how it is built.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	_ "time/tzdata" // a time zone in the configuration is checked on hosts without a zone database too

	"github.com/spf13/cobra"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/config"
	"message-cleanup/internal/postgres"
)

// version is set by the linker; a build by plain `go build` or `go install`
// tells it from its module.
var version = ""

func main() {
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) // a core would hold the password
	a := &app{stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ(), now: time.Now}
	os.Exit(a.main(os.Args[1:]))
}

// app is the program with its surroundings, so that a test can run it.
type app struct {
	stdout  io.Writer
	stderr  *os.File
	environ []string
	now     func() time.Time

	global globalFlags
	log    *slog.Logger // nil until the configuration is read; then errors go there, unless people read stderr

	// errorsOnStderr has errors written there too. The log is in syslog, where
	// nobody looks who has just got a mail of cron.
	errorsOnStderr bool

	atWork atomic.Pointer[display] // of the run in work; nil: none is
}

// globalFlags are the flags of every command.
type globalFlags struct {
	config   string
	output   string
	logLevel string
	noColor  bool
}

// main runs the command line and returns the exit status.
func (a *app) main(args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	err := root.Execute()
	if _, ended := errors.AsType[exitError](err); err != nil && !ended {
		a.complain(cleanup.EventRunFailed, err)
	}
	return exitStatus(err)
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "message-cleanup COMMAND",
		Short: "Delete expired rows from PostgreSQL",
		Long: `Message-cleanup deletes expired rows from PostgreSQL: in short batches, without
getting in the way of other work, and it verifies that none is left.

Without a configuration file it deletes the rows of table messages whose
expires_at has passed, in the database that DATABASE_URL or libpq's PG*
variables name.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asked, err := cmd.Flags().GetBool("version"); err == nil && asked {
				return a.printVersion()
			}
			return usageError{errors.New("no command given")}
		},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			problem := "unknown command " + quoted(args[0])
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				problem += ", did you mean " + strings.Join(near, " or ") + "?"
			}
			return usageError{errors.New(problem)}
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			csv := a.global.output == "csv" && cmd.Name() == "history"
			if a.global.output != "text" && a.global.output != "json" && !csv {
				return usageError{fmt.Errorf("--output: %s is neither text nor json", quoted(a.global.output))}
			}
			return nil
		},
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		// The end of "unknown shorthand flag: 'p' in -psecret".
		problem, _, _ := strings.Cut(err.Error(), " in -")
		return usageError{errors.New(problem)}
	})
	flags := root.PersistentFlags()
	flags.StringVar(&a.global.config, "config", "", "read this configuration `file` (default "+config.DefaultFile+", if it exists)")
	flags.StringVar(&a.global.output, "output", "text", "write results as `text` or json")
	flags.StringVar(&a.global.logLevel, "log-level", "", "log from this `level` on: debug, info, warn, error")
	flags.BoolVar(&a.global.noColor, "no-color", false, "no colours in the log on a terminal")
	root.Flags().Bool("version", false, "print the version")
	root.SuggestionsMinimumDistance = 2
	root.AddCommand(a.runCommand(), a.checkCommand(), a.statusCommand(), a.setupCommand(), a.historyCommand(), a.scheduleCommand(), a.configCommand(), a.versionCommand())
	addCompletion(root)
	return root
}

// addCompletion adds cobra's own command with our exit status for mistakes: a
// script must not take help, or an internal error, for a completion.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd("")
	completion, _, err := root.Find([]string{"completion"})
	if err != nil || completion == root {
		return
	}
	completion.Args = cobra.ArbitraryArgs
	completion.RunE = func(*cobra.Command, []string) error {
		var shells []string
		for _, shell := range completion.Commands() {
			shells = append(shells, shell.Name())
		}
		return usageError{fmt.Errorf("completion needs a shell: %s", strings.Join(shells, ", "))}
	}
	for _, shell := range completion.Commands() {
		shell.Args = noArguments
	}
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE:  func(*cobra.Command, []string) error { return a.printVersion() },
	}
}

func (a *app) printVersion() error {
	_, err := fmt.Fprintln(a.stdout, "message-cleanup", buildVersion())
	return err
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

// loadConfig reads the configuration and sets up the log as it says.
func (a *app) loadConfig() (*config.Config, error) {
	return config.Load(a.configOptions())
}

func (a *app) configOptions() config.Options {
	flags := make(map[string]string)
	if a.global.logLevel != "" {
		flags["log.level"] = a.global.logLevel
	}
	return config.Options{File: a.global.config, Flags: flags, Environ: a.environ}
}

// connectOnce opens the database for who wants to know something now: it does not
// wait for a server that is not there.
func (a *app) connectOnce(ctx context.Context, cfg *config.Config) (*postgres.DB, error) {
	return postgres.Open(ctx, postgres.Options{
		URL:            cfg.Database.URL,
		ConnectTimeout: cfg.Database.ConnectTimeout,
		LockTimeout:    cfg.Batch.Target, // as a run's, which partitions on other servers have to know
		Log:            slog.New(slog.DiscardHandler),
	})
}

// noArguments is cobra.NoArgs with our exit status.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("%s takes no arguments, found %s", cmd.CommandPath(), quoted(args[0]))}
	}
	return nil
}

// quoted shows an argument in an error, unless it may be an address with its
// password: the list of processes has it for a moment, a log for good.
func quoted(arg string) string {
	if strings.ContainsAny(arg, ":@=") {
		return "what may be a password"
	}
	return strconv.Quote(arg)
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// exitError ends the program with a status after everything was said.
type exitError struct{ status int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// Exit statuses, after sysexits.h, which systemd knows by name.
const (
	exitOK          = 0
	exitUsage       = 64
	exitNeedsPerson = 65 // EX_DATAERR: a guard said no, or rows that the database will not delete
	exitUnavailable = 69
	exitSoftware    = 70
	exitTempFail    = 75 // incomplete: the next run goes on
	exitNoPerm      = 77
	exitConfig      = 78
)

// exitStatus is the one place where an error becomes an exit status.
func exitStatus(err error) int {
	if err == nil {
		return exitOK
	}
	if ended, ok := errors.AsType[exitError](err); ok {
		return ended.status
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[config.Errors](err); ok {
		return exitConfig
	}
	switch cleanup.KindOf(err) {
	case cleanup.Configuration:
		return exitConfig
	case cleanup.Permission:
		return exitNoPerm
	case cleanup.Unavailable:
		return exitUnavailable
	case cleanup.NeedsPerson:
		return exitNeedsPerson
	case cleanup.Incomplete:
		return exitTempFail
	}
	// Last, because it may be joined to what a person must look at.
	if _, ok := errors.AsType[*cleanup.TransientError](err); ok {
		return exitTempFail
	}
	return exitSoftware
}

// severity orders the statuses of several policies: what the next run may mend
// by itself comes first, a defect of the program last.
var severity = []int{exitOK, exitTempFail, exitUnavailable, exitNeedsPerson, exitNoPerm, exitConfig, exitSoftware}

// resultStatus is the exit status of a run: that of its worst policy.
func resultStatus(r cleanup.Result) int {
	worst := exitStatus(r.Err)
	for _, p := range r.Policies {
		status := exitStatus(p.Err)
		if p.Outcome() == cleanup.OutcomeIncomplete {
			status = exitTempFail
		}
		if slices.Index(severity, status) > slices.Index(severity, worst) {
			worst = status
		}
	}
	return worst
}
