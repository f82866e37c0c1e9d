// Package config turns a file, the environment, systemd's credentials and the
// command line into one checked [Config], or says everything that is wrong
// with them at once.
//
// A value that this program misreads deletes rows, so nothing is guessed: an
// unknown key, a number where a duration belongs, a key without a value
// are errors that name the key, what was found and what to write instead.
//
// It is the only package that imports viper, which reads the file. Layering
// is done here, key by key: viper would let a variable named like a section
// blank the section, and does not tell where a value came from.
package config

import (
	"log/slog"
	"time"

	"message-cleanup/internal/cleanup"
)

// DefaultFile is read when no other file is named, if it exists.
const DefaultFile = "/etc/message-cleanup/config.yaml"

// Options are the places that a configuration comes from.
type Options struct {
	// File is the file that the operator named, which must exist. Empty means
	// DefaultFile if that exists, else none. Its suffix tells the format:
	// yaml, yml, toml or json.
	File string

	// Flags holds the flags that were given on the command line: from the
	// path of a key to its value, such as "log.level" to "debug".
	Flags map[string]string

	// Environ is the environment in the form of os.Environ.
	Environ []string
}

// Config is the whole configuration, checked. It comes from [Load].
type Config struct {
	Database Database
	Policies []cleanup.Policy // at least one; the names are unique
	Batch    Batch
	Workers  int // batches that are in work at once, each on a connection of its own. Default 1
	Pace     Pace
	Guard    Guard
	Limits   Limits
	Ledger   Ledger
	Schedule Schedule
	Metrics  Metrics
	Log      Log

	sources map[string]string // path of a key -> where its value came from; absent: default
}

// Database says how the database is reached.
type Database struct {
	// URL is a postgres:// URL or a keyword=value string, and is not parsed
	// here. Empty means that libpq's PG* variables say everything. It may hold
	// a password: show it by way of [Config.Values] only.
	URL string

	// ConnectTimeout bounds one attempt to connect. Default 10s.
	ConnectTimeout time.Duration

	// Wait is how long an unreachable database is waited for, before the run
	// and when it goes away in the middle of one. Default 5m; 0s is not at all.
	Wait time.Duration
}

// String shows the database without its password, so that a Config that is
// printed by mistake gives nothing away.
func (d Database) String() string { return maskURL(d.URL) }

// Batch says how large a batch may be.
type Batch struct {
	// Target is how long one batch should take; sizes are steered toward it.
	// Default 100ms.
	Target time.Duration

	// MaxRows is the largest batch, in rows. Default 50000.
	MaxRows int
}

// Pace says how a run keeps out of the way of other work.
type Pace struct {
	// DutyCycle is the share of its time that a worker spends deleting, more
	// than 0 and up to 1. Default 1.0: it does not rest.
	DutyCycle float64

	// MaxReplicaLag is how far a standby may be behind before the run pauses.
	// Default 10s; 0s is not to look.
	MaxReplicaLag time.Duration

	// MaxSlotWAL is how much WAL the server may keep for a replication slot
	// before the run pauses. Default none: not to look.
	MaxSlotWAL Size

	// MaxPause is how long a pause may last before the run ends. Default 10m.
	MaxPause time.Duration
}

// Guard says when a run must not begin to delete.
type Guard struct {
	// MaxClockSkew is how far the clocks of server and host may be apart.
	// Default 5m.
	MaxClockSkew time.Duration

	// MaxRows is how many expired rows are still plausible. Default 0: any.
	MaxRows int64

	// MaxFraction is which share of a table may plausibly be expired, more
	// than 0 and up to 1. Default 1.0: all of it.
	MaxFraction float64
}

// Limits says when a run stops although there is more to do. What is left is
// the next run's.
type Limits struct {
	// MaxDuration is how long a run may take. Default 0s: as long as it takes.
	MaxDuration time.Duration

	// MaxRows is how many rows a run may delete. Default 0: any number.
	MaxRows int64
}

// Ledger says where the record of all runs is kept.
type Ledger struct {
	// Table is an SQL name. Default none: no record is kept.
	Table string
}

// Schedule says when `message-cleanup schedule` makes its runs. Nothing else
// looks at it.
type Schedule struct {
	// Cron is minute, hour, day of month, month and day of week, perhaps with
	// seconds in front. It is checked by who uses it. Default 0 2 * * *.
	Cron string

	// TimeZone is where the hours of Cron are read: an IANA name. Default UTC.
	TimeZone string

	// Jitter is the longest time that a run begins later. Default 5m.
	Jitter time.Duration
}

// Metrics says where a run leaves its figures for Prometheus.
type Metrics struct {
	// Textfile is the file that each run writes. Default none.
	Textfile string
}

// Log says what is logged, and how.
type Log struct {
	// Level is the least level that is logged. Default info.
	Level slog.Level

	// Format is auto, journal, syslog, text or json. Default auto: the journal when
	// connected to it, text on a terminal, JSON otherwise.
	Format string
}

// Load reads the configuration. For every scalar key a flag wins over the
// environment, the environment over the file, and the file over the default.
// The list of policies comes from the file only.
//
// An error is of type [Errors] and holds everything that is wrong, also with
// values that a stronger one hides: the next run may be without that flag.
func Load(o Options) (*Config, error) { return load(o, DefaultFile) }

// load is Load with another default file, for hosts that have a real one.
func load(o Options, defaultFile string) (*Config, error) {
	l := &loader{
		environ: variables(o.Environ),
		flags:   o.Flags,
		sources: map[string]string{},
	}
	l.readFile(o.File, defaultFile)
	l.checkVariables()
	l.checkFlags()

	c := &Config{sources: l.sources}
	for _, k := range keys {
		if k.path == policiesPath {
			c.Policies = l.policies()
			continue
		}
		l.scalar(c, k)
	}
	l.findURL(c)

	if len(l.errs) > 0 {
		return nil, l.errs
	}
	return c, nil
}

// MetricsTextfile returns metrics.textfile of a configuration that is otherwise
// wrong: a run that fails by it can still leave that it failed. It is "" when
// this key is not set or is wrong itself.
func MetricsTextfile(o Options) string {
	l := &loader{environ: variables(o.Environ), flags: o.Flags, sources: map[string]string{}}
	l.readFile(o.File, DefaultFile)
	var c Config
	for _, k := range keys {
		if k.path == "metrics.textfile" {
			l.scalar(&c, k)
		}
	}
	return c.Metrics.Textfile
}

// loader gathers values and what is wrong with them.
type loader struct {
	environ map[string]string
	flags   map[string]string
	file    string         // the file that was read; empty: none
	values  map[string]any // path of a key -> what the file says
	sources map[string]string
	errs    Errors
}

// scalar fills one key, from the weakest source to the strongest.
func (l *loader) scalar(c *Config, k key[Config]) {
	set := func(writtenAs, source string, raw any) {
		if err := k.set(c, raw); err != nil {
			l.fail(writtenAs, err)
			return
		}
		l.sources[k.path] = source
	}
	if k.initial != "" {
		set(k.path, sourceDefault, text(k.initial))
	}
	if raw, given := l.values[k.path]; given {
		set(k.path, l.fileSource(), raw)
	}
	if name := variable(k.path); l.environ[name] != "" {
		set(name, "environment "+name, text(l.environ[name]))
	}
	if value, given := l.flags[k.path]; given {
		set(flagName(k.path), "flag "+flagName(k.path), text(value))
	}
}

// fail notes an error under the name by which the operator wrote the key.
func (l *loader) fail(name string, err error) {
	l.errs = append(l.errs, about(name, err))
}

func (l *loader) fileSource() string { return "file " + l.file }
