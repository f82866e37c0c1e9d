package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/slogtest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"

	"message-cleanup/internal/cleanup"
)

// sent is one entry as it would have gone to the journal.
type sent struct {
	Message  string
	Priority journal.Priority
	Fields   map[string]string
}

// capture returns a handler for level and what it sends.
func capture(t *testing.T, level slog.Leveler) (slog.Handler, *[]sent) {
	t.Helper()
	t.Setenv("INVOCATION_ID", "")
	h := NewJournalHandler(level).(*journalHandler)
	var entries []sent
	h.send = func(message string, priority journal.Priority, fields map[string]string) error {
		entries = append(entries, sent{message, priority, fields})
		return nil
	}
	return h, &entries
}

// one returns the only entry there is.
func one(t *testing.T, entries *[]sent) sent {
	t.Helper()
	if len(*entries) != 1 {
		t.Fatalf("got %d entries, want 1: %v", len(*entries), *entries)
	}
	return (*entries)[0]
}

func TestConformsToSlog(t *testing.T) {
	var entries *[]sent
	slogtest.Run(t,
		func(t *testing.T) slog.Handler {
			var h slog.Handler
			h, entries = capture(t, nil)
			return h
		},
		func(t *testing.T) map[string]any {
			e := one(t, entries)
			// All messages of slogtest are one word.
			message, _, _ := strings.Cut(e.Message, " ")
			result := map[string]any{
				slog.MessageKey: message,
				slog.LevelKey:   e.Priority,
			}
			// The handler drops the time on purpose, since journald has a better
			// one, and so drops a zero time as well.
			if !strings.HasSuffix(t.Name(), "/zero-time") {
				result[slog.TimeKey] = "by journald"
			}
			for name, value := range e.Fields {
				if path, ok := strings.CutPrefix(name, fieldPrefix); ok {
					nest(result, strings.Split(path, "_"), value)
				}
			}
			return result
		})
}

// nest undoes what the handler does to names, for the names that slogtest has:
// groups are upper case and keys are lower case.
func nest(into map[string]any, path []string, value string) {
	if len(path) == 1 {
		into[strings.ToLower(path[0])] = value
		return
	}
	group, ok := into[path[0]].(map[string]any)
	if !ok {
		group = make(map[string]any)
		into[path[0]] = group
	}
	nest(group, path[1:], value)
}

func TestAttrsFromWithAreFieldsOnly(t *testing.T) {
	h, entries := capture(t, nil)
	log := slog.New(h).With("run_id", "0190", slog.Group("host", "name", "db1"))
	log.Info(cleanup.EventPolicyFinished, "deleted", 12, "stop_reason", "time budget")

	want := sent{
		Message:  `policy finished deleted=12 stop_reason="time budget"`,
		Priority: journal.PriInfo,
		Fields: map[string]string{
			"SYSLOG_IDENTIFIER":   "message-cleanup",
			"MESSAGE_ID":          messageIDs[cleanup.EventPolicyFinished],
			"CLEANUP_RUN_ID":      "0190",
			"CLEANUP_HOST_NAME":   "db1",
			"CLEANUP_DELETED":     "12",
			"CLEANUP_STOP_REASON": "time budget",
		},
	}
	if diff := cmp.Diff(want, one(t, entries)); diff != "" {
		t.Errorf("entry (-want +got):\n%s", diff)
	}
}

func TestHandlersMadeByWithDoNotShareAttrs(t *testing.T) {
	h, entries := capture(t, nil)
	parent := slog.New(h).With("a", "parent")
	parent.With("b", "first")
	parent.With("c", "second").Info("m", "d", "own")
	parent.Info("m")

	want := []map[string]string{
		{"SYSLOG_IDENTIFIER": "message-cleanup", "CLEANUP_A": "parent", "CLEANUP_C": "second", "CLEANUP_D": "own"},
		{"SYSLOG_IDENTIFIER": "message-cleanup", "CLEANUP_A": "parent"},
	}
	if diff := cmp.Diff(want, []map[string]string{(*entries)[0].Fields, (*entries)[1].Fields}); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestAttrBecomesFieldAndText(t *testing.T) {
	var nobody *cleanup.Error
	berlin := time.FixedZone("CEST", 2*60*60)
	tests := []struct {
		name               string
		attr               slog.Attr
		field, value, text string
	}{
		{"number", slog.Int64("deleted", 5), "CLEANUP_DELETED", "5", "deleted=5"},
		{"standard field", slog.String("sqlstate", "57014"), "SQLSTATE", "57014", "sqlstate=57014"},
		{"standard name in a group is ours", slog.Group("g", "sqlstate", "57014"), "CLEANUP_G_SQLSTATE", "57014", "g.sqlstate=57014"},
		{"time in UTC, exact", slog.Time("cutoff", time.Date(2026, 7, 1, 4, 0, 0, 5000, berlin)),
			"CLEANUP_CUTOFF", "2026-07-01T02:00:00.000005Z", "cutoff=2026-07-01T02:00:00.000005Z"},
		{"duration", slog.Duration("duration", 83*time.Second+456789*time.Microsecond),
			"CLEANUP_DURATION_MS", "83456", "duration=1m23.457s"},
		{"duration that names its unit", slog.Duration("duration_ms", 1500*time.Microsecond), "CLEANUP_DURATION_MS", "1", "duration=1.5ms"},
		{"milliseconds as a number", slog.Int64("duration_ms", 1500), "CLEANUP_DURATION_MS", "1500", "duration_ms=1500"},
		{"error", slog.Any("error", fmt.Errorf("connect: %w", errors.New("refused"))),
			"CLEANUP_ERROR", "connect: refused", `error="connect: refused"`},
		{"error of several lines", slog.Any("error", errors.New("one\nDELETED=9")),
			"CLEANUP_ERROR", "one\nDELETED=9", `error="one\nDELETED=9"`},
		{"nil error", slog.Any("error", error(nil)), "CLEANUP_ERROR", "<nil>", "error=<nil>"},
		{"error that is a nil pointer", slog.Any("error", nobody), "CLEANUP_ERROR", "<nil>", "error=<nil>"},
		{"empty value", slog.String("hint", ""), "CLEANUP_HINT", "", `hint=""`},
		{"value that looks like another attr", slog.String("table", "t deleted=9"), "CLEANUP_TABLE", "t deleted=9", `table="t deleted=9"`},
		{"value with quotes", slog.String("table", `"T"`), "CLEANUP_TABLE", `"T"`, `table="\"T\""`},
		{"value in another script", slog.String("table", "Nachrichtenübersicht"),
			"CLEANUP_TABLE", "Nachrichtenübersicht", "table=Nachrichtenübersicht"},
		{"value with a control character", slog.String("table", "a\x1b[2J"), "CLEANUP_TABLE", "a\x1b[2J", `table="a\x1b[2J"`},
		{"value that is not UTF-8", slog.String("table", "a\xff"), "CLEANUP_TABLE", "a\xff", `table="a\xff"`},
		{"key that would end the name", slog.String("a=b", "c"), "CLEANUP_A_B", "c", `"a=b"=c`},
		{"key that would begin a field", slog.String("a\nPRIORITY=0\nb", "c"), "CLEANUP_A_PRIORITY_0_B", "c", `"a\nPRIORITY=0\nb"=c`},
		{"key of a field of journald", slog.String("_pid", "1"), "CLEANUP__PID", "1", "_pid=1"},
		{"key of a field of ours", slog.String("message_id", "1"), "CLEANUP_MESSAGE_ID", "1", "message_id=1"},
		{"key with a digit first", slog.String("9", "1"), "CLEANUP_9", "1", "9=1"},
		{"key in another script", slog.String("größe", "1"), "CLEANUP_GR__E", "1", "größe=1"},
		{"key as long as can be", slog.Int(strings.Repeat("k", 56), 1), "CLEANUP_" + strings.Repeat("K", 56), "1", strings.Repeat("k", 56) + "=1"},
		{"key too long", slog.Int(strings.Repeat("k", 57), 1), "CLEANUP_" + strings.Repeat("K", 56), "1", strings.Repeat("k", 57) + "=1"},
	}
	valid := regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, entries := capture(t, nil)
			slog.New(h).Info("m", tt.attr)

			want := sent{"m " + tt.text, journal.PriInfo, map[string]string{"SYSLOG_IDENTIFIER": "message-cleanup", tt.field: tt.value}}
			got := one(t, entries)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("entry (-want +got):\n%s", diff)
			}
			for name := range got.Fields {
				if !valid.MatchString(name) {
					t.Errorf("field name %q: journald would drop it, or read something else", name)
				}
			}
		})
	}
}

func FuzzFieldNameIsAlwaysValid(f *testing.F) {
	for _, key := range []string{"", "deleted", "sqlstate", "a=b", "a\nb", "_", "\xff", strings.Repeat("ü", 100)} {
		f.Add(key)
	}
	valid := regexp.MustCompile(`^(CLEANUP_[A-Z0-9_]{0,56}|SQLSTATE)$`)
	f.Fuzz(func(t *testing.T, key string) {
		if name := fieldName(key); !valid.MatchString(name) {
			t.Errorf("fieldName(%q) = %q", key, name)
		}
	})
}

// Whatever is logged stays where it belongs: no text gets into the name of a
// field, no value is lost, and a plain line is one line that a terminal prints.
func FuzzEntry(f *testing.F) {
	for _, seed := range []struct{ message, group, key, value string }{
		{"policy finished", "", "deleted", "100"}, {"a\nb=c", "g", "k=v", "line\nMESSAGE_ID=x\x00"}, {"", "", "", ""},
		{"\x1b[2J", "a.b", "sqlstate", "\xff\xfe"}, {"<3>", "MESSAGE", "PRIORITY", "\r\n"}, {"ü", "ü", "message_id", "\u2028"},
	} {
		f.Add(seed.message, seed.group, seed.key, seed.value)
	}
	valid := regexp.MustCompile(`^(CLEANUP_[A-Z0-9_]{0,56}|SQLSTATE|MESSAGE_ID|SYSLOG_IDENTIFIER|INVOCATION_ID)$`)
	f.Fuzz(func(t *testing.T, message, group, key, value string) {
		h := newHandler(nil)
		var fields map[string]string
		h.send = func(m string, _ journal.Priority, sent map[string]string) error {
			if fields = sent; !strings.HasPrefix(m, message) {
				t.Errorf("the message %q begins as %q", message, m)
			}
			return nil
		}
		log := slog.New(h).WithGroup(group)
		log.Info(message, key, value)
		for name := range fields {
			if !valid.MatchString(name) {
				t.Errorf("a field is called %q", name)
			}
		}
		path := key
		if group != "" {
			path = group + "." + key
		}
		if got := fields[fieldName(path)]; got != value && (key != "" || value != "") {
			t.Errorf("%s is %q, want %q", fieldName(path), got, value)
		}
		h.plain = func(_ journal.Priority, line string) error {
			if strings.ContainsFunc(line, unicode.IsControl) || !utf8.ValidString(line) {
				t.Errorf("the line is %q", line)
			}
			return nil
		}
		slog.New(h).WithGroup(group).With(key, value).Info(message, key, value)
	})
}

func TestPriorityFollowsLevelRange(t *testing.T) {
	tests := []struct {
		level slog.Level
		want  journal.Priority
	}{
		{slog.LevelDebug - 100, 7},
		{slog.LevelDebug, 7},
		{slog.LevelInfo - 1, 7},
		{slog.LevelInfo, 6},
		{slog.LevelWarn - 1, 6},
		{slog.LevelWarn, 4},
		{slog.LevelError - 1, 4},
		{slog.LevelError, 3},
		{slog.LevelError + 100, 3},
	}
	for _, tt := range tests {
		h, entries := capture(t, slog.LevelDebug-100)
		slog.New(h).Log(context.Background(), tt.level, "m")
		if got := one(t, entries).Priority; got != tt.want {
			t.Errorf("level %v: priority %d, want %d", tt.level, got, tt.want)
		}
	}
}

func TestLevelIsAskedEachTime(t *testing.T) {
	var level slog.LevelVar
	h, entries := capture(t, &level)
	log := slog.New(h)
	log.Debug("not yet")
	level.Set(slog.LevelDebug)
	log.Debug("now")
	if got := one(t, entries).Message; got != "now" {
		t.Errorf("sent %q, want only the record at the new level", got)
	}
}

func TestMessageIDOnlyForEvents(t *testing.T) {
	h, entries := capture(t, nil)
	log := slog.New(h)
	log.Info(cleanup.EventRunStarted, "policies", 1)
	log.Info("something else")
	got := []string{(*entries)[0].Fields["MESSAGE_ID"], (*entries)[1].Fields["MESSAGE_ID"]}
	if diff := cmp.Diff([]string{messageIDs[cleanup.EventRunStarted], ""}, got); diff != "" {
		t.Errorf("MESSAGE_ID (-want +got):\n%s", diff)
	}
}

func TestInvocationIDIsSent(t *testing.T) {
	t.Setenv("INVOCATION_ID", "0123456789abcdef0123456789abcdef")
	h := NewJournalHandler(nil).(*journalHandler)
	if got := h.fields["INVOCATION_ID"]; got != "0123456789abcdef0123456789abcdef" {
		t.Errorf("INVOCATION_ID = %q, want that of the environment", got)
	}
}

func TestRecordThatTheJournalRefusesGoesToStderr(t *testing.T) {
	h, _ := capture(t, nil)
	var stderr bytes.Buffer
	jh := h.(*journalHandler)
	jh.fallback = &stderr
	jh.send = func(string, journal.Priority, map[string]string) error { return errors.New("socket\ngone") }

	log := slog.New(h).With("run_id", "0190").WithGroup("g").With("a", "b\nc")
	log.Error("policy\r\nfailed\x00", "error", errors.New("one\ntwo"))
	log.Warn("warning")

	want := `<3>policy  failed  g.error="one\ntwo" run_id=0190 g.a="b\nc" journal_error="socket\ngone"` + "\n" +
		`<4>warning run_id=0190 g.a="b\nc" journal_error="socket\ngone"` + "\n"
	if diff := cmp.Diff(want, stderr.String()); diff != "" {
		t.Errorf("stderr (-want +got):\n%s", diff)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("stderr is closed") }

func TestLostRecordIsAnError(t *testing.T) {
	h, _ := capture(t, nil)
	jh := h.(*journalHandler)
	jh.fallback = brokenWriter{}
	jh.send = func(string, journal.Priority, map[string]string) error { return errors.New("no socket") }
	if err := h.Handle(context.Background(), slog.Record{Message: "m"}); err == nil {
		t.Error("Handle returned nil for a record that neither the journal nor stderr took")
	}
}

func TestJournalOnlyIfStderrIsConnectedToIt(t *testing.T) {
	for _, stream := range []string{"", "1:1", "not a stream"} {
		t.Setenv("JOURNAL_STREAM", stream)
		if StderrIsJournal() {
			t.Errorf("JOURNAL_STREAM=%q: StderrIsJournal is true; whoever reads stderr would see nothing", stream)
		}
	}
}
