package cleanup

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// standbyBehind makes one standby that lags by so much from one time to another
// after the call, and is not behind before and after.
func standbyBehind(lag, from, to time.Duration) func(int) (Pressure, error) {
	start := time.Now()
	return func(int) (Pressure, error) {
		s := Standby{Name: "b"}
		if now := time.Since(start); now >= from && now < to {
			s.Lag = lag
		}
		return Pressure{Standbys: []Standby{{Name: "a"}, s}}, nil
	}
}

// newPressed has batches of 100 ms, looks for a lag of more than 10 s, and keeps
// its log, without the times of its lines.
func newPressed(workers int) (*Runner, *bytes.Buffer) {
	var log bytes.Buffer
	r := newWorkers(workers)
	r.Pressure = PressureLimits{ReplicaLag: 10 * time.Second, Pause: 10 * time.Minute}
	r.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{
		Level: slog.LevelInfo,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "policy" || a.Key == "table" {
				return slog.Attr{}
			}
			return a
		},
	}))
	return r, &log
}

func TestPressureIsTooMuchAboveItsLimit(t *testing.T) {
	t.Parallel()
	lags := func(lags ...time.Duration) (p Pressure) {
		for i, lag := range lags {
			p.Standbys = append(p.Standbys, Standby{Name: fmt.Sprint("s", i), Lag: lag})
		}
		return p
	}
	slots := func(sizes ...int64) (p Pressure) {
		for i, size := range sizes {
			p.Slots = append(p.Slots, Slot{Name: fmt.Sprint("r", i), WAL: size})
		}
		return p
	}
	limits := PressureLimits{ReplicaLag: 10 * time.Second, SlotWAL: 10 << 30}
	tests := []struct {
		name     string
		pressure Pressure
		limits   PressureLimits
		want     string
	}{
		{"nobody reads", Pressure{}, limits, ""},
		{"nobody is behind", lags(0, 0), limits, ""},
		{"exactly the limit", lags(10 * time.Second), limits, ""},
		{"a moment more", lags(10*time.Second + 1), limits, "standby s0 is 10s behind, more than pace.max_replica_lag (10s)"},
		{"the worst is named", lags(11*time.Second, time.Hour, 12*time.Second), limits, "standby s1 is 1h behind, more than pace.max_replica_lag (10s)"},
		{"a short limit", lags(1234567 * time.Microsecond), PressureLimits{ReplicaLag: time.Second}, "standby s0 is 1.23s behind, more than pace.max_replica_lag (1s)"},
		{"no limit of the lag", lags(time.Hour), PressureLimits{SlotWAL: 1}, ""},
		{"a slot at the limit", slots(10 << 30), limits, ""},
		{"a slot above it", slots(1, 12<<30+300<<20), limits, "the server keeps 12.3GB of WAL for replication slot r1, more than pace.max_slot_wal (10GB)"},
		{"no limit of slots", slots(1 << 50), PressureLimits{ReplicaLag: time.Second}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if _, got := tt.pressure.tooMuch(tt.limits); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// Ten batches of 100 ms; the lag is there from 0.95 s on, is seen at 1 s, and its
// end at 5 s.
func TestPressurePausesAllWorkersUntilItIsOver(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 4} {
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(workers * 20_000)
				m.pressure = standbyBehind(34*time.Second, 950*time.Millisecond, 4500*time.Millisecond)
				r, log := newPressed(workers)
				var paused []Progress
				r.Progress = func(p Progress) {
					if p.Phase == Paused {
						paused = append(paused, p)
					}
				}
				got := m.run(t, t.Context(), r)
				wantEnd(t, got, Exhausted, OutcomeComplete, int64(workers)*20_000, 0)
				// 1.1 s with the batch in work when the lag was seen, then the pause to
				// 5 s, then the other 0.9 s. A batch that ends when the look happens may
				// be followed by another.
				if least, most := 5900*time.Millisecond, 6*time.Second; got.Duration < least || got.Duration > most {
					t.Errorf("took %v, want %v to %v", got.Duration, least, most)
				}
				if got := got.Paused[PauseReplicaLag]; got != 4*time.Second {
					t.Errorf("%v count as paused, want the 4 s of the pause", got)
				}
				const reason = "standby b is 34s behind, more than pace.max_replica_lag (10s)"
				want := `level=WARN msg=paused reason="` + reason + "\"\nlevel=INFO msg=\"pause ended\" paused_ms=4000\n"
				if log.String() != want {
					t.Errorf("log:\n%swant:\n%s", log, want)
				}
				if len(paused) < 4 || paused[0].Reason != reason || paused[0].Policy != "messages" {
					t.Errorf("progress of the pause: %+v; want it every second, with the reason", paused)
				}
			})
		})
	}
}

func TestPressureAtTheStartPausesBeforeTheFirstBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1000)
		m.pressure = standbyBehind(time.Minute, 0, 2500*time.Millisecond)
		r, _ := newPressed(1)
		got := m.run(t, t.Context(), r)
		wantEnd(t, got, Exhausted, OutcomeComplete, 1000, 0)
		if want := 3100 * time.Millisecond; got.Duration != want {
			t.Errorf("took %v, want %v", got.Duration, want)
		}
	})
}

// With nothing to delete there is nothing to hold back.
func TestPressureDoesNotPauseARunThatHasNothingToDelete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(0)
		m.pressure = standbyBehind(time.Hour, 0, time.Hour)
		r, log := newPressed(2)
		got := m.run(t, t.Context(), r)
		wantEnd(t, got, Exhausted, OutcomeComplete, 0, 0)
		if got.Duration != 0 || log.Len() > 0 {
			t.Errorf("took %v, log: %s; want none of both", got.Duration, log)
		}
	})
}

func TestPressureThatLastsEndsTheRun(t *testing.T) {
	t.Parallel()
	const pause = 1500 * time.Millisecond // not a multiple of the time between two looks
	tests := []struct {
		name    string
		from    time.Duration
		to      time.Duration
		reason  StopReason
		deleted int64
		takes   time.Duration
	}{
		{"from the start", 0, time.Hour, UnderPressure, 0, pause},
		{"from the second look on", time.Millisecond, time.Hour, UnderPressure, 10_000, time.Second + pause},
		{"until just before the last look", 0, pause - 1, Exhausted, 15_000, pause + 1500*time.Millisecond},
		{"until the last look", 0, pause, Exhausted, 15_000, pause + 1500*time.Millisecond},
		{"until just after the last look", 0, pause + 1, UnderPressure, 0, pause},
	}
	for _, tt := range tests {
		for _, workers := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, %d workers", tt.name, workers), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					m := newModel(workers * 15_000)
					m.perBatch = time.Nanosecond // no batch ends at the time of a look
					m.pressure = standbyBehind(time.Minute, tt.from, tt.to)
					r, log := newPressed(workers)
					r.Pressure.Pause = pause
					got := m.run(t, t.Context(), r)
					if got.StopReason != tt.reason || got.Deleted != int64(workers)*tt.deleted {
						t.Errorf("ended as %q with %d rows, want %q with %d", got.StopReason, got.Deleted, tt.reason, int64(workers)*tt.deleted)
					}
					if d := got.Duration - tt.takes; d.Abs() > time.Microsecond {
						t.Errorf("took %v, want %v", got.Duration, tt.takes)
					}
					if strings.Count(log.String(), "msg=paused") != 1 || strings.Count(log.String(), `msg="pause ended"`) != 1 {
						t.Errorf("want one pause in the log:\n%s", log)
					}
					if tt.reason == Exhausted {
						return
					}
					wantError(t, got.Err, Incomplete, "paused for 1.5s, which is pace.max_pause, and still standby b is 1m behind")
					if got.Outcome() != OutcomeIncomplete || *got.Backlog != int64(workers)*15_000-got.Deleted || HintOf(got.Err) == "" {
						t.Errorf("outcome %q with Backlog %v and hint %q", got.Outcome(), number(got.Backlog), HintOf(got.Err))
					}
				})
			})
		}
	}
}

// Whoever finds the rest deleted by somebody else has no reason to complain.
func TestPressureWithNothingLeftIsComplete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1000)
		lag := standbyBehind(time.Minute, 0, time.Hour)
		m.pressure = func(n int) (Pressure, error) {
			if n == 2 {
				for _, r := range m.leaves[leafName(0)] {
					r.gone = true
				}
			}
			return lag(n)
		}
		r, _ := newPressed(1)
		r.Pressure.Pause = 3 * time.Second
		got := m.run(t, t.Context(), r)
		wantEnd(t, got, UnderPressure, OutcomeComplete, 0, 0)
		if got.Err != nil {
			t.Error(got.Err)
		}
	})
}

func TestPressureThatEndedTheRunEndsItForAllPolicies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _ := newPressed(1)
		first := newModel(1000)
		first.pressure = standbyBehind(time.Minute, 0, time.Hour)
		wantEnd(t, first.run(t, t.Context(), r), UnderPressure, OutcomeIncomplete, 0, 1000)
		second := newModel(500)
		got := second.run(t, t.Context(), r)
		wantEnd(t, got, UnderPressure, OutcomeIncomplete, 0, 500)
		wantError(t, got.Err, Incomplete, "pace.max_pause")
		if got.Duration != 0 || second.calls[opPressure] != 0 {
			t.Errorf("took %v and %d looks", got.Duration, second.calls[opPressure])
		}
	})
}

func TestPauseEndsAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range endings {
		for _, workers := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, %d workers", tt.name, workers), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					m := newModel(100_000)
					m.pressure = standbyBehind(time.Minute, 0, time.Hour)
					r, log := newPressed(workers)
					got := m.run(t, tt.set(t, r), r)
					if got.StopReason != tt.reason || got.Deleted != 0 || got.Duration != endsAfter || got.Err != nil {
						t.Errorf("ended as %q after %v with %d rows, error %v; want %q after %v with none",
							got.StopReason, got.Duration, got.Deleted, got.Err, tt.reason, endsAfter)
					}
					if !strings.HasSuffix(log.String(), "msg=\"pause ended\" paused_ms=3300\n") {
						t.Errorf("log:\n%s", log)
					}
				})
			})
		}
	}
}

// The batches take 1.2 s and 4 s, the pause begins after 1 s: one worker waits
// in it when the other one's batch fails.
func TestPauseEndsWhenAnotherWorkerFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(300, 1000, 1000)
		m.perRow = 4 * time.Millisecond
		m.pressure = standbyBehind(time.Minute, time.Millisecond, time.Hour)
		m.before = failing(opDelete, 3, 3, errPermission) // the second try
		time.AfterFunc(2*time.Second, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.crashes++
		})
		r, log := newPressed(2)
		got := m.run(t, t.Context(), r)
		wantEnd(t, got, Failed, OutcomeFailed, 300, -1)
		if !strings.Contains(log.String(), "msg=paused") || got.Duration > 5*time.Second {
			t.Errorf("took %v; log:\n%s", got.Duration, log)
		}
	})
}

func TestPressureIsLookedForEverySecondAndRarelyWhereNobodyReads(t *testing.T) {
	t.Parallel()
	read := func(int) (Pressure, error) { return Pressure{Slots: []Slot{{Name: "s"}}}, nil }
	tests := []struct {
		name     string
		limits   PressureLimits
		pressure func(int) (Pressure, error)
		looks    int
	}{
		{"nobody reads", PressureLimits{ReplicaLag: time.Second}, nil, 3},
		{"somebody reads", PressureLimits{ReplicaLag: time.Second}, read, 25},
		{"a limit for slots alone", PressureLimits{SlotWAL: 1}, read, 25},
		{"no limits", PressureLimits{}, read, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(249_000) // 24.9 s
				m.pressure = tt.pressure
				r, _ := newPressed(1)
				tt.limits.Pause = time.Minute
				r.Pressure = tt.limits
				got := m.run(t, t.Context(), r)
				wantEnd(t, got, Exhausted, OutcomeComplete, 249_000, 0)
				if want := 24_900 * time.Millisecond; got.Duration != want {
					t.Errorf("took %v, want %v: looking holds up nobody", got.Duration, want)
				}
				if n := m.calls[opPressure]; n != tt.looks {
					t.Errorf("%d looks, want %d", n, tt.looks)
				}
			})
		})
	}
}

// The server is away for a moment: what it said last holds, whatever it was.
func TestPressureThatCannotBeAskedForNowIsAsItWas(t *testing.T) {
	t.Parallel()
	for _, err := range []error{errConnection, Errorf(Unavailable, "", "connection refused")} {
		for _, lag := range []time.Duration{0, time.Minute} {
			t.Run(fmt.Sprint(KindOf(err), lag), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					m := newModel(20_000)
					m.pressure = func(n int) (Pressure, error) {
						switch {
						case n == 1:
							return Pressure{Standbys: []Standby{{Name: "a", Lag: lag}}}, nil
						case n < 5:
							return Pressure{}, err
						}
						return Pressure{Standbys: []Standby{{Name: "a"}}}, nil
					}
					r, log := newPressed(1)
					got := m.run(t, t.Context(), r)
					wantEnd(t, got, Exhausted, OutcomeComplete, 20_000, 0)
					want := 2 * time.Second
					if lag > 0 {
						want += 4 * time.Second
					}
					if got.Duration != want || len(got.Warnings) > 0 {
						t.Errorf("took %v with warnings %q, want %v and none; log:\n%s", got.Duration, got.Warnings, want, log)
					}
				})
			})
		}
	}
}

func TestPressureThatIsNotToldIsWarnedOfOnce(t *testing.T) {
	t.Parallel()
	const hidden = "the role may not see it: GRANT"
	tests := []struct {
		name     string
		limits   PressureLimits
		pressure Pressure
		err      error
		looks    int
		warning  string
	}{
		{"hidden", PressureLimits{ReplicaLag: time.Second}, Pressure{Hidden: hidden}, nil, 1, hidden},
		{"hidden, and nobody asked", PressureLimits{SlotWAL: 1}, Pressure{Hidden: hidden}, nil, 1, ""},
		{"not supported", PressureLimits{ReplicaLag: time.Second}, Pressure{}, errors.New("function does not exist"), 1,
			"the run goes on without looking at replication, as pace.max_replica_lag: 0s does without this warning: function does not exist"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, log := newPressed(1)
				r.Pressure = tt.limits
				for i := range 2 { // policies of one run, 4.9 s each
					m := newModel(49_000)
					m.pressure = func(int) (Pressure, error) { return tt.pressure, tt.err }
					got := m.run(t, t.Context(), r)
					wantEnd(t, got, Exhausted, OutcomeComplete, 49_000, 0)
					warned := strings.Join(got.Warnings, "; ")
					if i == 0 && warned != tt.warning || i > 0 && warned != "" {
						t.Errorf("policy %d has the warnings %q, want %q in the first", i, warned, tt.warning)
					}
					if n := m.calls[opPressure]; n != tt.looks-i {
						t.Errorf("policy %d: %d looks, want %d", i, n, tt.looks-i)
					}
				}
				if n := strings.Count(log.String(), "msg=warning"); n != strings.Count(log.String(), "\n") || n > 1 {
					t.Errorf("log:\n%s", log)
				}
			})
		})
	}
}
