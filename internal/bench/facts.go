package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// facts are what the numbers depend on. A figure without its machine is worth
// nothing.
type facts struct {
	Date     string
	Program  string // the version that was measured
	Cores    int
	Memory   int64 // bytes
	CPU      string
	Disk     string // the file system
	Postgres string
	Go       string
	Kernel   string
	Settings string // of the server
}

func (w *workbench) readFacts(ctx context.Context) (f facts, err error) {
	if err := w.connect(ctx); err != nil {
		return f, err
	}
	f = facts{
		Date:    time.Now().UTC().Format(time.DateOnly),
		Program: "unknown",
		Cores:   runtime.NumCPU(), Memory: machineMemory(), CPU: valueIn("/proc/cpuinfo", "model name"),
		Disk: fileSystem(w.cluster.Dir), Go: runtime.Version(), Kernel: kernel(),
	}
	if version, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		f.Program = strings.TrimSpace(string(version))
	}
	err = w.admin.QueryRow(ctx, `
SELECT current_setting('server_version'), string_agg(name || '=' || current_setting(name), ', ' ORDER BY name)
FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'shared_buffers', 'max_wal_size', 'autovacuum')`).
		Scan(&f.Postgres, &f.Settings)
	return f, err
}

// machineMemory returns the machine's memory in bytes, 0 if unknown.
func machineMemory() int64 {
	text, _, _ := strings.Cut(valueIn("/proc/meminfo", "MemTotal"), " ")
	kb, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return kb * 1024
}

// valueIn returns the first value of a key in one of the kernel's files of
// lines "key : value".
func valueIn(file, key string) string {
	f, err := os.Open(file)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(release))
}

// fileSystem names the kind of file system that dir is on: on a tmpfs fsync
// costs nothing, and the figures are another machine's.
func fileSystem(dir string) string {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "unknown file system"
	}
	kind, longest := "unknown file system", -1
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		point := strings.TrimSuffix(fields[1], "/")
		if strings.HasPrefix(dir+"/", point+"/") && len(point) >= longest {
			kind, longest = fields[2], len(point)
		}
	}
	return kind
}
