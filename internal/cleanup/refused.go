package cleanup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

const (
	// maxNamed is how many refused rows are named; the others are counted.
	maxNamed = 100

	// freeTries is how many batches a policy may spend on the search for refused
	// rows whatever comes of it. That finds ten thousand neighbours, at less than
	// two tries for each.
	freeTries = 25_000
)

// RefusedError says that the database will not delete some row of a piece, as a
// foreign key or a trigger is in the way. Nothing of the piece was deleted.
type RefusedError struct {
	Err  error  // what the server said, without the values of the row
	Hint string // what to do about it
}

func (e *RefusedError) Error() string { return e.Err.Error() }
func (e *RefusedError) Unwrap() error { return e.Err }

// TooLongError says that the server worked too long on a piece and was stopped.
// Nothing of the piece was deleted.
type TooLongError struct{ Err error }

func (e *TooLongError) Error() string { return e.Err.Error() }
func (e *TooLongError) Unwrap() error { return e.Err }

// RefusedRow names a row that the database will not delete.
type RefusedRow struct {
	Table   string // that holds the row, schema-qualified
	Key     string // the primary key as column=value, or the ctid where there is none
	Message string // what the server said
}

// refusals are what is known of the refused rows of a policy.
type refusals struct {
	rows       int64         // refused, or left in one piece with such a row
	unexamined int64         // of these, those of pieces that were left whole
	first      *RefusedError // of the first row that is named, if one is; nil: none

	tries, gained int64        // the batches of the search, and the rows that they deleted
	told          []RefusedRow // that the log has named
}

// divide works off a piece that could not be deleted as a whole: its quarters, and
// theirs, down to the rows that are in the way. Those stay. Of all that fails, the
// whole piece is three quarters; with halves it would be a half.
func (p *policyRun) divide(ctx context.Context, piece Divisible, cause error, failed <-chan struct{}) error {
	var parts []Divisible
	var rows int64
	err := p.retry(ctx, p.stopReason, func() (err error) {
		rows, parts, err = piece.Split(ctx)
		return err
	})
	refused, isRefused := errors.AsType[*RefusedError](cause)
	switch {
	case err != nil:
		return err
	case rows == 0: // somebody else deleted them meanwhile
		return nil
	case isRefused && (len(parts) == 0 || !p.pays()):
		return p.leave(ctx, piece, rows, refused)
	case len(parts) == 0: // a single row takes too long
		return cause
	}
	for _, part := range parts {
		if p.stopReason() != "" || !p.mayBegin(ctx, failed) {
			return nil
		}
		p.mu.Lock()
		p.refusals.tries++
		p.mu.Unlock()
		took, worked, err := p.delete(ctx, part, 0)
		if mayDivide(err) {
			err = p.divide(ctx, part, err, failed)
		}
		if err == nil {
			err = p.rest(ctx, took, worked, failed)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mayDivide tells whether a part of a piece may be deleted though the whole could
// not.
func mayDivide(err error) bool {
	_, refused := errors.AsType[*RefusedError](err)
	_, tooLong := errors.AsType[*TooLongError](err)
	return refused || tooLong
}

// pays tells whether the search for refused rows is worth another try: that it
// has tries left, or gets one row deleted with each on the average. What is
// refused then stays in one piece with what is not.
func (p *policyRun) pays() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refusals.tries < freeTries+p.refusals.gained
}

// leave counts the rows of a piece that stays, and names it if it is a single
// one.
func (p *policyRun) leave(ctx context.Context, piece Divisible, rows int64, refused *RefusedError) error {
	p.mu.Lock()
	if p.refusals.first == nil {
		p.refusals.first = refused
	}
	p.refusals.rows += rows
	p.result.Refused = p.refusals.rows
	if rows > 1 {
		p.refusals.unexamined += rows
	}
	named := rows > 1 || len(p.result.RefusedRows) == maxNamed
	p.mu.Unlock()
	if named {
		return nil
	}
	row := RefusedRow{Message: refused.Error()}
	err := p.retry(ctx, p.stopReason, func() (err error) {
		row.Table, row.Key, err = piece.Key(ctx)
		return err
	})
	if err != nil || row.Key == "" { // it is gone
		return err
	}
	p.mu.Lock()
	if len(p.result.RefusedRows) == 0 {
		p.refusals.first = refused
	}
	if len(p.result.RefusedRows) < maxNamed {
		p.result.RefusedRows = append(p.result.RefusedRows, row)
	}
	told := slices.Contains(p.refusals.told, row) || len(p.refusals.told) == maxNamed
	if !told {
		p.refusals.told = append(p.refusals.told, row)
	}
	p.mu.Unlock()
	if !told {
		p.event(slog.LevelWarn, EventRefused, "leaf", row.Table, "key", row.Key, "error", refused)
	}
	return nil
}

// tooLong makes the next batches smaller by as much as one took too long.
func (p *policyRun) tooLong(rows int, took time.Duration, err error) {
	p.mu.Lock()
	p.pacer.shrink(rows, took)
	p.mu.Unlock()
	if p.untold(EventTooLong) {
		p.warnAs(EventTooLong, fmt.Sprintf("a batch was stopped after %s, and is tried in quarters; %s", FormatDuration(roughly(took)), HintOf(err)))
	}
}

// forgetRefusals begins a new pass, which meets the refused rows again.
func (p *policyRun) forgetRefusals() {
	p.result.Refused, p.result.RefusedRows = 0, nil
	p.refusals.rows, p.refusals.unexamined, p.refusals.first = 0, 0, nil
}

// refusal is the error of a policy with refused rows; nil: there are none.
func (p *policyRun) refusal() error {
	r := &p.refusals
	if r.rows == 0 {
		return nil
	}
	left := Plural(r.rows, "expired row is left that the database refuses to delete", "expired rows are left that the database refuses to delete")
	if r.unexamined > 0 {
		left += fmt.Sprintf(", or that were left in one batch with such a row (%s)", FormatCount(r.unexamined))
	}
	if len(p.result.RefusedRows) > 0 {
		row := p.result.RefusedRows[0]
		return Errorf(NeedsPerson, r.first.Hint, "%s; the first is %s of %s: %w", left, row.Key, row.Table, r.first)
	}
	return Errorf(NeedsPerson, r.first.Hint, "%s: %w", left, r.first)
}
