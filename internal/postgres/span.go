package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"message-cleanup/internal/cleanup"
)

// spanLimit bounds the look at the two ends of what is expired: it informs, and
// the run does not wait for it.
const spanLimit = time.Second

// Span returns the earliest and the latest expiry among the rows that are to be
// deleted. Both are nil if there are none, or if indexes do not tell within a
// second; one is nil if it is infinite, or of no year from 1 to 9999. Exact bounds of what was deleted would
// be the DELETE's to return, which makes a batch half as long again.
func (t *Table) Span(ctx context.Context, plan cleanup.Plan) (oldest, newest *time.Time, err error) {
	for _, leaf := range plan.Leaves {
		if leaf.Index == "" {
			return nil, nil, nil
		}
	}
	e := t.expiry
	found, inTime, err := t.glance(ctx, milliseconds(spanLimit),
		"SELECT pg_catalog.min("+e.column+"), pg_catalog.max("+e.column+") FROM "+t.from()+" WHERE "+e.doomed(), e.bound)
	if err != nil {
		return nil, nil, fmt.Errorf("look for the oldest and the newest expired row: %w", err)
	}
	if !inTime {
		return nil, nil, nil
	}
	micros := func(value string) string {
		value = fmt.Sprintf(e.instant, value)
		return "(extract(epoch FROM CASE WHEN isfinite(" + value + ") THEN " + value + " END) * 1000000)::bigint"
	}
	rows, err := t.db.query(ctx, "SELECT "+micros("nullif($1, '')::"+e.cast)+", "+micros("nullif($2, '')::"+e.cast), append(found[0], e.zone...)...)
	if SQLState(err) == datetimeOverflow { // a number may be the microseconds of no time that there is
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read %q and %q as times: %w", found[0][0], found[0][1], err)
	}
	var ends [2]*time.Time
	for i, text := range rows[0] {
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, nil, err
		}
		if at := time.UnixMicro(n).UTC(); at.Year() >= 1 && at.Year() <= 9999 { // others cannot be written as JSON
			ends[i] = &at
		}
	}
	return ends[0], ends[1], nil
}
