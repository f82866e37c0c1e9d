package report

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
)

func exactly(rows int64) cleanup.Count { return cleanup.Count{Rows: rows, Is: cleanup.Exactly} }

// morning is half past one in the afternoon after a run that was complete.
func morning() Status {
	at := time.Date(2026, 3, 1, 13, 30, 0, 0, time.UTC)
	ran := time.Date(2026, 3, 1, 2, 3, 11, 0, time.UTC)
	day := cleanup.Spans(at)
	for i := range day {
		day[i].Count = exactly(int64(i) * 100)
	}
	return Status{
		At: at, Next: NextRun{At: time.Date(2026, 3, 2, 2, 3, 11, 0, time.UTC), Note: "message-cleanup.timer"},
		Policies: []PolicyStatus{{
			Policy: cleanup.Policy{Name: "messages", Table: "messages", Column: "expires_at", Hold: "legal_hold"},
			Last:   LastRun{Ended: ran, Outcome: "complete", Deleted: new(int64(66_667)), Verified: ran, Note: "the ledger"},
			Status: cleanup.Status{
				Table: "public.messages", Cutoff: at, Backlog: exactly(1234), Overdue: new(11*time.Hour + 3*time.Minute),
				Held: exactly(1), Null: exactly(12), Day: day, Later: cleanup.Count{Rows: 1_200_000, Is: cleanup.About},
			},
		}},
	}
}

func statusText(t *testing.T, s Status, width int) string {
	t.Helper()
	var b strings.Builder
	if err := WriteStatus(&b, s, width); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestStatusForPeople(t *testing.T) {
	t.Parallel()
	compare(t, `messages: delete rows of messages once expires_at has passed, but keep those held by legal_hold
  last run  complete, 11h27m ago, at 2026-03-01 02:03:11 UTC: 66,667 rows deleted (the ledger)
  verified  at its end: nothing expired was left
  backlog   1,234 expired rows, the oldest overdue for 11h3m
  next 24h  7,800 rows expire
  later     about 1,200,000 rows expire
  never     12 rows have no expires_at (NULL)
  held      1 expired row kept by the policy's hold condition

  13:30 - 14:00          0
  14:00 - 16:00        100  ##
  16:00 - 18:00        200  ####
  18:00 - 20:00        300  ######
  20:00 - 22:00        400  ########
  22:00 - 00:00        500  ##########
  00:00 - 02:00        600  ############
  02:00 - 04:00        700  ##############
  04:00 - 06:00        800  ################
  06:00 - 08:00        900  ##################
  08:00 - 10:00      1,000  ####################
  10:00 - 12:00      1,100  ######################
  12:00 - 13:30      1,200  ########################
  hours are UTC

next run: in 12h33m, at 2026-03-02 02:03:11 UTC (message-cleanup.timer)
`, statusText(t, morning(), 51))
}

func TestStatusFitsTheTerminal(t *testing.T) {
	t.Parallel()
	for width, bar := range map[int]int{20: leastBar, 60: 33, 80: 53, 300: mostBar} {
		if text := statusText(t, morning(), width); !strings.Contains(text, "1,200  "+strings.Repeat("#", bar)+"\n") {
			t.Errorf("on %d columns the longest bar is not %d long:\n%s", width, bar, text)
		}
	}
}

func TestStatusSaysWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(s *Status, p *PolicyStatus)
		want   []string
	}{
		{"nothing is left, nothing comes", func(_ *Status, p *PolicyStatus) {
			p.Backlog, p.Overdue, p.Null, p.Later, p.Policy.Hold = exactly(0), new(time.Duration(0)), exactly(0), exactly(0), ""
			for i := range p.Day {
				p.Day[i].Count = exactly(0)
			}
		}, []string{"  backlog   no expired row\n  next 24h  0 rows expire\n  later     0 rows expire\n\nnext run"}},
		{"too many to count", func(_ *Status, p *PolicyStatus) {
			p.Backlog, p.Overdue = cleanup.Count{Rows: 1_000_000, Is: cleanup.AtLeast}, nil
			p.Later = cleanup.Count{Is: cleanup.Unknown}
		}, []string{
			"backlog   at least 1,000,000 expired rows, how old the oldest is was not found out in time\n",
			"later     an unknown number of rows expire (counting takes too long)\n",
		}},
		{"the last run was killed", func(_ *Status, p *PolicyStatus) {
			p.Last.Outcome, p.Last.Deleted, p.Last.Verified = "failed by signal", nil, p.Last.Ended.AddDate(0, 0, -3)
		}, []string{
			"last run  failed by signal, 11h27m ago, at 2026-03-01 02:03:11 UTC (the ledger)\n",
			"verified  3 days ago, at 2026-02-26 02:03:11 UTC: nothing expired was left\n",
		}},
		{"never verified", func(_ *Status, p *PolicyStatus) { p.Last.Verified = time.Time{} }, []string{"verified  by no run that is known of\n"}},
		{"no word of a run", func(_ *Status, p *PolicyStatus) { p.Last = LastRun{Note: "set metrics.textfile"} }, []string{"last run  not known: set metrics.textfile\n  backlog "}},
		{"a run is in work", func(s *Status, _ *PolicyStatus) {
			s.AtWork, s.Next = "messages: 10 rows deleted", NextRun{Note: "it is off"}
		}, []string{"a run is in work: messages: 10 rows deleted\nnext run: not known: it is off\n"}},
		{"the table could not be looked at", func(_ *Status, p *PolicyStatus) { p.Err = errors.New("no such table") },
			[]string{"nothing expired was left\n  now       not known, see below\n\nnext run: in"}},
		{"the database could not be reached", func(s *Status, p *PolicyStatus) {
			s.Err, p.Status = errors.New("refused"), cleanup.Status{}
		}, []string{"nothing expired was left\n  now       not known, see below\n\nnext run: in"}},
		{"since ever", func(_ *Status, p *PolicyStatus) { p.Overdue = new(time.Duration(math.MaxInt64)) },
			[]string{"the oldest overdue for more than 100 years\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := morning()
			tt.change(&s, &s.Policies[0])
			text := statusText(t, s, 80)
			for _, want := range tt.want {
				if !strings.Contains(text, want) {
					t.Errorf("the status lacks\n%s\nit is\n%s", want, text)
				}
			}
		})
	}
}

func TestStatusJSONHasTheKeysOfTheContract(t *testing.T) {
	t.Parallel()
	counts := []string{"backlog", "next_24h", "later", "null_rows", "held_rows"}
	unreached := morning()
	unreached.Err, unreached.Policies[0].Status = errors.New("refused"), cleanup.Status{}
	for name, s := range map[string]Status{"found out": morning(), "unreachable": unreached} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			if err := WriteStatusJSON(&b, s); err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
				t.Fatal(err)
			}
			wantKeys(t, got, []string{"timestamp", "next_run", "next_run_note", "policies"}, []string{"at_work", "error", "hint"})
			policy := got["policies"].([]any)[0].(map[string]any)
			wantKeys(t, policy, append([]string{"name", "table", "last_run", "cutoff", "oldest_overdue_seconds", "expiring"}, counts...), []string{"error", "hint"})
			wantKeys(t, policy["last_run"].(map[string]any), []string{"ended", "outcome", "deleted_count", "verified", "note"}, nil)
			for _, key := range counts {
				if counted := policy[key] != nil; counted != (s.Err == nil) {
					t.Errorf("%s is %v", key, policy[key])
				}
			}
		})
	}
}

// Thresholds are exceeded by more than they say, and the first line has all that
// a monitoring system reads.
func TestStatusAsAPlugin(t *testing.T) {
	t.Parallel()
	const age = 11*time.Hour + 3*time.Minute
	tests := []struct {
		name              string
		warning, critical time.Duration
		change            func(s *Status, p *PolicyStatus)
		alert             Alert
		want              string
	}{
		{"fine", 26 * time.Hour, 50 * time.Hour, nil, AlertOK,
			"OK - messages: 1,234 expired rows, the oldest overdue for 11h3m | 'messages overdue'=39780s;93600;180000;0 'messages backlog'=1234;;;0"},
		{"just as old as the warning", age, 0, nil, AlertOK, "OK - *39780s;39780;;0*"},
		{"older than the warning", age - 1, 12 * time.Hour, nil, AlertWarning, "WARNING - *"},
		{"older than both", time.Hour, 2 * time.Hour, nil, AlertCritical, "CRITICAL - *"},
		{"no warning asked for", 0, age - 1, nil, AlertCritical, "CRITICAL - *39780s;;39780;0*"},
		{"age not found out", time.Hour, 0, func(_ *Status, p *PolicyStatus) { p.Overdue, p.Backlog.Is = nil, cleanup.Unknown }, AlertUnknown,
			"UNKNOWN - * | 'messages overdue'=U;3600;;0"},
		{"a table that is not there", time.Hour, 0, func(_ *Status, p *PolicyStatus) { p.Err = errors.New("a | b\nis not there") }, AlertUnknown,
			"UNKNOWN - messages: a / b is not there"},
		{"no database", time.Hour, 0, func(s *Status, p *PolicyStatus) {
			s.Err, p.Status = errors.New("connection\n\trefused"), cleanup.Status{}
		}, AlertUnknown,
			"UNKNOWN - connection refused"},
		{"one unknown, one too old", time.Hour, 0, func(s *Status, _ *PolicyStatus) {
			s.Policies = append(s.Policies, PolicyStatus{Policy: cleanup.Policy{Name: "b"}, Err: errors.New("gone")})
		}, AlertWarning, "WARNING - messages: *; b: gone | *"},
		{"an odd name", 0, 20 * time.Hour, func(_ *Status, p *PolicyStatus) { p.Policy.Name = "it's=a|b" }, AlertOK, "OK - it's=a/b: * | 'it''s_a/b overdue'=*"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := morning()
			if tt.change != nil {
				tt.change(&s, &s.Policies[0])
			}
			var b strings.Builder
			alert, err := WritePlugin(&b, s, tt.warning, tt.critical)
			if err != nil || alert != tt.alert {
				t.Errorf("alert is %v (%v), want %v", alert, err, tt.alert)
			}
			rest, ok := strings.CutPrefix(strings.TrimSuffix(b.String(), "\n"), "MESSAGE-CLEANUP ")
			for i, part := range strings.Split(tt.want, "*") { // * is anything
				at := strings.Index(rest, part)
				if at < 0 || i == 0 && at > 0 {
					ok = false
					break
				}
				rest = rest[at+len(part):]
			}
			if !ok || !strings.HasSuffix(tt.want, "*") && rest != "" || strings.Count(b.String(), "\n") != 1 || strings.Count(b.String(), "|") > 1 {
				t.Errorf("the line is\n%swant\nMESSAGE-CLEANUP %s", b.String(), tt.want)
			}
		})
	}
}

func TestMetricsTellOfTheLastRun(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/metrics.prom"
	read := func(policy string) LastRun {
		last, err := ReadLastRun(path, policy)
		if err != nil {
			t.Fatal(err)
		}
		return last
	}
	compare(t, LastRun{}, read("chat"))
	end := firstNight.Add(10 * time.Second)
	writeMetrics(t, path, night(1, policy("chat", 100, 0)), "chat", "logs")
	compare(t, LastRun{Ended: end, Outcome: "complete", Deleted: new(int64(100)), Verified: end, Note: path}, read("chat"))
	compare(t, LastRun{}, read("logs")) // which that run did not clean
	writeMetrics(t, path, night(2, policy("chat", 5, 1)), "chat", "logs")
	compare(t, LastRun{Ended: end.AddDate(0, 0, 1), Outcome: "incomplete", Deleted: new(int64(5)), Verified: end, Note: path}, read("chat"))
}
