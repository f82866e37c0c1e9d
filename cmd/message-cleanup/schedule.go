package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/spf13/cobra"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/config"
	"message-cleanup/internal/report"
)

func (a *app) scheduleCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schedule",
		Short: "Stay, and run on a schedule (for containers; hosts have the systemd timer)",
		Long: `Schedule stays in the foreground and makes a run at the times of schedule.cron,
in schedule.time_zone: by default 0 2 * * *, every night at 02:00 UTC. A run
begins up to schedule.jitter later, so that programs that share a server do not
all start together. Runs never overlap: a time that comes during a run is left
out. Each run reads the configuration again, the schedule itself is read once.

A run that fails is logged, and the next one is made all the same. SIGTERM ends
the program, after the current batches if a run is in work.

Exit status:
  0   told to stop
  64  usage
  78  configuration`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return a.schedule() },
	}
}

// schedule makes runs until it is told to stop.
func (a *app) schedule() error {
	cfg, err := a.loadConfig()
	if err != nil {
		return err
	}
	zone, err := time.LoadLocation(cfg.Schedule.TimeZone)
	if err != nil {
		return fmt.Errorf("load the time zone of the schedule: %w", err)
	}
	times, err := parseCron(cfg.Schedule.Cron, zone, a.now())
	if err != nil {
		return err
	}
	// A run that was told to stop is waited for until it gives up itself.
	scheduler, err := gocron.NewScheduler(gocron.WithLocation(zone), gocron.WithStopTimeout(stopLimit+10*time.Second))
	if err != nil {
		return fmt.Errorf("make the scheduler: %w", err)
	}
	ctx, stop, end := a.handleSignals()
	defer end()

	idle := a.startDisplay(cfg, "")
	var delay time.Duration // of the next run
	plan := func(status string) {
		delay = rand.N(cfg.Schedule.Jitter + 1)
		next := times.Next(a.now()).Add(delay).UTC().Truncate(time.Second)
		idle.log.Info(cleanup.EventScheduled, "next", next, "cron", cfg.Schedule.Cron, "time_zone", cfg.Schedule.TimeZone)
		status += "next run at " + next.Format("2006-01-02 15:04:05 UTC")
		_ = idle.notifier.Ready(status)
		idle.line.draw(status)
	}
	work := func() {
		select {
		case <-stop:
			return
		case <-time.After(delay):
		}
		idle.line.clear()
		result := a.oneRun(ctx, stop, nil, false, false)
		if err := a.finish(result); err != nil && !errors.As(err, new(exitError)) {
			a.complain(cleanup.EventRunFailed, err)
		}
		plan("last run " + report.Summary(result) + "; ")
	}
	if _, err := scheduler.NewJob(gocron.CronJob(cfg.Schedule.Cron, true), gocron.NewTask(work),
		gocron.WithCronImplementation(times), gocron.WithSingletonMode(gocron.LimitModeReschedule)); err != nil {
		return fmt.Errorf("schedule %s: %w", cfg.Schedule.Cron, err)
	}
	plan("")
	scheduler.Start()
	<-stop
	idle.line.clear()
	_ = idle.notifier.Stopping("told to stop")
	if err := scheduler.Shutdown(); err != nil {
		return fmt.Errorf("wait for the run in work: %w", err)
	}
	idle.log.Info(cleanup.EventScheduleEnded)
	return nil
}

// parseCron returns the times of a cron expression, which may have seconds in
// front.
func parseCron(expression string, zone *time.Location, now time.Time) (gocron.Cron, error) {
	wrong := func(problem, hint string) error {
		return config.Errors{{Key: "schedule.cron", Problem: fmt.Sprintf("%q %s", expression, problem), Hint: hint}}
	}
	if strings.Contains(expression, "TZ=") {
		return nil, wrong("names a time zone", "write that into schedule.time_zone")
	}
	times := gocron.NewDefaultCron(true)
	switch err := times.IsValid(expression, zone, now); {
	case errors.Is(err, gocron.ErrCronJobInvalid):
		return nil, wrong("never comes", "")
	case err != nil:
		return nil, wrong("is not a cron expression", "write minute, hour, day of month, month and day of week, e.g. 0 2 * * *")
	}
	return times, nil
}
