package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// report is what a soak has done and seen.
type report struct {
	length      time.Duration
	runs        int
	statuses    map[string]int // how the runs ended
	faults      map[string]int // by kind; what went wrong in making them is in none
	deleted     int64          // rows that the runs reported
	unreported  int64          // rows that runs deleted without counting them: killed, or interrupted while the server was down
	inserted    int64
	extended    int64
	memory      []int64 // of each run, at most, in bytes
	connections int     // of one run, at most
	violations  []string
}

func (r *report) violate(format string, args ...any) {
	r.violations = append(r.violations, fmt.Sprintf("run %d: ", r.runs)+fmt.Sprintf(format, args...))
}

func (r *report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d runs\n", r.length.Round(time.Second), r.runs)
	fmt.Fprintf(&b, "rows: %d inserted, %d extended, %d deleted and reported, %d deleted and not reported\n",
		r.inserted, r.extended, r.deleted, r.unreported)
	fmt.Fprintf(&b, "ends: %s\n", counted(r.statuses))
	fmt.Fprintf(&b, "faults: %s\n", counted(r.faults))
	if len(r.memory) > 0 {
		half := len(r.memory) / 2
		fmt.Fprintf(&b, "memory of a run, at most: %.1f MB in the first half, %.1f MB in the second; connections of a run, at most: %d\n",
			megabytes(r.memory[:max(1, half)]), megabytes(r.memory[half:]), r.connections)
	}
	fmt.Fprintf(&b, "violations: %d\n", len(r.violations))
	for _, v := range r.violations {
		fmt.Fprintf(&b, "  %s\n", v)
	}
	return b.String()
}

func megabytes(sizes []int64) float64 { return float64(slices.Max(sizes)) / (1 << 20) }

// counted writes how often there was what.
func counted(counts map[string]int) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(parts, ", ")
}
