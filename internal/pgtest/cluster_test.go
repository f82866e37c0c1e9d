package pgtest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestServerStopsAndStartsOnTheSameData(t *testing.T) {
	t.Parallel()
	c := Private(t, Options{})
	for _, mode := range []string{"fast", "immediate"} {
		t.Run(mode, func(t *testing.T) {
			conn := Conn(t, c.URL("postgres"))
			Exec(t, conn, "CREATE TABLE IF NOT EXISTS kept (mode text); INSERT INTO kept VALUES ($1)", mode)
			if err := c.Stop(mode); err != nil {
				t.Fatal(err)
			}
			if err := conn.Ping(t.Context()); err == nil {
				t.Error("the server still answers")
			}
			if err := c.Stop(mode); err != nil {
				t.Errorf("stop a stopped server: %v", err)
			}
			if err := c.StartServer(); err != nil {
				t.Fatal(err)
			}
			if err := c.StartServer(); err == nil {
				t.Error("a running server was started again")
			}
			if n := Int(t, Conn(t, c.URL("postgres")), "SELECT count(*) FROM kept WHERE mode = $1", mode); n != 1 {
				t.Errorf("got %d rows after the restart, want 1", n)
			}
		})
	}
	if err := c.Stop("smart"); err == nil {
		t.Error("an unknown mode was accepted")
	}
}

func TestSettingsOverrideOurs(t *testing.T) {
	t.Parallel()
	c := Private(t, Options{TCP: true, Settings: map[string]string{"max_connections": "7", "cluster_name": `it's a \ test`}})
	conn := Conn(t, c.TCPURL("postgres"))
	if n := Int(t, conn, "SELECT current_setting('max_connections')::int"); n != 7 {
		t.Errorf("got max_connections %d, want 7", n)
	}
	if n := Int(t, conn, "SELECT count(*) FROM pg_settings WHERE name = 'cluster_name' AND setting = $1", `it's a \ test`); n != 1 {
		t.Error("a setting with special characters has not arrived")
	}
	if n := Int(t, conn, "SELECT current_setting('server_version_num')::int"); int(n) != c.ServerVersion() {
		t.Errorf("got server version %d, want %d", c.ServerVersion(), n)
	}
}

func TestServerThatDoesNotStartShowsItsLogAndLeavesNothing(t *testing.T) {
	parent := shortTempDir(t)
	t.Setenv("TMPDIR", parent)
	if _, err := findBinaries(""); err != nil {
		t.Skip(err)
	}
	_, err := Start(context.Background(), Options{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Errorf("got error %v, want the server's own words", err)
	}
	expired, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Start(expired, Options{}); err == nil {
		t.Error("started with an expired context")
	}
	if left := list(t, parent); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestCloseRemovesEverything(t *testing.T) {
	t.Parallel()
	c := Private(t, Options{})
	c.Close()
	c.Close()
	if _, err := os.Stat(c.Dir); !os.IsNotExist(err) {
		t.Errorf("the directory is left: %v", err)
	}
}

func TestNewestPackagedBinariesComeFirst(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"usr/lib/postgresql/9.6/bin", "usr/lib/postgresql/15/bin", "usr/pgsql-9/bin", "usr/pgsql-17/bin"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	got := packagedBinaries(root)
	for i, want := range []string{"usr/pgsql-17/bin", "usr/lib/postgresql/15/bin", "usr/pgsql-9/bin", "usr/lib/postgresql/9.6/bin"} {
		if i >= len(got) || got[i] != filepath.Join(root, want) {
			t.Fatalf("got %q, want %s at place %d", got, want, i)
		}
	}
}

func TestBinariesAskedForAreNotReplacedByOthers(t *testing.T) {
	t.Setenv("PG_BIN", t.TempDir())
	if dir, err := findBinaries(""); err == nil {
		t.Errorf("PG_BIN is empty, and %s was used instead", dir)
	}
	if _, err := findBinaries(t.TempDir()); err == nil {
		t.Error("an empty directory was accepted")
	}
}
