package cleanup

import (
	"errors"
	"slices"
	"time"
)

// Severity says what becomes of the next run if nobody mends a [Finding].
type Severity string

const (
	// SeverityError: the run fails, leaves rows that should go, takes rows that
	// should stay, or gets in the way of others.
	SeverityError Severity = "error"
	// SeverityWarning: the run does its work; somebody should know nevertheless.
	SeverityWarning Severity = "warning"
)

// Finding is one thing that a check found wrong, and what mends it: statements,
// a command, or at least a hint.
type Finding struct {
	Name     string // in kebab case; a contract with scripts: it never changes
	Severity Severity
	Policy   string   // the policy that it is about; "": the server, or the host
	Text     string   // one sentence
	SQL      []string // statements for a superuser or the owner, each outside of a transaction block
	Command  string   // for a shell; beside SQL, it does the same
	Hint     string   // what to do, one clause
}

// FindingOf makes a finding of an error that a run would end with.
func FindingOf(policy string, err error) Finding {
	return Finding{Name: nameOf(err), Severity: SeverityError, Policy: policy, Text: err.Error(), Hint: HintOf(err)}
}

// nameOf returns the name that an error in err's chain was given, or one for its
// kind.
func nameOf(err error) string {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if named, ok := e.(*Error); ok && named.Name != "" {
			return named.Name
		}
	}
	switch KindOf(err) {
	case Configuration:
		return "configuration"
	case Permission:
		return "privileges"
	case Unavailable:
		return "connection"
	}
	return "not-checked"
}

// Findings are what a check found, in the order in which it looked.
type Findings []Finding

// Add adds what is not there yet, by name and policy: what the catalog told with
// the statements that mend it needs not be said again by the error or the
// warning that a run would have.
func (f *Findings) Add(more ...Finding) {
	known := *f
	for _, finding := range more {
		if !known.Have(finding.Name, finding.Policy) {
			*f = append(*f, finding)
		}
	}
}

// Have tells whether there is one of a name about a policy.
func (f Findings) Have(name, policy string) bool {
	return slices.ContainsFunc(f, func(k Finding) bool { return k.Name == name && k.Policy == policy })
}

// Count returns how many there are of a severity.
func (f Findings) Count(severity Severity) (n int64) {
	for _, finding := range f {
		if finding.Severity == severity {
			n++
		}
	}
	return n
}

// Checkup is one check: of what, and what it found.
type Checkup struct {
	Start    time.Time
	Database string // which one was reached, as whom and how; "": none
	Findings Findings
}

// Clean tells whether nothing is wrong that a person must mend.
func (c Checkup) Clean() bool { return c.Findings.Count(SeverityError) == 0 }
