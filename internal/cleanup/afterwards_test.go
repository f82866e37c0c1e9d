package cleanup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestOnlyWhoStaysIsInTheWay(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		holders []Holder
		run     time.Duration
		want    string
	}{
		{"nobody", nil, time.Hour, ""},
		{"an ordinary transaction", []Holder{{Name: "a", Held: longHeld - 1}}, time.Second, ""},
		{"a long one", []Holder{{Name: "a", Held: longHeld}}, time.Second, "a"},
		{"a long one behind an ordinary one", []Holder{{Name: "a", Held: 1}, {Name: "b", Held: time.Hour}}, time.Second, "b"},
		{"of unknown age, in a short run", []Holder{{Name: "a"}}, longHeld - 1, ""},
		{"of unknown age, there before a long run", []Holder{{Name: "a"}}, longHeld, "a"},
		{"nobody's slot", []Holder{{Name: "a", Stays: true}}, 0, "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := ""
			if h := inTheWay(tt.holders, tt.run); h != nil {
				got = h.Name
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// runWithVacuum works the model off with vacuum: after.
func (m *model) runWithVacuum(t *testing.T, ctx context.Context, r *Runner) PolicyResult {
	t.Helper()
	plan := m.plan()
	plan.Policy.Vacuum = VacuumAfter
	got := r.Run(ctx, plan, m)
	m.check(t, r, got)
	return got
}

func TestHeldBackSpaceIsWarnedOf(t *testing.T) {
	t.Parallel()
	holder := Holder{Name: "server process 4711", Held: 3*time.Hour + 12*time.Minute, Hint: "end it"}
	const warning = "the space of the deleted rows cannot be reclaimed while there is server process 4711, open for 3h12m; end it"
	tests := []struct {
		name    string
		rows    int
		vacuum  Vacuum
		holders []Holder
		err     error
		want    []string
	}{
		{"held back", 1000, VacuumNever, []Holder{holder}, nil, []string{warning}},
		{"held back, and so not vacuumed", 1000, VacuumAfter, []Holder{holder}, nil,
			[]string{warning, "not vacuumed: nothing of what was deleted could be reclaimed now; autovacuum comes back for it"}},
		{"of unknown age", 1_000_000, VacuumNever, []Holder{{Name: "it", Hint: "look"}}, nil,
			[]string{"the space of the deleted rows cannot be reclaimed while there is it, open since before the run; look"}},
		{"nothing was deleted", 0, VacuumAfter, []Holder{holder}, nil, nil},
		{"the server is away for a moment", 1000, VacuumNever, []Holder{holder}, errConnection, nil},
		{"the server does not tell", 1000, VacuumNever, nil, errPermission,
			[]string{"it cannot be told whether the deleted rows can be reclaimed: permission denied for table messages"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(tt.rows)
				m.holders, m.holdersErr = tt.holders, tt.err
				r, log := newPressed(1)
				plan := m.plan()
				plan.Policy.Vacuum = tt.vacuum
				got := r.Run(t.Context(), plan, m)
				wantEnd(t, got, Exhausted, OutcomeComplete, int64(tt.rows), 0)
				if !slices.Equal(got.Warnings, tt.want) || len(m.vacuumed) > 0 {
					t.Errorf("warnings %q, want %q; vacuumed %q, want none", got.Warnings, tt.want, m.vacuumed)
				}
				if n := strings.Count(log.String(), "\n"); n != len(tt.want) {
					t.Errorf("log:\n%s", log)
				}
				if named := strings.Contains(log.String(), "msg=\""+EventHeldBack); named != strings.Contains(strings.Join(tt.want, ""), "while there is") {
					t.Errorf("an event of its own: %v; log:\n%s", named, log)
				}
			})
		})
	}
}

func TestVacuumComesAfterTheVerificationLeafByLeaf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newModel(1000, 0, 1000)
		r, log := newPressed(1)
		var phases []string
		r.Progress = func(p Progress) {
			if p.Phase != Deleting {
				phases = append(phases, string(p.Phase)+" "+p.Reason)
			}
		}
		got := m.runWithVacuum(t, t.Context(), r)
		wantEnd(t, got, Exhausted, OutcomeComplete, 2000, 0)
		if want := 2200 * time.Millisecond; got.Duration != want || len(got.Warnings) > 0 {
			t.Errorf("took %v with warnings %q, want %v and none", got.Duration, got.Warnings, want)
		}
		want := []string{string(Verifying) + " ", "vacuuming public.messages_a", "vacuuming public.messages_c"}
		if !slices.Equal(phases, want) {
			t.Errorf("phases %q, want %q", phases, want)
		}
		if want := "level=INFO msg=vacuumed leaf=public.messages_a duration_ms=1000\nlevel=INFO msg=vacuumed leaf=public.messages_c duration_ms=1000\n"; log.String() != want {
			t.Errorf("log:\n%swant:\n%s", log, want)
		}
	})
}

func TestVacuumThatFailsIsAWarning(t *testing.T) {
	t.Parallel()
	denied := Errorf(Permission, "GRANT it", "public.messages_a was not vacuumed: role r may not")
	tests := []struct {
		name string
		err  error
		want []string
	}{
		{"locked", ErrLocked, []string{
			"public.messages_a was not vacuumed: another vacuum, or a change of the table, is in work",
			"public.messages_b was not vacuumed: another vacuum, or a change of the table, is in work"}},
		{"denied", denied, []string{"public.messages_a was not vacuumed: role r may not: GRANT it (the same for 1 other partition)"}},
		{"failed", errors.New("disk full"), []string{"public.messages_a was not vacuumed: disk full", "public.messages_b was not vacuumed: disk full"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(1000, 1000)
				m.vacuum = func(context.Context, Leaf) error { return tt.err }
				got := m.runWithVacuum(t, t.Context(), newRunner())
				wantEnd(t, got, Exhausted, OutcomeComplete, 2000, 0)
				if !slices.Equal(got.Warnings, tt.want) || got.Err != nil {
					t.Errorf("error %v, warnings\n%q, want\n%q", got.Err, got.Warnings, tt.want)
				}
			})
		})
	}
}

// A batch of 100 ms for each of two leaves, then a vacuum of a second for each.
func TestVacuumEndsWithTheRun(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		set      func(r *Runner, stop chan struct{})
		reason   StopReason
		takes    time.Duration
		vacuumed int
		warning  string
	}{
		{"told to stop in the first one", func(_ *Runner, stop chan struct{}) {
			time.AfterFunc(700*time.Millisecond, func() { close(stop) })
		}, Exhausted, 700 * time.Millisecond, 1, "public.messages_a was not vacuumed to its end: interrupted"},
		{"the time budget ends in the second one", func(r *Runner, _ chan struct{}) {
			r.Deadline = time.Now().Add(1700 * time.Millisecond)
		}, Exhausted, 1700 * time.Millisecond, 2, "public.messages_b was not vacuumed to its end: limits.max_duration is spent"},
		{"the time budget ends before", func(r *Runner, _ chan struct{}) {
			r.Deadline = time.Now().Add(50 * time.Millisecond)
		}, TimeBudget, 100 * time.Millisecond, 0, "not vacuumed: limits.max_duration is spent"},
		{"told to stop before", func(_ *Runner, stop chan struct{}) {
			time.AfterFunc(50*time.Millisecond, func() { close(stop) })
		}, Interrupted, 100 * time.Millisecond, 0, ""},
		{"the row budget", func(r *Runner, _ chan struct{}) { r.MaxRows = 1000 }, RowBudget, 1100 * time.Millisecond, 1, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newModel(1000, 1000)
				stop := make(chan struct{})
				r := newRunner()
				r.Stop = stop
				tt.set(r, stop)
				got := m.runWithVacuum(t, t.Context(), r)
				if got.StopReason != tt.reason || got.Duration != tt.takes || len(m.vacuumed) != tt.vacuumed || got.Err != nil {
					t.Errorf("ended as %q after %v with %d vacuums, error %v; want %q after %v with %d",
						got.StopReason, got.Duration, len(m.vacuumed), got.Err, tt.reason, tt.takes, tt.vacuumed)
				}
				if warning := strings.Join(got.Warnings, "; "); warning != tt.warning {
					t.Errorf("warning %q, want %q", warning, tt.warning)
				}
			})
		})
	}
}

func TestVacuumDoesNotAddToPressure(t *testing.T) {
	t.Parallel()
	for _, from := range []time.Duration{150 * time.Millisecond, time.Millisecond} { // seen before the vacuum, or ending the run
		t.Run(fmt.Sprint(from), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rows := 1000
				if from < 100*time.Millisecond {
					rows = 20_000
				}
				m := newModel(rows)
				m.pressure = standbyBehind(time.Minute, from, time.Hour)
				r, _ := newPressed(1)
				r.Pressure.Pause = 2 * time.Second
				if rows == 1000 { // the look before the vacuum comes later than the lag
					m.perCount = 100 * time.Millisecond
				}
				got := m.runWithVacuum(t, t.Context(), r)
				if len(m.vacuumed) > 0 || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "not vacuumed: ") {
					t.Errorf("vacuumed %q, warnings %q", m.vacuumed, got.Warnings)
				}
			})
		})
	}
}
