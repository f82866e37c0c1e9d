package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// The application: what it does how often, in how many sessions. The rate is
// one that two cores serve without effort.
const (
	loadRate    = 300 // transactions per second
	loadClients = 8
)

// loadScripts are pgbench's; of four transactions two read.
var loadScripts = []struct {
	name   string
	weight int
	sql    string
}{
	{"insert", 1, `
\set conversation random(1, 1000)
\set sender random(1, 200)
INSERT INTO messages (conversation_id, sender_id, role, body)
VALUES (:conversation, :sender, 'user', repeat('hello again ', 30));
`},
	{"read", 2, `
\set conversation random(1, 1000)
SELECT id, sender_id, role, body, created_at
FROM messages WHERE conversation_id = :conversation ORDER BY created_at DESC LIMIT 50;
`},
	{"update", 1, `
\set message random(:recent, :last)
UPDATE messages SET role = 'assistant' WHERE id = :message;
`},
}

// load is pgbench at work.
type load struct {
	cmd    *exec.Cmd
	output bytes.Buffer
	dir    string // of its logs
}

// startLoad lets the application work on the copy. Recent messages are the
// last tenth of those that were there before.
func (w *workbench) startLoad(ctx context.Context) (*load, error) {
	dir, err := os.MkdirTemp(w.program.dir, "load-")
	if err != nil {
		return nil, err
	}
	l := &load{dir: dir}
	args := []string{
		"--no-vacuum", "--client", strconv.Itoa(loadClients), "--jobs", "2", "--rate", strconv.Itoa(loadRate),
		"--time", "3600", "--protocol", "prepared", "--log", "--log-prefix", filepath.Join(dir, "log"),
		"--define", fmt.Sprintf("recent=%d", w.tableRows-w.tableRows/10), "--define", fmt.Sprintf("last=%d", w.tableRows),
	}
	for _, script := range loadScripts {
		file := filepath.Join(dir, script.name+".sql")
		if err := os.WriteFile(file, []byte(script.sql), 0o644); err != nil {
			return nil, err
		}
		args = append(args, "--file", fmt.Sprintf("%s@%d", file, script.weight))
	}
	l.cmd = exec.CommandContext(ctx, w.cluster.Program("pgbench"), append(args, w.cluster.URL(copyName))...)
	l.cmd.Env = append(cleanEnvironment(), "PGAPPNAME=bench_load", "LC_ALL=C")
	l.cmd.Stdout, l.cmd.Stderr = &l.output, &l.output
	// It shall not outlive this process.
	l.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := l.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start pgbench: %w", err)
	}
	return l, nil
}

// end ends pgbench by ending its sessions: ended by a signal it would lose the
// end of its log.
func (l *load) end(ctx context.Context, conn *pgx.Conn) error {
	var sessions int
	err := conn.QueryRow(ctx, `
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'bench_load'`).
		Scan(&sessions)
	if err != nil {
		return err
	}
	_ = l.cmd.Wait() // fails, as every session was lost
	if sessions != loadClients {
		return fmt.Errorf("pgbench had %d of %d sessions at the end:\n%s", sessions, loadClients, l.output.Bytes())
	}
	return nil
}

// kill ends pgbench if it still runs, and forgets what it wrote.
func (l *load) kill() {
	if l.cmd.ProcessState == nil {
		_ = l.cmd.Process.Kill()
		_ = l.cmd.Wait()
	}
	_ = os.RemoveAll(l.dir)
}

// latencies returns those of the transactions that were due between the two
// moments, in milliseconds, sorted. With --rate pgbench counts from when a
// transaction was due, so waiting for a free session is part of it.
func (l *load) latencies(from, until time.Time) ([]float64, error) {
	files, err := filepath.Glob(filepath.Join(l.dir, "log*"))
	if err != nil {
		return nil, err
	}
	var times []float64
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			t, err := parseTransaction(lines.Text())
			if err != nil {
				f.Close()
				return nil, fmt.Errorf("read %s: %w", file, err)
			}
			if due := t.ended.Add(-t.latency); !due.Before(from) && due.Before(until) {
				times = append(times, milliseconds(t.latency))
			}
		}
		f.Close()
	}
	slices.Sort(times)
	return times, nil
}

type transaction struct {
	ended   time.Time
	latency time.Duration
}

// parseTransaction reads a line of pgbench's log: client, number, latency in
// microseconds, script, the time of its end in seconds and microseconds, lag.
func parseTransaction(line string) (t transaction, err error) {
	fields := strings.Fields(line)
	if len(fields) < 6 {
		return t, fmt.Errorf("%q has too few fields", line)
	}
	var numbers [3]int64
	for i, n := range []int{2, 4, 5} {
		if numbers[i], err = strconv.ParseInt(fields[n], 10, 64); err != nil {
			return t, fmt.Errorf("%q: %w", line, err)
		}
	}
	return transaction{
		ended:   time.Unix(numbers[1], numbers[2]*1000),
		latency: time.Duration(numbers[0]) * time.Microsecond,
	}, nil
}

// setLatency takes the percentiles of sorted times.
func (m *measurement) setLatency(sorted []float64) {
	if m.Transactions = len(sorted); m.Transactions == 0 {
		return
	}
	// The smallest value that at least this share does not exceed.
	percentile := func(p float64) float64 { return sorted[max(0, int(math.Ceil(p*float64(len(sorted))))-1)] }
	m.Latency = &latency{P50: percentile(0.5), P95: percentile(0.95), P99: percentile(0.99), P999: percentile(0.999)}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
