package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// part is a group of cases that answer one question.
type part struct {
	name  string
	cases []testCase
}

func allParts(o options) []part {
	return []part{
		{"grid", gridCases(o)},
		{"snapshot", snapshotCases(o)},
		{"linear", linearCases(o)},
		{"partitions", partitionCases(o)},
		{"foreground", foregroundCases(o)},
	}
}

// testCase is one content of the database, and the ways that are measured on it.
type testCase struct {
	name     string
	shuffled bool    // rows lie in an order that has nothing to do with their expiry
	expired  float64 // the share of the rows that has expired
	noIndex  bool    // on expires_at
	rows     int
	rounds   int // at most so many; 0: as many as the others

	// fill makes the tables in an empty database. Two cases after one another with the same content share it.
	content string
	fill    func(ctx context.Context, conn *pgx.Conn) error
	alter   string // SQL that turns a copy of the content into the case's; or ""

	ways []way
	idle bool // measure also message-cleanup with nothing to do
}

// way is one manner of deleting the expired rows.
type way struct {
	name  string
	table string // "": messages
	rows  int    // that the table holds; 0: as many as the case says
	run   runFunc
}

// runFunc does a way's work once on the current copy. conn is connected to it.
type runFunc func(ctx context.Context, w *workbench, conn *pgx.Conn) (measurement, error)

// choose returns the parts of these names, separated by commas, with the cases
// whose name the pattern matches; whole tells whether that is everything.
func choose(parts []part, names, pattern string) (chosen []part, whole bool, err error) {
	wanted, err := regexp.Compile(pattern)
	if err != nil {
		return nil, false, fmt.Errorf("BENCH_CASES: %w", err)
	}
	var known []string
	for _, p := range parts {
		known = append(known, p.name)
	}
	list := known
	if names != "" {
		list = strings.Split(names, ",")
	}
	for _, name := range list {
		n := slices.Index(known, strings.TrimSpace(name))
		if n < 0 {
			return nil, false, fmt.Errorf("BENCH_PARTS: there is no part %q, only %s", name, strings.Join(known, ", "))
		}
		p := parts[n]
		p.cases = slices.DeleteFunc(slices.Clone(p.cases), func(c testCase) bool { return !wanted.MatchString(c.name) })
		if len(p.cases) > 0 {
			chosen = append(chosen, p)
		}
	}
	if len(chosen) == 0 {
		return nil, false, fmt.Errorf("BENCH_CASES: no case matches %q", pattern)
	}
	return chosen, names == "" && pattern == "", nil
}
