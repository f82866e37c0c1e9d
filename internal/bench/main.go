// Bench measures message-cleanup against the other ways of deleting expired
// rows, above all against ONE big DELETE, on a throw-away PostgreSQL with the
// settings of a real one. It ends with status 1 when a stated limit is not met.
//
// Environment: BENCH_ROWS is the size of the table (2,000,000), BENCH_ROUNDS
// how often each way is measured (3), BENCH_CASES a regular expression for the
// names of the cases (all), PG_BIN where the server's binaries are.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"message-cleanup/internal/pgtest"
)

// meaningfulRows is the smallest table on which the limits are enforced: on a
// smaller one starting a process weighs more than deleting.
const meaningfulRows = 1_000_000

type options struct {
	rows, rounds int
	out          io.Writer // the table
	progress     io.Writer // what is being done, for whoever waits
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	met, err := benchmark(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	if err != nil || !met {
		os.Exit(1)
	}
}

// benchmark starts the server and measures all cases. What it makes is in the
// cluster's directory, which disappears even when this process is killed.
func benchmark(ctx context.Context) (met bool, err error) {
	o := options{out: os.Stdout, progress: os.Stderr}
	if o.rows, err = positive("BENCH_ROWS", 2_000_000); err != nil {
		return false, err
	}
	if o.rounds, err = positive("BENCH_ROUNDS", 3); err != nil {
		return false, err
	}
	chosen, err := chosenCases(os.Getenv("BENCH_CASES"))
	if err != nil {
		return false, err
	}
	cluster, err := pgtest.Start(ctx, pgtest.Options{Settings: realisticSettings()})
	if err != nil {
		return false, err
	}
	defer cluster.Close()

	results, err := measureAll(ctx, cluster, chosen, o)
	if err != nil {
		return false, err
	}
	return printVerdicts(o, results), nil
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

// measureAll measures case by case and prints each as soon as it is known.
func measureAll(ctx context.Context, cluster *pgtest.Cluster, cases []testCase, o options) ([]caseResult, error) {
	prog, err := buildProgram(ctx, cluster.Dir)
	if err != nil {
		return nil, err
	}
	w := &workbench{cluster: cluster, program: prog, options: o}
	defer w.close()
	if err := w.printFacts(ctx); err != nil {
		return nil, err
	}
	printHeader(o.out)
	var results []caseResult
	for _, c := range cases {
		result, err := w.measure(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		printCase(o.out, result)
		results = append(results, result)
	}
	return results, nil
}
