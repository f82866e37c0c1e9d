package report

import (
	"errors"
	"strings"
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
)

// run is a run that lasted 2.1 s, from 02:00 UTC on.
func run(policies ...cleanup.PolicyResult) cleanup.Result {
	return cleanup.Result{
		RunID:    "01a2b3c4-0000-7000-8000-000000000000",
		Start:    time.Date(2026, 3, 1, 2, 0, 0, 123456000, time.UTC),
		Duration: 2100 * time.Millisecond,
		Policies: policies,
	}
}

// messages is the result of the default policy, up to how it ended.
func messages() cleanup.PolicyResult {
	return cleanup.PolicyResult{
		Name: "messages", Table: "public.messages",
		Cutoff:   time.Date(2026, 3, 1, 2, 0, 0, 123456000, time.UTC),
		Strategy: "index", Reasons: []string{"index messages_expires_at_idx; the table was never analyzed"},
	}
}

// ended says how a policy ended.
func ended(reason cleanup.StopReason, deleted, batches int64, backlog *int64) cleanup.PolicyResult {
	p := messages()
	p.StopReason, p.Deleted, p.Batches, p.Backlog = reason, deleted, batches, backlog
	p.Duration = 2 * time.Second
	if backlog != nil {
		p.Held = new(int64(0))
	}
	return p
}

// The runs that both forms of the report are tested with.
func complete() cleanup.Result {
	return run(ended(cleanup.Exhausted, 1_234_567, 1235, new(int64(0))))
}

func withLockedRows() cleanup.Result {
	p := ended(cleanup.Exhausted, 1, 1, new(int64(12)))
	p.Locked, p.Retries, p.Held = 12, 3, new(int64(1))
	p.Duration = 500 * time.Millisecond
	return run(p)
}

func refused() cleanup.Result {
	p := ended(cleanup.Exhausted, 500, 3, new(int64(1)))
	p.Refused, p.RefusedRows = 1, []cleanup.RefusedRow{{Table: "public.messages", Key: "id=<17>", Message: "no (SQLSTATE P0001)"}}
	p.Err = cleanup.Errorf(cleanup.NeedsPerson, "look for a trigger", "1 expired rows are still there")
	return run(p)
}

func failed() cleanup.Result {
	p := ended(cleanup.Failed, 2000, 2, nil)
	p.Err = cleanup.Errorf(cleanup.Permission, `GRANT DELETE ON "a<b>" TO "r&d"`, `permission denied for table "a<b>"`)
	return run(p)
}

// unreachable is a run that failed before it had any policy to tell of.
func unreachable() cleanup.Result {
	r := run()
	r.Err = cleanup.Errorf(cleanup.Unavailable, "is it running?", "connect to db.example: connection refused")
	return r
}

// notInspected is a policy that failed before anything of it was known.
func notInspected() cleanup.Result {
	return run(cleanup.PolicyResult{
		Name: "messages", Table: "messages", StopReason: cleanup.Failed,
		Err: cleanup.Errorf(cleanup.Configuration, "set policies.table", "table messages does not exist"),
	}, ended(cleanup.Exhausted, 0, 0, new(int64(0))))
}

func dryRun() cleanup.Result {
	p := messages()
	p.Reasons = nil
	p.Warnings = []string{"a trigger BEFORE DELETE may swallow deletes"}
	p.Backlog, p.Held = new(int64(1500)), new(int64(2000))
	p.SQL = []string{"DELETE FROM ONLY public.messages\nWHERE expires_at < '2026-03-01'", "DELETE FROM ONLY public.m2\nWHERE a && b"}
	r := run(p)
	r.DryRun = true
	return r
}

func guarded() cleanup.Result {
	p := ended(cleanup.Guard, 0, 0, nil)
	p.Err = cleanup.Errorf(cleanup.NeedsPerson, "raise guard.max_rows", "guard.max_rows: more than 10 rows are expired")
	return run(p)
}

func overBudget() cleanup.Result { return run(ended(cleanup.TimeBudget, 1000, 1, nil)) }

func partitioned() cleanup.Result {
	p := ended(cleanup.Exhausted, 3000, 4, new(int64(0)))
	p.Strategy = "heap+index+partition"
	p.Reasons = []string{"public.m_1 by index: a", "public.m_2 by heap: b", "12 partitions skipped: c"}
	p.Dropped = []string{"public.m_3", "public.m_4"}
	return run(p)
}

func interrupted() cleanup.Result {
	return run(ended(cleanup.Exhausted, 10, 1, new(int64(0))), ended(cleanup.Interrupted, 20, 2, nil))
}

func TestWriteText(t *testing.T) {
	t.Parallel()
	const header = `messages: rows of public.messages expired before 2026-03-01 02:00:00 UTC
  strategy  index
  because   index messages_expires_at_idx; the table was never analyzed
`
	tests := []struct {
		name   string
		result cleanup.Result
		want   string
	}{
		{"complete", complete(), header + `  deleted   1,234,567 rows in 1,235 batches, 2.0 s, 617,283 rows/s
  left      no expired row
complete: 1,234,567 rows deleted in 2.1 s, and verified that nothing expired is left
`},
		{"locked rows", withLockedRows(), header + `  deleted   1 row in 1 batch, 500 ms, 2 rows/s
  left      12 expired rows
  held      1 expired row kept by the policy's hold condition
  locked    12 expired rows locked by other transactions to the end; the next run goes on
  retries   3
incomplete: 1 row deleted in 2.1 s
`},
		{"refused rows", refused(), header + `  deleted   500 rows in 3 batches, 2.0 s, 250 rows/s
  left      1 expired row
  refused   1 expired row that the database does not delete
            public.messages id=<17>: no (SQLSTATE P0001)
failed: 500 rows deleted in 2.1 s
`},
		{"failed", failed(), header + `  deleted   2,000 rows in 2 batches, 2.0 s, 1,000 rows/s
  stopped   by an error, see below
  left      not counted
failed: 2,000 rows deleted in 2.1 s
`},
		{"no connection", unreachable(), "failed: 0 rows deleted in 2.1 s\n"},
		{"a policy that was not inspected", notInspected(), "messages: failed\n" + header + `  deleted   0 rows in 0 batches, 2.0 s
  left      no expired row
failed: 0 rows deleted in 2.1 s
`},
		{"dry run", dryRun(), `messages: rows of public.messages expired before 2026-03-01 02:00:00 UTC
  strategy  index
  warning   a trigger BEFORE DELETE may swallow deletes
  expired   1,500 rows would be deleted
  held      2,000 expired rows kept by the policy's hold condition
  first batch, ready for EXPLAIN:
    DELETE FROM ONLY public.messages
    WHERE expires_at < '2026-03-01';
  first batch, ready for EXPLAIN:
    DELETE FROM ONLY public.m2
    WHERE a && b;
dry run: nothing was deleted
`},
		{"guard", guarded(), header + `  deleted   0 rows in 0 batches, 2.0 s
  stopped   a guard said no
  left      not counted
failed: 0 rows deleted in 2.1 s
`},
		{"time budget", overBudget(), header + `  deleted   1,000 rows in 1 batch, 2.0 s, 500 rows/s
  stopped   limits.max_duration is spent; the next run goes on
  left      not counted
incomplete: 1,000 rows deleted in 2.1 s
`},
		{"row budget", run(ended(cleanup.RowBudget, 1000, 1, new(int64(7)))), header + `  deleted   1,000 rows in 1 batch, 2.0 s, 500 rows/s
  stopped   limits.max_rows is spent; the next run goes on
  left      7 expired rows
incomplete: 1,000 rows deleted in 2.1 s
`},
		{"partitions", partitioned(), `messages: rows of public.messages expired before 2026-03-01 02:00:00 UTC
  strategy  heap+index+partition
  because   public.m_1 by index: a
  because   public.m_2 by heap: b
  because   12 partitions skipped: c
  deleted   3,000 rows in 4 batches, 2.0 s, 1,500 rows/s
  dropped   2 partitions: public.m_3, public.m_4
  left      no expired row
complete: 3,000 rows deleted in 2.1 s, and verified that nothing expired is left
`},
		{"two policies, the second interrupted", interrupted(), header + `  deleted   10 rows in 1 batch, 2.0 s, 5 rows/s
  left      no expired row
` + header + `  deleted   20 rows in 2 batches, 2.0 s, 10 rows/s
  stopped   interrupted; the next run goes on
  left      not counted
incomplete: 30 rows deleted in 2.1 s
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			if err := WriteText(&b, tt.result); err != nil {
				t.Fatal(err)
			}
			compare(t, tt.want, b.String())
		})
	}
}

// A cutoff that arrives in another zone is the same instant.
func TestWriteTextShowsTheCutoffInUTC(t *testing.T) {
	t.Parallel()
	p := ended(cleanup.Exhausted, 0, 0, new(int64(0)))
	p.Cutoff = p.Cutoff.In(time.FixedZone("+0545", 5*3600+45*60))
	var b strings.Builder
	if err := WriteText(&b, run(p)); err != nil {
		t.Fatal(err)
	}
	if want := "expired before 2026-03-01 02:00:00 UTC\n"; !strings.Contains(b.String(), want) {
		t.Errorf("the report lacks %q:\n%s", want, b.String())
	}
}

// broken is a writer like a full disk or a closed pipe.
type broken struct{}

var errBroken = errors.New("broken pipe")

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestAReportThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	if err := WriteText(broken{}, complete()); !errors.Is(err, errBroken) {
		t.Errorf("WriteText() = %v, want %v", err, errBroken)
	}
	if err := WriteJSON(broken{}, complete()); !errors.Is(err, errBroken) {
		t.Errorf("WriteJSON() = %v, want %v", err, errBroken)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	tests := []struct {
		d    time.Duration
		want string
	}{
		{0, "0 ms"},
		{time.Millisecond - 1, "0 ms"},
		{time.Millisecond, "1 ms"},
		{340 * time.Millisecond, "340 ms"},
		{time.Second - 1, "999 ms"},
		{time.Second, "1.0 s"},
		{2100 * time.Millisecond, "2.1 s"},
		{59*time.Second + 900*time.Millisecond, "59.9 s"},
		{time.Minute, "1m"},
		{time.Minute + 499*time.Millisecond, "1m"},
		{time.Minute + 500*time.Millisecond, "1m1s"},
		{3*time.Minute + 12*time.Second, "3m12s"},
		{time.Hour - 501*time.Millisecond, "59m59s"},
		{time.Hour - 500*time.Millisecond, "1h"},
		{time.Hour, "1h"},
		{25 * time.Hour, "25h"},
		{48 * time.Hour, "2d"},
	}
	for _, tt := range tests {
		if got := Duration(tt.d); got != tt.want {
			t.Errorf("Duration(%d) = %q, want %q", tt.d, got, tt.want)
		}
	}
}
