// Package report is where a finished run goes: one JSON object for programs, a
// text for people, a file of metrics for Prometheus.
package report

import (
	"encoding/json"
	"io"
	"time"

	"message-cleanup/internal/cleanup"
)

// The JSON names are a contract with scripts: they may be added to, never
// renamed or removed.
type runJSON struct {
	Success      bool            `json:"success"`
	DeletedCount int64           `json:"deleted_count"`
	Timestamp    time.Time       `json:"timestamp"` // the start, RFC 3339, UTC
	RunID        string          `json:"run_id"`
	Outcome      cleanup.Outcome `json:"outcome"`
	DurationMS   int64           `json:"duration_ms"`
	Error        string          `json:"error,omitempty"`
	Hint         string          `json:"hint,omitempty"`
	Policies     []policyJSON    `json:"policies"`
}

type policyJSON struct {
	Name              string             `json:"name"`
	Table             string             `json:"table"`
	Cutoff            *time.Time         `json:"cutoff"` // null: the policy failed before it was known
	Strategy          string             `json:"strategy"`
	Reasons           []string           `json:"reasons"`
	StopReason        cleanup.StopReason `json:"stop_reason"`
	DeletedCount      int64              `json:"deleted_count"`
	Backlog           *int64             `json:"backlog"`   // null: not counted
	HeldRows          *int64             `json:"held_rows"` // null: not counted
	LockedRows        int64              `json:"locked_rows"`
	RefusedRows       int64              `json:"refused_rows"`
	Refused           []refusedJSON      `json:"refused"` // the first of them, at most 100
	Batches           int64              `json:"batches"`
	Retries           int64              `json:"retries"`
	DroppedPartitions []string           `json:"dropped_partitions"`
	DurationMS        int64              `json:"duration_ms"`
	Warnings          []string           `json:"warnings,omitempty"`
	SQL               []string           `json:"sql,omitempty"` // of the first batches, in a dry run
	LedgerHead        string             `json:"ledger_head,omitempty"`
	Error             string             `json:"error,omitempty"`
	Hint              string             `json:"hint,omitempty"`
}

type refusedJSON struct {
	Table   string `json:"table"`
	Key     string `json:"key"`
	Message string `json:"message"`
}

// WriteJSON writes the result as one object on one line.
func WriteJSON(w io.Writer, r cleanup.Result) error {
	out := runJSON{
		Success:      r.Success(),
		DeletedCount: r.Deleted(),
		Timestamp:    r.Start.UTC(),
		RunID:        r.RunID,
		Outcome:      r.Outcome(),
		DurationMS:   r.Duration.Milliseconds(),
		Policies:     []policyJSON{},
	}
	out.Error, out.Hint = words(r.Error())
	for _, p := range r.Policies {
		out.Policies = append(out.Policies, policyObject(p))
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(out)
}

func policyObject(p cleanup.PolicyResult) policyJSON {
	out := policyJSON{
		Name: p.Name, Table: p.Table, Strategy: p.Strategy, Reasons: orEmpty(p.Reasons),
		StopReason: p.StopReason, DeletedCount: p.Deleted, Backlog: p.Backlog, HeldRows: p.Held,
		LockedRows: p.Locked, RefusedRows: p.Refused, Batches: p.Batches, Retries: p.Retries,
		DroppedPartitions: orEmpty(p.Dropped), DurationMS: p.Duration.Milliseconds(),
		Warnings: p.Warnings, SQL: p.SQL, LedgerHead: p.LedgerHead, Refused: []refusedJSON{},
	}
	for _, row := range p.RefusedRows {
		out.Refused = append(out.Refused, refusedJSON(row))
	}
	if !p.Cutoff.IsZero() {
		out.Cutoff = &p.Cutoff
	}
	out.Error, out.Hint = words(p.Err)
	return out
}

func words(err error) (text, hint string) {
	if err == nil {
		return "", ""
	}
	return err.Error(), cleanup.HintOf(err)
}

// orEmpty makes an empty list of nil, so that programs need not ask for null.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
