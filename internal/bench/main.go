// Bench measures message-cleanup against the other ways of deleting expired
// rows, above all against ONE big DELETE, on a throw-away PostgreSQL with the
// settings of a real one. It writes docs/benchmarks.md, its plots and what was
// measured beside it, and ends with status 1 when a stated limit is not met.
//
// Environment: BENCH_ROWS is the size of the table (2,000,000) from which all
// other sizes follow, BENCH_ROUNDS how often each way is measured (3),
// BENCH_PARTS the names of the parts separated by commas (all), BENCH_CASES a
// regular expression for the names of the cases (all), PG_BIN where the
// server's binaries are. A run that is smaller than the default in any of them
// leaves docs alone and writes to bin/benchmarks.
//
// With -render FILE nothing is measured: document and plots are written again,
// beside a file of measurements.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"message-cleanup/internal/pgtest"
)

const (
	standardRows   = 2_000_000
	standardRounds = 3
)

// options are what a run of the benchmark can be told.
type options struct {
	rows, rounds int
	warmup       time.Duration // of the foreground's load, before anything is deleted
	window       time.Duration // how long the load is watched where no way's end limits it
	progress     io.Writer     // what is being done, for whoever waits
}

func main() {
	render := flag.String("render", "", "measure nothing, write document and plots beside this `file` of measurements")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	var met bool
	var err error
	if *render != "" {
		met, err = renderAgain(*render)
	} else {
		met, err = benchmark(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	if err != nil || !met {
		os.Exit(1)
	}
}

// benchmark starts the server, measures and writes what came out. What the
// server makes is in the cluster's directory, which disappears even when this
// process is killed.
func benchmark(ctx context.Context) (met bool, err error) {
	// Every process that is started begins its account of memory with the size of this one: see maxMemoryOf.
	debug.SetGCPercent(20)
	o := options{warmup: foregroundWarmup, window: foregroundWindow, progress: os.Stderr}
	if o.rows, err = positive("BENCH_ROWS", standardRows); err != nil {
		return false, err
	}
	if o.rounds, err = positive("BENCH_ROUNDS", standardRounds); err != nil {
		return false, err
	}
	chosen, whole, err := choose(allParts(o), os.Getenv("BENCH_PARTS"), os.Getenv("BENCH_CASES"))
	if err != nil {
		return false, err
	}
	dir := filepath.Join("bin", "benchmarks")
	if whole && o.rows >= standardRows && o.rounds >= standardRounds {
		dir = "docs"
	}

	cluster, err := pgtest.Start(ctx, pgtest.Options{Settings: realisticSettings()})
	if err != nil {
		return false, err
	}
	defer cluster.Close()
	results, err := measureAll(ctx, cluster, chosen, o)
	if err == nil {
		return finish(dir, results)
	}
	if len(results.Cases) > 0 {
		// What was measured until now took its time, and may say why.
		dir = filepath.Join("bin", "benchmarks")
		err = errors.Join(err, save(dir, results))
		fmt.Fprintf(os.Stderr, "What was measured before it ended is in %s.\n", dir)
	}
	return false, err
}

// finish writes the results to dir and prints the verdicts.
func finish(dir string, results results) (met bool, err error) {
	if err := save(dir, results); err != nil {
		return false, err
	}
	met = printVerdicts(os.Stdout, results)
	fmt.Printf("\nWritten to %s, with its plots and measurements.\n", filepath.Join(dir, documentName))
	return met, nil
}

// renderAgain writes document and plots of an earlier run.
func renderAgain(file string) (met bool, err error) {
	results, err := read(file)
	if err != nil {
		return false, err
	}
	return finish(filepath.Dir(file), results)
}

// positive reads a whole number above 0 from the environment.
func positive(name string, standard int) (int, error) {
	text := os.Getenv(name)
	if text == "" {
		return standard, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s: %q is not a whole number above 0, such as %d", name, text, standard)
	}
	return n, nil
}

// measureAll measures part by part. What it returns with an error is what was
// measured before.
func measureAll(ctx context.Context, cluster *pgtest.Cluster, parts []part, o options) (results, error) {
	r := results{Rows: o.rows, Rounds: o.rounds}
	prog, err := buildProgram(ctx, cluster.Dir)
	if err != nil {
		return r, err
	}
	w := &workbench{options: o, cluster: cluster, program: prog}
	defer w.close()
	if r.Facts, err = w.readFacts(ctx); err != nil {
		return r, err
	}
	for _, p := range parts {
		started := time.Now()
		for _, c := range p.cases {
			measured, err := w.measure(ctx, c)
			if err != nil {
				return r, fmt.Errorf("%s: %s: %w", p.name, c.name, err)
			}
			measured.Part = p.name
			r.Cases = append(r.Cases, measured)
		}
		w.say("%s: took %s", p.name, time.Since(started).Round(time.Second))
	}
	return r, nil
}
