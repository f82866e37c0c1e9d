package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// verdict is one stated limit and what was measured against it.
type verdict struct {
	limit   string // what was promised
	bound   float64
	atLeast bool // the bound is the smallest allowed value; otherwise the largest
	format  string
	figures []figure
}

// figure is one measured value. NaN means that its way failed.
type figure struct {
	where string
	value float64
	cause string // why the way failed
}

func (v verdict) keeps(f figure) bool {
	if v.atLeast {
		return f.value >= v.bound
	}
	return f.value <= v.bound
}

func (v verdict) met() bool {
	for _, f := range v.figures {
		if !v.keeps(f) {
			return false
		}
	}
	return true
}

// worst is the figure that is furthest on the wrong side.
func (v verdict) worst() figure {
	worst := v.figures[0]
	for _, f := range v.figures {
		if math.IsNaN(f.value) {
			return f
		}
		if (f.value > worst.value) != v.atLeast && f.value != worst.value {
			worst = f
		}
	}
	return worst
}

// measured says the worst figure, and how many others miss the limit too.
func (v verdict) measured() string {
	worst := v.worst()
	if math.IsNaN(worst.value) {
		return fmt.Sprintf("not measured: %s", worst.cause)
	}
	text := fmt.Sprintf(v.format, worst.value)
	if worst.where != "" {
		text += " (" + worst.where + ")"
	}
	var missed int
	for _, f := range v.figures {
		if !v.keeps(f) {
			missed++
		}
	}
	if missed > 0 && len(v.figures) > 1 {
		text += fmt.Sprintf(", missed in %d of %d cases", missed, len(v.figures))
	}
	return text
}

func (v verdict) word() string {
	if v.met() {
		return "met"
	}
	return "not met"
}

// figureOf takes a value that needs these ways; what failed is its cause.
func (r caseResult) figureOf(value float64, ways ...string) figure {
	f := figure{where: r.Case, value: value}
	if math.IsNaN(value) {
		f.cause = "the way was not measured"
		for _, way := range ways {
			if cause := r.Failures[way]; cause != "" {
				f.cause = fmt.Sprintf("%s failed: %s", way, firstLine(cause))
				break
			}
		}
	}
	return f
}

// ratioOf is the figure of a ratio.
func (r caseResult) ratioOf(way, base string, value func(measurement) float64) figure {
	return r.figureOf(r.ratio(way, base, value), way, base)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// autoRatio is how much longer the chosen strategy took than the better of
// both. The better one is that of the medians: the better of each round would
// be a lucky one.
func (r caseResult) autoRatio() figure {
	better := indexName
	if r.median(heapName, seconds) < r.median(indexName, seconds) {
		better = heapName
	}
	return r.ratioOf(cleanupName, better, seconds)
}

func (r caseResult) has(way string) bool { return slices.Contains(r.Ways, way) }

// part returns the cases of a part that were measured.
func (r results) part(name string) (list []caseResult) {
	for _, c := range r.Cases {
		if c.Part == name {
			list = append(list, c)
		}
	}
	return list
}

// verdicts are those on the limits of which something was measured.
func (r results) verdicts() []verdict {
	var most, few, two, auto, loops, orms, wal, idle verdict
	most = verdict{limit: "One worker takes at most 1.05 of ONE big DELETE where 33 % or more have expired", bound: 1.05}
	few = verdict{limit: "One worker takes at most 1.3 of ONE big DELETE where 1 or 5 % have expired", bound: 1.3}
	two = verdict{limit: "Two workers take at most 0.65 of ONE big DELETE where 33 % or more have expired", bound: 0.65}
	auto = verdict{limit: "The chosen strategy takes at most 1.15 of the better one", bound: 1.15}
	loops = verdict{limit: "At least 3 times faster than the usual loop at 50 %", bound: 3, atLeast: true}
	orms = verdict{limit: "At least 20 times faster than the ORM loop", bound: 20, atLeast: true}
	wal = verdict{limit: "At most 1.02 of ONE big DELETE's WAL per row", bound: 1.02, format: "%.3f"}
	idle = verdict{limit: "With nothing to do it ends within 100 ms", bound: 100, format: "%.0f ms"}
	for _, c := range r.part("grid") {
		if c.has(ormName) {
			orms.add(c.ratioOf(ormName, cleanupName, seconds))
			continue
		}
		one := &few
		if c.Expired >= 0.33 {
			one = &most
			two.add(c.ratioOf(workersName, bigName, seconds))
		}
		one.add(c.ratioOf(cleanupName, bigName, seconds))
		wal.add(c.ratioOf(cleanupName, bigName, walPerRow))
		if c.has(heapName) {
			auto.add(c.autoRatio())
		}
		if c.has(loopName) {
			loops.add(c.ratioOf(loopName, cleanupName, seconds))
		}
		if len(c.Idle) > 0 {
			idle.add(c.figureOf(1000 * medianOf(c.Idle, seconds)))
		}
	}
	list := []verdict{most, few, two, auto, loops, orms, wal, idle}

	for _, c := range r.part("snapshot") {
		list = append(list, verdict{limit: "With an old snapshot held open it takes at most 1.15 of itself without", bound: 1.15,
			figures: []figure{c.ratioOf(cleanupSnapshotName, cleanupName, seconds)}})
	}
	for _, c := range r.part("linear") {
		list = append(list, verdict{limit: "Ten times as many rows take at most 1.15 of the time for each", bound: 1.15,
			figures: []figure{c.ratioOf(manyName, fewName, secondsPerRow)}})
	}
	for _, c := range r.part("partitions") {
		list = append(list, verdict{limit: "Dropping partitions is at least 20 times faster than deleting their rows", bound: 20, atLeast: true,
			figures: []figure{c.ratioOf(rowsName, dropName, seconds)}})
	}
	for _, c := range r.part("foreground") {
		one := func(limit string, bound float64, f figure) {
			f.where = ""
			list = append(list, verdict{limit: limit, bound: bound, figures: []figure{f}})
		}
		one("The application's p99 beside it is at most 1.25 of that without any cleanup", 1.25, c.ratioOf(cleanupName, nothingName, p99))
		one("With `duty_cycle: 0.25` at most 1.1 of that without any cleanup", 1.1, c.ratioOf(dutyName, nothingName, p99))
		one("The application's p99 beside it is below that beside ONE big DELETE", 1, c.ratioOf(cleanupName, bigName, p99))
		one("The application's p99 beside it is below that beside the usual loop", 1, c.ratioOf(cleanupName, loopName, p99))
		one("Beside the application it is faster than the usual loop", 1, c.ratioOf(cleanupName, loopName, seconds))
	}
	list = append(list, r.memoryVerdict())

	var known []verdict
	for _, v := range list {
		if len(v.figures) == 0 {
			continue
		}
		if v.format == "" {
			v.format = "%.2f"
		}
		known = append(known, v)
	}
	return known
}

func (v *verdict) add(f figure) { v.figures = append(v.figures, f) }

// memoryVerdict is on every process of message-cleanup, with one worker, two
// and four. Programs that are not ours do not count.
func (r results) memoryVerdict() verdict {
	v := verdict{limit: "The client's memory stays below 40 MB", bound: 40, format: "%.1f MB"}
	for _, c := range r.Cases {
		for _, way := range c.Ways {
			var peak float64
			for _, m := range c.of(way) {
				peak = max(peak, memory(m)/1e6)
			}
			if peak > 0 && way != ormName {
				v.add(figure{where: c.Case + ", " + way, value: peak})
			}
		}
	}
	return v
}

// printVerdicts prints the limits and returns whether all that count are met.
func printVerdicts(out io.Writer, r results) bool {
	met := true
	for _, v := range r.verdicts() {
		word := "met    "
		if !v.met() {
			word, met = "NOT MET", false
		}
		fmt.Fprintf(out, "%s %s: %s\n", word, v.limit, v.measured())
	}
	if r.Rows < standardRows {
		fmt.Fprintf(out, "These verdicts mean nothing: the limits hold from BENCH_ROWS=%d on.\n", standardRows)
		return true
	}
	return met
}
