// Package cleanup is the domain: which rows are expired, how a table is cut
// into batches, how long a run may take, and how it ends.
//
// The words it uses are the words of the logs, the documentation and the
// configuration: a [Policy] names a table and the column that tells when its
// rows expire; the cutoff is the one instant of a run before which they are
// expired; a [Plan] says how the table will be cut into batches, and why; the
// [Runner] works the plan off and returns a [PolicyResult] with its
// [StopReason].
//
// The package knows the standard library only. It never sees SQL, a
// configuration file or systemd, so its decisions can be tested without them.
package cleanup

import (
	"errors"
	"fmt"
)

// Events are the messages of the log. They are constant, so that a reader can
// search for them, and each has a fixed MESSAGE_ID in the journal.
const (
	EventRunStarted     = "run started"
	EventRunFinished    = "run finished"
	EventRunFailed      = "run failed"
	EventPlanned        = "plan made"
	EventWarning        = "warning"
	EventPolicyFinished = "policy finished"
	EventPolicyFailed   = "policy failed"
	EventBatch          = "batch deleted"
	EventRetry          = "batch will be tried again"
	EventLocked         = "rows are locked, skipped for now"
	EventWaiting        = "waiting for the database"
	EventStopping       = "stopping after the current batch"
)

// Kind classes an error by what the person who meets it has to do. The
// command line makes the exit status of it.
type Kind int

const (
	Internal      Kind = iota // a defect of this program
	Configuration             // the configuration does not fit the database
	Permission                // the role may not do what it must
	Unavailable               // the database cannot be reached
	NeedsPerson               // a guard said no, or rows that the database will not delete
	Incomplete                // not everything was deleted; the next run goes on
)

// Error is an error that a person has to act on: what went wrong, of which
// kind it is, and what to do next.
type Error struct {
	Kind Kind
	Err  error
	Hint string // what to do next, one clause; may be empty
}

// Errorf makes an Error; %w works as in fmt.Errorf.
func Errorf(kind Kind, hint, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...), Hint: hint}
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first Error in err's chain, or Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Internal
}

// HintOf returns the hint of the first Error in err's chain that has one.
func HintOf(err error) string {
	for e, ok := errors.AsType[*Error](err); ok; e, ok = errors.AsType[*Error](e.Err) {
		if e.Hint != "" {
			return e.Hint
		}
	}
	return ""
}
