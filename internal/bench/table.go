package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// printHeader prints the names of the columns and what they mean.
func printHeader(out io.Writer) {
	fmt.Fprint(out, `
Medians over the rounds; a ratio is the median of the rounds' ratios to ONE big DELETE of the same round.
The time of message-cleanup is its whole process, that of the others their statements alone.

`)
	fmt.Fprintf(out, "%-16s %-16s %8s %6s %8s %6s %8s %9s %10s %7s\n",
		"case", "way", "seconds", "ratio", "WAL/row", "ratio", "batches", "median ms", "longest ms", "RSS MB")
}

// printCase prints a line for each way, and one for the run with nothing to do.
func printCase(out io.Writer, r caseResult) {
	for i, way := range ways {
		list := r.of(i)
		rss := "-"
		if peak := medianOf(list, memory); peak > 0 {
			rss = fmt.Sprintf("%.1f", peak/1e6)
		}
		fmt.Fprintf(out, "%-16s %-16s %8.2f %6.2f %8.0f %6.2f %8.0f %9.0f %10.0f %7s\n",
			r.name, way.name,
			medianOf(list, seconds), r.ratio(i, seconds),
			medianOf(list, wal)/float64(max(1, r.deleted)), r.ratio(i, wal),
			medianOf(list, batchCount), medianOf(list, medianBatch), medianOf(list, longestBatch), rss)
	}
	fmt.Fprintf(out, "%-16s %-16s %8.3f %6s %8s %6s %8s %9s %10s %7.1f\n",
		r.name, "nothing to do", medianOf(r.idle, seconds), "-", "-", "-", "-", "-", "-", medianOf(r.idle, memory)/1e6)
}

// The batches of one measurement, in milliseconds.
func batchCount(m measurement) float64 { return float64(len(m.batches)) }

func medianBatch(m measurement) float64 {
	if len(m.batches) == 0 {
		return 0
	}
	var ms []float64
	for _, b := range m.batches {
		ms = append(ms, milliseconds(b))
	}
	return median(ms)
}

func longestBatch(m measurement) float64 {
	if len(m.batches) == 0 {
		return 0
	}
	return milliseconds(slices.Max(m.batches))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// verdict is one stated limit and whether it was kept.
type verdict struct {
	met  bool
	text string
}

func verdicts(results []caseResult) []verdict {
	var list []verdict
	var peak float64
	for _, r := range results {
		if got := r.ratio(subject, seconds); r.maxRatio > 0 {
			list = append(list, verdict{got <= r.maxRatio,
				fmt.Sprintf("%s: %.2f of ONE big DELETE, limit %.2f", r.name, got, r.maxRatio)})
		}
		for _, m := range append(r.of(subject), r.idle...) {
			peak = max(peak, memory(m))
		}
	}
	for _, r := range results {
		got := medianOf(r.idle, seconds)
		list = append(list, verdict{got < maxIdle.Seconds(),
			fmt.Sprintf("%s: nothing to do takes %.0f ms, limit below %.0f ms", r.name, 1000*got, milliseconds(maxIdle))})
	}
	return append(list, verdict{peak < maxMemory,
		fmt.Sprintf("memory of message-cleanup in any run: at most %.1f MB, limit below %.0f MB", peak/1e6, maxMemory/1e6)})
}

// printVerdicts prints the limits and returns whether all that count are met.
func printVerdicts(o options, results []caseResult) bool {
	fmt.Fprintln(o.out)
	met := true
	for _, v := range verdicts(results) {
		word := "met    "
		if !v.met {
			word, met = "NOT MET", false
		}
		fmt.Fprintln(o.out, word, v.text)
	}
	if o.rows < meaningfulRows {
		fmt.Fprintf(o.out, "These verdicts mean nothing: the limits hold from %d rows on.\n", meaningfulRows)
		return true
	}
	return met
}
