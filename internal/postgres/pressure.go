package postgres

import (
	"context"
	"fmt"
	"math"
	"sort"
	"strconv"
	"time"

	"message-cleanup/internal/cleanup"
)

// pressureQuery reads in one look where the WAL ends, who replays it, and which
// slots keep it. A position is a number of bytes here.
//
// Of the walsenders only those count that replay: pg_basebackup and pg_receivewal
// have no replay position. Logical ones, known by their slot, do not count either:
// what they report is what the reader confirmed, and many confirm once in a
// minute, or not before there is something for them. Their slot counts.
//
// To a role without pg_read_all_stats a walsender has a pid and nothing else;
// slots are shown to everybody. A lost slot keeps nothing any more.
const pressureQuery = `
SELECT 'end', '', '', pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::text, ''
UNION ALL
SELECT CASE WHEN r.state IS NULL THEN 'hidden' ELSE 'standby' END,
       coalesce(r.application_name, ''), coalesce(host(r.client_addr), ''),
       pg_wal_lsn_diff(r.replay_lsn, '0/0')::text,
       (extract(epoch FROM r.replay_lag) * 1000000)::bigint::text
FROM pg_catalog.pg_stat_replication r
WHERE (r.state IS NULL OR r.replay_lsn IS NOT NULL)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
UNION ALL
SELECT 'slot', s.slot_name, '', pg_wal_lsn_diff(s.restart_lsn, '0/0')::text, ''
FROM pg_catalog.pg_replication_slots s
WHERE s.restart_lsn IS NOT NULL AND s.wal_status IS DISTINCT FROM 'lost'`

// Pressure implements cleanup.Database.
func (t *Table) Pressure(ctx context.Context) (cleanup.Pressure, error) {
	return t.db.pressure(ctx, time.Now)
}

// pressure measures how far behind those are that read the WAL. It is called by
// one at a time.
func (db *DB) pressure(ctx context.Context, now func() time.Time) (p cleanup.Pressure, err error) {
	rows, err := db.query(ctx, pressureQuery)
	if err != nil {
		return p, fmt.Errorf("ask the server for its standbys and slots: %w", err)
	}
	at := now()
	var end int64
	behind := int64(math.MaxInt64)
	for _, row := range rows {
		kind, name, address := row[0], row[1], row[2]
		if kind == "hidden" {
			role := db.quotedUser()
			p.Hidden = fmt.Sprintf("role %s may not see how far behind the standbys are, so the run does not wait for them: %s", role, seeStandbys(role))
			continue
		}
		position, err := strconv.ParseInt(row[3], 10, 64)
		if err != nil {
			return p, fmt.Errorf("read a position of the WAL: %w", err)
		}
		switch kind {
		case "end": // the first row
			end = position
			db.written.add(at, end)
		case "standby":
			if address != "" {
				name += " at " + address
			}
			lag, err := db.written.lag(at, end, position, row[4])
			if err != nil {
				return p, fmt.Errorf("read the replay lag of standby %s: %w", name, err)
			}
			p.Standbys = append(p.Standbys, cleanup.Standby{Name: name, Lag: lag})
			behind = min(behind, position)
		case "slot":
			p.Slots = append(p.Slots, cleanup.Slot{Name: name, WAL: max(0, end-position)})
		}
	}
	if len(p.Standbys) > 0 {
		db.written.forget(behind)
	}
	return p, nil
}

// history remembers when the end of the WAL was first seen where, and so how old
// a position is. pg_stat_replication.replay_lag alone does not tell that: it is as
// old as the standby's last report, which comes every ten seconds when nothing
// else happens (wal_receiver_status_interval), and NULL while there is nothing to
// measure. See LagTrackerRead in src/backend/replication/walsender.c.
type history []seen

type seen struct {
	at  time.Time
	end int64
}

// historySize bounds the memory. When it is full, every other entry goes, but
// not the first: that is the one which tells for how long the last standby has
// been stuck.
const historySize = 1024

// add notes where the end of the WAL is now.
func (h *history) add(at time.Time, end int64) {
	s := *h
	if n := len(s); n > 0 && end < s[n-1].end {
		s = s[:0] // in a crash the server lost what it had not flushed
	}
	if n := len(s); n > 0 && end == s[n-1].end {
		return
	}
	if len(s) == historySize {
		for i := range historySize / 2 {
			s[i] = s[2*i]
		}
		s = s[:historySize/2]
	}
	*h = append(s, seen{at, end})
}

// forget drops what every standby has replayed.
func (h *history) forget(position int64) { *h = (*h)[h.first(position):] }

// first returns the first entry behind a position.
func (h history) first(position int64) int {
	return sort.Search(len(h), func(i int) bool { return h[i].end > position })
}

// age returns for how long at least something has been written behind a
// position. It is too short by no more than the time between two looks.
func (h history) age(at time.Time, position int64) time.Duration {
	first := h.first(position)
	if first == len(h) {
		return 0
	}
	return at.Sub(h[first].at)
}

// lag returns how far behind a standby is that has replayed up to a position.
// One that has replayed everything is not behind, whatever its replay_lag says.
// Else the larger of two measures counts: the age,
// which grows while a standby is stuck, and replay_lag (in microseconds, "" if
// it is NULL), which knows what was before the first look and between two looks.
func (h history) lag(at time.Time, end, position int64, replayLag string) (time.Duration, error) {
	if position >= end {
		return 0, nil
	}
	lag := h.age(at, position)
	if replayLag == "" {
		return lag, nil
	}
	micros, err := strconv.ParseInt(replayLag, 10, 64)
	return max(lag, time.Duration(micros)*time.Microsecond), err
}
