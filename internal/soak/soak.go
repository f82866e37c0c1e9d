package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/pgtest"
)

const (
	// backlog is what every run finds at least, so that it is at work for a while.
	backlog = 10_000

	// runLimit is how long a run may take. It is stuck if it takes longer: the
	// server is away for seconds only.
	runLimit = 3 * time.Minute

	// settling is how long the server may take to notice that nobody is there.
	settling = 30 * time.Second

	// memoryLimit is far above what a run needs.
	memoryLimit = 128 << 20
)

// field is where it all happens.
type field struct {
	cluster *pgtest.Cluster
	binary  string
	dir     string // for the wire and the configuration
	wire    *wire
	report  *report

	happened []string // to the run in work
}

// soak lets runs and faults happen for a time, and then a last run in peace.
// The report is valid beside an error.
func soak(ctx context.Context, binary string, length time.Duration, progress io.Writer) (*report, error) {
	began := time.Now()
	f := &field{binary: binary, report: &report{statuses: make(map[string]int), faults: make(map[string]int)}}
	defer func() { f.report.length = time.Since(began) }()
	var err error
	if f.cluster, err = pgtest.Start(ctx, pgtest.Options{}); err != nil {
		return f.report, err
	}
	defer f.cluster.Close()
	if f.dir, err = os.MkdirTemp("", "soak"); err != nil {
		return f.report, err
	}
	defer os.RemoveAll(f.dir)
	if f.wire, err = newWire(f.dir, f.cluster.Dir); err != nil {
		return f.report, err
	}
	defer f.wire.close()
	if err := f.connected(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, tables)
		return err
	}); err != nil {
		return f.report, err
	}

	using, endUse := context.WithCancel(ctx)
	u := &use{url: f.cluster.URL("postgres")}
	quiet := u.start(using)
	defer func() {
		endUse()
		quiet()
		f.report.inserted += u.inserted.Load()
		f.report.extended = u.extended.Load()
	}()
	told := began
	for time.Since(began) < length && ctx.Err() == nil {
		if err := f.round(ctx, true); err != nil {
			return f.report, err
		}
		if time.Since(told) >= time.Minute {
			told = time.Now()
			fmt.Fprintf(progress, "%s: %d runs, %d rows deleted, violations: %q\n",
				time.Since(began).Round(time.Second), f.report.runs, f.report.deleted, f.report.violations)
		}
	}
	endUse()
	quiet()
	return f.report, f.round(context.WithoutCancel(ctx), false)
}

// connected does something on a connection of its own, directly at the server.
func (f *field) connected(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, f.cluster.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return do(conn)
}

// round is one run, with or without faults, and the check of what it did.
func (f *field) round(ctx context.Context, faulty bool) error {
	err := f.connected(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, insertSQL, backlog, 1.0)
		return err
	})
	if err != nil {
		return fmt.Errorf("fill the table: %w", err)
	}
	f.report.inserted += backlog
	f.report.runs++
	workers := 1 + rand.IntN(4)
	r, err := f.run(ctx, workers, faulty)
	if err != nil {
		return err
	}
	if f.report.connections = max(f.report.connections, r.connections); r.connections > 2*(workers+2) { // the lost ones linger
		f.report.violate("%d connections of %d workers", r.connections, workers)
	}
	if f.report.memory = append(f.report.memory, r.memory); r.memory > memoryLimit {
		f.report.violate("%d bytes of memory", r.memory)
	}
	if err := f.check(ctx, r); err != nil {
		return fmt.Errorf("check run %d: %w", f.report.runs, err)
	}
	if !faulty && (r.Deleted == nil || !r.Success) {
		f.report.violate("in peace it ended with %s: %s", r.status, r.Error)
	}
	return nil
}

// ended is how a run ended.
type ended struct {
	Success  bool
	Error    string
	Deleted  *int64 `json:"deleted_count"` // nil: it had no time to say
	Policies []struct {
		Cutoff time.Time
	}

	status      string
	memory      int64 // bytes, at most
	connections int   // at most
}

// run runs the program, with faults at random moments.
func (f *field) run(ctx context.Context, workers int, faulty bool) (r ended, err error) {
	config := filepath.Join(f.dir, "config.yaml")
	text := fmt.Sprintf("policies: [{table: messages, strategy: %s}]\nworkers: %d\nbatch: {max_rows: %d}\ndatabase: {wait: 1m}\n",
		[]string{"auto", "index", "heap"}[rand.IntN(3)], workers, 50+rand.IntN(2000))
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return r, err
	}
	limited, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(limited, f.binary, "run", "--output", "json", "--config", config)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + f.dir,
		"DATABASE_URL=host=" + f.wire.dir + " user=postgres dbname=postgres sslmode=disable"}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return r, err
	}
	exited := make(chan struct{})
	f.happened = nil
	var group sync.WaitGroup
	group.Go(func() { r.connections = f.countConnections(ctx, exited) })
	if faulty {
		group.Go(func() { f.disturb(ctx, cmd.Process, exited) })
	}
	_ = cmd.Wait()
	close(exited)
	group.Wait()
	if limited.Err() != nil && ctx.Err() == nil {
		f.report.violate("it was stuck; its log ends:\n%s", tail(stderr.Bytes()))
	}
	r.status = fmt.Sprint(cmd.ProcessState.ExitCode())
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		r.status = "by " + status.Signal().String()
	}
	f.report.statuses[r.status]++
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		r.memory = usage.Maxrss * 1024 // Linux counts in kB
	}
	killed := r.status == "by "+syscall.SIGKILL.String()
	early := r.status == "by "+syscall.SIGTERM.String() && stderr.Len() == 0 // before it could listen to signals
	if stdout.Len() == 0 && (killed || early) {
		return r, nil
	}
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil || r.Deleted == nil {
		f.report.violate("it ended with %s and without a result: %s; its log ends:\n%s", r.status, stdout.String(), tail(stderr.Bytes()))
	}
	// What a person, or the configuration, should mend is not there.
	if r.status != "0" && r.status != "75" && !killed {
		f.report.violate("it ended with %s: %s", r.status, r.Error)
	}
	return r, nil
}

func tail(log []byte) string { return string(log[max(0, len(log)-2000):]) }

// disturb lets one to three different faults happen while a run is at work.
func (f *field) disturb(ctx context.Context, program *os.Process, exited <-chan struct{}) {
	for _, i := range rand.Perm(len(faults))[:1+rand.IntN(3)] {
		select {
		case <-exited:
			return
		case <-time.After(upTo(400 * time.Millisecond)):
		}
		chosen := faults[i]
		if err := chosen.do(ctx, f, program); err != nil {
			if !errors.Is(err, os.ErrProcessDone) {
				chosen.name += ", in vain"
			} else {
				continue
			}
		}
		f.report.faults[chosen.name]++
		f.happened = append(f.happened, chosen.name)
	}
}

// countConnections watches how many connections the program has.
func (f *field) countConnections(ctx context.Context, exited <-chan struct{}) (most int) {
	for {
		_ = f.connected(ctx, func(conn *pgx.Conn) error {
			for {
				var n int
				if err := conn.QueryRow(ctx, "SELECT count(*) "+programsBackends).Scan(&n); err != nil {
					return err
				}
				most = max(most, n)
				select {
				case <-exited:
					return nil
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
		select {
		case <-exited:
			return most
		case <-time.After(50 * time.Millisecond): // the server is down
		}
	}
}
