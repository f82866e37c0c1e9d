// Demo shows the program at work: it starts a throw-away PostgreSQL, fills it
// with the messages of a chat application, of which a third have expired, runs
// the given binary on it, and shows the table before and after. It leaves
// nothing behind.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

const messages = 200_000

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: demo BINARY")
		os.Exit(64)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := demo(ctx, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, binary string) error {
	fmt.Println("Starting a throw-away PostgreSQL ...")
	cluster, err := pgtest.Start(ctx, pgtest.Options{})
	if err != nil {
		return err
	}
	defer cluster.Close()
	url := cluster.URL("postgres")
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.Background())

	fmt.Println("Filling it with 200,000 messages, of which a third have expired ...")
	err = pgtest.Messages(ctx, conn, pgtest.MessagesOptions{Rows: messages, Expired: 1.0 / 3, Shuffled: false, Index: true})
	if err != nil {
		return err
	}
	if err := show(ctx, conn, "Before"); err != nil {
		return err
	}
	for _, args := range [][]string{{"run", "--dry-run"}, {"run"}} {
		if err := run(ctx, url, binary, args...); err != nil {
			return err
		}
	}
	if err := show(ctx, conn, "After"); err != nil {
		return err
	}
	var wrong int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM messages WHERE expires_at < now() - interval '1 minute'").Scan(&wrong); err != nil {
		return err
	}
	if wrong != 0 {
		return errors.New("expired messages are left")
	}
	fmt.Println("\nThat is all. The database is gone again.")
	return nil
}

// run shows a command as one would type it, and executes it.
func run(ctx context.Context, url, binary string, args ...string) error {
	fmt.Printf("\n$ DATABASE_URL=... message-cleanup %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), "DATABASE_URL="+url, "MESSAGE_CLEANUP_LOG_LEVEL=warn")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

func show(ctx context.Context, conn *pgx.Conn, when string) error {
	var expired, kept int64
	var oldest, newest string
	err := conn.QueryRow(ctx, `
		SELECT count(*) FILTER (WHERE expires_at < now()), count(*) FILTER (WHERE expires_at >= now()),
		       to_char(min(expires_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), to_char(max(expires_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
		FROM messages`).Scan(&expired, &kept, &oldest, &newest)
	if err != nil {
		return err
	}
	fmt.Printf("\n%s: %s messages have expired, %s have not; they expire from %s to %s UTC\n",
		when, cleanup.FormatCount(expired), cleanup.FormatCount(kept), oldest, newest)
	return nil
}
