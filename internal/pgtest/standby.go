package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// Standby starts a streaming replica of the cluster's server: a copy by pg_basebackup, with a directory and a watchdog
// of its own. name is what pg_stat_replication on the primary calls it. It lives as Start says, and is closed
// separately, either of the two first.
func (c *Cluster) Standby(ctx context.Context, name string) (*Cluster, error) {
	if _, err := os.Stat(filepath.Join(c.bin, "pg_basebackup")); err != nil {
		return nil, fmt.Errorf("copy the primary: %w", err)
	}
	s := &Cluster{bin: c.bin, port: c.port, user: c.user}
	var err error
	if s.Dir, err = makeDir(c.user); err != nil {
		return nil, err
	}
	if s.watchdog, err = watch(s.Dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.Dir))
	}
	if err = s.copyFrom(c, name); err == nil {
		err = s.startServer(ctx)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// copyFrom fills the data directory from a running primary.
func (c *Cluster) copyFrom(primary *Cluster, name string) error {
	q := url.Values{"host": {primary.Dir}, "port": {strconv.Itoa(primary.port)}, "application_name": {name}}
	source := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/", RawQuery: q.Encode()}
	// Like initdb, and for the same reasons, it is known to the watchdog and writes into a file.
	backup := c.command("pg_basebackup", initdbPID, "-d", source.String(), "-D", c.data(),
		"--write-recovery-conf", "--checkpoint=fast", "--no-sync")
	if err := c.logTo(backup, backup.Run); err != nil {
		return fmt.Errorf("run pg_basebackup: %w; its output:\n%s", err, c.logTail())
	}
	if err := c.forget(initdbPID); err != nil {
		return err
	}
	// Of two lines for one setting, the last one counts.
	return appendFile(filepath.Join(c.data(), "postgresql.conf"), setting("listen_addresses", "")+setting("unix_socket_directories", c.Dir))
}

// Standby starts a standby of a cluster for this test. It is closed at cleanup. Where PG_BIN names a directory without
// pg_basebackup, as of binaries that are packed for tests, the test is skipped.
func Standby(t testing.TB, primary *Cluster, name string) *Cluster {
	t.Helper()
	s, err := primary.Standby(context.Background(), name)
	if errors.Is(err, fs.ErrNotExist) && os.Getenv("PG_BIN") != "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
