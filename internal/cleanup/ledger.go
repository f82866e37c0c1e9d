package cleanup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// LedgerRow is what the ledger keeps of one policy in one run. The JSON names
// are the columns of the table.
//
// A row is open while its run is at work, and is closed once, by its run or, if
// that never came to it, by the next one. A closed row is never changed again.
type LedgerRow struct {
	RunID          string     `json:"run_id"` // with Policy, the row's key
	Policy         string     `json:"policy"`
	Table          string     `json:"table_name"`
	Definition     string     `json:"definition"`      // Policy.String
	DefinitionHash string     `json:"definition_hash"` // Policy.Hash
	Cutoff         *time.Time `json:"cutoff"`          // nil: the policy failed before it was known
	Started        time.Time  `json:"started"`         // the server's clock
	Finished       *time.Time `json:"finished"`        // the server's clock; nil: the run never came to it

	Outcome    Outcome    `json:"outcome"`     // "": the row is open
	StopReason StopReason `json:"stop_reason"` // "": the row is open

	// These four grow in the transaction of each batch.
	Deleted int64    `json:"deleted"` // rows
	Batches int64    `json:"batches"` // transactions that were committed
	Dropped []string `json:"dropped_partitions"`

	Backlog *int64 `json:"backlog"` // expired rows left, held rows apart; nil: not counted
	Held    *int64 `json:"held"`    // expired rows that hold keeps; nil: not counted
	Locked  int64  `json:"locked"`
	Refused int64  `json:"refused"`

	OldestExpiry *time.Time `json:"oldest_expiry"`
	NewestExpiry *time.Time `json:"newest_expiry"`

	Host    string `json:"host"`    // on which the program ran
	Version string `json:"version"` // of the program

	// Which database server it was, for who restores a backup: both are nil if
	// the role may not ask.
	SystemIdentifier *int64 `json:"system_identifier"`
	Timeline         *int64 `json:"timeline"`

	// The row's place in the chain; nil and "" while it is open.
	Position *int64 `json:"position"`
	Previous string `json:"previous"` // the hash of the row before; "" of the first

	Hash    string `json:"hash,omitempty"`
	Content string `json:"-"` // all of the above as the server wrote it, which is what Hash is the hash of
	Damage  error  `json:"-"` // why Content could not be read: somebody changed the row. All above may be zero
}

// ReadLedgerRow reads a row from its content, a JSON object.
func ReadLedgerRow(content, hash string) LedgerRow {
	row := LedgerRow{Hash: hash, Content: content}
	if row.Damage = json.Unmarshal([]byte(content), &row); row.Damage != nil {
		// What names the row comes first and last, and is not always what was
		// changed.
		var name struct {
			RunID    string `json:"run_id"`
			Policy   string `json:"policy"`
			Position *int64 `json:"position"`
			Previous string `json:"previous"`
		}
		_ = json.Unmarshal([]byte(content), &name)
		row.RunID, row.Policy, row.Position, row.Previous = name.RunID, name.Policy, name.Position, name.Previous
	}
	return row
}

// Sum computes what Hash must be: SHA-256, in hexadecimal, of the content
// without white space between its parts. The content has the place in the chain
// and the hash of the row before in it.
func (r LedgerRow) Sum() string {
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(r.Content)); err != nil {
		compact.Reset()
		compact.WriteString(r.Content)
	}
	sum := sha256.Sum256(compact.Bytes())
	return hex.EncodeToString(sum[:])
}

// Head writes the row's place and hash as the head of the chain: "17:5f2c...".
func (r LedgerRow) Head() string {
	if r.Position == nil {
		return ""
	}
	return fmt.Sprintf("%d:%s", *r.Position, r.Hash)
}

// OutcomeUnfinished is in the ledger only: the run ended without a word, killed
// or cut off, and the next one closed its row.
const OutcomeUnfinished Outcome = "unfinished"

// LedgerSummary is what the ledger says of one policy in short.
type LedgerSummary struct {
	Last     *LedgerRow // of the run that began last; nil: there was none
	Verified *time.Time // when a run last found that nothing expired was left; nil: never
	Runs     int64
	Deleted  int64 // rows, in all runs
}
