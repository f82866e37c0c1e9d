package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// fault happens to the program, or to the server, while a run is at work.
type fault struct {
	name string
	do   func(context.Context, *field, *os.Process) error
}

// programsBackends are the server's processes that serve the program.
const programsBackends = "FROM pg_stat_activity WHERE application_name = 'message-cleanup'"

var faults = []fault{
	{"kill -9", signalled(syscall.SIGKILL)},
	{"kill -TERM", signalled(syscall.SIGTERM)},
	{"kill -TERM twice", func(ctx context.Context, f *field, p *os.Process) error {
		return errors.Join(p.Signal(syscall.SIGTERM), p.Signal(syscall.SIGTERM))
	}},
	{"kill -STOP and -CONT", func(ctx context.Context, f *field, p *os.Process) error {
		if err := p.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		pause(ctx, upTo(500*time.Millisecond))
		return p.Signal(syscall.SIGCONT)
	}},
	{"backends terminated", executed("SELECT pg_terminate_backend(pid) " + programsBackends)},
	{"statements cancelled", executed("SELECT pg_cancel_backend(pid) " + programsBackends)},
	{"connections cut", func(_ context.Context, f *field, _ *os.Process) error {
		f.wire.cut()
		return nil
	}},
	{"server killed", restarted("immediate")},
	{"server restarted", restarted("fast")},
	{"table locked", held("LOCK TABLE messages")},
	{"rows locked", held("SELECT FROM messages TABLESAMPLE SYSTEM (5) WHERE expires_at < now() FOR UPDATE")},
	{"VACUUM FULL", executed("VACUUM FULL messages")},
	{"CLUSTER", executed("CLUSTER messages USING messages_pkey")},
	{"checkpoint", executed("CHECKPOINT")},
}

func upTo(d time.Duration) time.Duration { return rand.N(d) }

func signalled(signal os.Signal) func(context.Context, *field, *os.Process) error {
	return func(_ context.Context, _ *field, p *os.Process) error { return p.Signal(signal) }
}

func executed(sql string) func(context.Context, *field, *os.Process) error {
	return func(ctx context.Context, f *field, _ *os.Process) error {
		return f.connected(ctx, func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, sql)
			return err
		})
	}
}

// held locks something for a moment.
func held(sql string) func(context.Context, *field, *os.Process) error {
	return func(ctx context.Context, f *field, _ *os.Process) error {
		return f.connected(ctx, func(conn *pgx.Conn) error {
			return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
				_, err := tx.Exec(ctx, sql)
				pause(ctx, upTo(500*time.Millisecond))
				return err
			})
		})
	}
}

func restarted(mode string) func(context.Context, *field, *os.Process) error {
	return func(_ context.Context, f *field, _ *os.Process) error {
		return errors.Join(f.cluster.Stop(mode), f.cluster.StartServer())
	}
}
