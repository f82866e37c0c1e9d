package report

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
)

var firstNight = time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)

// night is the run of the nth night, from 02:00 UTC on for 10 s.
func night(n int, policies ...cleanup.PolicyResult) cleanup.Result {
	return cleanup.Result{Start: firstNight.AddDate(0, 0, n-1), Duration: 10 * time.Second, Policies: policies}
}

func policy(name string, deleted, backlog int64) cleanup.PolicyResult {
	p := cleanup.PolicyResult{
		Name: name, StopReason: cleanup.Exhausted, Deleted: deleted, Backlog: &backlog, Held: new(int64(3)), Batches: 2, Retries: 1,
		Paused:  map[cleanup.PauseReason]time.Duration{cleanup.PauseReplicaLag: 1500 * time.Millisecond},
		Batched: cleanup.Histogram{Sum: 300 * time.Millisecond},
	}
	p.Batched.Counts[6], p.Batched.Counts[7] = 1, 1 // up to 100 ms, up to 250 ms
	if backlog > 0 {
		p.Overdue, p.Locked = 90*time.Minute, backlog
	}
	return p
}

// series returns what the file says, by the text before each value, less the
// label that all have.
func allSeries(t *testing.T, path string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndex(line, " ")
		name := strings.NewReplacer(`{file="metrics"}`, "", `file="metrics",`, "", `file="metrics"`, "").Replace(line[:i])
		all[strings.TrimPrefix(name, "message_cleanup_")] = strings.TrimSpace(line[i:])
	}
	return all
}

func writeMetrics(t *testing.T, path string, r cleanup.Result, policies ...string) {
	t.Helper()
	if err := WriteMetrics(path, r, policies, "1.2.3"); err != nil {
		t.Fatal(err)
	}
}

// wantSeries compares some series; "" is one that must not be there.
func wantSeries(t *testing.T, path string, want map[string]string) {
	t.Helper()
	all := allSeries(t, path)
	got := make(map[string]string)
	for name := range want {
		got[name] = all[name]
	}
	if !maps.Equal(got, want) {
		compare(t, want, got)
	}
}

// The nights of two policies: counters go on, gauges are of the last run, and what
// was not found out is not there.
func TestMetricsGoOnFromNightToNight(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "metrics.prom")

	writeMetrics(t, path, night(1, policy("chat", 100, 0), policy("logs", 10, 0)), "chat", "logs")
	wantSeries(t, path, map[string]string{
		"last_run_timestamp_seconds":                               "1.77233041e+09",
		"last_success_timestamp_seconds":                           "1.77233041e+09",
		"last_run_duration_seconds":                                "10",
		`build_info{version="1.2.3"}`:                              "1",
		`last_run_outcome{outcome="complete",policy="chat"}`:       "1",
		`last_run_outcome{outcome="incomplete",policy="chat"}`:     "0",
		`last_run_outcome{outcome="failed",policy="chat"}`:         "0",
		`last_verified_timestamp_seconds{policy="chat"}`:           "1.77233041e+09",
		`backlog_rows{policy="chat"}`:                              "0",
		`oldest_overdue_seconds{policy="chat"}`:                    "0",
		`held_rows{policy="chat"}`:                                 "3",
		`locked_rows{policy="chat"}`:                               "0",
		`refused_rows{policy="chat"}`:                              "0",
		`deleted_rows_total{policy="chat"}`:                        "100",
		`deleted_rows_total{policy="logs"}`:                        "10",
		`batches_total{policy="chat"}`:                             "2",
		`retries_total{policy="chat"}`:                             "1",
		`paused_seconds_total{policy="chat",reason="replica_lag"}`: "1.5",
		`paused_seconds_total{policy="chat",reason="duty_cycle"}`:  "0",
		`batch_duration_seconds_bucket{policy="chat",le="0.05"}`:   "0",
		`batch_duration_seconds_bucket{policy="chat",le="0.1"}`:    "1",
		`batch_duration_seconds_bucket{policy="chat",le="+Inf"}`:   "2",
		`batch_duration_seconds_sum{policy="chat"}`:                "0.3",
	})

	writeMetrics(t, path, night(2, policy("chat", 50, 7), policy("logs", 1, 0)), "chat", "logs")
	wantSeries(t, path, map[string]string{
		"last_run_timestamp_seconds":                               "1.77241681e+09",
		"last_success_timestamp_seconds":                           "1.77233041e+09", // of the first night
		`last_run_outcome{outcome="incomplete",policy="chat"}`:     "1",
		`last_run_outcome{outcome="complete",policy="logs"}`:       "1",
		`last_verified_timestamp_seconds{policy="chat"}`:           "1.77233041e+09",
		`last_verified_timestamp_seconds{policy="logs"}`:           "1.77241681e+09",
		`backlog_rows{policy="chat"}`:                              "7",
		`oldest_overdue_seconds{policy="chat"}`:                    "5400",
		`locked_rows{policy="chat"}`:                               "7",
		`deleted_rows_total{policy="chat"}`:                        "150",
		`last_run_deleted_rows{policy="chat"}`:                     "50",
		`batches_total{policy="chat"}`:                             "4",
		`paused_seconds_total{policy="chat",reason="replica_lag"}`: "3",
		`batch_duration_seconds_bucket{policy="chat",le="0.1"}`:    "2",
		`batch_duration_seconds_count{policy="chat"}`:              "4",
	})

	// No connection, and no configuration.
	unreachable := night(3)
	unreachable.Err = cleanup.Errorf(cleanup.Unavailable, "", "connection refused")
	unreadable := night(4)
	unreadable.Err = errors.New("workers: none is not a whole number")
	for _, failed := range []struct {
		result   cleanup.Result
		policies []string
		ended    string
	}{{unreachable, []string{"chat", "logs"}, "1.77250321e+09"}, {unreadable, nil, "1.77258961e+09"}} {
		writeMetrics(t, path, failed.result, failed.policies...)
		wantSeries(t, path, map[string]string{
			"last_run_timestamp_seconds":                       failed.ended,
			"last_success_timestamp_seconds":                   "1.77233041e+09",
			`last_run_outcome{outcome="failed",policy="chat"}`: "1",
			`last_run_outcome{outcome="failed",policy="logs"}`: "1",
			`last_verified_timestamp_seconds{policy="logs"}`:   "1.77241681e+09",
			`backlog_rows{policy="chat"}`:                      "",
			`locked_rows{policy="chat"}`:                       "",
			`deleted_rows_total{policy="chat"}`:                "150",
			`batch_duration_seconds_count{policy="chat"}`:      "4",
		})
	}

	// Of one policy only: the other's stays as it is.
	writeMetrics(t, path, night(5, policy("chat", 1, 0)), "chat", "logs")
	wantSeries(t, path, map[string]string{
		"last_success_timestamp_seconds":                   "1.77233041e+09",
		`last_run_outcome{outcome="failed",policy="logs"}`: "1",
		`deleted_rows_total{policy="chat"}`:                "151",
		`deleted_rows_total{policy="logs"}`:                "11",
	})

	// One is taken out of the configuration.
	writeMetrics(t, path, night(6, policy("logs", 1, 0)), "logs")
	for name := range allSeries(t, path) {
		if strings.Contains(name, `"chat"`) {
			t.Errorf("%s is still there", name)
		}
	}
	wantSeries(t, path, map[string]string{"last_success_timestamp_seconds": "1.77276241e+09", `deleted_rows_total{policy="logs"}`: "12"})
}

// An alert on what never happened needs a series.
func TestMetricsOfAFirstRunThatFailed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "metrics.prom")
	r := night(1)
	r.Err = errors.New("connection refused")
	writeMetrics(t, path, r, "chat")
	wantSeries(t, path, map[string]string{
		"last_success_timestamp_seconds":                   "0",
		`last_verified_timestamp_seconds{policy="chat"}`:   "0",
		`last_run_outcome{outcome="failed",policy="chat"}`: "1",
		`deleted_rows_total{policy="chat"}`:                "0",
	})
}

func TestMetricsAreForEverybodyAndWrittenAsAWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "metrics.prom")
	if err := os.WriteFile(path, []byte("no metrics\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := WriteMetrics(path, night(1, policy("chat", 1, 0)), []string{"chat"}, "1")
	if err == nil || !strings.Contains(err.Error(), "begin anew") {
		t.Errorf("error is %v, want that the counters begin anew", err)
	}
	wantSeries(t, path, map[string]string{`deleted_rows_total{policy="chat"}`: "1"})
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("the file is %v (%v), want one that everybody may read", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, want the file alone", entries)
	}
	if err := WriteMetrics(filepath.Join(t.TempDir(), "\xff.prom"), night(1), nil, "1"); err != nil {
		t.Errorf("a name that is no UTF-8: %v", err)
	}
	if err := WriteMetrics(filepath.Join(dir, "nosuch", "metrics.prom"), night(2), nil, "1"); err == nil {
		t.Error("no error for a directory that is not there")
	}
}

// promtool runs Prometheus's own checks in a directory.
func promtool(t *testing.T, dir, stdin string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian: apt-get install prometheus)")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil || stdin != "" && len(out) > 0 { // check metrics says something only where something is wrong
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPrometheusLikesTheMetrics(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "metrics.prom")
	writeMetrics(t, path, night(1, policy(`odd "name"`, 1, 1)), `odd "name"`)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	promtool(t, "", string(text), "check", "metrics")
}
