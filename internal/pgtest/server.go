package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// StartServer starts the server again on the data that Stop left, through crash recovery if need be, and returns
// when it accepts connections.
func (c *Cluster) StartServer() error { return c.startServer(context.Background()) }

func (c *Cluster) startServer(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running() {
		return errors.New("start server: it is running")
	}
	// Standard input stays nil, which is /dev/null.
	cmd := c.command("postgres", serverPID, "-D", c.data())
	if err := c.logTo(cmd, cmd.Start); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	c.server, c.exited = cmd, exited

	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := c.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("start server: it ended at once; its log:\n%s", c.logTail())
		case <-ctx.Done():
			return fmt.Errorf("start server: %w: %w; its log:\n%s", context.Cause(ctx), err, c.logTail())
		case <-time.After(pollInterval):
		}
	}
}

// Stop stops the server and leaves its data. Mode "fast" disconnects everyone and writes a checkpoint; "immediate"
// is a crash as far as the data is concerned. Stopping a server that is not running is not an error.
func (c *Cluster) Stop(mode string) error {
	var signal os.Signal
	switch mode {
	case "fast":
		signal = syscall.SIGINT
	case "immediate":
		signal = syscall.SIGQUIT
	default:
		return fmt.Errorf("stop server: mode %q is neither fast nor immediate", mode)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running() {
		// An error here means that it has just ended by itself.
		_ = c.server.Process.Signal(signal)
		select {
		case <-c.exited:
		case <-time.After(patience):
			return fmt.Errorf("stop server: still running %s after a %s shutdown; its log:\n%s", patience, mode, c.logTail())
		}
	}
	c.server = nil
	return c.forget(serverPID)
}

// running reports whether the server's process exists. The caller holds mu.
func (c *Cluster) running() bool {
	if c.server == nil {
		return false
	}
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// ready connects once and notes the server's version.
func (c *Cluster) ready(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&c.version)
}

// logTo lets cmd write to the log while start starts it. Our own output must not be inherited: go test waits until
// nobody holds that open any more.
func (c *Cluster) logTo(cmd *exec.Cmd, start func() error) error {
	log, err := os.OpenFile(c.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	return start()
}

// logTail returns the end of the server's log, enough to see why it did not start.
func (c *Cluster) logTail() string {
	const enough = 4096
	log, err := os.ReadFile(c.logFile())
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(log[max(0, len(log)-enough):]))
}

// appendFile appends text to an existing file, leaving its owner and mode as they are.
func appendFile(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
