package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"message-cleanup/internal/pgtest"
)

// TestEveryWayDeletesExactlyTheExpiredRows runs every part on tables that are
// too small to say anything about time. A way that deletes too few rows or the
// wrong ones has failed.
func TestEveryWayDeletesExactlyTheExpiredRows(t *testing.T) {
	var progress bytes.Buffer
	o := options{
		rows: 10_000, rounds: 1, progress: &progress,
		warmup: 200 * time.Millisecond, window: 500 * time.Millisecond,
	}
	chosen, whole, err := choose(allParts(o), "", "in order, 50 %|partitions")
	if err != nil || whole {
		t.Fatalf("whole %v, %v", whole, err)
	}
	cluster := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"autovacuum": "off"}})

	results, err := measureAll(t.Context(), cluster, chosen, o)
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.Bytes())
	}
	var cases int
	for _, p := range chosen {
		cases += len(p.cases)
	}
	if len(results.Cases) != cases {
		t.Errorf("measured %d cases of %d", len(results.Cases), cases)
	}
	for _, c := range results.Cases {
		for _, way := range c.Ways {
			if cause := c.Failures[way]; cause != "" {
				if !missing(way, cause) {
					t.Errorf("%s, %s, %s: %s", c.Part, c.Case, way, cause)
				}
				continue
			}
			list := c.of(way)
			if len(list) != o.rounds {
				t.Errorf("%s, %s, %s: %d rounds", c.Part, c.Case, way, len(list))
			}
			for _, m := range list {
				// A way may be stopped before its first batch was deleted.
				idle := way == nothingName || m.Stopped && m.Deleted == 0
				if m.Seconds <= 0 || !idle && (m.WAL <= 0 || m.Deleted == 0) {
					t.Errorf("%s, %s, %s: not all was measured: %+v", c.Part, c.Case, way, m)
				}
				if ours := m.Strategy != ""; ours && (m.Memory <= 0 || !idle && m.Batches == 0 && m.Dropped == 0) {
					t.Errorf("%s, %s, %s: not all was measured: %+v", c.Part, c.Case, way, m)
				}
				// Others may be too quick for a transaction to be due meanwhile.
				if way == nothingName && (m.Latency == nil || m.Latency.P50 <= 0 || m.Latency.P50 > m.Latency.P999) {
					t.Errorf("%s, %s, %s: latency %v", c.Part, c.Case, way, m.Latency)
				}
			}
		}
	}

	dir := t.TempDir()
	if err := save(dir, results); err != nil {
		t.Fatal(err)
	}
	again, err := read(filepath.Join(dir, measurementsName))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(results, again, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("measurements differ after they were written and read:\n%s", diff)
	}
	document, err := os.ReadFile(filepath.Join(dir, documentName))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range results.Cases {
		for _, way := range c.Ways {
			if !strings.Contains(string(document), way) {
				t.Errorf("the document says nothing of %s", way)
			}
		}
	}
	if strings.Contains(string(document), "NaN") {
		t.Errorf("the document has figures that are none:\n%s", document)
	}
	for _, name := range []string{rowsPlotName, latencyPlotName} {
		if !strings.Contains(string(document), "("+name+")") {
			t.Errorf("the document does not show %s", name)
		}
		checkXML(t, filepath.Join(dir, name))
	}

	var verdicts bytes.Buffer
	if !printVerdicts(&verdicts, results) || !strings.Contains(verdicts.String(), "mean nothing") {
		t.Errorf("the limits were enforced on %d rows:\n%s", o.rows, &verdicts)
	}
}

// missing tells whether a way could not run because what it needs is not
// installed here. The tests install no Python modules and no extensions.
func missing(way, cause string) bool {
	switch way {
	case ormName:
		return exec.Command(python, "-c", "import sqlalchemy, psycopg2").Run() != nil
	case partmanName:
		return strings.Contains(cause, "42P01") // no table partman.part_config
	case nothingName, cleanupName, dutyName, bigName, loopName:
		return strings.Contains(cause, "start pgbench")
	}
	return false
}

func checkXML(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(text, []byte("NaN")) {
		t.Errorf("%s has places that are none", file)
	}
	for dec := xml.NewDecoder(bytes.NewReader(text)); ; {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
}

// grid is a case of the grid with one round, in which message-cleanup takes
// ratio times as long as ONE big DELETE.
func grid(expired, ratio float64) caseResult {
	return caseResult{
		Part: "grid", Case: "a case", Expired: expired, Ways: []string{bigName, cleanupName},
		Rounds: []map[string]measurement{{
			bigName:     {Seconds: 1, WAL: 100, Deleted: 1},
			cleanupName: {Seconds: ratio, WAL: 100, Deleted: 1, Memory: 39e6},
		}},
	}
}

func TestLimitsAreEnforced(t *testing.T) {
	large, wordy, failed := grid(0.05, 1), grid(0.05, 1), grid(0.05, 1)
	large.Rounds[0][cleanupName] = measurement{Seconds: 1, WAL: 100, Deleted: 1, Memory: 41e6}
	wordy.Rounds[0][cleanupName] = measurement{Seconds: 1, WAL: 103, Deleted: 1}
	delete(failed.Rounds[0], cleanupName)
	failed.Failures = map[string]string{cleanupName: "server closed the connection"}
	slow := grid(0.05, 1)
	slow.Idle = []measurement{{Seconds: 0.101}}

	for _, tt := range []struct {
		name string
		c    caseResult
		says string // what the missed limit says; "": all are met
	}{
		{"few rows", grid(0.05, 1.3), ""},
		{"few rows, too slow", grid(0.05, 1.31), "1.31 (a case)"},
		{"most rows, too slow", grid(0.33, 1.06), "1.06 (a case)"},
		{"too large", large, "41.0 MB"},
		{"too much WAL", wordy, "1.030 (a case)"},
		{"too slow with nothing to do", slow, "101 ms"},
		{"failed", failed, "message-cleanup failed: server closed"},
	} {
		var out bytes.Buffer
		if tt.c.Expired >= 0.33 { // where two workers have a limit of their own
			tt.c.Rounds[0][workersName] = measurement{Seconds: 0.65}
		}
		met := printVerdicts(&out, results{Rows: standardRows, Cases: []caseResult{tt.c}})
		missed := slices.DeleteFunc(strings.Split(out.String(), "\n"), func(line string) bool { return !strings.HasPrefix(line, "NOT MET") })
		if met != (tt.says == "") || met != (len(missed) == 0) || !strings.Contains(strings.Join(missed, "\n"), tt.says) {
			t.Errorf("%s: got %v\n%s", tt.name, met, &out)
		}
	}
}

func TestTheWorstFigureIsShown(t *testing.T) {
	figures := []figure{{where: "a", value: 4}, {where: "b", value: 2}, {where: "c", value: 3}}
	for _, tt := range []struct {
		v    verdict
		want string
	}{
		{verdict{bound: 5, format: "%.0f", figures: figures}, "4 (a)"},
		{verdict{bound: 2, format: "%.0f", figures: figures}, "4 (a), missed in 2 of 3 cases"},
		{verdict{bound: 3, atLeast: true, format: "%.0f", figures: figures}, "2 (b), missed in 1 of 3 cases"},
		{verdict{bound: 3, format: "%.0f", figures: append(figures, figure{value: math.NaN(), cause: "gone"})}, "not measured: gone"},
	} {
		if got := tt.v.measured(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestARatioIsTheMedianOfTheRoundsRatios(t *testing.T) {
	c := grid(0.5, 2)
	c.Rounds = append(c.Rounds, grid(0.5, 1).Rounds[0], grid(0.5, 9).Rounds[0])
	if got := c.ratio(cleanupName, bigName, seconds); got != 2 {
		t.Errorf("got %v, want 2", got)
	}
	if got := median([]float64{4, 1}); got != 2.5 {
		t.Errorf("median of two: got %v, want 2.5", got)
	}
	if got := c.ratio(loopName, bigName, seconds); !math.IsNaN(got) {
		t.Errorf("of a way that was not measured: got %v", got)
	}
}

func TestPartsAndCasesAreChosen(t *testing.T) {
	parts := []part{
		{"grid", []testCase{{name: "in order"}, {name: "shuffled"}}},
		{"linear", []testCase{{name: "in order"}}},
	}
	for _, tt := range []struct {
		parts, cases string
		want         string // or the end of the error
		whole        bool
	}{
		{"", "", "grid: in order, shuffled; linear: in order; ", true},
		{"linear, grid", "", "linear: in order; grid: in order, shuffled; ", false},
		{"", "shuffled", "grid: shuffled; ", false},
		{"heap", "", `there is no part "heap", only grid, linear`, false},
		{"linear", "shuffled", `no case matches "shuffled"`, false},
		{"", "(", "missing closing ): `(`", false},
	} {
		chosen, whole, err := choose(parts, tt.parts, tt.cases)
		var got string
		for _, p := range chosen {
			var names []string
			for _, c := range p.cases {
				names = append(names, c.name)
			}
			got += p.name + ": " + strings.Join(names, ", ") + "; "
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.HasSuffix(got, tt.want) || whole != tt.whole {
			t.Errorf("%q, %q: got %q, whole %v", tt.parts, tt.cases, got, whole)
		}
	}
}

func TestLatencyCountsFromWhenATransactionWasDue(t *testing.T) {
	dir := t.TempDir()
	const log = `0 1 4000 2 100 500000 3000
1 1 900000 0 101 200000 850000
0 2 2000 1 102 1000 0
`
	if err := os.WriteFile(filepath.Join(dir, "log.17"), []byte(log), 0o644); err != nil {
		t.Fatal(err)
	}
	// The first was due at 100.496, the second at 100.3, the third at 101.999.
	got, err := (&load{dir: dir}).latencies(time.Unix(100, 200e6), time.Unix(101, 0))
	if want := []float64{4, 900}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := parseTransaction("0 1 4000 2"); err == nil {
		t.Error("half a line was taken for a transaction")
	}

	var m measurement
	for n := range 1000 {
		got = append(got[:n], float64(n+1))
	}
	m.setLatency(got)
	if want := (latency{500, 950, 990, 999}); *m.Latency != want {
		t.Errorf("percentiles of 1 to 1000: got %v, want %v", *m.Latency, want)
	}
}

func TestAxesEndAboveTheLargestValue(t *testing.T) {
	for _, tt := range []struct {
		largest float64
		want    []float64
	}{
		{0, []float64{0, 1}},
		{0.9, []float64{0, 0.2, 0.4, 0.6, 0.8, 1}},
		{2.4, []float64{0, 0.5, 1, 1.5, 2, 2.5}},
		{7, []float64{0, 2, 4, 6, 8}},
	} {
		got := ticks(tt.largest)
		if !cmp.Equal(got, tt.want, cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })) {
			t.Errorf("%v: got %v, want %v", tt.largest, got, tt.want)
		}
	}
}
