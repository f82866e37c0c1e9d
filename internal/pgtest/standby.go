package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Standby starts a streaming replica of the cluster's server, with a directory and a watchdog of its own. name is what
// pg_stat_replication on the primary calls it. It lives as Start says, and is closed separately, either of the two
// first.
func (c *Cluster) Standby(ctx context.Context, name string) (*Cluster, error) {
	s := &Cluster{bin: c.bin, port: c.port, user: c.user}
	var err error
	if s.Dir, err = makeDir(c.user); err != nil {
		return nil, err
	}
	if s.watchdog, err = watch(s.Dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.Dir))
	}
	if err = s.copyFrom(ctx, c, name); err == nil {
		err = s.startServer(ctx)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// copyFrom fills the data directory from a running primary, as pg_basebackup does it, which binaries that are packed
// for tests do not have. What the copy misses of the log it gets by streaming.
func (c *Cluster) copyFrom(ctx context.Context, primary *Cluster, name string) error {
	// In PostgreSQL 15 the functions got new names, and lost the exclusive way.
	begin, end := "SELECT pg_backup_start('standby', true)", "SELECT labelfile FROM pg_backup_stop(false)"
	if primary.ServerVersion() < 150000 {
		begin, end = "SELECT pg_start_backup('standby', true, false)", "SELECT labelfile FROM pg_stop_backup(false, false)"
	}
	conn, err := pgx.Connect(ctx, primary.URL("postgres"))
	if err != nil {
		return fmt.Errorf("copy the primary: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, begin); err != nil {
		return fmt.Errorf("copy the primary: %w", err)
	}
	if err := c.copyFiles(primary.data()); err != nil {
		return fmt.Errorf("copy the primary: %w", err)
	}
	var label string
	if err := conn.QueryRow(ctx, end).Scan(&label); err != nil {
		return fmt.Errorf("copy the primary: %w", err)
	}
	source := fmt.Sprintf("user=%s host=%s port=%d application_name=%s", superuser, primary.Dir, primary.port, name)
	// Of two lines for one setting, the last one counts.
	conf := setting("listen_addresses", "") + setting("unix_socket_directories", c.Dir) + setting("primary_conninfo", source)
	return errors.Join(
		c.writeFile("backup_label", strings.NewReader(label)),
		c.writeFile("standby.signal", strings.NewReader("")),
		appendFile(filepath.Join(c.data(), "postgresql.conf"), conf))
}

// copyFiles copies a data directory that is in use: files come and go meanwhile. What belongs to the running server,
// and the slots, are not copied.
func (c *Cluster) copyFiles(source string) error {
	return filepath.WalkDir(source, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		if strings.HasPrefix(name, "postmaster.") || strings.HasPrefix(name, "pg_replslot/") {
			return nil
		}
		if entry.IsDir() {
			if err := os.Mkdir(filepath.Join(c.data(), name), 0o700); err != nil {
				return err
			}
			return c.own(filepath.Join(c.data(), name))
		}
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer file.Close()
		return c.writeFile(name, file)
	})
}

// writeFile makes a file of the data directory.
func (c *Cluster) writeFile(name string, content io.Reader) error {
	path := filepath.Join(c.data(), name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close(), c.own(path))
}

// own gives a file to the server's user.
func (c *Cluster) own(path string) error {
	if c.user == nil {
		return nil
	}
	return os.Chown(path, int(c.user.Uid), int(c.user.Gid))
}

// Standby starts a standby of a cluster for this test. It is closed at cleanup.
func Standby(t testing.TB, primary *Cluster, name string) *Cluster {
	t.Helper()
	s, err := primary.Standby(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}
