package config

import (
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"message-cleanup/internal/cleanup"
)

// policiesPath is the one key that is a list. In the table it marks the place
// of the policies; its items have a table of their own.
const policiesPath = "policies"

// century is the longest duration. A longer one is a slip of the pen, and far
// below what would overflow the computation of a cutoff.
const century = 36525 * 24 * time.Hour

// keys is every key of the configuration, in the order in which people read
// it. A line here is all that makes a key known to the file, the environment,
// the flags, the checks and the output of `config`.
var keys = []key[Config]{
	{"database.url", "", masked(at(func(c *Config) *string { return &c.Database.URL }, connection))},
	{"database.connect_timeout", "10s", at(func(c *Config) *time.Duration { return &c.Database.ConnectTimeout }, duration(1, century))},
	{"database.wait", "5m", at(func(c *Config) *time.Duration { return &c.Database.Wait }, duration(0, century))},
	{path: policiesPath},
	{"batch.target", "100ms", at(func(c *Config) *time.Duration { return &c.Batch.Target }, duration(time.Millisecond, time.Minute))},
	{"batch.max_rows", "50000", at(func(c *Config) *int { return &c.Batch.MaxRows }, whole(1, 10_000_000))},
	{"workers", "1", at(func(c *Config) *int { return &c.Workers }, whole(1, 64))},
	{"pace.duty_cycle", "1", at(func(c *Config) *float64 { return &c.Pace.DutyCycle }, fraction)},
	{"pace.max_replica_lag", "10s", at(func(c *Config) *time.Duration { return &c.Pace.MaxReplicaLag }, duration(0, century))},
	{"pace.max_slot_wal", "", at(func(c *Config) *Size { return &c.Pace.MaxSlotWAL }, size)},
	{"pace.max_pause", "10m", at(func(c *Config) *time.Duration { return &c.Pace.MaxPause }, duration(time.Second, century))},
	{"guard.max_clock_skew", "5m", at(func(c *Config) *time.Duration { return &c.Guard.MaxClockSkew }, duration(1, century))},
	{"guard.max_rows", "0", at(func(c *Config) *int64 { return &c.Guard.MaxRows }, whole[int64](0, math.MaxInt64))},
	{"guard.max_fraction", "1", at(func(c *Config) *float64 { return &c.Guard.MaxFraction }, fraction)},
	{"limits.max_duration", "0s", at(func(c *Config) *time.Duration { return &c.Limits.MaxDuration }, duration(0, century))},
	{"limits.max_rows", "0", at(func(c *Config) *int64 { return &c.Limits.MaxRows }, whole[int64](0, math.MaxInt64))},
	{"ledger.table", "", at(func(c *Config) *string { return &c.Ledger.Table }, nameOrNone)},
	{"schedule.cron", "0 2 * * *", at(func(c *Config) *string { return &c.Schedule.Cron }, name)},
	{"schedule.time_zone", "UTC", at(func(c *Config) *string { return &c.Schedule.TimeZone }, zone)},
	{"schedule.jitter", "5m", at(func(c *Config) *time.Duration { return &c.Schedule.Jitter }, duration(0, century))},
	{"metrics.textfile", "", at(func(c *Config) *string { return &c.Metrics.Textfile }, textfile)},
	{"log.level", "info", at(func(c *Config) *slog.Level { return &c.Log.Level }, level)},
	{"log.format", "auto", at(func(c *Config) *string { return &c.Log.Format }, chosen("auto", "journal", "syslog", "text", "json"))},
}

// policyKeys is every key of one policy. table has no default, and the default
// of name is the table.
var policyKeys = []key[cleanup.Policy]{
	{"name", "", at(func(p *cleanup.Policy) *string { return &p.Name }, name)},
	{"table", "", at(func(p *cleanup.Policy) *string { return &p.Table }, name)},
	{"column", "expires_at", at(func(p *cleanup.Policy) *string { return &p.Column }, name)},
	{"retention", "0s", at(func(p *cleanup.Policy) *time.Duration { return &p.Retention }, duration(0, century))},
	{"where", "", at(func(p *cleanup.Policy) *string { return &p.Where }, condition)},
	{"hold", "", at(func(p *cleanup.Policy) *string { return &p.Hold }, condition)},
	{"strategy", "auto", at(func(p *cleanup.Policy) *cleanup.Strategy { return &p.Strategy }, chosen(cleanup.Strategies...))},
	{"vacuum", "never", at(func(p *cleanup.Policy) *cleanup.Vacuum { return &p.Vacuum }, chosen(cleanup.Vacuums...))},
	{"time_zone", "UTC", at(func(p *cleanup.Policy) *string { return &p.TimeZone }, zone)},
	{"unit", "s", at(func(p *cleanup.Policy) *cleanup.Unit { return &p.Unit }, chosen(cleanup.Units...))},
}

// key is one key of a T.
type key[T any] struct {
	path    string
	initial string // the default, as a variable would say it; empty: the zero value
	access[T]
}

// access reads a raw value into a field of a T, and shows the field.
type access[T any] struct {
	set  func(t *T, raw any) error // leaves t alone on error
	show func(t *T) string         // set accepts what show returns, unless it is masked
}

// at makes the access to one field from the function that reads its values.
func at[T, V any](field func(*T) *V, read func(raw any) (V, error)) access[T] {
	return access[T]{
		set: func(t *T, raw any) error {
			if raw == nil { // a key whose value was forgotten, or is all comment
				return Error{Problem: "has no value", Hint: "write one, or remove the key"}
			}
			v, err := read(raw)
			if s, ok := asText(raw); ok && err != nil && address.MatchString(s) && strings.Contains(err.Error(), strconv.Quote(s)) {
				return misplaced // the error would show it
			}
			if err == nil {
				*field(t) = v
			}
			return err
		},
		show: func(t *T) string { return shown(*field(t)) },
	}
}

// masked hides the password of a connection string when it is shown.
func masked[T any](a access[T]) access[T] {
	plain := a.show
	a.show = func(t *T) string { return maskURL(plain(t)) }
	return a
}

func shown(v any) string {
	switch v := v.(type) {
	case time.Duration:
		return cleanup.FormatDuration(v)
	case slog.Level:
		return strings.ToLower(v.String())
	}
	return fmt.Sprint(v)
}

// below returns the names that may stand below a section; "" is the top.
func below(section string) []string {
	names := map[string]bool{}
	if section != "" {
		section += "."
	}
	for _, k := range keys {
		if rest, ok := strings.CutPrefix(k.path, section); ok {
			name, _, _ := strings.Cut(rest, ".")
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// isKey tells whether path is that of a key.
func isKey(path string) bool {
	return slices.ContainsFunc(keys, func(k key[Config]) bool { return k.path == path })
}

// isSection tells whether path is that of a group of keys.
func isSection(path string) bool {
	return slices.ContainsFunc(keys, func(k key[Config]) bool { return strings.HasPrefix(k.path, path+".") })
}

// variable returns the environment variable of a key.
func variable(path string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

// flagName returns the flag of a key, whether the command line has it or not.
func flagName(path string) string {
	return "--" + strings.NewReplacer(".", "-", "_", "-").Replace(path)
}
