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

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

// leftBehind looks at what a run may have left on the server's connection that
// the asking client is given: settings but those that PgBouncer sets for each,
// prepared statements and locks.
const leftBehind = `
SELECT coalesce(string_agg(what, ', '), '') FROM (
  SELECT 'setting ' || name || '=' || setting FROM pg_settings WHERE source = 'session'
    AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', 'standard_conforming_strings')
  UNION ALL SELECT 'prepared statement ' || name FROM pg_prepared_statements WHERE name <> ''
  UNION ALL SELECT locktype || ' lock' FROM pg_locks
    WHERE pid = pg_backend_pid() AND locktype NOT IN ('relation', 'virtualxid') OR locktype = 'advisory'
) AS found(what)`

func TestPoolerInBetween(t *testing.T) {
	for _, mode := range []string{"session", "transaction"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			cluster := pgtest.Private(t, pgtest.Options{TCP: true})
			url := cluster.URL("postgres")
			conn := pgtest.Conn(t, url)
			table(t, conn, 3_000)
			pooled := pgbouncer(t, cluster.TCPURL("postgres"), mode, "default_pool_size = 4")

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
					direct := newSetup(t, url) // its lock is the same
					second = direct.run(t)
				}
			}
			want(t, first.run(t), cleanup.OutcomeComplete, 3_000)
			wantKind(t, second, cleanup.Incomplete)

			// Each of the clients holds one of the pooler's connections, which go by TCP:
			// all are seen.
			pgtest.Eventually(t, "the pooler's connections to be idle", func() bool {
				return pgtest.Int(t, conn, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'message-cleanup' AND state <> 'idle'") == 0
			})
			pids, clients := map[int64]bool{}, []*pgx.Conn{}
			for range pgtest.Int(t, conn, "SELECT least(4, count(*)) FROM pg_stat_activity WHERE client_addr IS NOT NULL") {
				client := pgtest.Conn(t, pooled+"&default_query_exec_mode=exec")
				var left string
				if err := client.QueryRow(t.Context(), leftBehind).Scan(&left); err != nil {
					t.Fatal(err)
				}
				if left != "" {
					t.Errorf("left behind: %s", left)
				}
				pgtest.Exec(t, client, "BEGIN")
				pids[pgtest.Int(t, client, "SELECT pg_backend_pid()")] = true
				clients = append(clients, client)
			}
			if len(pids) < 3 {
				t.Errorf("%d connections of the pooler were looked at: the run had more", len(pids))
			}
			for _, client := range clients {
				_ = client.Close(t.Context())
			}
			want(t, newSetup(t, pooled).run(t), cleanup.OutcomeComplete, 0)
		})
	}
}

func TestTwoRunsAtOnceThroughATransactionPoolerWithoutLockCountEachRowOnce(t *testing.T) {
	eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
		cluster := pgtest.Private(t, pgtest.Options{TCP: true})
		conn := pgtest.Conn(t, cluster.URL("postgres"))
		table(t, conn, 10_000)
		pooled := pgbouncer(t, cluster.TCPURL("postgres"), "transaction", "default_pool_size = 3") // fewer than are asked for
		results := make(chan cleanup.PolicyResult)
		for range 2 {
			go func() {
				s := newSetup(t, pooled)
				s.policy.Strategy, s.locked, s.runner.Workers, s.runner.BatchMaxRows = strategy, false, 2, 200
				results <- s.run(t)
			}()
		}
		a, b := <-results, <-results
		if a.Err != nil || b.Err != nil {
			t.Fatal(a.Err, b.Err)
		}
		if left := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); a.Deleted+b.Deleted != 10_000 || left != 10_000 {
			t.Errorf("%d and %d rows are reported, 10,000 were expired; %d are left, want 10,000", a.Deleted, b.Deleted, left)
		}
	})
}

func TestWhatAPoolerRefusesIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{TCP: true})
	conn := pgtest.Conn(t, cluster.URL("postgres"))
	table(t, conn, 100)
	cases := []struct {
		name, mode, line, parameter string
		kind                        cleanup.Kind
		text, hint                  string
	}{
		{"statement mode", "statement", "", "", cleanup.Configuration, "transaction blocks not allowed", "pool_mode"},
		{"a start-up parameter", "transaction", "", "&statement_timeout=1000", cleanup.Configuration, "statement_timeout", "ignore_startup_parameters"},
		{"options", "transaction", "", "&options=-csearch_path%3Dchat", cleanup.Configuration, "options", "ignore_startup_parameters"},
		{"a pool of one connection", "transaction", "default_pool_size = 1\nquery_wait_timeout = 1", "", cleanup.Incomplete, "query_wait_timeout", "pool_size"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newSetup(t, pgbouncer(t, cluster.TCPURL("postgres"), c.mode, c.line)+c.parameter)
			waited := 0
			s.opts.Waiting = func(error, time.Duration) { waited++ }
			r := s.run(t)
			wantKind(t, r, c.kind)
			if !strings.Contains(r.Err.Error(), c.text) || !strings.Contains(cleanup.HintOf(r.Err), c.hint) || r.Deleted != 0 || r.Retries != 0 || waited != 0 {
				t.Errorf("%v (%s), %d rows deleted, %d retries, %d waits; want %q with hint %q at once", r.Err, cleanup.HintOf(r.Err), r.Deleted, r.Retries, waited, c.text, c.hint)
			}
			if left := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); left != 200 {
				t.Errorf("%d rows are left, want 200", left)
			}
		})
	}
	t.Run("a start-up parameter that it ignores", func(t *testing.T) {
		s := newSetup(t, pgbouncer(t, cluster.TCPURL("postgres"), "transaction", "ignore_startup_parameters = statement_timeout")+"&statement_timeout=1")
		want(t, s.run(t), cleanup.OutcomeComplete, 100)
	})
}

// pgbouncer starts a pooler before the server, with more lines in its
// configuration, and returns the address through it.
func pgbouncer(t *testing.T, serverURL, mode, lines string) string {
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
pool_mode = %s
logfile = %s
%s
`, server.Host, server.Port, server.User, port, mode, filepath.Join(dir, "log"), lines)
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
