package pgtest

import (
	"fmt"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestMain(m *testing.M) {
	if child := os.Getenv(childMode); child != "" {
		beChild(child)
	}
	Main(m)
}

func TestDatabasesAreSeparateAndDropped(t *testing.T) {
	t.Parallel()
	admin := Conn(t, Database(t))
	var names []string
	t.Run("group", func(t *testing.T) {
		for range 4 {
			conn := Conn(t, Database(t))
			names = append(names, conn.Config().Database)
			t.Run("parallel", func(t *testing.T) {
				t.Parallel()
				Exec(t, conn, "CREATE TABLE same_name (n int); INSERT INTO same_name SELECT generate_series(1, 10)")
				if n := Int(t, conn, "SELECT count(*) FROM same_name WHERE n > $1", 7); n != 3 {
					t.Errorf("got %d rows, want 3", n)
				}
			})
		}
		if n := Int(t, admin, "SELECT count(*) FROM pg_database WHERE datname = ANY($1)", names); n != 4 {
			t.Errorf("%d of the databases %q exist, want 4", n, names)
		}
		// Still open to its database when that is dropped.
		_, err := pgx.Connect(t.Context(), Database(t))
		if err != nil {
			t.Error(err)
		}
	})
	if n := Int(t, admin, "SELECT count(*) FROM pg_database WHERE datname = ANY($1)", names); n != 0 {
		t.Errorf("%d of the databases %q are left", n, names)
	}
}

func TestExecPutsArgumentsIntoSeveralStatements(t *testing.T) {
	t.Parallel()
	conn := Conn(t, Database(t))
	Exec(t, conn, "CREATE TABLE a (n int); INSERT INTO a VALUES ($1); INSERT INTO a VALUES ($1 + 1)", 41)
	if n := Int(t, conn, "SELECT sum(n) FROM a"); n != 83 {
		t.Errorf("got a sum of %d, want 83", n)
	}
}

func TestRoleMayLogInAndIsDropped(t *testing.T) {
	t.Parallel()
	url := Database(t)
	conn := Conn(t, url)
	var name string
	t.Run("use", func(t *testing.T) {
		var asRole string
		name, asRole = Role(t, conn, url)
		Exec(t, conn, "CREATE TABLE secret (n int); CREATE TABLE granted (n int); GRANT SELECT ON granted TO "+name)
		role, err := pgx.Connect(t.Context(), asRole)
		if err != nil {
			t.Fatal(err)
		}
		if user := role.Config().User; user != name {
			t.Errorf("connected as %q, want %q", user, name)
		}
		if n := Int(t, role, "SELECT count(*) FROM granted"); n != 0 {
			t.Errorf("got %d rows, want none", n)
		}
		if _, err := role.Exec(t.Context(), "SELECT FROM secret"); err == nil {
			t.Error("the role reads a table that was not granted to it")
		}
		// A session that keeps a lock must not be in the way of the cleanup.
		Exec(t, role, "BEGIN; LOCK TABLE granted IN ACCESS SHARE MODE")
	})
	if n := Int(t, conn, "SELECT count(*) FROM pg_roles WHERE rolname = $1", name); n != 0 {
		t.Errorf("role %s is left", name)
	}
}

func TestDatabaseIsCreatedOnTheServerOfTheEnvironment(t *testing.T) {
	c := Private(t, Options{TCP: true})
	for _, test := range []struct{ name, url string }{
		{"socket", c.URL("postgres")},
		{"TCP", c.TCPURL("postgres")},
		{"keywords", fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", c.Dir, c.port)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv(testURL, test.url)
			conn := Conn(t, Database(t))
			if n := Int(t, conn, "SELECT count(*) FROM pg_settings WHERE name = 'unix_socket_directories' AND setting = $1", c.Dir); n != 1 {
				t.Error("the database is on another server")
			}
			if conn.Config().Database == "postgres" {
				t.Error("connected to the given database, want a new one")
			}
		})
	}
}

func TestConnectionStringKeepsTheRest(t *testing.T) {
	for _, test := range []struct{ name, in, database, user string }{
		{
			"URL",
			"postgres://a:b@h:1/x?sslmode=disable",
			"postgres://a:b@h:1/new?sslmode=disable",
			"postgres://new:new@h:1/x?sslmode=disable",
		},
		{
			"URL with everything as parameters",
			"postgresql:///?host=%2Fs&dbname=x&user=a&password=b",
			"postgresql:///new?host=%2Fs&password=b&user=a",
			"postgresql://new:new@/?dbname=x&host=%2Fs",
		},
		{
			"keywords",
			"host=/s dbname=x user=a",
			"host=/s dbname=x user=a dbname=new",
			"host=/s dbname=x user=a user=new password=new",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := withDatabase(test.in, "new"); got != test.database {
				t.Errorf("with another database: got %s, want %s", got, test.database)
			}
			if got := withUser(test.in, "new", "new"); got != test.user {
				t.Errorf("with another user: got %s, want %s", got, test.user)
			}
		})
	}
}
