package report

import (
	"encoding/json"
	"io"
	"time"

	"message-cleanup/internal/cleanup"
)

// The names are a contract, as those of a run are.
type statusJSON struct {
	Timestamp time.Time          `json:"timestamp"` // RFC 3339, UTC
	AtWork    string             `json:"at_work,omitempty"`
	NextRun   *time.Time         `json:"next_run"` // null: not known, or not planned
	NextNote  string             `json:"next_run_note"`
	Policies  []policyStatusJSON `json:"policies"`
	Error     string             `json:"error,omitempty"`
	Hint      string             `json:"hint,omitempty"`
}

type policyStatusJSON struct {
	Name    string      `json:"name"`
	Table   string      `json:"table"`
	Last    lastRunJSON `json:"last_run"`
	Cutoff  *time.Time  `json:"cutoff"` // null, and so are all counts: the table was not looked at
	Backlog *countJSON  `json:"backlog"`
	Overdue *float64    `json:"oldest_overdue_seconds"` // null: not found out in time
	Day     *countJSON  `json:"next_24h"`
	Later   *countJSON  `json:"later"`
	Null    *countJSON  `json:"null_rows"`
	Held    *countJSON  `json:"held_rows"`
	Spans   []spanJSON  `json:"expiring"`
	Error   string      `json:"error,omitempty"`
	Hint    string      `json:"hint,omitempty"`
}

type lastRunJSON struct {
	Ended    *time.Time `json:"ended"`
	Outcome  string     `json:"outcome"`
	Deleted  *int64     `json:"deleted_count"`
	Verified *time.Time `json:"verified"`
	Note     string     `json:"note"`
}

type countJSON struct {
	Rows int64             `json:"rows"`
	Is   cleanup.CountKind `json:"is"`
}

type spanJSON struct {
	From time.Time         `json:"from"`
	To   time.Time         `json:"to"`
	Rows int64             `json:"rows"`
	Is   cleanup.CountKind `json:"is"`
}

// WriteStatusJSON writes the status as one object on one line.
func WriteStatusJSON(w io.Writer, s Status) error {
	out := statusJSON{
		Timestamp: s.At.UTC(), AtWork: s.AtWork,
		NextRun: orNull(s.Next.At), NextNote: s.Next.Note, Policies: []policyStatusJSON{},
	}
	out.Error, out.Hint = words(s.Err)
	for _, p := range s.Policies {
		out.Policies = append(out.Policies, policyStatusObject(p))
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(out)
}

func policyStatusObject(p PolicyStatus) policyStatusJSON {
	out := policyStatusJSON{
		Name: p.Policy.Name, Table: p.Policy.Table, Spans: []spanJSON{},
		Last: lastRunJSON{orNull(p.Last.Ended), p.Last.Outcome, p.Last.Deleted, orNull(p.Last.Verified), p.Last.Note},
	}
	if out.Error, out.Hint = words(p.Err); !p.looked() {
		return out
	}
	out.Table, out.Cutoff = p.Table, &p.Cutoff
	out.Backlog, out.Day, out.Later = counted(p.Backlog), counted(p.day()), counted(p.Later)
	out.Null, out.Held = counted(p.Null), counted(p.Held)
	if p.Overdue != nil {
		out.Overdue = new(p.Overdue.Seconds())
	}
	for _, s := range p.Day {
		out.Spans = append(out.Spans, spanJSON{s.From.UTC(), s.To.UTC(), s.Rows, s.Is})
	}
	return out
}

func counted(c cleanup.Count) *countJSON { return &countJSON{c.Rows, c.Is} }

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}
