package cleanup

import (
	"context"
	"strings"
	"testing"
	"time"
)

// run works the model off and checks what must hold however a run ends.
func (m *model) run(t *testing.T, ctx context.Context, r *Runner) PolicyResult {
	t.Helper()
	started := time.Now()
	got := r.Run(ctx, m.plan(), m)
	if took := time.Since(started); got.Duration != took {
		t.Errorf("Duration = %v, the run took %v", got.Duration, took)
	}
	m.check(t, r, got)
	return got
}

// check is the one checker of every scenario: no row is counted twice, none is
// called deleted that is not on disk, and nothing is called complete that is not.
func (m *model) check(t *testing.T, r *Runner, got PolicyResult) {
	t.Helper()
	var durable int64
	for _, c := range m.commits[:m.flushed] {
		durable += int64(len(c.rows))
	}
	if got.Deleted != durable {
		t.Errorf("Deleted = %d, but %d rows are durably deleted", got.Deleted, durable)
	}
	if want := int64(len(m.commits)); got.Batches != want {
		t.Errorf("Batches = %d, but the server keeps %d", got.Batches, want)
	}
	left := m.count()
	if got.StopReason == Exhausted && (got.Backlog == nil || *got.Backlog != left.Backlog || *got.Held != left.Held) {
		t.Errorf("Backlog, Held = %v, %v; the table has %+v", number(got.Backlog), number(got.Held), left)
	}
	if got.Outcome() == OutcomeComplete && left.Backlog != 0 {
		t.Errorf("the outcome is complete with %d expired rows left", left.Backlog)
	}
	if got.Locked < 0 || got.Refused < 0 || got.Retries < 0 {
		t.Errorf("negative numbers: Locked %d, Refused %d, Retries %d", got.Locked, got.Refused, got.Retries)
	}
	if got.StopReason == Exhausted && got.Backlog != nil && got.Locked+got.Refused > *got.Backlog {
		t.Errorf("Locked %d and Refused %d are more than the backlog of %d", got.Locked, got.Refused, *got.Backlog)
	}
	if m.clashed.Load() {
		t.Error("only pieces are deleted by several workers at once, everything else comes one by one")
	}
	for i, rows := range m.asked {
		if rows < 1 || rows > r.BatchMaxRows {
			t.Errorf("batch %d asks for %d rows, outside 1 to %d", i+1, rows, r.BatchMaxRows)
			break
		}
	}
}

// number makes a count readable that may be missing.
func number(n *int64) any {
	if n == nil {
		return "not counted"
	}
	return *n
}

// wantEnd compares how a run ended. backlog -1 means: not counted.
func wantEnd(t *testing.T, got PolicyResult, reason StopReason, outcome Outcome, deleted, backlog int64) {
	t.Helper()
	if got.StopReason != reason || got.Outcome() != outcome || got.Deleted != deleted {
		t.Errorf("the run ended as %q, %q with %d rows deleted (error: %v); want %q, %q with %d",
			got.StopReason, got.Outcome(), got.Deleted, got.Err, reason, outcome, deleted)
	}
	if counted := got.Backlog != nil; counted != (backlog >= 0) || counted && *got.Backlog != backlog {
		t.Errorf("Backlog = %v, want %d (-1: not counted)", number(got.Backlog), backlog)
	}
}

// wantError compares an error: its kind, and a part of its text.
func wantError(t *testing.T, err error, kind Kind, text string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one of kind %d with %q", kind, text)
		return
	}
	if KindOf(err) != kind || !strings.Contains(err.Error(), text) {
		t.Errorf("error %q of kind %d, want kind %d with %q", err, KindOf(err), kind, text)
	}
}
