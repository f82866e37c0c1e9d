package cleanup

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Database is what the runner needs of the database for one policy; pieces are
// worked on by several workers at once, its pressure is asked for meanwhile, and
// everything else comes one by one. Package
// postgres implements it; the tests of this package put a model in its place,
// so that hours of deleting take no time.
type Database interface {
	// Cut starts to cut a leaf into pieces by the planned strategy.
	Cut(leaf LeafPlan) Cutter
	// Flush makes every batch so far durable. Before it returns nil, no batch
	// may be called deleted.
	Flush(ctx context.Context) error
	// Count counts the rows that are expired now, over the whole table; quietly,
	// if others need the machine.
	Count(ctx context.Context, quietly bool) (Counts, error)
	// Newcomers returns the leaves that the table has now and that the plan does
	// not know.
	Newcomers(ctx context.Context) ([]string, error)
	// Pressure asks the server how far behind those are that read what it writes.
	Pressure(ctx context.Context) (Pressure, error)
	// Holders returns those whose snapshot is older than all that this run
	// deleted, the oldest first.
	Holders(ctx context.Context) ([]Holder, error)
	// Touched returns the leaves of which rows were deleted.
	Touched() []Leaf
	// Vacuum vacuums one leaf. It returns ErrLocked rather than to wait.
	Vacuum(ctx context.Context, leaf Leaf) error
	// Unconfirmed returns how many rows of deleted batches are not known to be
	// durable, and how many were taken back by a LostError, or never counted,
	// although they may be gone: after a crash the server could not tell.
	Unconfirmed() (rows, doubtful int64)
}

// Counts are expired rows of one table.
type Counts struct {
	Backlog int64 // that should be deleted
	Held    int64 // that the policy's hold condition keeps
	// Overdue is how long before the cutoff the time of the oldest row of the
	// backlog came.
	Overdue time.Duration
}

// Cutter is a strategy at work on one leaf.
type Cutter interface {
	// Next cuts off a piece that holds about that many rows, disjoint from all
	// pieces before; quietly, it leaves room for others. It returns nil when the
	// leaf is used up. A call that fails has cut nothing off and can be repeated.
	Next(ctx context.Context, rows int, quietly bool) (Piece, error)
}

// Piece is one bounded part of a leaf. Whatever it is asked for is done in one
// transaction, or not at all, and only rows that are expired are touched. What
// deletes fails with a RefusedError if the database refuses it, and with a
// TooLongError if the server worked on it for too long.
type Piece interface {
	// Delete deletes the piece's expired rows, or returns ErrLocked when it
	// would have to wait for another transaction.
	Delete(ctx context.Context) (Batch, error)
	// DeleteUnlocked deletes those expired rows that no other transaction holds
	// locked, and counts the others.
	DeleteUnlocked(ctx context.Context) (Batch, error)
}

// Divisible is a Piece of which a part can be deleted.
type Divisible interface {
	Piece
	// Split looks at the expired rows that are left in the piece and cuts it into
	// parts, about quarters; a single row cannot be cut. It changes nothing.
	Split(ctx context.Context) (rows int64, parts []Divisible, err error)
	// Key names a row of the piece, and the table that holds it; "": it is empty.
	Key(ctx context.Context) (table, key string, err error)
}

// Batch is what one transaction did.
type Batch struct {
	Deleted int64
	Locked  int64
	Took    time.Duration // that the server worked on it: what others may have felt; 0: it only counted
	WAL     int64         // bytes that the server logged meanwhile, others' included
	Others  int64         // transactions that others wrote since the run's first batch
	Dropped string        // the partition that was dropped, whose rows are in Deleted; "": none
	Lost    string        // the leaf, and why nothing may be deleted from it any more: nothing was; "": it may
}

// ErrLocked says that rows of a piece are locked by another transaction.
var ErrLocked = errors.New("rows are locked by another transaction")

// TransientError is a failure after which the same piece can be tried again:
// nothing of it was done.
type TransientError struct{ Err error }

func (e *TransientError) Error() string { return e.Err.Error() }
func (e *TransientError) Unwrap() error { return e.Err }

// LostError says that the server, in a crash, lost batches that it had
// acknowledged without a flush to disk. Their rows are there again.
type LostError struct {
	Pieces []Piece
	Rows   int64
}

func (e *LostError) Error() string {
	return fmt.Sprintf("in a crash or failover the server lost its last %s with %s, deleted anew",
		Plural(int64(len(e.Pieces)), "batch", "batches"), Plural(e.Rows, "row", "rows"))
}
