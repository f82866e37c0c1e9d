// Soak runs message-cleanup for a long time on a table that is in use, lets
// faults of all kinds happen to it at random moments, and checks after every run
// that nothing was lost, nothing counted twice, and nothing left behind.
//
//	go run ./internal/soak BINARY
//
// The table's user keeps a record: what it inserts and extends, it writes into
// a second table in the same transaction. Nobody but the program deletes. So what
// is in the record and not in the table was deleted by the run that has just
// ended: exactly as many rows as it says, and none that lived at its cutoff.
//
// Environment: SOAK is how long it shall go on (30m).
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: soak BINARY")
		os.Exit(64)
	}
	length := 30 * time.Minute
	if text := os.Getenv("SOAK"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil || length <= 0 {
			fmt.Fprintf(os.Stderr, "SOAK: %q is not a time such as 30m\n", text)
			os.Exit(64)
		}
	}
	// What was found until an interrupt is worth a report.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	report, err := soak(ctx, os.Args[1], length, os.Stderr)
	fmt.Print(report)
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
	}
	if err != nil || len(report.violations) > 0 {
		os.Exit(1)
	}
}
