package cleanup

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestGapsAreTheDaysWithoutAVerifiedRun(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time {
		when, err := time.Parse("2006-01-02 15:04", "2026-03-"+s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	// A run is its start, and "!" if it was not complete.
	for _, tt := range []struct{ name, runs, since, now, want string }{
		{"every night", "01 02:00, 02 02:03, 03 02:00", "01 00:00", "03 12:00", ""},
		{"one night left out", "01 02:00, 03 02:00", "01 00:00", "03 12:00", "02-02"},
		{"two nights incomplete", "01 02:00, 02 02:00!, 03 02:00!, 04 02:00", "01 00:00", "04 12:00", "02-03"},
		{"made up for in the morning", "01 02:00, 02 02:00!, 02 09:00", "01 00:00", "02 12:00", ""},
		{"last night failed", "01 02:00, 02 02:00!", "01 00:00", "02 09:00", "02-02"},
		{"last night failed just now", "01 02:00, 02 02:00!", "01 00:00", "02 02:01", ""},
		{"tonight is not yet", "01 02:00, 02 02:00", "01 00:00", "03 01:59", ""},
		{"nothing ran any more", "01 02:00", "01 00:00", "04 02:00", "02-04"},
		{"two gaps", "01 02:00, 03 02:00, 05 02:00", "01 00:00", "05 12:00", "02-02 04-04"},
		{"from the middle on", "01 02:00, 05 02:00", "03 17:00", "05 12:00", "03-04"},
		{"never complete", "01 02:00!, 02 02:00!", "01 00:00", "02 12:00", "01-02"},
		{"the first run failed a moment ago", "02 02:00!", "01 00:00", "02 02:10", ""},
		{"before the first run", "03 02:00", "01 00:00", "03 12:00", ""},
	} {
		var rows []LedgerRow
		for run := range strings.SplitSeq(tt.runs, ", ") {
			start, failed := strings.CutSuffix(run, "!")
			row := LedgerRow{Policy: "messages", Started: at(start), Outcome: OutcomeComplete}
			if failed {
				row.Outcome = OutcomeFailed
			}
			rows = append(rows, row)
		}
		var got []string
		for _, gap := range Gaps(rows, []string{"messages"}, at(tt.since), at(tt.now)) {
			got = append(got, gap.From.Format("02-")+gap.To.Format("02"))
			if gap.Nights() != int64(gap.To.Day()-gap.From.Day()+1) {
				t.Errorf("%s: %d nights", tt.name, gap.Nights())
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: gaps %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A policy that is in the ledger and no more in the configuration has no gaps
// behind its last run; each policy has gaps of its own.
func TestAPolicyThatWasGivenUpEndsWithItsLastRun(t *testing.T) {
	t.Parallel()
	var rows []LedgerRow
	for _, run := range []struct {
		policy string
		day    int
	}{{"old", 1}, {"old", 3}, {"new", 3}, {"new", 5}} {
		rows = append(rows, LedgerRow{Policy: run.policy, Started: time.Date(2026, 3, run.day, 2, 0, 0, 0, time.UTC), Outcome: OutcomeComplete})
	}
	got := fmt.Sprint(Gaps(rows, []string{"new"}, time.Time{}, time.Date(2026, 3, 5, 12, 0, 0, 0, time.UTC)))
	if want := "[2026-03-04 2026-03-02]"; got != want {
		t.Errorf("gaps %s, want %s", got, want)
	}
}
