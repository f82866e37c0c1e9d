package report

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What the packages bring for those who watch: alerts and a dashboard.
const (
	monitoring    = "../../packaging/monitoring"
	rulesFile     = "message-cleanup.rules.yaml"
	dashboardFile = "dashboard.json"
)

func TestAlertsFireWhenTheyShould(t *testing.T) {
	t.Parallel()
	promtool(t, monitoring, "", "check", "rules", rulesFile)
	promtool(t, monitoring, "", "test", "rules", "rules_test.yaml")
}

func TestAlertsNameMetricsThatExist(t *testing.T) {
	t.Parallel()
	wantKnownMetrics(t, rulesFile, readMonitoring(t, rulesFile))
}

// Each query of the dashboard is one that Prometheus can read, over metrics that
// there are.
func TestDashboardNamesMetricsThatExist(t *testing.T) {
	t.Parallel()
	text := readMonitoring(t, dashboardFile)
	wantKnownMetrics(t, dashboardFile, text)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
		t.Fatal(err)
	}
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for _, panel := range dashboard.Panels {
		if len(panel.Targets) == 0 {
			t.Errorf("panel %q has no query", panel.Title)
		}
		for _, target := range panel.Targets {
			if names := metricName.FindAllString(target.Expr, -1); len(names) != 1 {
				t.Errorf("panel %q: %s names %v, want one metric", panel.Title, target.Expr, names)
			}
			fmt.Fprintf(&rules, "  - record: 'query:%d'\n    expr: '%s'\n", rules.Len(), target.Expr)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, dir, "", "check", "rules", "rules.yaml")
}

var metricName = regexp.MustCompile(`\bmessage_cleanup_[a-z_]+\b`)

func readMonitoring(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(monitoring, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func wantKnownMetrics(t *testing.T, file, text string) {
	t.Helper()
	known := []string{batchMetric + "_bucket", batchMetric + "_count", batchMetric + "_sum"}
	for _, m := range metrics {
		known = append(known, m.name)
	}
	names := metricName.FindAllString(text, -1)
	if len(names) < 5 {
		t.Fatalf("%s names only %v", file, names)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			t.Errorf("%s: there is no metric %s", file, name)
		}
	}
}
