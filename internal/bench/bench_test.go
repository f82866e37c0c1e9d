package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"message-cleanup/internal/pgtest"
)

// TestEveryWayDeletesExactlyTheExpiredRows runs the whole grid on a table that
// is too small to say anything about time. A way that deletes too few rows or
// the wrong ones ends the benchmark with an error.
func TestEveryWayDeletesExactlyTheExpiredRows(t *testing.T) {
	const rows = 20_000
	var out, progress bytes.Buffer
	o := options{rows: rows, rounds: 1, out: &out, progress: &progress}
	chosen, err := chosenCases("(5|50) %")
	if err != nil {
		t.Fatal(err)
	}
	cluster := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"autovacuum": "off"}})

	results, err := measureAll(t.Context(), cluster, chosen, o)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.Bytes())
	}
	for i, r := range results {
		if r.name != chosen[i].name || len(r.rounds) != o.rounds || len(r.idle) != idleRuns {
			t.Errorf("case %q: got %d rounds, %d runs with nothing to do", r.name, len(r.rounds), len(r.idle))
		}
		for n, way := range ways {
			for _, m := range r.of(n) {
				if want := int64(rows * r.expired); m.deleted != want {
					t.Errorf("%s, %s: deleted %d rows, want %d", r.name, way.name, m.deleted, want)
				}
				if m.took <= 0 || m.wal <= 0 || len(m.batches) == 0 {
					t.Errorf("%s, %s: not all was measured: %+v", r.name, way.name, m)
				}
			}
			if !hasLine(out.String(), r.name, way.name) {
				t.Errorf("no line for %s, %s in:\n%s", r.name, way.name, out.String())
			}
		}
		for _, m := range slices.Concat(r.of(subject), r.idle) {
			if m.memory <= 0 {
				t.Errorf("%s: the memory was not measured", r.name)
			}
		}
		if !hasLine(out.String(), r.name, "nothing to do") {
			t.Errorf("no line for %s with nothing to do in:\n%s", r.name, out.String())
		}
	}
	if !printVerdicts(o, results) || !strings.Contains(out.String(), "mean nothing") {
		t.Errorf("the limits were enforced on %d rows:\n%s", rows, out.String())
	}
}

// hasLine tells whether a line of the table begins with these columns.
func hasLine(table, name, way string) bool {
	return slices.ContainsFunc(strings.Split(table, "\n"), func(line string) bool {
		rest, ok := strings.CutPrefix(line, name)
		return ok && strings.HasPrefix(strings.TrimSpace(rest), way+" ")
	})
}

// result is a case with one round in which message-cleanup takes ratio times
// as long as ONE big DELETE.
func result(ratio float64, memory int64, idle time.Duration) caseResult {
	round := make([]measurement, len(ways))
	round[baseline].took = time.Second
	round[subject] = measurement{took: time.Duration(ratio * float64(time.Second)), memory: memory}
	return caseResult{
		testCase: testCase{name: "in order", maxRatio: 1.3},
		rounds:   [][]measurement{round},
		idle:     []measurement{{took: idle}},
	}
}

func TestLimitsAreEnforced(t *testing.T) {
	for _, tt := range []struct {
		name string
		r    caseResult
		met  bool
	}{
		{"all met", result(1.3, maxMemory-1, maxIdle-1), true},
		{"too slow", result(1.31, maxMemory-1, maxIdle-1), false},
		{"too large", result(1.3, maxMemory, maxIdle-1), false},
		{"too slow with nothing to do", result(1.3, maxMemory-1, maxIdle), false},
	} {
		var out bytes.Buffer
		met := printVerdicts(options{rows: meaningfulRows, rounds: 1, out: &out}, []caseResult{tt.r})
		if met != tt.met || met == strings.Contains(out.String(), "NOT MET") {
			t.Errorf("%s: got %v\n%s", tt.name, met, out.String())
		}
	}
}

func TestARatioIsTheMedianOfTheRoundsRatios(t *testing.T) {
	r := result(2, 0, 0)
	r.rounds = append(r.rounds, result(1, 0, 0).rounds[0], result(9, 0, 0).rounds[0])
	if got := r.ratio(subject, seconds); got != 2 {
		t.Errorf("got %v, want 2", got)
	}
	if got := median([]float64{4, 1}); got != 2.5 {
		t.Errorf("median of two: got %v, want 2.5", got)
	}
}
