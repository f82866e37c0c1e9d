package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
	config string // a file of its own, so that the machine's is not read
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
	p := program{binary: filepath.Join(dir, "message-cleanup"), config: filepath.Join(dir, "bench.yaml")}
	if err := os.WriteFile(p.config, []byte(programConfig), 0o644); err != nil {
		return p, err
	}
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
func (p program) run(ctx context.Context, url string, environment ...string) (m measurement, err error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, p.binary, "run", "--output", "json", "--config", p.config)
	cmd.Env = append(append(cleanEnvironment(), "DATABASE_URL="+url), environment...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr

	started := time.Now()
	err = cmd.Run()
	m.took = time.Since(started)
	if err != nil {
		return m, fmt.Errorf("message-cleanup: %w\n%s%s", err, stdout.Bytes(), stderr.Bytes())
	}
	m.memory = maxMemoryOf(cmd.ProcessState)
	m.batches = batchTimes(stderr.Bytes())
	if m.deleted, err = deletedCount(stdout.Bytes()); err != nil {
		return m, fmt.Errorf("%w in the output of message-cleanup: %s", err, stdout.Bytes())
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

// deletedCount reads the result as a script would, by its documented names.
func deletedCount(output []byte) (int64, error) {
	var result struct {
		Success      bool   `json:"success"`
		DeletedCount *int64 `json:"deleted_count"`
	}
	if err := json.Unmarshal(output, &result); err != nil {
		return 0, err
	}
	if !result.Success || result.DeletedCount == nil {
		return 0, errors.New("no success or no deleted_count")
	}
	return *result.DeletedCount, nil
}

// batchTimes reads the log's lines about batches.
func batchTimes(log []byte) []time.Duration {
	var times []time.Duration
	for line := range bytes.Lines(log) {
		var entry struct {
			Message  string `json:"msg"`
			Duration int64  `json:"duration_ms"`
		}
		if json.Unmarshal(line, &entry) == nil && entry.Message == "batch deleted" {
			times = append(times, time.Duration(entry.Duration)*time.Millisecond)
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
