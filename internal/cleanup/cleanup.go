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

import "fmt"

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
	EventDropped        = "partition dropped"
	EventRetry          = "batch will be tried again"
	EventLocked         = "rows are locked, skipped for now"
	EventRefused        = "the database refuses to delete a row"
	EventTooLong        = "a batch takes too long, tried in quarters"
	EventNotDropped     = "partition is locked, left for the next run"
	EventWaiting        = "waiting for the database"
	EventCompany        = "others write, so batches get small and rest in between"
	EventSlowed         = "batches got much slower, so they rest in between"
	EventPaused         = "paused"
	EventPauseEnded     = "pause ended"
	EventHeldBack       = "the space of deleted rows is held back"
	EventVacuumed       = "vacuumed"
	EventUnfinished     = "an earlier run never finished"
	EventNoMetrics      = "metrics are not as they should be"
	EventStopping       = "stopping after the current batch"
	EventScheduled      = "next run planned"
	EventScheduleEnded  = "schedule ended"
)

// Kind classes an error by what the person who meets it has to do. The
// command line makes the exit status of it. They are in the order of severity:
// what the next run may mend by itself comes first.
type Kind int

const (
	Incomplete    Kind = iota + 1 // not everything was deleted; the next run goes on
	Unavailable                   // the database cannot be reached
	NeedsPerson                   // a guard said no, or rows that the database will not delete
	Permission                    // the role may not do what it must
	Configuration                 // the configuration does not fit the database
	Internal                      // a defect of this program
)

// Error is an error that a person has to act on: what went wrong, of which
// kind it is, and what to do next.
type Error struct {
	Kind Kind
	Err  error
	Hint string // what to do next, one clause; may be empty
	Name string // by which `check` reports it, in kebab case; empty: one for its kind
}

// Errorf makes an Error; %w works as in fmt.Errorf.
func Errorf(kind Kind, hint, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...), Hint: hint}
}

// Named gives the error a name of its own.
func (e *Error) Named(name string) *Error {
	e.Name = name
	return e
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the outermost Error in err's chain, and of joined
// errors the most severe. A TransientError is Incomplete, anything else Internal.
func KindOf(err error) Kind {
	if kind := kindOf(err); kind > 0 {
		return kind
	}
	return Internal
}

func kindOf(err error) (kind Kind) {
	switch e := err.(type) {
	case *Error:
		return e.Kind
	case *TransientError:
		return Incomplete
	case interface{ Unwrap() error }:
		return kindOf(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			kind = max(kind, KindOf(inner))
		}
	}
	return kind
}

// HintOf returns the first hint of the Errors in err's tree, or "".
func HintOf(err error) (hint string) {
	if e, ok := err.(*Error); ok && e.Hint != "" {
		return e.Hint
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return HintOf(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if hint = HintOf(inner); hint != "" {
				return hint
			}
		}
	}
	return ""
}
