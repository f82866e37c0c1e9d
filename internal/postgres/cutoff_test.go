package postgres

import (
	"log/slog"
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

// The local cutoff is checked against the server's own reading of local times:
// no local time before it may stand for an instant at or after the cutoff. That
// matters in the hours in which clocks change.
func TestLocalCutoffNeverCoversALaterInstant(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	db, err := Open(t.Context(), Options{URL: url, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, c := range []struct {
		zone string
		from string // the hours around a change of clocks
	}{
		{"UTC", "2026-10-31 22:00+00"},
		{"America/New_York", "2026-11-01 03:00+00"}, // back, at 06:00 UTC
		{"America/New_York", "2026-03-08 05:00+00"}, // forward, at 07:00 UTC
		{"Europe/Berlin", "2026-10-24 23:00+00"},
		{"Europe/Berlin", "2026-03-28 23:00+00"},
		{"Australia/Lord_Howe", "2026-04-04 13:00+00"}, // by half an hour
		{"Australia/Lord_Howe", "2026-10-03 13:00+00"},
		{"Asia/Kathmandu", "2026-06-01 00:00+00"},
	} {
		start, err := time.Parse("2006-01-02 15:04-07", c.from)
		if err != nil {
			t.Fatal(err)
		}
		for minute := 0; minute < 6*60; minute += 10 {
			cutoff := start.Add(time.Duration(minute)*time.Minute + time.Microsecond)
			local, err := db.localCutoff(t.Context(), cutoff, c.zone)
			if err != nil {
				t.Fatal(err)
			}
			wrong := pgtest.Int(t, conn, `
				SELECT count(*) FROM generate_series($1::text::timestamp - interval '5 hours', $1::text::timestamp - interval '1 microsecond', interval '1 minute') AS l
				WHERE l AT TIME ZONE $2 >= $3`, local, c.zone, cutoff)
			if wrong != 0 {
				t.Errorf("%s, cutoff %s: before local time %s lie %d minutes that are not expired", c.zone, cutoff, local, wrong)
			}
			late := pgtest.Int(t, conn, `SELECT extract(epoch FROM $1::timestamptz AT TIME ZONE $2 - $3::text::timestamp)::bigint`, cutoff, c.zone, local)
			if late > 3600 {
				t.Errorf("%s, cutoff %s: rows are kept %d s longer", c.zone, cutoff, late)
			}
		}
	}
}

func TestWholeUnitsRoundUp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		micros int64
		unit   cleanup.Unit
		want   int64
	}{
		{0, cleanup.Seconds, 0},
		{1, cleanup.Seconds, 1},
		{1_000_000, cleanup.Seconds, 1},
		{1_000_001, cleanup.Seconds, 2},
		{-1, cleanup.Seconds, 0},
		{-1_000_000, cleanup.Seconds, -1},
		{-1_000_001, cleanup.Seconds, -1},
		{1_001, cleanup.Milliseconds, 2},
		{1_001, cleanup.Microseconds, 1_001},
	} {
		if got := wholeUnits(time.UnixMicro(c.micros), c.unit); got != c.want {
			t.Errorf("%d microseconds are %d %s, want %d", c.micros, got, c.unit, c.want)
		}
	}
}
