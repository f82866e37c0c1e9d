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
// second; one is nil if it is infinite. Exact bounds of what was deleted would
// be the DELETE's to return, which makes a batch half as long again.
func (t *Table) Span(ctx context.Context, plan cleanup.Plan) (oldest, newest *time.Time, err error) {
	for _, leaf := range plan.Leaves {
		if leaf.Index == "" {
			return nil, nil, nil
		}
	}
	e := t.expiry
	micros := func(value string) string {
		return "(extract(epoch FROM CASE WHEN isfinite(" + value + ") THEN " + value + " END) * 1000000)::bigint"
	}
	args := append([]string{e.bound}, e.zone...)
	rows, err := t.db.queryOfRole(ctx, "SELECT pg_catalog.set_config('statement_timeout', '"+milliseconds(spanLimit)+"', true), "+byIndex,
		"SELECT "+micros("oldest")+", "+micros("newest")+
			"\nFROM (SELECT "+fmt.Sprintf(e.instant, "min("+e.column+")")+" AS oldest, "+fmt.Sprintf(e.instant, "max("+e.column+")")+" AS newest"+
			"\n  FROM "+t.from()+" WHERE "+e.doomed()+") AS span", args...)
	switch state := SQLState(err); {
	case state == queryCanceled, state == datetimeOverflow: // a number may be the microseconds of no time that there is
		return nil, nil, nil
	case err != nil:
		return nil, nil, fmt.Errorf("look for the oldest and the newest expired row: %w", err)
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
		at := time.UnixMicro(n).UTC()
		ends[i] = &at
	}
	return ends[0], ends[1], nil
}
