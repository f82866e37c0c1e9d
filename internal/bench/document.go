package main

import (
	_ "embed"
	"fmt"
	"io"
	"math"
	"strings"
	"text/template"
)

// documentText is the document but for its figures.
//
//go:embed benchmarks.md.tmpl
var documentText string

var documentTemplate = template.Must(template.New(documentName).Parse(documentText))

// document writes docs/benchmarks.md.
func (r results) document(out io.Writer) error {
	return documentTemplate.Execute(out, page{r})
}

// page is what the template may ask for.
type page struct{ results }

func (p page) Standard() bool    { return p.Rows >= standardRows && p.Rounds >= standardRounds }
func (p page) MemoryGB() string  { return fmt.Sprintf("%.0f", float64(p.Facts.Memory)/1e9) }
func (p page) RowCount() string  { return count(float64(p.Rows)) }
func (p page) Has(n string) bool { return len(p.part(n)) > 0 }
func (p page) LoadRate() int     { return loadRate }
func (p page) LoadClients() int  { return loadClients }
func (p page) LoopLimit() string { return fmt.Sprintf("%.0f", loopLimit.Seconds()) }
func (p page) Window() string    { return fmt.Sprintf("%.0f", foregroundWindow.Seconds()) }
func (p page) RowsPlot() string  { return rowsPlotName }
func (p page) Latency() string   { return latencyPlotName }
func (p page) Data() string      { return measurementsName }

func (p page) Verdicts() string {
	t := table{{"limit", "measured, the worst", "verdict"}}
	for _, v := range p.verdicts() {
		word := v.word()
		if !v.met() {
			word = "**" + word + "**"
		}
		t.add(v.limit, v.measured(), word)
	}
	return t.String()
}

// Grid has a line for each case, with the ratios of all ways.
func (p page) Grid() string {
	t := table{{"case", "rows", bigName + ", s", cleanupName, workersName, indexName, heapName, loopName, procedureName, "chose", "of the better"}}
	for _, c := range p.part("grid") {
		if c.has(ormName) {
			continue
		}
		line := []string{c.Case, count(float64(c.Rows)), number("%.3f", c.median(bigName, seconds))}
		for _, way := range plotWays[1:] {
			line = append(line, c.cell("%.2f", way, c.ratio(way, bigName, seconds)))
		}
		better := ""
		if c.has(heapName) {
			better = c.cell("%.2f", cleanupName, c.autoRatio().value)
		}
		t.add(append(line, c.strategy(cleanupName), better)...)
	}
	return t.String()
}

// Batches has a line for each case, with what else was seen of message-cleanup.
func (p page) Batches() string {
	t := table{{"case", "WAL per row, bytes", "of " + bigName, "batches", "median, ms", "longest, ms", "client, MB", "nothing to do, ms"}}
	for _, c := range p.part("grid") {
		if c.has(ormName) {
			continue
		}
		list := c.of(cleanupName)
		of := func(format string, value func(measurement) float64) string {
			return number(format, medianOf(list, value))
		}
		idle := ""
		if len(c.Idle) > 0 {
			idle = number("%.0f", 1000*medianOf(c.Idle, seconds))
		}
		t.add(c.Case, of("%.0f", walPerRow), number("%.3f", c.ratio(cleanupName, bigName, walPerRow)),
			of("%.0f", func(m measurement) float64 { return float64(m.Batches) }),
			of("%.0f", func(m measurement) float64 { return m.Median }),
			of("%.0f", func(m measurement) float64 { return m.Longest }),
			of("%.1f", func(m measurement) float64 { return memory(m) / 1e6 }), idle)
	}
	return t.String()
}

// ORM compares on the smaller table.
func (p page) ORM() string {
	t := table{{"way", "rows deleted", "seconds", "ratio to " + cleanupName, "client, MB"}}
	for _, c := range p.part("grid") {
		if !c.has(ormName) {
			continue
		}
		for _, way := range c.Ways {
			memory := c.median(way, memory)
			t.add(way, count(c.median(way, deleted)), c.cell("%.2f", way, c.median(way, seconds)),
				number("%.1f", c.ratio(way, cleanupName, seconds)), number("%.0f", unless(memory == 0, memory/1e6)))
		}
	}
	return t.String()
}

func (p page) Snapshot() string {
	t := table{{"way", "rows deleted", "seconds", "ratio to itself without the snapshot", "median batch, ms", "longest, ms"}}
	for _, c := range p.part("snapshot") {
		without := map[string]string{cleanupSnapshotName: cleanupName, loopSnapshotName: loopName}
		for _, way := range c.Ways {
			ratio := ""
			if base := without[way]; base != "" {
				ratio = number("%.2f", c.ratio(way, base, secondsPerRow))
			}
			t.add(way, count(c.median(way, deleted)), c.cell("%.2f", way, c.median(way, seconds)), ratio,
				number("%.0f", c.median(way, func(m measurement) float64 { return m.Median })),
				number("%.0f", c.median(way, func(m measurement) float64 { return m.Longest })))
		}
	}
	return t.String()
}

func (p page) Linear() string {
	t := table{{"way", "rows deleted", "seconds", "µs per row", "client, MB"}}
	for _, c := range p.part("linear") {
		for _, way := range c.Ways {
			memory := c.median(way, memory)
			t.add(way, count(c.median(way, deleted)), c.cell("%.2f", way, c.median(way, seconds)),
				number("%.2f", 1e6*c.median(way, secondsPerRow)), number("%.1f", unless(memory == 0, memory/1e6)))
		}
	}
	return t.String()
}

func (p page) Partitions() string {
	t := table{{"way", "rows deleted", "partitions dropped", "seconds", "ratio to " + dropName}}
	for _, c := range p.part("partitions") {
		for _, way := range c.Ways {
			t.add(way, count(c.median(way, deleted)), number("%.0f", c.median(way, func(m measurement) float64 { return float64(m.Dropped) })),
				c.cell("%.3f", way, c.median(way, seconds)), number("%.1f", c.ratio(way, dropName, seconds)))
		}
	}
	return t.String()
}

func (p page) Foreground() string {
	t := table{{"beside", "p50, ms", "p95, ms", "p99, ms", "p99.9, ms", "p99, ratio to " + nothingName, "rows deleted", "seconds", "transactions"}}
	for _, c := range p.part("foreground") {
		for _, way := range c.Ways {
			if cause := c.Failures[way]; cause != "" {
				t.add(way, "failed")
				continue
			}
			of := func(value func(latency) float64) string {
				return number("%.2f", c.median(way, func(m measurement) float64 {
					if m.Latency == nil {
						return math.NaN()
					}
					return value(*m.Latency)
				}))
			}
			t.add(way, of(func(l latency) float64 { return l.P50 }), of(func(l latency) float64 { return l.P95 }),
				of(func(l latency) float64 { return l.P99 }), of(func(l latency) float64 { return l.P999 }),
				number("%.2f", c.ratio(way, nothingName, p99)), count(c.median(way, deleted)), number("%.1f", c.median(way, seconds)),
				count(c.median(way, func(m measurement) float64 { return float64(m.Transactions) })))
		}
	}
	return t.String()
}

// Failed lists the ways that failed, and why.
func (p page) Failed() (list []string) {
	for _, c := range p.Cases {
		for _, way := range c.Ways {
			if cause := c.Failures[way]; cause != "" {
				list = append(list, fmt.Sprintf("%s: %s, %s: %s", c.Part, c.Case, way, firstLine(cause)))
			}
		}
	}
	return list
}

// strategy is the one that was chosen in each round, or all that were.
func (c caseResult) strategy(way string) string {
	var seen []string
	for _, m := range c.of(way) {
		if !strings.Contains(strings.Join(seen, " "), m.Strategy) {
			seen = append(seen, m.Strategy)
		}
	}
	return strings.Join(seen, ", ")
}

// cell is a number of a way, or why there is none.
func (c caseResult) cell(format, way string, v float64) string {
	if c.Failures[way] != "" {
		return "failed"
	}
	return number(format, v)
}

// number is empty where nothing was measured.
func number(format string, v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return fmt.Sprintf(format, v)
}

// unless is v, or nothing.
func unless(nothing bool, v float64) float64 {
	if nothing {
		return math.NaN()
	}
	return v
}

// count writes a number of rows as people read it: 2,000,000.
func count(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// table is one of Markdown; the first line has the names of the columns.
type table [][]string

func (t *table) add(cells ...string) { *t = append(*t, cells) }

func (t table) String() string {
	var b strings.Builder
	for i, line := range t {
		for len(line) < len(t[0]) {
			line = append(line, "")
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(line, " | "))
		if i == 0 {
			b.WriteString("|" + strings.Repeat(" --- |", len(line)) + "\n")
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}
