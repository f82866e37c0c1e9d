package cleanup

import (
	"math"
	"testing"
	"time"
)

func TestPolicySaysItselfAsASentence(t *testing.T) {
	t.Parallel()
	tests := []struct {
		policy Policy
		want   string
	}{
		{Policy{Table: "messages", Column: "expires_at"},
			"delete rows of messages once expires_at has passed"},
		{Policy{Table: "app.events", Column: "created_at", Retention: 48 * time.Hour},
			"delete rows of app.events once created_at has passed by more than 2d"},
		{Policy{Table: "messages", Column: "expires_at", Where: "kind = 'chat'"},
			"delete rows of messages once expires_at has passed, where kind = 'chat'"},
		{Policy{Table: "messages", Column: "expires_at", Hold: "legal_hold"},
			"delete rows of messages once expires_at has passed, but keep those held by legal_hold"},
		{Policy{Table: "messages", Column: "sent", Retention: 90 * time.Second, Where: "a", Hold: "b"},
			"delete rows of messages once sent has passed by more than 1m30s, where a, but keep those held by b"},
	}
	for _, tt := range tests {
		if got := tt.policy.String(); got != tt.want {
			t.Errorf("String() = %q, want %q", got, tt.want)
		}
	}
}

func TestCutoffIsTheServersClockLessTheRetention(t *testing.T) {
	t.Parallel()
	// An offset that is not of whole hours, in which a clock is read wrongly
	// with more ease.
	kathmandu := time.FixedZone("+0545", 5*3600+45*60)
	at := func(hour, nanosecond int) time.Time { return time.Date(2026, 3, 1, hour, 0, 0, nanosecond, time.UTC) }
	tests := []struct {
		name      string
		start     time.Time
		retention time.Duration
		want      time.Time
	}{
		{"no retention", at(2, 0), 0, at(2, 0)},
		{"two days", at(2, 0), 48 * time.Hour, time.Date(2026, 2, 27, 2, 0, 0, 0, time.UTC)},
		{"another zone", time.Date(2026, 3, 1, 7, 45, 0, 0, kathmandu), 0, at(2, 0)},
		{"a nanosecond before a microsecond", at(2, 999), 0, at(2, 0)},
		{"exactly a microsecond", at(2, 1000), 0, at(2, 1000)},
		{"a nanosecond after a microsecond", at(2, 1001), 0, at(2, 1000)},
		{"a retention finer than the clock", at(2, 0), 1, time.Date(2026, 3, 1, 1, 59, 59, 999_999_000, time.UTC)},
		{"before 1970", time.Date(1969, 12, 31, 23, 59, 59, 999_999_999, time.UTC), 0,
			time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC)},
		{"before the year 1", time.Date(-1, 12, 31, 23, 59, 59, 1, time.UTC), 0, time.Date(-1, 12, 31, 23, 59, 59, 0, time.UTC)},
		{"the longest retention", at(2, 0), math.MaxInt64, at(2, 0).Add(-math.MaxInt64).Truncate(time.Microsecond)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := Policy{Retention: tt.retention}.Cutoff(tt.start)
			if !got.Equal(tt.want) || got.Location() != time.UTC {
				t.Errorf("Cutoff() = %v, want %v", got, tt.want)
			}
			// What must hold for all: a cutoff too late by a nanosecond deletes
			// a row that has not expired.
			exact := tt.start.Add(-tt.retention)
			if early := exact.Sub(got); early < 0 || early >= time.Microsecond || got.Nanosecond()%1000 != 0 {
				t.Errorf("Cutoff() = %v lies %v before the exact instant, want less than a microsecond", got, early)
			}
		})
	}
}

// The monotonic clock has no place in an instant that is compared with the
// server's.
func TestCutoffHasNoMonotonicClock(t *testing.T) {
	t.Parallel()
	if got := (Policy{}).Cutoff(time.Now()); got != got.Round(0) {
		t.Errorf("Cutoff() = %v carries a monotonic reading", got)
	}
}

func TestUnitPerSecond(t *testing.T) {
	t.Parallel()
	want := map[Unit]int64{Seconds: 1, Milliseconds: 1000, Microseconds: 1_000_000, "": 1}
	for unit, perSecond := range want {
		if got := unit.PerSecond(); got != perSecond {
			t.Errorf("Unit(%q).PerSecond() = %d, want %d", unit, got, perSecond)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	t.Parallel()
	tests := []struct {
		d    time.Duration
		want string
	}{
		{0, "0s"},
		{1, "1ns"},
		{time.Millisecond, "1ms"},
		{time.Second, "1s"},
		{10 * time.Second, "10s"},
		{59 * time.Second, "59s"},
		{time.Minute, "1m"},
		{61 * time.Second, "1m1s"},
		{90 * time.Second, "1m30s"},
		{70 * time.Second, "1m10s"},
		{10 * time.Minute, "10m"},
		{time.Hour, "1h"},
		{time.Hour + time.Second, "1h0m1s"},
		{time.Hour + 10*time.Minute, "1h10m"},
		{20 * time.Hour, "20h"},
		{24*time.Hour - time.Second, "23h59m59s"},
		{24 * time.Hour, "1d"},
		{24*time.Hour + time.Second, "24h0m1s"},
		{36 * time.Hour, "36h"},
		{48 * time.Hour, "2d"},
		{240 * time.Hour, "10d"},
		{-90 * time.Second, "-1m30s"},
		{-48 * time.Hour, "-48h"},
	}
	for _, tt := range tests {
		if got := FormatDuration(tt.d); got != tt.want {
			t.Errorf("FormatDuration(%d) = %q, want %q", tt.d, got, tt.want)
		}
	}
}
