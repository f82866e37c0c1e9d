package main

import (
	"fmt"
	"io"
	"math"
	"slices"
)

const (
	rowsPlotName    = "benchmarks-rows.svg"
	latencyPlotName = "benchmarks-latency.svg"
)

// plots are the pictures of what was measured, by the name of their file.
func (r results) plots() map[string]func(io.Writer) error {
	plots := map[string]func(io.Writer) error{}
	if len(r.part("grid")) > 0 {
		plots[rowsPlotName] = func(out io.Writer) error { return r.rowsPlot().write(out) }
	}
	if cases := r.part("foreground"); len(cases) > 0 {
		plots[latencyPlotName] = func(out io.Writer) error { return latencyPlot(cases[0]).write(out) }
	}
	return plots
}

// plotWays are the ways of the grid in the order of their bars and colours.
var plotWays = []string{bigName, cleanupName, workersName, indexName, heapName, loopName, procedureName}

// rowsPlot has a panel for each order of the rows, with and without an index;
// in a panel a group of bars for each share that has expired.
func (r results) rowsPlot() *drawing {
	d := &drawing{width: 960, height: 660}
	d.text(20, 24, "start", "title", "Rows deleted per second, by share of the rows that has expired")
	x := 20.0
	for i, way := range plotWays {
		d.rect(x, 38, 12, 12, fmt.Sprint("c", i), way)
		d.text(x+17, 48, "start", "", way)
		x += 40 + 6.6*float64(len(way))
	}
	cases := slices.DeleteFunc(r.part("grid"), func(c caseResult) bool { return c.has(ormName) })
	var largest float64
	for _, c := range cases {
		for _, way := range plotWays {
			if v := c.median(way, rowsPerSecond); v > largest {
				largest = v
			}
		}
	}
	for n, panel := range []struct {
		title           string
		shuffled, index bool
	}{
		{"Rows in order of expiry, index", false, true},
		{"Rows shuffled, index", true, true},
		{"Rows in order of expiry, no index", false, false},
		{"Rows shuffled, no index", true, false},
	} {
		var shown []caseResult
		for _, c := range cases {
			if c.Shuffled == panel.shuffled && c.Index == panel.index {
				shown = append(shown, c)
			}
		}
		d.bars(75+480*float64(n%2), 95+295*float64(n/2), 385, 220, panel.title, shown, ticks(largest/million))
	}
	return d
}

const million = 1e6

// bars draws a panel whose axes enclose the given rectangle; the scale is in
// millions.
func (d *drawing) bars(left, top, width, height float64, title string, cases []caseResult, scale []float64) {
	bottom, end := top+height, scale[len(scale)-1]
	d.text(left, top-12, "start", "title", title)
	for _, v := range scale {
		y := bottom - height*v/end
		d.line(left, y, left+width, y, "grid")
		d.text(left-6, y+4, "end", "faint", fmt.Sprintf("%.3g", v))
	}
	d.upright(left-40, top+height/2, "faint", "million rows per second")
	d.line(left, bottom, left+width, bottom, "axis")
	group := width / float64(max(1, len(cases)))
	for i, c := range cases {
		middle := left + group*(float64(i)+0.5)
		d.text(middle, bottom+18, "middle", "", fmt.Sprintf("%.0f %%", 100*c.Expired))
		var shown []int
		for n, way := range plotWays {
			if len(c.of(way)) > 0 {
				shown = append(shown, n)
			}
		}
		thickness := min(12, (group-10)/float64(max(1, len(shown))))
		x := middle - thickness*float64(len(shown))/2
		for _, n := range shown {
			v := c.median(plotWays[n], rowsPerSecond) / million
			size := height * v / end
			d.rect(x, bottom-size, thickness-1, size, fmt.Sprint("c", n),
				fmt.Sprintf("%s, %s: %.2f million rows per second", c.Case, plotWays[n], v))
			x += thickness
		}
	}
	d.text(left+width/2, bottom+36, "middle", "faint", "share of the rows that has expired")
}

// latencyPlot has a line for each way, with dots for the percentiles, on a
// logarithmic axis.
func latencyPlot(c caseResult) *drawing {
	const left, right, top, line = 190, 890, 100, 44
	percentiles := []struct {
		name  string
		class string
		value func(latency) float64
	}{
		{"p50", "c0", func(l latency) float64 { return l.P50 }},
		{"p95", "c2", func(l latency) float64 { return l.P95 }},
		{"p99", "c1", func(l latency) float64 { return l.P99 }},
		{"p99.9", "c5", func(l latency) float64 { return l.P999 }},
	}
	bottom := top + line*float64(len(c.Ways))
	d := &drawing{width: 960, height: bottom + 56}
	d.text(20, 24, "start", "title", "Latency of the application's transactions while half of a table is deleted")
	for i, p := range percentiles {
		x := 26 + 90*float64(i)
		d.dot(x, 50, 6, p.class, p.name)
		d.text(x+12, 54, "start", "", p.name)
	}

	smallest, largest := math.Inf(1), 0.0
	values := map[string][]float64{}
	for _, way := range c.Ways {
		seen := slices.DeleteFunc(c.of(way), func(m measurement) bool { return m.Latency == nil })
		if len(seen) == 0 {
			continue
		}
		for _, p := range percentiles {
			v := medianOf(seen, func(m measurement) float64 { return p.value(*m.Latency) })
			values[way] = append(values[way], v)
			smallest, largest = min(smallest, v), max(largest, v)
		}
	}
	if len(values) == 0 {
		return d
	}
	low, high := math.Floor(math.Log10(smallest)), math.Ceil(math.Log10(largest))
	high = max(high, low+1)
	place := func(v float64) float64 { return left + (right-left)*(math.Log10(v)-low)/(high-low) }

	for decade := low; decade <= high; decade++ {
		for _, n := range []float64{1, 2, 5} {
			v := n * math.Pow(10, decade)
			if x := place(v); x <= right+0.5 {
				d.line(x, top-10, x, bottom, "grid")
				d.text(x, bottom+18, "middle", "faint", fmt.Sprintf("%g", v))
			}
		}
	}
	d.line(left, bottom, right, bottom, "axis")
	d.text((left+right)/2, bottom+40, "middle", "faint", "milliseconds, logarithmic; waiting for a free session counts")
	for i, way := range c.Ways {
		y := top + line*(float64(i)+0.5)
		d.text(left-14, y+4, "end", "", way)
		list := values[way]
		if len(list) == 0 {
			d.text(left+8, y+4, "start", "faint", "not measured")
			continue
		}
		d.line(place(list[0]), y, place(list[len(list)-1]), y, "range")
		for n := range percentiles {
			p := percentiles[len(percentiles)-1-n]
			v := list[len(percentiles)-1-n]
			d.dot(place(v), y, 6, p.class, fmt.Sprintf("%s, %s: %.2f ms", way, p.name, v))
			if p.name == "p99" {
				d.text(place(v), y-10, "middle", "", fmt.Sprintf("%.1f", v))
			}
		}
	}
	return d
}
