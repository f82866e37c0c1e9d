package systemd

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-systemd/v22/journal"
)

const (
	// identifier is what `journalctl -t` and syslog see. Native entries do not
	// get the SyslogIdentifier= of the unit, and go-systemd adds none.
	identifier = "message-cleanup"

	// fieldPrefix keeps every field out of the names that journald, systemd
	// and syslog give a meaning to, whatever the attr is called.
	fieldPrefix = "CLEANUP_"

	// maxFieldName is the length above which journald drops a field.
	maxFieldName = 64
)

// standardFields are the attrs whose field has a name that other programs use
// too, and which therefore do without the prefix.
var standardFields = map[string]string{
	"sqlstate": "SQLSTATE",
}

// journalHandler sends each record as one native entry of the journal, or as one
// line to syslog.
type journalHandler struct {
	level  slog.Leveler
	groups string // the open groups, each followed by a dot

	// fields go with every entry. They are never written to: handlers made by
	// With share them, and Handle runs concurrently.
	fields map[string]string
	// context is the text of the attrs from With. It is for plain lines only,
	// which have no fields to put them in.
	context string

	// plain, if it is set, takes the whole record as one line; nothing else is
	// used then.
	plain func(priority journal.Priority, line string) error

	// Tests replace these two; they are never nil.
	send     func(message string, priority journal.Priority, fields map[string]string) error
	fallback io.Writer
}

// NewJournalHandler returns a handler that sends records to the journal, with
// the text and every attr as fields. Use it only if [StderrIsJournal].
// A nil level means [slog.LevelInfo].
//
//   - MESSAGE is the record's message, then its own attrs as key=value. Attrs
//     from With are fields only, so that a run id does not crowd every line.
//   - An attr is the field CLEANUP_ + its key (below its groups) in upper case,
//     with _ for what a field name cannot hold; sqlstate is SQLSTATE. Values
//     never get into a name. Of attrs with the same field, the last one counts.
//   - A [time.Time] is RFC 3339 in UTC. A [time.Duration] is a number of
//     milliseconds in a field whose name ends in _MS, and readable in MESSAGE.
//   - MESSAGE_ID is set when the message is one of the events of package cleanup.
//   - PRIORITY follows from the range that the level is in: 7 below Info, 6
//     below Warn, 4 below Error, else 3.
//   - INVOCATION_ID is that of the unit. journald adds _SYSTEMD_INVOCATION_ID
//     and _SYSTEMD_UNIT by looking the process up, and misses it when it has
//     ended by then: the last entries of a run are the ones to find safely.
//
// A record that the journal does not take is written to stderr as one line,
// with the priority in front, so that journald reads it from there.
func NewJournalHandler(level slog.Leveler) slog.Handler { return newHandler(level) }

func newHandler(level slog.Leveler) *journalHandler {
	if level == nil {
		level = slog.LevelInfo
	}
	fields := map[string]string{"SYSLOG_IDENTIFIER": identifier}
	if id := os.Getenv("INVOCATION_ID"); id != "" {
		fields["INVOCATION_ID"] = id
	}
	return &journalHandler{level: level, fields: fields, send: journal.Send, fallback: os.Stderr}
}

func (h *journalHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	e := entry{fields: maps.Clone(h.fields)}
	for _, a := range attrs {
		e.add(h.groups, a)
	}
	with := *h
	with.fields = e.fields
	with.context += e.text.String()
	return &with
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	if name == "" { // as slog.Handler asks
		return h
	}
	with := *h
	with.groups += name + "."
	return &with
}

// Handle sends r. It returns an error only if r got lost: neither the journal
// nor stderr took it. The time of r is not sent; journald has its own.
func (h *journalHandler) Handle(_ context.Context, r slog.Record) error {
	e := entry{fields: maps.Clone(h.fields)}
	r.Attrs(func(a slog.Attr) bool {
		e.add(h.groups, a)
		return true
	})
	if id, ok := messageIDs[r.Message]; ok {
		e.fields["MESSAGE_ID"] = id
	}

	priority := priorityOf(r.Level)
	// The message is the one part that nobody has quoted yet.
	line := oneLine(r.Message) + e.text.String() + h.context
	if h.plain != nil {
		return h.plain(priority, line)
	}
	sendErr := h.send(r.Message+e.text.String(), priority, e.fields)
	if sendErr == nil {
		return nil
	}
	_, err := fmt.Fprintf(h.fallback, "<%d>%s journal_error=%s\n", priority, line, quote(sendErr.Error()))
	return err
}

// priorityOf maps ranges rather than the four named levels, so that a level in
// between never ends up below its neighbours.
func priorityOf(level slog.Level) journal.Priority {
	switch {
	case level < slog.LevelInfo:
		return journal.PriDebug
	case level < slog.LevelWarn:
		return journal.PriInfo
	case level < slog.LevelError:
		return journal.PriWarning
	default:
		return journal.PriErr
	}
}

// entry collects attrs in both of their forms.
type entry struct {
	fields map[string]string
	text   strings.Builder // " key=value" for each attr
}

// add takes a into the entry; groups are the names of the groups around it,
// each followed by a dot.
func (e *entry) add(groups string, a slog.Attr) {
	a.Value = a.Value.Resolve()
	if a.Equal(slog.Attr{}) {
		return
	}
	path := groups + a.Key

	switch a.Value.Kind() {
	case slog.KindGroup:
		if a.Key != "" { // the attrs of a group without a name belong to the one around it
			groups = path + "."
		}
		for _, member := range a.Value.Group() {
			e.add(groups, member)
		}
	case slog.KindDuration:
		// A field has no type: its name has to tell the unit. An attr that is
		// called duration_ms already is the same field as one called duration.
		d := a.Value.Duration()
		path = strings.TrimSuffix(path, "_ms")
		e.put(fieldName(path+"_ms"), strconv.FormatInt(d.Milliseconds(), 10), path, readable(d))
	default:
		value := valueText(a.Value)
		e.put(fieldName(path), value, path, value)
	}
}

func (e *entry) put(field, value, key, text string) {
	e.fields[field] = value
	e.text.WriteString(" " + quote(key) + "=" + quote(text))
}

// valueText is the text of a value that is neither a group nor a duration.
func valueText(v slog.Value) string {
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().UTC().Format(time.RFC3339Nano)
	case slog.KindAny:
		// Also survives an error or Stringer that is a nil pointer.
		return fmt.Sprint(v.Any())
	default:
		return v.String()
	}
}

// readable rounds d to what a person wants to know of it.
func readable(d time.Duration) string {
	unit := time.Microsecond
	if d.Abs() >= time.Second {
		unit = time.Millisecond
	}
	return d.Round(unit).String()
}

// fieldName makes the name of a journal field. go-systemd sends a name with a
// line break or '=' in it as it is, where it becomes a field of its own, so no
// other function may make names.
func fieldName(path string) string {
	if name, ok := standardFields[path]; ok {
		return name
	}
	name := fieldPrefix + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		default:
			return '_'
		}
	}, path)
	return name[:min(len(name), maxFieldName)]
}

// quote makes s one word of a key=value line.
func quote(s string) string {
	special := func(r rune) bool {
		return r == '=' || r == '"' || r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r)
	}
	if s == "" || strings.ContainsFunc(s, special) {
		return strconv.Quote(s)
	}
	return s
}
