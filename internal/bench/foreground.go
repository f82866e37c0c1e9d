package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	nothingName = "no cleanup"
	dutyName    = "duty_cycle: 0.25"
)

// How long the application works before a way begins, and how long it is
// watched where no way's end limits it.
const (
	foregroundWarmup = 5 * time.Second
	foregroundWindow = 20 * time.Second
)

// foregroundCases watch an application's transactions while each way deletes
// half of a table. It is twice as large as others: the fastest ways would
// be over before enough transactions were seen.
func foregroundCases(o options) []testCase {
	c := messages("in order, 50 %, beside an application", 2*o.rows, 0.5, false)
	c.ways = []way{
		{name: nothingName, run: underLoad(nothing)},
		{name: cleanupName, run: underLoad(messageCleanup(""))},
		{name: dutyName, run: underLoad(messageCleanup("",
			"MESSAGE_CLEANUP_PACE_DUTY_CYCLE=0.25",
			fmt.Sprintf("MESSAGE_CLEANUP_LIMITS_MAX_DURATION=%s", o.window)))},
		{name: bigName, run: underLoad(bigDelete)},
		{name: loopName, run: underLoad(loop)},
	}
	return []testCase{c}
}

// nothing lets the application be alone for a while.
func nothing(ctx context.Context, w *workbench, _ *pgx.Conn) (measurement, error) {
	return measurement{Seconds: w.window.Seconds(), Stopped: true}, sleep(ctx, w.window)
}

// underLoad lets a way work beside an application, and notes the latency of
// the transactions that were due while it did.
func underLoad(run runFunc) runFunc {
	return func(ctx context.Context, w *workbench, conn *pgx.Conn) (m measurement, err error) {
		load, err := w.startLoad(ctx)
		if err != nil {
			return m, err
		}
		defer load.kill()
		if err := sleep(ctx, w.warmup); err != nil {
			return m, err
		}
		from := time.Now()
		m, err = run(ctx, w, conn)
		until := time.Now()
		if err != nil {
			return m, err
		}
		// What was due at the end may still wait for its turn.
		if err := sleep(ctx, w.warmup/5); err != nil {
			return m, err
		}
		if err := load.end(ctx, conn); err != nil {
			return m, err
		}
		times, err := load.latencies(from, until)
		if err != nil {
			return m, err
		}
		m.setLatency(times)
		return m, nil
	}
}

// sleep waits, unless the benchmark is interrupted.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
