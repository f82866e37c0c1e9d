package systemd

import (
	"log/slog"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/google/go-cmp/cmp"
)

// Syslog has no fields: what would be one has to be in the line, the run's id
// included, and one record has to stay one line.
func TestPlainLinesSayEverything(t *testing.T) {
	h := newHandler(slog.LevelInfo)
	type line struct {
		Priority journal.Priority
		Text     string
	}
	var got []line
	h.plain = func(priority journal.Priority, text string) error {
		got = append(got, line{priority, text})
		return nil
	}
	h.send = func(string, journal.Priority, map[string]string) error {
		t.Error("a plain line went to the journal too")
		return nil
	}
	log := slog.New(h).With("run_id", "0192")
	log.Info("policy finished", "table", "a b", "took", 1500*time.Millisecond)
	log.Warn("first\nsecond")
	log.Error("policy failed", "error", "no\nsuch table")
	want := []line{
		{journal.PriInfo, `policy finished table="a b" took=1.5s run_id=0192`},
		{journal.PriWarning, `first second run_id=0192`},
		{journal.PriErr, `policy failed error="no\nsuch table" run_id=0192`},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
