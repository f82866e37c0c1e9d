package cleanup

import (
	"errors"
	"fmt"
	"testing"
)

func TestAFindingHasTheNameOfItsError(t *testing.T) {
	t.Parallel()
	named := Errorf(NeedsPerson, "mend it", "wrong").Named("standby")
	for _, c := range []struct {
		err        error
		name, hint string
	}{
		{named, "standby", "mend it"},
		{fmt.Errorf("policy p: %w", named), "standby", "mend it"},
		{Errorf(Configuration, "outer", "where: %w", named), "standby", "outer"},
		{Errorf(Configuration, "", "a"), "configuration", ""},
		{Errorf(Permission, "", "a"), "privileges", ""},
		{Errorf(Unavailable, "", "a"), "connection", ""},
		{&TransientError{Err: errors.New("a")}, "not-checked", ""},
		{errors.New("a"), "not-checked", ""},
	} {
		f := FindingOf("p", c.err)
		if f.Name != c.name || f.Hint != c.hint || f.Policy != "p" || f.Severity != SeverityError || f.Text != c.err.Error() {
			t.Errorf("%v: %+v, want %s, hint %q", c.err, f, c.name, c.hint)
		}
	}
}

// What was said with SQL is not said again by an error; two foreign keys, found
// at once, are two findings.
func TestFindingsAreAddedOnce(t *testing.T) {
	t.Parallel()
	var f Findings
	key := Finding{Name: "foreign-key-unindexed", Severity: SeverityError, Policy: "a"}
	f.Add(key, key)
	f.Add(key)
	other := key
	other.Policy, other.Severity = "b", SeverityWarning
	f.Add(other)
	if len(f) != 3 || f.Count(SeverityError) != 2 || f.Count(SeverityWarning) != 1 || (Checkup{Findings: f}).Clean() {
		t.Errorf("%+v", f)
	}
	if !(Checkup{Findings: f[2:]}).Clean() {
		t.Error("a warning is not clean")
	}
}
