package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/config"
	"message-cleanup/internal/report"
	"message-cleanup/internal/systemd"
)

// display shows a run while it works: the log, the Status line of systemctl,
// and one rewritten line on a terminal.
type display struct {
	log      *slog.Logger
	notifier systemd.Notifier
	line     *line // nil: stderr is no terminal

	mu     sync.Mutex
	status string
	drawn  time.Time
	rate   rate
}

// startDisplay sets up the log as configured. The journal is used iff stderr
// is connected to it, so that no message is logged twice. An empty runID is for
// what belongs to no run.
func (a *app) startDisplay(cfg *config.Config, runID string) *display {
	d := &display{}
	onTerminal := term.IsTerminal(int(a.stderr.Fd()))
	format := cfg.Log.Format
	if format == "auto" {
		switch {
		case systemd.StderrIsJournal():
			format = "journal"
		case onTerminal:
			format = "text"
		default:
			format = "json"
		}
	}
	var out io.Writer = a.stderr
	if onTerminal {
		d.line = &line{out: a.stderr}
		out = d.line
	}
	level := cfg.Log.Level
	switch format {
	case "journal":
		d.log = slog.New(systemd.NewJournalHandler(level))
	case "syslog":
		handler, err := systemd.NewSyslogHandler(level)
		if err != nil { // cron mails it
			fmt.Fprintf(a.stderr, "message-cleanup: %v\n", err)
			handler = slog.DiscardHandler
		}
		d.log = slog.New(handler)
		a.errorsOnStderr = true
	case "json":
		d.log = slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: inUTC}))
	default:
		// A person at a terminal sees the progress line and the report; the
		// events are shown there only if asked for.
		if onTerminal && !a.isSet("log.level", cfg) {
			level = max(level, slog.LevelWarn)
		}
		d.log = slog.New(tint.NewTextHandler(out, &tint.Options{
			Level: level, TimeFormat: "15:04:05 UTC", ReplaceAttr: inUTC,
			NoColor: a.global.noColor || !onTerminal || os.Getenv("NO_COLOR") != "",
		}))
	}
	if runID != "" {
		d.log = d.log.With("run_id", runID)
	}
	if format != "text" {
		a.log = d.log
	}
	return d
}

// inUTC shows all times of a log in one zone, that of the cutoffs.
func inUTC(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindTime {
		a.Value = slog.TimeValue(a.Value.Time().UTC())
	}
	return a
}

// isSet tells whether a key has another source than its default.
func (a *app) isSet(key string, cfg *config.Config) bool {
	for _, v := range cfg.Values() {
		if v.Key == key {
			return v.Source != "default"
		}
	}
	return false
}

// stopLimit is how long a run that was told to stop may still work on its
// current batches. TimeoutStopSec= of the unit is longer.
const stopLimit = 30 * time.Second

// handleSignals makes the first SIGTERM or SIGINT close stop, which ends the
// run after its current batches, and a second one, or the lapse of stopLimit,
// cancel ctx, which abandons them. A closed pipe ends nothing.
func (a *app) handleSignals() (ctx context.Context, stop <-chan struct{}, end func()) {
	// Whoever read the log or waits for the result may be gone: the run goes on
	// without, and says what it could not write. systemd ignores it for us.
	signal.Ignore(syscall.SIGPIPE)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	ctx, cancel := context.WithCancelCause(context.Background())
	stopped := make(chan struct{})
	go func() {
		first, ok := <-signals
		if !ok {
			return
		}
		close(stopped)
		if d := a.atWork.Load(); d != nil {
			d.stopping(first)
		}
		select {
		case second, ok := <-signals:
			if ok {
				cancel(fmt.Errorf("received %s twice", second))
			}
		case <-time.After(stopLimit):
			cancel(fmt.Errorf("the current batch did not end within %s", stopLimit))
		}
	}()
	return ctx, stopped, func() {
		signal.Stop(signals)
		close(signals)
		cancel(nil)
	}
}

// untilSignal makes the first SIGTERM or SIGINT cancel ctx, for commands that have
// nothing to bring to an end.
func untilSignal() (ctx context.Context, end context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
}

func (d *display) stopping(by os.Signal) {
	d.log.Info(cleanup.EventStopping, "signal", by.String())
	_ = d.notifier.Stopping("stopping after the current batch")
}

// close leaves the result as the last status: systemctl shows it until the
// next run.
func (d *display) close(result cleanup.Result) {
	d.line.clear()
	_ = d.notifier.Progress(report.Summary(result), 0)
}

// redrawEvery spares the terminal and systemd: a batch may take a millisecond.
const redrawEvery = 100 * time.Millisecond

// progress shows how far a policy is. It is called after every batch.
func (d *display) progress(p cleanup.Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p.Phase == cleanup.Deleting && time.Since(d.drawn) < redrawEvery {
		return
	}
	d.drawn = time.Now()
	if p.Phase != cleanup.Deleting {
		status := p.Policy + ": " + string(p.Phase)
		if p.Reason != "" {
			status += ", " + p.Reason
		}
		d.say(status)
		return
	}
	speed := ""
	if perSecond := d.rate.of(p.Policy, p.Deleted, d.drawn); perSecond > 0 {
		speed = ", " + cleanup.FormatCount(perSecond) + " rows/s"
	}
	deleted := cleanup.FormatCount(p.Deleted)
	share, bar := "", ""
	if p.Expected >= 1 && p.Deleted > 0 {
		done := min(1, float64(p.Deleted)/p.Expected)
		share = fmt.Sprintf(" (about %.0f %%)", 100*done)
		bar = fmt.Sprintf(" [%-20s]", strings.Repeat("#", int(20*done)))
	}
	d.status = fmt.Sprintf("%s: %s rows deleted%s%s, batches of %s rows in %s",
		p.Policy, deleted, share, speed, cleanup.FormatCount(int64(p.Rows)), report.Duration(p.Took))
	_ = d.notifier.Progress(d.status, systemd.TimeoutStart)
	d.line.draw(fmt.Sprintf("%s%s %s rows deleted%s%s", p.Policy, bar, deleted, share, speed))
}

// say shows a status that is not about batches.
func (d *display) say(status string) {
	d.status = status
	_ = d.notifier.Progress(status, systemd.TimeoutStart)
	d.line.draw(status)
}

// phase shows what is done until the returned function is called, and tells
// systemd every minute that a long statement is not a stuck program.
func (d *display) phase(status string) (end func()) {
	d.mu.Lock()
	d.say(status)
	d.mu.Unlock()
	ticker := time.NewTicker(time.Minute)
	done := make(chan struct{})
	go func() {
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				d.mu.Lock()
				_ = d.notifier.Progress(d.status, systemd.TimeoutStart)
				d.mu.Unlock()
			}
		}
	}()
	return func() { close(done) }
}

// waiting shows that the database is not there.
func (d *display) waiting(cause error, next time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	// The cause of the cause: a line of a terminal has no room for the address.
	for inner := errors.Unwrap(cause); inner != nil; inner = errors.Unwrap(cause) {
		cause = inner
	}
	d.say(fmt.Sprintf("waiting for the database, next try in %s: %v", report.Duration(next), cause))
}

// rate measures rows per second over the whole of a policy.
type rate struct {
	policy string
	start  time.Time
	rows   int64
}

func (r *rate) of(policy string, rows int64, now time.Time) int64 {
	if policy != r.policy {
		*r = rate{policy: policy, start: now, rows: rows}
	}
	seconds := now.Sub(r.start).Seconds()
	if seconds < 0.1 {
		return 0
	}
	return int64(float64(rows-r.rows) / seconds)
}

// line is the last line of a terminal, rewritten in place. What is written
// through it goes above. A nil line draws nothing.
type line struct {
	mu    sync.Mutex
	out   *os.File
	shown bool
}

func (l *line) draw(text string) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	text = strings.ReplaceAll(makeVisible(text), "\n", " ")
	if width, _, err := term.GetSize(int(l.out.Fd())); err == nil {
		if runes := []rune(text); width > 1 && len(runes) >= width {
			text = string(runes[:width-1])
		}
	}
	fmt.Fprintf(l.out, "\r%s\x1b[K", text)
	l.shown = true
}

func (l *line) clear() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.erase()
}

// Write implements io.Writer for the log.
func (l *line) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.erase()
	return l.out.Write(b)
}

func (l *line) erase() {
	if l.shown {
		fmt.Fprint(l.out, "\r\x1b[K")
		l.shown = false
	}
}
