package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// program is message-cleanup as it is shipped.
type program struct {
	binary string
	dir    string // where configuration files are written: the machine's is not read
}

// programConfig is the default but for the log, which tells how long each
// batch took. A line per batch of about 100 ms costs nothing that shows.
const programConfig = `
log:
  level: debug
  format: json
`

// buildProgram builds the binary into dir, with the flags that matter of those
// that `make build` uses.
func buildProgram(ctx context.Context, dir string) (program, error) {
	p := program{binary: filepath.Join(dir, "message-cleanup"), dir: dir}
	// By import path: a test's working directory is not the module's root.
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w",
		"-o", p.binary, "message-cleanup/cmd/message-cleanup")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return p, fmt.Errorf("build message-cleanup: %w\n%s", err, output)
	}
	return p, nil
}

// run runs the program on a database and takes its time from start to exit.
// policies is YAML, or "" for the default.
func (p program) run(ctx context.Context, url, policies string, environment ...string) (m measurement, err error) {
	config := filepath.Join(p.dir, "bench.yaml")
	if err := os.WriteFile(config, []byte(programConfig+policies), 0o644); err != nil {
		return m, err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, p.binary, "run", "--output", "json", "--config", config)
	cmd.Env = append(append(cleanEnvironment(), "DATABASE_URL="+url), environment...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr

	started := time.Now()
	err = cmd.Run()
	m.Seconds = since(started)
	if cmd.ProcessState == nil {
		return m, err
	}
	r, unreadable := readOutput(stdout.Bytes())
	switch {
	case cmd.ProcessState.ExitCode() == exitIncomplete && r.stoppedInTime():
		m.Stopped = true // as a way with a limit of time has told it to
	case err != nil:
		return m, fmt.Errorf("message-cleanup: %w: %s", err, cmp.Or(r.Error, stderr.String()))
	case unreadable != nil || !r.Success || r.DeletedCount == nil:
		return m, fmt.Errorf("message-cleanup: no success or no deleted_count in its output: %s", stdout.Bytes())
	}
	m.Deleted = *r.DeletedCount
	m.Memory = maxMemoryOf(cmd.ProcessState)
	m.setBatches(batchTimes(stderr.Bytes()))
	for _, policy := range r.Policies {
		m.Strategy = policy.Strategy
		m.Dropped += len(policy.Dropped)
	}
	return m, nil
}

// cleanEnvironment leaves out what would change the program's configuration,
// or make it report to systemd.
func cleanEnvironment() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "PG"), strings.HasPrefix(name, "MESSAGE_CLEANUP_"):
		case name == "DATABASE_URL", name == "CREDENTIALS_DIRECTORY", name == "NOTIFY_SOCKET", name == "JOURNAL_STREAM":
		default:
			env = append(env, kv)
		}
	}
	return env
}

// exitIncomplete is EX_TEMPFAIL: what is left is the next run's.
const exitIncomplete = 75

// output is the program's result by its documented names, as a script reads it.
type output struct {
	Success      bool   `json:"success"`
	DeletedCount *int64 `json:"deleted_count"`
	Error        string `json:"error"`
	Policies     []struct {
		Strategy   string   `json:"strategy"`
		StopReason string   `json:"stop_reason"`
		Dropped    []string `json:"dropped_partitions"`
	} `json:"policies"`
}

func readOutput(text []byte) (o output, err error) {
	err = json.Unmarshal(text, &o)
	return o, err
}

// stoppedInTime tells whether the program ended because its time was spent.
func (o output) stoppedInTime() bool {
	return o.DeletedCount != nil && len(o.Policies) == 1 && o.Policies[0].StopReason == "time_budget"
}

// batchTimes reads the log's lines about batches; in milliseconds.
func batchTimes(log []byte) []float64 {
	var times []float64
	for line := range bytes.Lines(log) {
		var entry struct {
			Message  string  `json:"msg"`
			Duration float64 `json:"duration_ms"`
		}
		if json.Unmarshal(line, &entry) == nil && entry.Message == "batch deleted" {
			times = append(times, entry.Duration)
		}
	}
	return times
}

// maxMemoryOf returns the largest resident set of an ended process, in bytes.
// It is an upper bound: Linux starts a process's account with the size of the
// one that it was forked from (exec_mmap in fs/exec.c), which is ours.
func maxMemoryOf(ended *os.ProcessState) int64 {
	usage, ok := ended.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	return int64(usage.Maxrss) * 1024 // Linux counts in units of 1 kB
}
