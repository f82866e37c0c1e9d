package config

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"message-cleanup/internal/cleanup"
)

var ignoreSources = cmpopts.IgnoreUnexported(Config{})

// write puts content into a file of a directory of the test's own.
func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// loadHere loads without the default file of the host.
func loadHere(t *testing.T, o Options) (*Config, error) {
	t.Helper()
	return load(o, filepath.Join(t.TempDir(), "config.yaml"))
}

func mustLoad(t *testing.T, o Options) *Config {
	t.Helper()
	c, err := loadHere(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func defaults() *Config {
	return &Config{
		Database: Database{ConnectTimeout: 10 * time.Second, Wait: 5 * time.Minute},
		Policies: []cleanup.Policy{{
			Name: "messages", Table: "messages", Column: "expires_at",
			TimeZone: "UTC", Unit: cleanup.Seconds, Strategy: cleanup.Auto, Vacuum: cleanup.VacuumNever,
		}},
		Batch:    Batch{Target: 100 * time.Millisecond, MaxRows: 50000},
		Workers:  1,
		Pace:     Pace{DutyCycle: 1, MaxReplicaLag: 10 * time.Second, MaxPause: 10 * time.Minute},
		Guard:    Guard{MaxClockSkew: 5 * time.Minute, MaxFraction: 1},
		Schedule: Schedule{Cron: "0 2 * * *", TimeZone: "UTC", Jitter: 5 * time.Minute},
		Log:      Log{Level: slog.LevelInfo, Format: "auto"},
	}
}

func TestWithoutAnything(t *testing.T) {
	t.Parallel()
	c := mustLoad(t, Options{})
	if d := cmp.Diff(defaults(), c, ignoreSources); d != "" {
		t.Error(d)
	}
	for _, v := range c.Values() {
		if v.Source != "default" {
			t.Errorf("%s comes from %s", v.Key, v.Source)
		}
	}
}

func TestDefaultsRoundTrip(t *testing.T) {
	t.Parallel()
	want := mustLoad(t, Options{})
	file := write(t, "config.yaml", asYAML(want))
	got := mustLoad(t, Options{File: file})
	if d := cmp.Diff(want, got, ignoreSources); d != "" {
		t.Error(d)
	}
	for _, v := range got.Values() {
		if v.Source != "file "+file {
			t.Errorf("%s comes from %s", v.Key, v.Source)
		}
	}
}

// asYAML writes what Values says as a file.
func asYAML(c *Config) string {
	scalar := func(v Value) string {
		if strings.Trim(v.Value, "0123456789.") == "" && v.Value != "" {
			return v.Value
		}
		return fmt.Sprintf("%q", v.Value)
	}
	var b strings.Builder
	section := ""
	for _, v := range c.Values() {
		path, name, below := strings.Cut(v.Key, ".")
		if !below {
			section = ""
			fmt.Fprintf(&b, "%s: %s\n", v.Key, scalar(v))
			continue
		}
		indent := "  "
		if path != section {
			section = path
			if p, isPolicy := strings.CutSuffix(path, "[0]"); isPolicy {
				path, indent = p, "- "
			}
			fmt.Fprintf(&b, "%s:\n", path)
		}
		fmt.Fprintf(&b, "%s%s: %s\n", indent, name, scalar(v))
	}
	return b.String()
}

// samples holds three values for every scalar key, for the file, the
// environment and a flag. A new key needs a line here.
var samples = map[string][3]string{
	"database.url":             {"postgres://file/db", "postgres://env/db", "postgres://flag/db"},
	"database.connect_timeout": {"1s", "2s", "3s"},
	"database.wait":            {"0s", "2m", "3m"},
	"batch.target":             {"1ms", "1m", "3ms"},
	"batch.max_rows":           {"1", "10000000", "3"},
	"workers":                  {"2", "64", "1"},
	"pace.duty_cycle":          {"0.5", "0.25", "0.01"},
	"pace.max_replica_lag":     {"0s", "1m", "500ms"},
	"pace.max_slot_wal":        {"10GB", "1536MB", "1B"},
	"pace.max_pause":           {"1s", "1h", "1d"},
	"guard.max_clock_skew":     {"1s", "2s", "1d"},
	"guard.max_rows":           {"1", "2", "9223372036854775807"},
	"guard.max_fraction":       {"0.1", "0.2", "0.3"},
	"limits.max_duration":      {"1h", "90m", "36h"},
	"limits.max_rows":          {"1", "2", "3"},
	"ledger.table":             {"message_cleanup.runs", "runs", "audit.runs"},
	"schedule.cron":            {"0 3 * * *", "@daily", "30 0 2 * * 1-5"},
	"schedule.time_zone":       {"Europe/Berlin", "Asia/Tokyo", "America/New_York"},
	"schedule.jitter":          {"0s", "1m", "1h"},
	"metrics.textfile":         {"/a.prom", "/b.prom", "/c.prom"},
	"log.level":                {"debug", "warn", "error"},
	"log.format":               {"journal", "syslog", "json"},
}

func TestPrecedenceOfEveryScalarKey(t *testing.T) {
	t.Parallel()
	for _, k := range keys {
		if k.path == policiesPath {
			continue
		}
		sample, ok := samples[k.path]
		if !ok {
			t.Errorf("no samples for %s", k.path)
			continue
		}
		t.Run(k.path, func(t *testing.T) {
			t.Parallel()
			section, name, below := strings.Cut(k.path, ".")
			text := fmt.Sprintf("%s:\n  %s: %s\n", section, name, sample[0])
			if !below {
				text = fmt.Sprintf("%s: %s\n", section, sample[0])
			}
			file := write(t, "config.yaml", text)
			variable := "MESSAGE_CLEANUP_" + strings.ToUpper(strings.ReplaceAll(k.path, ".", "_"))
			flag := "--" + strings.NewReplacer("_", "-", ".", "-").Replace(k.path)
			for given := range 8 { // every subset of file, environment, flag
				var o Options
				want := Value{k.path, initial(t, k.path), "default"}
				if given&1 != 0 {
					o.File = file
					want = Value{k.path, sample[0], "file " + file}
				}
				if given&2 != 0 {
					o.Environ = []string{variable + "=" + sample[1]}
					want = Value{k.path, cleanedUp(sample[1]), "environment " + variable}
				}
				if given&4 != 0 {
					o.Flags = map[string]string{k.path: sample[2]}
					want = Value{k.path, sample[2], "flag " + flag}
				}
				checkOnly(t, mustLoad(t, o), want)
			}
		})
	}
}

// cleanedUp is how a sample is shown that is not written as it is shown.
func cleanedUp(s string) string {
	return strings.NewReplacer("90m", "1h30m").Replace(s)
}

func initial(t *testing.T, path string) string {
	t.Helper()
	for _, v := range mustLoad(t, Options{}).Values() {
		if v.Key == path {
			return v.Value
		}
	}
	t.Fatalf("Values lacks %s", path)
	return ""
}

// checkOnly checks one value, and that all others are still the defaults.
func checkOnly(t *testing.T, c *Config, want Value) {
	t.Helper()
	wants := mustLoad(t, Options{}).Values()
	for i := range wants {
		if wants[i].Key == want.Key {
			wants[i] = want
		}
	}
	if d := cmp.Diff(wants, c.Values()); d != "" {
		t.Error(d)
	}
}

func TestEveryVariableAndFlagIsOfOneKey(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, k := range keys {
		for _, name := range []string{variable(k.path), flagName(k.path)} {
			if other, taken := seen[name]; taken {
				t.Errorf("%s is of %s and of %s", name, other, k.path)
			}
			seen[name] = k.path
		}
	}
}

func TestWholeFile(t *testing.T) {
	t.Parallel()
	want := defaults()
	want.Database.URL = "host=h password=p"
	want.Batch.Target = 200 * time.Millisecond
	want.Batch.MaxRows = 1000
	want.Policies = []cleanup.Policy{
		{
			Name: "chat", Table: "App.Messages", Column: "created_at", Retention: 48 * time.Hour,
			Where: "kind = 'chat'", Hold: "legal_hold", Strategy: cleanup.Heap, Vacuum: cleanup.VacuumAfter, TimeZone: "Europe/Berlin", Unit: cleanup.Milliseconds,
		},
		{Name: "audit", Table: "audit", Column: "expires_at", Strategy: cleanup.Auto, Vacuum: cleanup.VacuumNever, TimeZone: "UTC", Unit: cleanup.Seconds},
	}
	files := map[string]string{
		"config.yaml": `
DATABASE:
  url: host=h password=p
batch: {target: 200ms, Max_Rows: 1000}
guard:
  max_fraction: 1
limits:
policies:
  - name: chat
    Table: App.Messages
    column: created_at
    retention: 2d
    where: kind = 'chat'
    hold: legal_hold
    strategy: heap
    vacuum: after
    time_zone: Europe/Berlin
    unit: ms
  - table: audit
`,
		"config.yml": "---\n# one document is enough\ndatabase: {url: host=h password=p}\nbatch: {target: 200ms, max_rows: 1e3}\n" +
			"policies: [{name: chat, table: App.Messages, column: created_at, retention: 48h, where: kind = 'chat', hold: legal_hold, strategy: heap, vacuum: after, time_zone: Europe/Berlin, unit: ms}, {table: audit}]\n",
		"config.toml": `
database.url = "host=h password=p"
[batch]
target = "200ms"
max_rows = 1_000
[[policies]]
name = "chat"
table = "App.Messages"
column = "created_at"
retention = "2d"
where = "kind = 'chat'"
hold = "legal_hold"
strategy = "heap"
vacuum = "after"
time_zone = "Europe/Berlin"
unit = "ms"
[[policies]]
table = "audit"
`,
		"config.json": `{
"database": {"url": "host=h password=p"},
"batch": {"target": "200ms", "max_rows": 1000},
"guard": {"max_fraction": 1},
"policies": [
  {"name": "chat", "table": "App.Messages", "column": "created_at", "retention": "1d24h", "where": "kind = 'chat'",
   "hold": "legal_hold", "strategy": "heap", "vacuum": "after", "time_zone": "Europe/Berlin", "unit": "ms"},
  {"table": "audit"}]}`,
	}
	for name, content := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := Load(Options{File: write(t, name, content)})
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, c, ignoreSources); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestDefaultFileIsReadIfItExists(t *testing.T) {
	t.Parallel()
	file := write(t, "config.yaml", "log: {level: warn}\n")
	c, err := load(Options{}, file)
	if err != nil {
		t.Fatal(err)
	}
	checkOnly(t, c, Value{"log.level", "warn", "file " + file})

	named := write(t, "config.yaml", "log: {format: json}\n")
	c, err = load(Options{File: named}, file)
	if err != nil {
		t.Fatal(err)
	}
	checkOnly(t, c, Value{"log.format", "json", "file " + named})
}

func TestEmptyFileIsNoConfiguration(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "# log:\n#   level: warn\n", "---\n", "database:\n  # url: x\n"} {
		c := mustLoad(t, Options{File: write(t, "config.yaml", content)})
		if d := cmp.Diff(defaults(), c, ignoreSources); d != "" {
			t.Errorf("%q: %s", content, d)
		}
	}
}

func TestValuesOfPolicies(t *testing.T) {
	t.Parallel()
	file := write(t, "config.yaml", "policies:\n- {table: a, retention: 36h}\n- {table: b, name: bee}\n")
	got := map[string]Value{}
	for _, v := range mustLoad(t, Options{File: file}).Values() {
		got[v.Key] = v
	}
	for _, want := range []Value{
		{"policies[0].name", "a", "default"},
		{"policies[0].table", "a", "file " + file},
		{"policies[0].retention", "36h", "file " + file},
		{"policies[0].strategy", "auto", "default"},
		{"policies[1].name", "bee", "file " + file},
		{"policies[1].retention", "0s", "default"},
	} {
		if got[want.Key] != want {
			t.Errorf("got %v, want %v", got[want.Key], want)
		}
	}
}

// A run that fails because of its configuration leaves metrics all the same.
func TestTheMetricsFileIsKnownThoughAllElseIsWrong(t *testing.T) {
	t.Parallel()
	const wrong = "nonsense: 1\nworkers: none\n"
	tests := []struct {
		name, file, want string
		environ          []string
	}{
		{"not set", wrong, "", nil},
		{"in the file", wrong + "metrics: {textfile: /m.prom}\n", "/m.prom", nil},
		{"in the environment", wrong, "/e.prom", []string{"MESSAGE_CLEANUP_METRICS_TEXTFILE=/e.prom"}},
		{"in the environment, of a file that is none", "[", "/e.prom", []string{"MESSAGE_CLEANUP_METRICS_TEXTFILE=/e.prom"}},
		{"wrong itself", wrong + "metrics: {textfile: m.txt}\n", "", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := Options{File: write(t, "config.yaml", tt.file), Environ: tt.environ}
			if _, err := Load(o); err == nil {
				t.Fatal("the configuration is not wrong")
			}
			if got := MetricsTextfile(o); got != tt.want {
				t.Errorf("the file is %q, want %q", got, tt.want)
			}
		})
	}
}
