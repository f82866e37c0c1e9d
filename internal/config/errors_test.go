package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// problems returns the lines of an error, and checks its type on the way.
func problems(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	errs, ok := errors.AsType[Errors](err)
	if !ok {
		t.Fatalf("%T is not Errors: %v", err, err)
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(errs) {
		t.Fatalf("%d errors in %d lines:\n%v", len(errs), len(lines), err)
	}
	return lines
}

const century100y = "36525d"

func TestFileIsRefused(t *testing.T) {
	t.Parallel()
	policy := func(rest string) string { return "policies:\n- table: messages\n  " + rest + "\n" }
	const units = " (hint: the units are w, d, h, m, s, ms, us and ns, e.g. 2d or 1d12h)"
	const unit = " (hint: write a unit, e.g. 30d or 0s)"
	const zones = " (hint: write an IANA name, e.g. UTC or Europe/Berlin)"
	const noValue = ": has no value (hint: write one, or remove the key)"
	const sizes = " (hint: the units are B, kB, MB, GB and TB, e.g. 10GB)"
	const fractions = " (hint: write a number above 0 and up to 1, e.g. 0.5)"
	const prom = " of a file that ends in .prom (hint: write e.g. /var/lib/message-cleanup/metrics.prom)"
	tests := []struct{ name, file, want string }{
		{"misspelt unit", policy("retention: 2 dayz"), `policies[0].retention: "2 dayz" is not a duration` + units},
		{"bare number", policy("retention: 30"), `policies[0].retention: 30 has no unit` + unit},
		{"bare number in quotes", policy(`retention: "30"`), `policies[0].retention: "30" has no unit` + unit},
		{"bare zero", policy("retention: 0"), `policies[0].retention: 0 has no unit` + unit},
		{"bare fraction", policy("retention: 1.5"), `policies[0].retention: 1.5 has no unit` + unit},
		{"negative retention", policy("retention: -2d"), `policies[0].retention: "-2d" is negative (hint: from 0s to 36525d)`},
		{"retention past a century", policy("retention: 36525d1ns"), `policies[0].retention: "36525d1ns" is too long (hint: from 0s to ` + century100y + `)`},
		{"retention overflows", policy("retention: 999999999d"), `policies[0].retention: "999999999d" is too long (hint: about 292 years is the longest that can be computed with)`},
		{"retention without value", policy("retention:"), `policies[0].retention` + noValue},
		{"retention of a list", policy("retention: [2d]"), `policies[0].retention: a list is not a duration` + unit},
		{"retention true", policy("retention: true"), `policies[0].retention: true is not a duration` + unit},

		{"empty list", "policies: []\n", "policies: the list is empty (hint: name a table, e.g. - table: messages, or remove the key)"},
		{"list of comments", "policies:\n# - table: messages\n", "policies: the list is empty (hint: name a table, e.g. - table: messages, or remove the key)"},
		{"list as a map", "policies: {table: messages}\n", "policies: a section where a list belongs (hint: write one item for each policy, e.g. - table: messages)"},
		{"list as text", "policies: messages\n", "policies: text where a list belongs (hint: write one item for each policy, e.g. - table: messages)"},
		{"item as text", "policies: [messages]\n", "policies[0]: text where a policy belongs (hint: write its keys, e.g. table: messages)"},
		{"item of nothing", "policies:\n-\n", "policies[0]: nothing where a policy belongs (hint: write its keys, e.g. table: messages)"},
		{"no table", "policies: [{name: a}]\n", "policies[0].table: is missing (hint: name the table, e.g. table: messages)"},
		{"empty table", "policies: [{table: ''}]\n", "policies[0].table: is empty (hint: write a name, or remove the key)"},
		{"blank column", policy("column: ' '"), "policies[0].column: is empty (hint: write a name, or remove the key)"},
		{"blank name", policy(`name: "\t"`), "policies[0].name: is empty (hint: write a name, or remove the key)"},
		{"name is a number", policy("name: 12"), "policies[0].name: 12 is not text (hint: put it in quotes)"},
		{"name is a date", policy("name: 2024-01-01"), "policies[0].name: a date is not text (hint: put it in quotes)"},
		{"one name twice", "policies: [{table: a, name: x}, {table: b}, {table: c, name: x}]\n", `policies[2].name: "x" is the name of policies[0] already (hint: give each policy a name of its own)`},
		{"one table twice", "policies: [{table: a}, {table: a}]\n", `policies[1].name: "a" is the name of policies[0] already (hint: give each policy a name of its own)`},
		{"unknown strategy", policy("strategy: fast"), `policies[0].strategy: "fast" is not a known value (hint: write auto, index, heap or partition)`},
		{"unknown vacuum", policy("vacuum: full"), `policies[0].vacuum: "full" is not a known value (hint: write never or after)`},
		{"unknown unit", policy("unit: ns"), `policies[0].unit: "ns" is not a known value (hint: write s, ms or us)`},
		{"local zone", policy("time_zone: Local"), `policies[0].time_zone: "Local" does not name a zone` + zones},
		{"empty zone", policy("time_zone: ''"), `policies[0].time_zone: "" does not name a zone` + zones},
		{"unknown zone", policy("time_zone: Europe/Bonn"), `policies[0].time_zone: "Europe/Bonn" is not a known time zone` + zones},
		{"NUL in where", policy(`where: "a\0"`), "policies[0].where: contains a NUL byte (hint: PostgreSQL cannot take one)"},
		{"NUL in hold", policy(`hold: "a\0"`), "policies[0].hold: contains a NUL byte (hint: PostgreSQL cannot take one)"},
		{"blank where", policy("where: ' '"), "policies[0].where: is blank (hint: write an SQL condition, or remove the key)"},
		{"hold is true", policy("hold: true"), "policies[0].hold: true is not text (hint: put it in quotes)"},
		{"hold without value", policy("hold:"), "policies[0].hold" + noValue},

		{"unknown key in a policy", "policies: [{table: a}, {table: b, retension: 2d}]\n", "policies[1].retension: unknown key (hint: did you mean retention?)"},
		{"unknown key in a section", "batch: {max_row: 12}\n", "batch.max_row: unknown key (hint: did you mean max_rows?)"},
		{"unknown section", "bach: {max_rows: 12}\n", "bach: unknown key (hint: did you mean batch?)"},
		{"unknown empty section", "bach: {}\n", "bach: unknown key (hint: did you mean batch?)"},
		{"key of another section", "max_rows: 12\n", "max_rows: unknown key (hint: did you mean batch.max_rows, guard.max_rows or limits.max_rows?)"},
		{"policy key at the top", "retention: 2d\n", "retention: unknown key (hint: did you mean policies[].retention?)"},
		{"path as a key", "batch.max_rows: 12\n", "batch.max_rows: unknown key (hint: nest it: max_rows below batch)"},
		{"far from all", "log: {colour: true}\n", "log.colour: unknown key (hint: the keys here are format, level)"},
		{"key is a number", "1: 2\n", "1: unknown key (hint: the keys here are batch, database, guard, ledger, limits, log, metrics, pace, policies, schedule, workers)"},
		{"key is a number further down", "log: {1: 2}\n", "log.1: unknown key (hint: the keys here are format, level)"},

		{"scalar for a section", "batch: 12\n", "batch: a number where a section belongs (hint: its keys are max_rows, target)"},
		{"list for a section", "batch: [12]\n", "batch: a list where a section belongs (hint: its keys are max_rows, target)"},
		{"quoted number", "batch: {max_rows: \"12\"}\n", `batch.max_rows: "12" is text, not a number (hint: write it without quotes, e.g. 50000)`},
		{"true for a number", "batch: {max_rows: true}\n", "batch.max_rows: true is not a whole number (hint: write digits only, e.g. 50000)"},
		{"fraction for a number", "batch: {max_rows: 1.7}\n", "batch.max_rows: 1.7 is not a whole number (hint: write digits only, e.g. 50000)"},
		{"section for a number", "batch: {max_rows: {}}\n", "batch.max_rows: a section is not a whole number (hint: write digits only, e.g. 50000)"},
		{"number without value", "batch: {max_rows: }\n", "batch.max_rows" + noValue},
		{"no rows", "batch: {max_rows: 0}\n", "batch.max_rows: 0 is out of range (hint: from 1 to 10000000)"},
		{"too many rows", "batch: {max_rows: 10000001}\n", "batch.max_rows: 10000001 is out of range (hint: from 1 to 10000000)"},
		{"number past int64", "limits: {max_rows: 9223372036854775808}\n", "limits.max_rows: 9223372036854775808 is not a whole number (hint: write digits only, e.g. 50000)"},
		{"negative guard", "guard: {max_rows: -1}\n", "guard.max_rows: -1 is out of range (hint: 0 or more)"},
		{"blank ledger", "ledger: {table: ' '}\n", "ledger.table: is empty (hint: write a name, or remove the key)"},
		{"negative limit", "limits: {max_rows: -1}\n", "limits.max_rows: -1 is out of range (hint: 0 or more)"},
		{"negative time limit", "limits: {max_duration: -1s}\n", `limits.max_duration: "-1s" is negative (hint: from 0s to 36525d)`},
		{"short target", "batch: {target: 999us}\n", `batch.target: "999us" is too short (hint: from 1ms to 1m)`},
		{"long target", "batch: {target: 61s}\n", `batch.target: "61s" is too long (hint: from 1ms to 1m)`},
		{"no skew", "guard: {max_clock_skew: 0s}\n", `guard.max_clock_skew: "0s" is too short (hint: from 1ns to 36525d)`},
		{"no timeout", "database: {connect_timeout: 0s}\n", `database.connect_timeout: "0s" is too short (hint: from 1ns to 36525d)`},
		{"fraction of nothing", "guard: {max_fraction: 0}\n", "guard.max_fraction: 0 is out of range" + fractions},
		{"fraction past all", "guard: {max_fraction: 1.01}\n", "guard.max_fraction: 1.01 is out of range" + fractions},
		{"fraction NaN", "guard: {max_fraction: .nan}\n", "guard.max_fraction: NaN is out of range" + fractions},
		{"fraction in quotes", "guard: {max_fraction: '0.5'}\n", `guard.max_fraction: "0.5" is not a number` + fractions},
		{"never deleting", "pace: {duty_cycle: 0}\n", "pace.duty_cycle: 0 is out of range" + fractions},
		{"negative lag", "pace: {max_replica_lag: -1s}\n", `pace.max_replica_lag: "-1s" is negative (hint: from 0s to 36525d)`},
		{"no pause", "pace: {max_pause: 0s}\n", `pace.max_pause: "0s" is too short (hint: from 1s to 36525d)`},
		{"size without unit", "pace: {max_slot_wal: 10}\n", "pace.max_slot_wal: 10 has no unit" + sizes},
		{"size without unit in quotes", "pace: {max_slot_wal: '10'}\n", `pace.max_slot_wal: "10" has no unit` + sizes},
		{"size in capitals", "pace: {max_slot_wal: 10KB}\n", `pace.max_slot_wal: "10KB" is not a size` + sizes},
		{"size of a unit", "pace: {max_slot_wal: GB}\n", `pace.max_slot_wal: "GB" is not a size` + sizes},
		{"size with two points", "pace: {max_slot_wal: 1.0.0GB}\n", `pace.max_slot_wal: "1.0.0GB" is not a size` + sizes},
		{"negative size", "pace: {max_slot_wal: -1GB}\n", `pace.max_slot_wal: "-1GB" is not a size` + sizes},
		{"size with a rest", "pace: {max_slot_wal: 1GB and more}\n", `pace.max_slot_wal: "1GB and more" is not a size` + sizes},
		{"size of nothing", "pace: {max_slot_wal: 0GB}\n", `pace.max_slot_wal: "0GB" is too small (hint: write "" for none)`},
		{"size of half a byte", "pace: {max_slot_wal: 0.4B}\n", `pace.max_slot_wal: "0.4B" is too small (hint: write "" for none)`},
		{"size past int64", "pace: {max_slot_wal: 8388608TB}\n", `pace.max_slot_wal: "8388608TB" is too large (hint: 8388607TB is the largest)`},
		{"size true", "pace: {max_slot_wal: true}\n", "pace.max_slot_wal: true is not a size" + sizes},
		{"size without value", "pace: {max_slot_wal: }\n", "pace.max_slot_wal" + noValue},
		{"metrics by a relative path", "metrics: {textfile: metrics.prom}\n", `metrics.textfile: "metrics.prom" is not the whole path` + prom},
		{"metrics by another suffix", "metrics: {textfile: /etc/passwd}\n", `metrics.textfile: "/etc/passwd" is not the whole path` + prom},
		{"unknown level", "log: {level: INFO}\n", `log.level: "INFO" is not a known value (hint: write debug, info, warn or error)`},
		{"level is a number", "log: {level: 4}\n", `log.level: 4 is not a known value (hint: write debug, info, warn or error)`},
		{"unknown format", "log: {format: xml}\n", `log.format: "xml" is not a known value (hint: write auto, journal, syslog, text or json)`},
		{"url is a number", "database: {url: 12}\n", "database.url: a number is not text (hint: write a postgres:// URL or keyword=value pairs in quotes)"},

		{"key twice", "log: {level: info}\nlog: {level: warn}\n", "*mapping key log already defined at line 1"},
		{"key twice by case", "log: {level: info, Level: warn}\n", "log.level: is written as Level and as level (hint: keep one)"},
		{"key twice by case in a policy", "policies: [{table: a, HOLD: x, hold: y}]\n", "policies[0].hold: is written as HOLD and as hold (hint: keep one)"},
		{"second document", "log: {level: info}\n---\nlog: {level: warn}\n", "*holds more than one YAML document (hint: only the first would be read; remove the --- between them)"},
		{"document after an end", "log: {level: info}\n...\nlog: {level: warn}\n", "*"},
		{"text for the file", "messages\n", "*cannot unmarshal !!str a value into map[string]interface {}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := loadHere(t, Options{File: write(t, "config.yaml", tt.file)})
			got := problems(t, err)
			if part, ok := strings.CutPrefix(tt.want, "*"); ok {
				if len(got) != 1 || !strings.Contains(got[0], part) {
					t.Errorf("got  %q\nwant one with %q", got, part)
				}
				return
			}
			if d := cmp.Diff([]string{tt.want}, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestOtherFormatsAreAsStrict(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, file, want string }{
		{"config.json", `{"batch": {"max_rows": 1.7}}`, "batch.max_rows: 1.7 is not a whole number"},
		{"config.json", `{"policies": [{"table": "a", "retention": 30}]}`, "policies[0].retention: 30 has no unit"},
		{"config.json", `{"policies": null}`, "policies: the list is empty"},
		{"config.json", `{"log": {"level": null}}`, "log.level: has no value"},
		{"config.json", `{"log": `, "unexpected end of JSON input"},
		{"config.json", `{} {}`, "config.json: "},
		{"config.toml", "[policies]\ntable = 'a'\n", "policies: a section where a list belongs"},
		{"config.toml", "[[policies]]\ntable = 'a'\nretention = 30\n", "policies[0].retention: 30 has no unit"},
		{"config.toml", "[[policies]]\ntable = 'a'\nretention = 10:00:00\n", "policies[0].retention: a date is not a duration"},
		{"config.toml", "[log]\nlevel = 'info'\nLevel = 'warn'\n", "log.level: is written as Level and as level"},
		{"config.toml", "[log]\nlevel = \n", "config.toml: toml: "},
		{"config.ini", "[log]\n", "its suffix does not tell a known format"},
		{"config", "", "its suffix does not tell a known format"},
	}
	for _, tt := range tests {
		_, err := loadHere(t, Options{File: write(t, tt.name, tt.file)})
		if got := problems(t, err); len(got) != 1 || !strings.Contains(got[0], tt.want) {
			t.Errorf("%s %q: got %q, want %q", tt.name, tt.file, got, tt.want)
		}
	}
}

func TestNamedFileMustExist(t *testing.T) {
	t.Parallel()
	missing := t.TempDir() + "/none.yaml"
	_, err := loadHere(t, Options{File: missing})
	if d := cmp.Diff([]string{"--config: " + missing + " does not exist"}, problems(t, err)); d != "" {
		t.Error(d)
	}
	dir := t.TempDir() + "/dir.yaml/"
	if _, err := loadHere(t, Options{File: dir}); err == nil {
		t.Error("a directory was read")
	}
}

func TestEnvironmentIsRefused(t *testing.T) {
	t.Parallel()
	tests := []struct{ entry, want string }{
		{"MESSAGE_CLEANUP_DATABSE_URL=hunter2", "MESSAGE_CLEANUP_DATABSE_URL: unknown environment variable (hint: did you mean MESSAGE_CLEANUP_DATABASE_URL?)"},
		{"MESSAGE_CLEANUP_BATCH=x", "MESSAGE_CLEANUP_BATCH: unknown environment variable (hint: unset it; the known names are MESSAGE_CLEANUP_ and the path of a key, e.g. MESSAGE_CLEANUP_LOG_LEVEL)"},
		{"MESSAGE_CLEANUP_POLICIES=x", "MESSAGE_CLEANUP_POLICIES: unknown environment variable (hint: policies come from the file only)"},
		{"MESSAGE_CLEANUP_log_level=warn", "MESSAGE_CLEANUP_log_level: unknown environment variable (hint: did you mean MESSAGE_CLEANUP_LOG_LEVEL?)"},
		{"MESSAGE_CLEANUP_DATABASE_WAIT=30", `MESSAGE_CLEANUP_DATABASE_WAIT: "30" has no unit (hint: write a unit, e.g. 30d or 0s)`},
		{"MESSAGE_CLEANUP_BATCH_MAX_ROWS=1.7", `MESSAGE_CLEANUP_BATCH_MAX_ROWS: "1.7" is not a whole number (hint: write digits only, e.g. 50000)`},
		{"MESSAGE_CLEANUP_GUARD_MAX_FRACTION=half", `MESSAGE_CLEANUP_GUARD_MAX_FRACTION: "half" is not a number (hint: write a number above 0 and up to 1, e.g. 0.5)`},
	}
	for _, tt := range tests {
		_, err := loadHere(t, Options{Environ: []string{tt.entry}})
		if d := cmp.Diff([]string{tt.want}, problems(t, err)); d != "" {
			t.Errorf("%s: %s", tt.entry, d)
		}
	}
}

func TestEnvironmentIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{
		"MESSAGE_CLEANUP_TEST_URL=postgres://h", "MESSAGE_CLEANUP_FOO=", "MESSAGE_CLEANUP_BATCH_MAX_ROWS=",
		"MESSAGE_CLEANUPS=x", "BATCH_MAX_ROWS=12", "LOG_LEVEL=x", "no equals sign",
	} {
		c := mustLoad(t, Options{Environ: []string{entry}})
		if d := cmp.Diff(defaults(), c, ignoreSources); d != "" {
			t.Errorf("%s: %s", entry, d)
		}
	}
}

func TestFlagsAreRefused(t *testing.T) {
	t.Parallel()
	_, err := loadHere(t, Options{Flags: map[string]string{"log.level": "loud", "log.colour": "x", "policies": "x"}})
	want := []string{
		"--log-colour: is not the flag of a key",
		"--policies: is not the flag of a key",
		`--log-level: "loud" is not a known value (hint: write debug, info, warn or error)`,
	}
	if d := cmp.Diff(want, problems(t, err)); d != "" {
		t.Error(d)
	}
}

func TestAllErrorsAtOnceInStableOrder(t *testing.T) {
	t.Parallel()
	o := Options{
		File: write(t, "config.yaml", `
log: {level: loud, zebra: 1}
limits: {max_rows: -1}
aardvark: 1
policies:
- {table: a, retention: 30, hold: 1, zoo: x}
- {name: a, column: ""}
database: {wait: soon}
`),
		Environ: []string{"MESSAGE_CLEANUP_LOG_LEVEL=louder", "MESSAGE_CLEANUP_X=1"},
		Flags:   map[string]string{"log.level": "debug"},
	}
	want := []string{
		"aardvark", "log.zebra", "MESSAGE_CLEANUP_X",
		"database.wait", "policies[0].zoo", "policies[0].retention", "policies[0].hold",
		"policies[1].table", "policies[1].column", "policies[1].name", "limits.max_rows",
		"log.level", "MESSAGE_CLEANUP_LOG_LEVEL",
	}
	for range 20 {
		c, err := loadHere(t, o)
		if c != nil {
			t.Fatal("a configuration came with the errors")
		}
		var got []string
		for _, line := range problems(t, err) {
			key, _, _ := strings.Cut(line, ": ")
			got = append(got, key)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	}
}
