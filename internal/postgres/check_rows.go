package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"message-cleanup/internal/cleanup"
)

const (
	// keep is how long the default of an expiry column keeps a row: what the
	// program was made for.
	keep     = "interval '2 days'"
	keepDays = 2

	// checkRows is how many odd rows are counted; checkTimeout is how long one look
	// at the rows may take. A look that takes longer says nothing.
	checkRows    = 1_000
	checkTimeout = "5s"

	// checkYears is how far ahead a row may expire, and still be meant.
	checkYears = 100
)

// checkSince is before everything that a program of today means: times of 1970,
// 1 and 0 stand for none, or for a wrong unit.
var checkSince = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// newValue is the expression that gives a new row the time in its expiry column,
// or "" for a column of another type. An expiry column gets the time two days
// from now; a column with a retention is one of creation, and gets the time.
func newValue(columnType string, policy cleanup.Policy) string {
	zone := "'" + policy.TimeZone + "'" // an IANA name
	later, days := "", 0
	if policy.Retention == 0 {
		later, days = " + "+keep, keepDays
	}
	epoch := fmt.Sprintf("extract(epoch FROM now()%s) * %d", later, policy.Unit.PerSecond())
	switch columnType {
	case "timestamp with time zone":
		return "now()" + later
	case "timestamp without time zone":
		return "(now() AT TIME ZONE " + zone + ")" + later
	case "date":
		if days > 0 { // a date expires when it begins
			days++
		}
		return fmt.Sprintf("(now() AT TIME ZONE %s)::date + %d", zone, days)
	case "integer", "bigint":
		return "(" + epoch + ")::" + columnType
	case "double precision":
		return epoch
	}
	return ""
}

// CheckConditions has the server read the policy's where and hold.
func (t *Table) CheckConditions(ctx context.Context) error {
	return t.db.checkConditions(ctx, t.name, t.expiry.where, t.expiry.hold)
}

func (db *DB) checkConditions(ctx context.Context, table, where, hold string) error {
	for _, condition := range []struct{ key, sql string }{{"where", where}, {"hold", hold}} {
		if condition.sql == "" {
			continue
		}
		if _, err := db.queryOfRole(ctx, "SELECT", "EXPLAIN SELECT FROM "+table+" WHERE ("+condition.sql+"\n)"); err != nil {
			err = fmt.Errorf("%s: %w", condition.key, err)
			if cleanup.KindOf(err) == cleanup.Configuration {
				return cleanup.Errorf(cleanup.Configuration, "try it in psql: SELECT count(*) FROM "+table+" WHERE ("+condition.sql+")", "%w", err).Named(condition.key + "-invalid")
			}
			return err
		}
	}
	return nil
}

// odd is a kind of rows whose time cannot be meant.
type odd struct {
	name, condition string
	what            string // for people, behind the number of rows
}

// oddRows are the rows that the policy covers and does not hold, and that will
// never expire, or have for no good reason. Each condition is one that an index
// on the column answers.
func (e *expiry) oddRows(c string, policy cleanup.Policy, now time.Time) []odd {
	rows := []odd{{"expiry-null", c + " IS NULL", "NULL in " + c + ", which never expires"}}
	since, until := e.literal(checkSince, policy.Unit), e.literal(now.AddDate(checkYears, 0, 0), policy.Unit)
	low, high := c+" < "+since, c+" >= "+until
	switch e.cast {
	case "float8":
		rows = append(rows, odd{"expiry-infinite", c + " IN ('Infinity', '-Infinity', 'NaN')", "an infinite time in " + c})
		low, high = low+" AND "+c+" > '-Infinity'", high+" AND "+c+" < 'Infinity'"
	case "timestamptz", "timestamp", "date":
		rows = append(rows, odd{"expiry-infinite", c + " IN ('infinity', '-infinity')", "an infinite time in " + c})
		low, high = low+" AND "+c+" > '-infinity'", high+" AND "+c+" < 'infinity'"
	}
	return append(rows,
		odd{"expiry-absurd", low, fmt.Sprintf("a time before %d in %s, which is expired", checkSince.Year(), c)},
		odd{"expiry-absurd", high, fmt.Sprintf("a time more than %d years ahead in %s", checkYears, c)})
}

// literal writes an instant as the column has it; to the day, it need not be
// exact in its zone.
func (e *expiry) literal(at time.Time, unit cleanup.Unit) string {
	switch e.cast {
	case "bigint":
		return strconv.FormatInt(wholeUnits(at.Truncate(24*time.Hour), unit), 10)
	case "float8":
		return "'" + strconv.FormatInt(wholeUnits(at.Truncate(24*time.Hour), unit), 10) + "'::float8"
	}
	return "'" + at.Format(time.DateOnly) + "'"
}

// CheckRows looks for rows that will never expire, or whose time cannot be
// meant, and for rows that foreign keys will not let go. now is the server's
// clock.
func (t *Table) CheckRows(ctx context.Context, policy cleanup.Policy, now time.Time) (findings []cleanup.Finding, err error) {
	p, err := t.db.locate(ctx, policy, t.db.config.User)
	if err != nil {
		return nil, err
	}
	for _, odd := range t.expiry.oddRows(p.column, policy, now) {
		finding, err := t.checkOdd(ctx, p, policy, odd)
		if err != nil {
			return findings, fmt.Errorf("look for odd values of %s in %s: %w", p.column, p.table, err)
		}
		if finding == nil {
			continue
		}
		if n := len(findings); n > 0 && findings[n-1].Name == finding.Name {
			findings[n-1].Text += "; " + finding.Text
			findings[n-1].SQL = append(findings[n-1].SQL, finding.SQL...)
			continue
		}
		findings = append(findings, *finding)
	}
	refused, err := t.checkRefusals(ctx, p, policy, now)
	findings = append(findings, refused...)
	for i := range findings {
		findings[i].Policy = policy.Name
	}
	return findings, err
}

func (t *Table) checkOdd(ctx context.Context, p place, policy cleanup.Policy, odd odd) (*cleanup.Finding, error) {
	condition := t.expiry.kept(odd.condition)
	rows, err := t.lookOfRole(ctx, checkTimeout,
		"SELECT count(*) FROM (SELECT FROM "+t.name+" WHERE "+condition+"\nLIMIT $1::bigint) AS bounded", strconv.Itoa(checkRows+1))
	if err != nil || rows == nil {
		return nil, err
	}
	n, err := integer(rows)
	if err != nil || n == 0 {
		return nil, err
	}
	count := cleanup.Plural(n, "row of "+p.table+" has", "rows of "+p.table+" have")
	if n > checkRows {
		count = "more than " + cleanup.Plural(checkRows, "", "rows of "+p.table+" have")
	}
	return &cleanup.Finding{
		Name: odd.name, Severity: cleanup.SeverityError, Text: count + " " + odd.what,
		SQL:  []string{fmt.Sprintf("UPDATE %s SET %s = %s WHERE %s", p.table, p.column, newValue(p.columnType, policy), condition)},
		Hint: "if they are meant to stay, leave them out of the policy with its where",
	}, nil
}

// kept narrows a condition to rows that the policy covers and does not hold.
func (e *expiry) kept(condition string) string {
	if e.where != "" {
		condition += "\n  AND (" + e.where + "\n)"
	}
	if e.hold != "" {
		condition += "\n  AND (" + e.hold + "\n) IS NOT TRUE"
	}
	return condition
}
