// Package pgtest gives every test a PostgreSQL database of its own, on a throw-away cluster made from the installed
// binaries.
//
// A package that tests against PostgreSQL has one line of preparation:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// and each of its tests begins with
//
//	url := pgtest.Database(t)
//	conn := pgtest.Conn(t, url)
//
// The cluster starts when the first test asks for a database and is shared by the test binary. Nothing of it stays
// behind, no process and no file, even if the test binary is killed. Tests that stop or reconfigure the server use
// Private. The demo and the benchmark use Start and Messages; nothing that is shipped imports this package.
//
// Environment: PG_BIN names the directory of the server binaries to use; MESSAGE_CLEANUP_TEST_URL names a running
// server on which Database shall create its databases instead, as a role that may do so.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// testURL is the environment variable that names a server to use instead of starting one.
const testURL = "MESSAGE_CLEANUP_TEST_URL"

// statementLimit is for a statement of a test. It is generous because filling a table under the race detector on a
// busy machine takes its time; what exceeds it hangs.
const statementLimit = 2 * time.Minute

// shared is the test binary's cluster, started on first use. A failure is kept as well: every test shall report it
// rather than try again.
var shared struct {
	sync.Mutex
	cluster *Cluster
	err     error
}

// Main runs the tests and exits. It is for TestMain.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main without the exit, for a TestMain that has more to do. It returns the exit status.
func Run(m interface{ Run() int }) int {
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster != nil {
		shared.cluster.Close()
		shared.cluster = nil
	}
	return code
}

// Database creates an empty database for the test and returns its URL as superuser. It is dropped at cleanup, along
// with the connections that are still open to it. Any number of tests may run in parallel.
func Database(t testing.TB) string {
	t.Helper()
	admin, err := adminURL()
	if err != nil {
		t.Fatal(err)
	}
	name := uniqueName("pgtest")
	database := pgx.Identifier{name}.Sanitize()
	// Nobody can connect to template0, so copies of it do not get into each other's way. Autovacuum can, to
	// prevent wraparound, and a server that is not ours may do more: hence the retry.
	Eventually(t, "template0 to be free", func() bool {
		err := runOnce(admin, "CREATE DATABASE "+database+" TEMPLATE template0")
		if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "55006" {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		return true
	})
	t.Cleanup(func() {
		if err := runOnce(admin, "DROP DATABASE IF EXISTS "+database+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return withDatabase(admin, name)
}

// adminURL returns where databases are created: the server of MESSAGE_CLEANUP_TEST_URL, or the shared cluster.
func adminURL() (string, error) {
	if u := os.Getenv(testURL); u != "" {
		return u, nil
	}
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil && shared.err == nil {
		shared.cluster, shared.err = Start(context.Background(), Options{})
	}
	if shared.err != nil {
		return "", shared.err
	}
	return shared.cluster.URL("postgres"), nil
}

// Private starts a cluster for this test alone, which may stop, kill and reconfigure the server. It is closed at
// cleanup. Where there are no binaries the test is skipped if MESSAGE_CLEANUP_TEST_URL is set, and fails otherwise.
func Private(t testing.TB, o Options) *Cluster {
	t.Helper()
	c, err := Start(context.Background(), o)
	if errors.Is(err, errNoBinaries) && os.Getenv(testURL) != "" {
		t.Skipf("this test needs a server of its own, which %s cannot be: %v", testURL, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Conn connects to url. The connection is closed at cleanup.
func Conn(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	// Not the test's context: that is cancelled before the cleanup functions run, which may need connections.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// Exec runs one or more statements separated by semicolons; together they are one transaction unless they say
// otherwise. Arguments are put in place of $1, $2 and so on in all of them.
func Exec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), statementLimit)
	defer cancel()
	if _, err := conn.Exec(ctx, sql, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...); err != nil {
		t.Fatalf("%v\nin: %s", err, sql)
	}
}

// Int returns the single integer that a query yields.
func Int(t testing.TB, conn *pgx.Conn, sql string, args ...any) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), statementLimit)
	defer cancel()
	var n int64
	if err := conn.QueryRow(ctx, sql, args...).Scan(&n); err != nil {
		t.Fatalf("%v\nin: %s", err, sql)
	}
	return n
}

// Eventually waits until ok returns true, and fails the test when it has not after 30 seconds. It is for waiting on
// what the database shows, in place of a sleep of hopefully the right length. What completes "waiting for".
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	const limit = 30 * time.Second
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(pollInterval) {
		if time.Now().After(deadline) {
			t.Fatalf("gave up after %s waiting for %s", limit, what)
		}
	}
}

// Role creates a role that may log in and nothing else, and returns its name and url with this role as the user.
// What it owns and what was granted to it in conn's database is dropped with it at cleanup.
func Role(t testing.TB, conn *pgx.Conn, url string) (name, urlAsRole string) {
	t.Helper()
	name = uniqueName("pgtest_role")
	role := pgx.Identifier{name}.Sanitize()
	// The password is for servers that are not ours; the name is long enough to be one.
	Exec(t, conn, "CREATE ROLE "+role+" LOGIN PASSWORD '"+name+"'")
	admin := conn.Config().ConnString()
	t.Cleanup(func() {
		// By a connection of its own, since the test may have left conn in any state. The role's sessions are ended
		// first, and what comes then waits until their locks are gone. A private server may be stopped by now.
		err := runOnce(admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+name+"';"+
			"DROP OWNED BY "+role+"; DROP ROLE "+role)
		if _, stopped := errors.AsType[*pgconn.ConnectError](err); err != nil && !stopped {
			t.Error(err)
		}
	})
	return name, withUser(url, name, name)
}

// uniqueName returns a name that needs no quoting and that no other test, in this or another test binary, has.
func uniqueName(prefix string) string {
	return prefix + "_" + strings.ToLower(rand.Text()[:16])
}

// runOnce runs statements on a connection of their own.
func runOnce(url, sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%w\nin: %s", err, sql)
	}
	return nil
}

// withDatabase returns a connection string that differs from conn in the database only.
func withDatabase(conn, database string) string {
	return rewrite(conn, "dbname="+database, func(u *url.URL, q url.Values) {
		q.Del("dbname")
		u.Path = "/" + database
	})
}

// withUser returns a connection string that differs from conn in user and password only.
func withUser(conn, user, password string) string {
	return rewrite(conn, "user="+user+" password="+password, func(u *url.URL, q url.Values) {
		q.Del("user")
		q.Del("password")
		u.User = url.UserPassword(user, password)
	})
}

// rewrite changes a connection string in either of PostgreSQL's two forms: of keywords, the last of a kind counts; a
// URL is edited.
func rewrite(conn, keywords string, edit func(*url.URL, url.Values)) string {
	u, err := url.Parse(conn)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return conn + " " + keywords
	}
	q := u.Query()
	edit(u, q)
	u.RawQuery = q.Encode()
	return u.String()
}
