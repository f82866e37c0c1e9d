package postgres_test

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

func TestTransactionPoolerInBetween(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{TCP: true})
	url := cluster.URL("postgres")
	conn := pgtest.Conn(t, url)
	table(t, conn, 3_000)
	pooled := pgbouncer(t, cluster.TCPURL("postgres"))

	for address, want := range map[string]bool{url: false, pooled: true} {
		db, err := postgres.Open(t.Context(), postgres.Options{URL: address, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if server, err := db.Server(t.Context(), time.Now); err != nil || server.Pooled != want {
			t.Errorf("a pooler in between: %v, want %v (%v)", server.Pooled, want, err)
		} else if findings, err := db.CheckServer(t.Context(), server, time.Minute, time.Second); err != nil || (len(findings) == 1 && findings[0].Name == "pooler") != want {
			t.Errorf("a pooler in between: %v, check finds %+v (%v)", want, findings, err)
		}
		db.Close()
	}

	first := newSetup(t, pooled)
	var second cleanup.PolicyResult
	first.runner.Progress = func(p cleanup.Progress) {
		if p.Batches == 2 {
			second = newSetup(t, pooled).run(t)
		}
	}
	want(t, first.run(t), cleanup.OutcomeComplete, 3_000)
	wantKind(t, second, cleanup.Incomplete) // the lock holds, through the pooler too
	pgtest.Eventually(t, "the pooler's connections to be without locks", func() bool {
		return pgtest.Int(t, conn, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
	})
	want(t, newSetup(t, pooled).run(t), cleanup.OutcomeComplete, 0)
}

// pgbouncer starts a pooler in transaction mode before the server, and returns
// the address through it.
func pgbouncer(t *testing.T, serverURL string) string {
	binary, err := exec.LookPath("pgbouncer")
	if err != nil {
		binary = "/usr/sbin/pgbouncer"
	}
	if _, err := os.Stat(binary); err != nil {
		t.Skip("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
	}
	server := pgtest.Conn(t, serverURL).Config()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()

	dir := t.TempDir()
	config := filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf(`[databases]
postgres = host=%s port=%d user=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 5
logfile = %s
`, server.Host, server.Port, server.User, port, filepath.Join(dir, "log"))
	for path := dir; path != "/" && path != os.TempDir(); path = filepath.Dir(path) {
		_ = os.Chmod(path, 0o777)
	}
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, config)
	if os.Geteuid() == 0 {
		cmd = exec.Command(binary, "--user", "nobody", config)
	}
	output := &strings.Builder{}
	cmd.Stderr = output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address := fmt.Sprintf("127.0.0.1:%d", port)
	pgtest.Eventually(t, "pgbouncer to listen", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable", server.User, address)
}
