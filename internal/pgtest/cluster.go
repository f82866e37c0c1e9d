package pgtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// superuser is the cluster's bootstrap superuser.
	superuser = "postgres"

	// patience is how long a server may take to start or to stop. Both take a fraction of a second; a machine
	// that is busy with other test binaries may need far longer.
	patience = time.Minute

	// pollInterval is short against everything that is waited for here.
	pollInterval = 10 * time.Millisecond
)

// Options say how a cluster differs from the usual one.
type Options struct {
	// Settings are server settings by name, such as "wal_level": "logical". They win over the package's own.
	Settings map[string]string

	// TCP makes the server also listen on a free port of 127.0.0.1. Whoever has an account on the machine can
	// then log in as superuser as long as the cluster runs.
	TCP bool

	// BinDir holds the server binaries; empty means PG_BIN, then PATH, then the newest installed package.
	BinDir string
}

// Cluster is a throw-away server. Its methods may be called from several goroutines.
type Cluster struct {
	// Dir belongs to the cluster and disappears with it: "data" is the data directory, "log" the server's log.
	// The Unix socket is here as well. Only the user who runs the server, and root, can enter it.
	Dir string

	bin      string // where initdb and postgres are
	port     int    // of the TCP address, and part of the socket's name
	tcp      bool
	user     *syscall.Credential // nil: the user of this process
	watchdog *watchdog
	close    sync.Once

	mu      sync.Mutex
	server  *exec.Cmd     // nil: stopped
	exited  chan struct{} // closed when server has ended
	version int
}

// Start creates a cluster and starts its server, which takes about a second. The server accepts everyone as anyone
// (trust authentication) and is tuned to be fast and small rather than to keep data.
//
// The cluster lives until Close or the end of this process, however that comes about; ctx only limits how long Start
// waits for the server.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	bin, err := findBinaries(o.BinDir)
	if err != nil {
		return nil, err
	}
	user, err := serverUser()
	if err != nil {
		return nil, err
	}
	// A port that was free a moment ago may be taken by now, so a second and third choice are allowed.
	for attempt := 1; ; attempt++ {
		c, err := start(ctx, bin, user, o)
		if err == nil || attempt == 3 || !strings.Contains(err.Error(), "could not create any TCP/IP sockets") {
			return c, err
		}
	}
}

func start(ctx context.Context, bin string, user *syscall.Credential, o Options) (*Cluster, error) {
	c := &Cluster{bin: bin, tcp: o.TCP, port: 5432, user: user}
	if c.tcp {
		var err error
		if c.port, err = freePort(); err != nil {
			return nil, err
		}
	}
	var err error
	if c.Dir, err = makeDir(user); err != nil {
		return nil, err
	}
	// From here on nothing stays behind, whatever happens.
	if c.watchdog, err = watch(c.Dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(c.Dir))
	}
	if err = c.initialize(o.Settings); err == nil {
		err = c.startServer(ctx)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// initialize fills the data directory and writes the configuration.
func (c *Cluster) initialize(settings map[string]string) error {
	initdb := c.command("initdb", initdbPID, "-D", c.data(), "-U", superuser,
		"-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	// It is never interrupted, as that leaves shared memory behind, and takes less than a second.
	// Its output goes into a file: a pipe would break with this process, and initdb with the pipe.
	if err := c.logTo(initdb, initdb.Run); err != nil {
		return fmt.Errorf("run initdb: %w; its output:\n%s", err, c.logTail())
	}
	if err := c.forget(initdbPID); err != nil {
		return err
	}

	all := map[string]string{
		"listen_addresses":        "",
		"port":                    strconv.Itoa(c.port),
		"unix_socket_directories": c.Dir,
		"max_connections":         "200",
		"shared_buffers":          "64MB",
		"fsync":                   "off",
		"full_page_writes":        "off",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"password_encryption":     "scram-sha-256", // PostgreSQL 13 takes md5
	}
	if c.tcp {
		all["listen_addresses"] = "127.0.0.1"
	}
	maps.Copy(all, settings)
	var conf strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		conf.WriteString(setting(name, all[name]))
	}
	return appendFile(filepath.Join(c.data(), "postgresql.conf"), conf.String())
}

// setting writes a line of postgresql.conf.
func setting(name, value string) string {
	return fmt.Sprintf("%s = '%s'\n", name, strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(value))
}

// command prepares one of the server's programs: as the server's user, in a session of its own so that ^C in the
// terminal does not reach it before the tests have ended, and known to the watchdog by pidFile.
func (c *Cluster) command(name, pidFile string, args ...string) *exec.Cmd {
	args = append([]string{"-c", childScript, filepath.Join(c.Dir, pidFile), filepath.Join(c.bin, name)}, args...)
	cmd := exec.Command("/bin/sh", args...)
	cmd.Dir = c.Dir // the server's user may not be able to enter the current directory
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: c.user}
	for _, kv := range os.Environ() {
		// PGPORT, PGTZ and their like would change the server. Its messages are read here, so they are English.
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") && !strings.HasPrefix(kv, "LANG") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	return cmd
}

// forget removes the record of a process that has ended. Its process id may soon be another process's, which the
// watchdog must not harm.
func (c *Cluster) forget(pidFile string) error {
	if err := os.Remove(filepath.Join(c.Dir, pidFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget ended process: %w", err)
	}
	return nil
}

func (c *Cluster) data() string    { return filepath.Join(c.Dir, "data") }
func (c *Cluster) logFile() string { return filepath.Join(c.Dir, "log") }

// URL returns the address of database for the superuser over the Unix socket.
func (c *Cluster) URL(database string) string {
	q := url.Values{"host": {c.Dir}, "port": {strconv.Itoa(c.port)}}
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + database, RawQuery: q.Encode()}
	return u.String()
}

// TCPURL is URL over 127.0.0.1. It panics unless the cluster was started with Options.TCP.
func (c *Cluster) TCPURL(database string) string {
	if !c.tcp {
		panic("pgtest: TCPURL of a cluster without Options.TCP")
	}
	host := net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port))
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Host: host, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// ServerVersion returns the server's version as server_version_num has it: 150004 for 15.4.
func (c *Cluster) ServerVersion() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version
}

// Close ends the server without ceremony and removes everything. It may be called more than once.
func (c *Cluster) Close() {
	c.close.Do(func() {
		if c.Stop("immediate") == nil {
			_ = os.RemoveAll(c.Dir)
		}
		// The watchdog tries again what has not worked, and finds nothing to do otherwise.
		c.watchdog.release()
	})
}

// Program returns the path of one of the server's programs, such as pgbench. It may not be installed.
func (c *Cluster) Program(name string) string { return filepath.Join(c.bin, name) }
