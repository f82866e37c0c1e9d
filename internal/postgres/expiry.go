package postgres

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"message-cleanup/internal/cleanup"
)

// expiry is the condition under which a row of the table is expired, and the
// cutoff as a value of the expiry column's type.
type expiry struct {
	column string // quoted
	cast   string // the type of values that are compared with the column
	bound  string // the cutoff, in the text form of cast; $1 of every statement
	where  string // the operator's SQL, or ""
	hold   string // the operator's SQL, or ""

	instant   string   // makes a timestamptz of a value, for %s
	zone      []string // the parameter $3 of instant; may be none
	perSecond int64    // of a number's units; 0: the column is none
}

// expired is true for rows whose time is before the cutoff. NULL and infinity
// (and a float's NaN, which sorts last) never are; -infinity always is.
func (e *expiry) expired() string {
	return e.column + " < $1::" + e.cast
}

// unexpired is true for all other rows but those whose time is NULL.
func (e *expiry) unexpired() string {
	return e.column + " >= $1::" + e.cast
}

// covered is true for the expired rows that the policy covers.
func (e *expiry) covered() string { return e.within(e.expired()) }

// doomed is true for the rows that are to be deleted.
func (e *expiry) doomed() string { return e.unheld(e.covered()) }

// due is true for the rows that are to be deleted when their time has come, which
// is in a span: from $1 on and before $2.
func (e *expiry) due() string {
	return e.unheld(e.within(e.column + " >= $1::" + e.cast + " AND " + e.column + " < $2::" + e.cast))
}

// later is due without an end; what expires at infinity never does.
func (e *expiry) later() string {
	sql := e.column + " >= $1::" + e.cast
	if e.cast != "bigint" {
		sql += " AND " + e.column + " < 'infinity'::" + e.cast
	}
	return e.unheld(e.within(sql))
}

// timeless is true for the rows that the policy covers, and that never expire.
func (e *expiry) timeless() string { return e.within(e.column + " IS NULL") }

// within narrows a condition to the rows that the policy covers. The line break
// ends a comment in the operator's SQL.
func (e *expiry) within(condition string) string {
	if e.where == "" {
		return condition
	}
	return condition + "\n  AND (" + e.where + "\n)"
}

// unheld narrows a condition to the rows that the policy does not hold.
func (e *expiry) unheld(condition string) string {
	if e.hold == "" {
		return condition
	}
	return condition + "\n  AND (" + e.hold + "\n) IS NOT TRUE"
}

// doomedElsewhere is doomed as postgres_fdw sends it to another server: there is no
// IS NOT TRUE in what it sends.
func (e *expiry) doomedElsewhere() string {
	if e.hold == "" {
		return e.covered()
	}
	return e.covered() + "\n  AND (NOT (" + e.hold + "\n) OR (" + e.hold + "\n) IS NULL)"
}

// held is true for covered rows that the hold condition keeps.
func (e *expiry) held() string {
	if e.hold == "" {
		return "false"
	}
	return "(" + e.hold + "\n) IS TRUE"
}

// overdue is for how many seconds before the cutoff a value lies. Of local times,
// it is off by the hour that clocks were set in between.
func (e *expiry) overdue(value string) string {
	if e.perSecond > 0 {
		return fmt.Sprintf("($1::%s::float8 - (%s)::float8) / %d::float8", e.cast, value, e.perSecond) // whole numbers could overflow
	}
	return fmt.Sprintf("extract(epoch FROM $1::%s)::float8 - extract(epoch FROM %s)::float8", e.cast, value)
}

// seconds reads what overdue computed; "" is none. More than a Duration can
// hold, such as of -infinity, is the longest Duration.
func seconds(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	s, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, err
	}
	if most := time.Duration(math.MaxInt64); s >= most.Seconds() {
		return most, nil
	}
	return max(0, time.Duration(s*float64(time.Second))), nil
}

// localCutoff computes, on the server and with the server's time zones, the
// local time l such that every column value before l is, read in the zone,
// before the cutoff. Usually that is just the cutoff's local time. Twice a year
// it is not: where clocks are set back, PostgreSQL reads an ambiguous local
// time as the later of its two instants, and where they are set forward, it
// reads a time that does not exist as one in the following hour. Rows of these
// hours are kept an hour longer rather than deleted an hour early.
const localCutoff = `
SELECT (l - greatest(l AT TIME ZONE $2 - $1::timestamptz, interval '0')
          - greatest(interval '1 hour' - (l AT TIME ZONE $2 - (l - interval '1 hour') AT TIME ZONE $2), interval '0'))
FROM (SELECT $1::timestamptz AT TIME ZONE $2 AS l) AS local`

// localDate turns a local time into the date such that every earlier date,
// which begins at its midnight, is before that time.
const localDate = `
SELECT CASE WHEN $1::timestamp = $1::timestamp::date THEN $1::date ELSE $1::date + 1 END`

// newExpiry makes the condition for a column of a type, which is written as
// pg_catalog.format_type does.
func (db *DB) newExpiry(ctx context.Context, policy cleanup.Policy, column, columnType string, cutoff time.Time) (*expiry, error) {
	e := &expiry{column: column, where: policy.Where, hold: policy.Hold}
	var err error
	switch columnType {
	case "timestamp with time zone":
		e.cast, e.bound = "timestamptz", cutoff.UTC().Format("2006-01-02 15:04:05.999999+00")
		e.instant = "%s"
	case "timestamp without time zone":
		e.cast = "timestamp"
		e.instant, e.zone = "%s AT TIME ZONE $3::text", []string{policy.TimeZone}
		e.bound, err = db.localCutoff(ctx, cutoff, policy.TimeZone)
	case "date":
		e.cast = "date"
		e.instant, e.zone = "%s::timestamp AT TIME ZONE $3::text", []string{policy.TimeZone}
		if e.bound, err = db.localCutoff(ctx, cutoff, policy.TimeZone); err == nil {
			e.bound, err = db.value(ctx, localDate, e.bound)
		}
	case "integer", "bigint":
		e.perSecond = policy.Unit.PerSecond()
		e.cast, e.bound = "bigint", strconv.FormatInt(wholeUnits(cutoff, policy.Unit), 10)
		e.instant = fmt.Sprintf("pg_catalog.to_timestamp((%%s)::float8 / %d::float8)", policy.Unit.PerSecond())
	case "double precision":
		e.perSecond = policy.Unit.PerSecond()
		units := float64(cutoff.UnixMicro()) / float64(1_000_000/policy.Unit.PerSecond())
		e.cast, e.bound = "float8", strconv.FormatFloat(units, 'f', -1, 64)
		e.instant = fmt.Sprintf("pg_catalog.to_timestamp((%%s)::float8 / %d::float8)", policy.Unit.PerSecond())
	default:
		return nil, cleanup.Errorf(cleanup.Configuration,
			"use a timestamptz, timestamp, date, bigint, integer or double precision column",
			"column %s is of type %s, which tells no time", column, columnType).Named("column-type")
	}
	return e, err
}

// wholeUnits returns the smallest whole number of units that is not before t: a
// row expires when its number is below it.
func wholeUnits(t time.Time, unit cleanup.Unit) int64 {
	micros, per := t.UnixMicro(), 1_000_000/unit.PerSecond()
	units := micros / per
	if micros%per > 0 {
		units++
	}
	return units
}

func (db *DB) localCutoff(ctx context.Context, cutoff time.Time, zone string) (string, error) {
	return db.value(ctx, localCutoff, cutoff.UTC().Format("2006-01-02 15:04:05.999999+00"), zone)
}

// value runs a query for one value.
func (db *DB) value(ctx context.Context, sql string, args ...string) (string, error) {
	rows, err := db.query(ctx, sql, args...)
	if err != nil {
		return "", err
	}
	if len(rows) != 1 || len(rows[0]) != 1 {
		return "", fmt.Errorf("expected one value, got %d rows", len(rows))
	}
	return rows[0][0], nil
}

// integer reads the one number of a query's answer.
func integer(rows [][]string) (int64, error) {
	if len(rows) != 1 || len(rows[0]) != 1 {
		return 0, fmt.Errorf("expected one number, got %d rows", len(rows))
	}
	return strconv.ParseInt(rows[0][0], 10, 64)
}
