package cleanup

import (
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOutcomeOfAPolicy(t *testing.T) {
	t.Parallel()
	busy := Errorf(Incomplete, "wait", "another run is in work")
	tests := []struct {
		name   string
		result PolicyResult
		want   Outcome
	}{
		{"verified", PolicyResult{StopReason: Exhausted, Backlog: new(int64(0))}, OutcomeComplete},
		{"verified, with held rows", PolicyResult{StopReason: Exhausted, Backlog: new(int64(0)), Held: new(int64(9))}, OutcomeComplete},
		{"one row is left", PolicyResult{StopReason: Exhausted, Backlog: new(int64(1))}, OutcomeIncomplete},
		{"not verified", PolicyResult{StopReason: Exhausted}, OutcomeIncomplete},
		{"time budget", PolicyResult{StopReason: TimeBudget, Backlog: new(int64(1))}, OutcomeIncomplete},
		{"time budget, not counted", PolicyResult{StopReason: TimeBudget}, OutcomeIncomplete},
		{"time budget, nothing left", PolicyResult{StopReason: TimeBudget, Backlog: new(int64(0))}, OutcomeComplete},
		{"row budget", PolicyResult{StopReason: RowBudget, Backlog: new(int64(1))}, OutcomeIncomplete},
		{"row budget, nothing left", PolicyResult{StopReason: RowBudget, Backlog: new(int64(0))}, OutcomeComplete},
		{"row budget, nothing left but held rows", PolicyResult{StopReason: RowBudget, Backlog: new(int64(0)), Held: new(int64(2))}, OutcomeComplete},
		{"interrupted", PolicyResult{StopReason: Interrupted}, OutcomeIncomplete},
		{"guard without its error", PolicyResult{StopReason: Guard}, OutcomeIncomplete},
		{"guard", PolicyResult{StopReason: Guard, Err: io.EOF}, OutcomeFailed},
		{"failed", PolicyResult{StopReason: Failed, Err: io.EOF}, OutcomeFailed},
		{"failed before it stopped", PolicyResult{Err: io.EOF}, OutcomeFailed},
		{"verified, yet an error", PolicyResult{StopReason: Exhausted, Backlog: new(int64(0)), Err: io.EOF}, OutcomeFailed},
		{"the next run mends it", PolicyResult{StopReason: Failed, Err: busy}, OutcomeIncomplete},
		{"the next run mends it, wrapped", PolicyResult{StopReason: Failed, Err: fmt.Errorf("lock: %w", busy)}, OutcomeIncomplete},
		{"verified, yet rows are not known to be durable", PolicyResult{StopReason: Exhausted, Backlog: new(int64(0)), Err: busy}, OutcomeIncomplete},
		{"dry run", PolicyResult{Backlog: new(int64(5))}, OutcomeDryRun},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.result.Outcome(); got != tt.want {
				t.Errorf("Outcome() = %q, want %q", got, tt.want)
			}
		})
	}
}

// Only a run whose every policy was verified is a success: a green run is the
// proof that an auditor is shown.
func TestOutcomeOfARunIsItsWorstPolicy(t *testing.T) {
	t.Parallel()
	busy := Errorf(Incomplete, "wait", "another run is in work")
	complete := PolicyResult{StopReason: Exhausted, Backlog: new(int64(0))}
	incomplete := PolicyResult{StopReason: TimeBudget}
	failed := PolicyResult{StopReason: Failed, Err: io.EOF}
	preview := PolicyResult{Backlog: new(int64(5))}
	tests := []struct {
		name    string
		result  Result
		want    Outcome
		success bool
	}{
		{"complete", Result{Policies: []PolicyResult{complete}}, OutcomeComplete, true},
		{"all complete", Result{Policies: []PolicyResult{complete, complete}}, OutcomeComplete, true},
		{"one incomplete", Result{Policies: []PolicyResult{incomplete, complete}}, OutcomeIncomplete, false},
		{"the last incomplete", Result{Policies: []PolicyResult{complete, incomplete}}, OutcomeIncomplete, false},
		{"one failed", Result{Policies: []PolicyResult{failed, complete}}, OutcomeFailed, false},
		{"failed after incomplete", Result{Policies: []PolicyResult{incomplete, failed}}, OutcomeFailed, false},
		{"incomplete after failed", Result{Policies: []PolicyResult{failed, incomplete}}, OutcomeFailed, false},
		{"the run failed", Result{Policies: []PolicyResult{complete}, Err: io.EOF}, OutcomeFailed, false},
		{"the run failed before its policies", Result{Err: io.EOF}, OutcomeFailed, false},
		{"another run is in work", Result{Err: busy}, OutcomeIncomplete, false},
		{"two errors, the worse behind", Result{Err: errors.Join(busy, Errorf(Permission, "", "denied"))}, OutcomeFailed, false},
		{"a failed policy beside one that the next run mends", Result{Policies: []PolicyResult{{Err: busy}, failed}}, OutcomeFailed, false},
		{"dry run", Result{DryRun: true, Policies: []PolicyResult{preview, preview}}, OutcomeDryRun, true},
		{"dry run, one failed", Result{DryRun: true, Policies: []PolicyResult{preview, failed}}, OutcomeFailed, false},
		{"dry run, no connection", Result{DryRun: true, Err: io.EOF}, OutcomeFailed, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.result.Outcome(); got != tt.want {
				t.Errorf("Outcome() = %q, want %q", got, tt.want)
			}
			if got := tt.result.Success(); got != tt.success {
				t.Errorf("Success() = %v, want %v", got, tt.success)
			}
			if tt.want == OutcomeFailed && tt.result.Error() == nil || tt.success && tt.result.Error() != nil {
				t.Errorf("Error() = %v beside the outcome %q", tt.result.Error(), tt.want)
			}
		})
	}
}

func TestDeletedIsTheSumOfThePolicies(t *testing.T) {
	t.Parallel()
	r := Result{Policies: []PolicyResult{{Deleted: 2}, {}, {Deleted: 40}}}
	if got := r.Deleted(); got != 42 {
		t.Errorf("Deleted() = %d, want 42", got)
	}
}

func TestErrorJoinsAllAndNamesThePolicies(t *testing.T) {
	t.Parallel()
	if err := (Result{Policies: []PolicyResult{{Name: "messages"}}}).Error(); err != nil {
		t.Errorf("Error() = %v for a run without one", err)
	}
	lock := errors.New("locked")
	r := Result{
		Err: io.EOF,
		Policies: []PolicyResult{
			{Name: "messages", Err: Errorf(Permission, "grant it", "delete: %w", lock)},
			{Name: "tokens"},
			{Name: "events", Err: io.ErrClosedPipe},
		},
	}
	err := r.Error()
	want := "EOF\npolicy messages: delete: locked\npolicy events: io: read/write on closed pipe"
	if err == nil || err.Error() != want {
		t.Errorf("Error() = %q, want %q", err, want)
	}
	for _, cause := range []error{io.EOF, lock, io.ErrClosedPipe} {
		if !errors.Is(err, cause) {
			t.Errorf("Error() hides %v", cause)
		}
	}
	if KindOf(err) != Internal || HintOf(err) != "grant it" {
		t.Errorf("kind %d, hint %q; want the most severe kind and the first hint", KindOf(err), HintOf(err))
	}
}

func TestKindOfAndHintOfLookThroughErrors(t *testing.T) {
	t.Parallel()
	hinted := Errorf(Permission, "grant it", "denied")
	bare := Errorf(NeedsPerson, "", "refused")
	tests := []struct {
		name string
		err  error
		kind Kind
		hint string
	}{
		{"nil", nil, Internal, ""},
		{"an error of another package", io.EOF, Internal, ""},
		{"itself", hinted, Permission, "grant it"},
		{"without a hint", bare, NeedsPerson, ""},
		{"wrapped", fmt.Errorf("policy messages: %w", hinted), Permission, "grant it"},
		{"wrapped twice", fmt.Errorf("a: %w", fmt.Errorf("b: %w", hinted)), Permission, "grant it"},
		{"joined behind one of no kind", errors.Join(io.EOF, hinted), Internal, "grant it"},
		{"two in one chain: the outer one counts", Errorf(Unavailable, "start it", "connect: %w", hinted), Unavailable, "start it"},
		{"the outer one has no hint", Errorf(Unavailable, "", "connect: %w", hinted), Unavailable, "grant it"},
		{"two joined: the most severe counts, and the first hint", errors.Join(hinted, Errorf(Incomplete, "wait", "busy")), Permission, "grant it"},
		{"two joined, the most severe behind", errors.Join(Errorf(Incomplete, "wait", "busy"), hinted), Permission, "wait"},
		{"two joined, the first without a hint", errors.Join(bare, hinted), Permission, "grant it"},
		{"joined deep inside", fmt.Errorf("a: %w", errors.Join(io.EOF, fmt.Errorf("b: %w, %w", bare, hinted))), Internal, "grant it"},
		{"an outer one around joined ones", Errorf(Incomplete, "", "stop: %w", errors.Join(bare, hinted)), Incomplete, "grant it"},
		{"transient", errDeadlock, Incomplete, ""},
		{"transient, wrapped", fmt.Errorf("flush: %w", errDeadlock), Incomplete, ""},
		{"transient, joined with a failure", errors.Join(errDeadlock, hinted), Permission, "grant it"},
		{"around a transient error", Errorf(Unavailable, "start it", "connect: %w", errDeadlock), Unavailable, "start it"},
		{"inside a transient error", &TransientError{Err: hinted}, Incomplete, "grant it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := KindOf(tt.err); got != tt.kind {
				t.Errorf("KindOf() = %d, want %d", got, tt.kind)
			}
			if got := HintOf(tt.err); got != tt.hint {
				t.Errorf("HintOf() = %q, want %q", got, tt.hint)
			}
		})
	}
}

func TestErrorsSayTheirCauseAndKeepIt(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err  error
		want string
	}{
		{Errorf(Unavailable, "start it", "connect to %s: %w", "db", io.EOF), "connect to db: EOF"},
		{&TransientError{Err: io.EOF}, "EOF"},
	}
	for _, tt := range tests {
		if tt.err.Error() != tt.want || !errors.Is(tt.err, io.EOF) {
			t.Errorf("error %q, want %q with its cause", tt.err, tt.want)
		}
	}
	lost := &LostError{Pieces: make([]Piece, 3), Rows: 12_345}
	for _, want := range []string{"crash", "3 batches", "12,345 rows"} {
		if !strings.Contains(lost.Error(), want) {
			t.Errorf("error %q does not say %q", lost, want)
		}
	}
}

// RFC 9562, section 5.7: 48 bits of Unix milliseconds, the version 7 and the
// variant 10 at their places, the rest random.
func TestNewRunIDIsAVersion7UUID(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for range 1000 {
		if id := NewRunID(time.Now()); !form.MatchString(id) {
			t.Fatalf("NewRunID() = %q is no UUID of version 7", id)
		}
	}
	// The example of RFC 9562, appendix A.6.
	id := NewRunID(time.Date(2022, 2, 22, 19, 22, 22, 0, time.UTC))
	if want := "017f22e2-79b0-7"; id[:len(want)] != want {
		t.Errorf("NewRunID() = %q, want it to begin with %q", id, want)
	}
}

func TestRunIDsSortByTimeAndDiffer(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 2, 0, 0, 0, time.UTC)
	var ids []string
	for _, after := range []time.Duration{
		0, time.Millisecond, 2 * time.Millisecond, 255 * time.Millisecond, 256 * time.Millisecond, 257 * time.Millisecond,
		time.Second, time.Minute, 24 * time.Hour, 10_000 * time.Hour, 1_000_000 * time.Hour,
	} {
		ids = append(ids, NewRunID(start.Add(after)))
	}
	if !slices.IsSorted(ids) {
		t.Errorf("ids of later runs sort before those of earlier ones: %q", ids)
	}
	seen := make(map[string]bool)
	for range 1000 {
		seen[NewRunID(start)] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d different ids of 1000 runs in one millisecond", len(seen))
	}
}

func TestFormatCount(t *testing.T) {
	t.Parallel()
	tests := []struct {
		n    int64
		want string
	}{
		{0, "0"},
		{7, "7"},
		{99, "99"},
		{999, "999"},
		{1000, "1,000"},
		{99_999, "99,999"},
		{999_999, "999,999"},
		{1_000_000, "1,000,000"},
		{1_234_567, "1,234,567"},
		{-1, "-1"},
		{-99, "-99"},
		{-999, "-999"},
		{-1000, "-1,000"},
		{-99_999, "-99,999"},
		{-123_456, "-123,456"},
		{-1_234_567, "-1,234,567"},
		{math.MaxInt64, "9,223,372,036,854,775,807"},
		{math.MinInt64, "-9,223,372,036,854,775,808"},
	}
	for _, tt := range tests {
		if got := FormatCount(tt.n); got != tt.want {
			t.Errorf("FormatCount(%d) = %q, want %q", tt.n, got, tt.want)
		}
	}
}

func TestPlural(t *testing.T) {
	t.Parallel()
	tests := []struct {
		n    int64
		want string
	}{
		{0, "0 rows"},
		{1, "1 row"},
		{2, "2 rows"},
		{1001, "1,001 rows"},
		{-1, "-1 rows"},
	}
	for _, tt := range tests {
		if got := Plural(tt.n, "row", "rows"); got != tt.want {
			t.Errorf("Plural(%d) = %q, want %q", tt.n, got, tt.want)
		}
	}
}

// An error of no kind is a defect of this program, also beside others.
func TestAnUnknownErrorIsInternalBesideOthers(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		errors.Join(io.EOF, Errorf(Incomplete, "", "gave up")),
		errors.Join(errDeadlock, fmt.Errorf("a: %w", io.EOF)),
	} {
		if got := KindOf(err); got != Internal {
			t.Errorf("KindOf(%q) = %d, want Internal", err, got)
		}
	}
}
