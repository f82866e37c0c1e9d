package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/pgtest"
)

// secret is the password wherever one can be.
const secret = "Hidden4711"

// passwordServer starts a server that asks the role cleaner for its password,
// which is the secret, and returns parameters to reach it.
func passwordServer(t *testing.T) (directory string, admin *pgx.Conn) {
	cluster := pgtest.Private(t, pgtest.Options{})
	conn := pgtest.Conn(t, cluster.URL("postgres"))
	pgtest.Exec(t, conn, "CREATE ROLE cleaner LOGIN PASSWORD '"+secret+"'")
	hba := filepath.Join(cluster.Dir, "data", "pg_hba.conf")
	if err := os.WriteFile(hba, []byte("local all postgres trust\nlocal all all scram-sha-256\n"), 0); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, conn, "SELECT pg_reload_conf()")
	without := strings.Replace(cluster.URL("postgres"), "postgres://postgres@", "postgres://cleaner@", 1)
	pgtest.Eventually(t, "the new pg_hba.conf to be in force", func() bool {
		conn, err := pgx.Connect(t.Context(), without)
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err != nil
	})
	return cluster.Dir, conn
}

// failure is one way to go wrong with a secret at hand. HERE in it stands for
// the directory of the files, SOCKET for that of the server's socket, and ~ for
// the secret.
type failure struct {
	name  string
	env   string            // variables, one in a line; files and arguments may do without
	files map[string]string // by their names; config.yaml is read if it is there
	args  []string          // in place of the command
	works bool              // a run does not fail
}

func url(name, url string) failure { return failure{name: name, env: "DATABASE_URL=" + url} }

var failures = []failure{
	// Nobody is there.
	url("a host that does not exist", "postgres://u:~@nohost.invalid/db"),
	url("nobody listens", "postgres://u:~@127.0.0.1:1/db"),
	url("nobody listens on two hosts", "postgres://u:~@127.0.0.1:1,127.0.0.1:2/db?target_session_attrs=read-write"),
	url("no socket", "postgres://u:~@/db?host=HERE"),
	url("keywords, nobody listens", "host=127.0.0.1 port=1 user=u password=~ dbname=db"),
	url("password as a parameter", "postgres://u@127.0.0.1:1/db?password=~"),
	url("a quoted password", `host=127.0.0.1 port=1 password='~ \' ~'`),

	// An address that is written wrongly.
	url("no port", "postgres://u:~@:port:/x"),
	url("a port out of range", "postgres://u:~@h:99999/db"),
	url("unescaped @", "postgres://u:x@~@127.0.0.1:1/db"),
	url("unescaped @ at the end", "postgres://u:~@~@127.0.0.1:1/db"),
	url("unescaped slash behind a number", "postgres://u:12/~@127.0.0.1:1/db"),
	url("unescaped slash", "postgres://u:~/~@127.0.0.1:1/db"),
	url("unescaped question mark", "postgres://u:x?~@127.0.0.1:1/db"),
	url("unescaped question mark and slash", "postgres://u:12?~/~@127.0.0.1:1/db"),
	url("unescaped hash", "postgres://u:x#~@127.0.0.1:1/db"),
	url("unescaped percent sign", "postgres://u:~%zz@127.0.0.1:1/db"),
	url("escaped colon", "postgres://u%3AS@127.0.0.1:1/db"),
	url("no host", "postgres://u:~"),
	url("no scheme", "u:~@127.0.0.1:1/db"),
	url("one slash", "postgres:/u:~@127.0.0.1:1/db"),
	url("scheme in upper case", "POSTGRES://u:~@127.0.0.1:1/db"),
	url("scheme in upper case with a parameter", "POSTGRES://u:~@127.0.0.1:1/db?sslmode=require"),
	url("another scheme", "mysql://u:~@127.0.0.1/db"),
	url("another scheme with a parameter", "mysql://u:~@SOCKET/db?ssl=true"),
	url("only a password", "~"),
	url("unescaped ampersand", "postgres://cleaner@/postgres?host=SOCKET&password=x&~"),
	url("unescaped ampersand and equals sign", "postgres://cleaner@/postgres?host=SOCKET&password=x&~=y"),
	url("open quote", "host=SOCKET password='~"),
	url("unquoted blank", "host=SOCKET password=x ~"),
	url("unquoted blank and equals sign", "host=SOCKET user=cleaner password=x ~=y"),
	url("text behind a quote", "host=SOCKET password='x'~"),
	url("password in upper case", "host=SOCKET user=cleaner PASSWORD=~"),
	url("a line break", "postgres://u:~@127.0.0.1:1/db\npassword=~"),

	// Parameters.
	url("unknown parameter", "postgres://cleaner:~@/postgres?host=SOCKET&sslmod=require"),
	url("misspelt password", "postgres://cleaner@/postgres?host=SOCKET&passwort=~"),
	url("unknown sslmode", "postgres://cleaner:~@h/postgres?sslmode=no"),
	url("no CA", "postgres://cleaner:~@h/postgres?sslrootcert=HERE/nosuch.crt"),
	url("a key without its certificate", "postgres://cleaner@h/postgres?sslpassword=~&sslkey=HERE/nosuch.key"),
	url("no key", "postgres://cleaner@h/postgres?sslpassword=~&sslkey=HERE/nosuch.key&sslcert=HERE/nosuch.crt"),
	url("unknown timeout", "postgres://cleaner:~@/postgres?host=SOCKET&connect_timeout=soon"),
	url("unknown target", "postgres://cleaner:~@/postgres?host=SOCKET&target_session_attrs=best"),
	url("a standby is asked for", "postgres://cleaner:~@/postgres?host=SOCKET&target_session_attrs=standby"),
	url("unknown method", "postgres://cleaner:~@/postgres?host=SOCKET&require_auth=magic"),
	url("another method", "postgres://cleaner:~@/postgres?host=SOCKET&require_auth=md5"),
	url("no channel binding", "postgres://cleaner:~@/postgres?host=SOCKET&channel_binding=require"),
	url("a parameter that is refused", "postgres://cleaner:~@/postgres?host=SOCKET&requirepeer=postgres"),
	{name: "a variable that is refused", env: "DATABASE_URL=postgres://cleaner:~@/postgres?host=SOCKET\nPGSSLCRL=revoked"},

	// The server says no.
	url("wrong password", "postgres://cleaner:wrong~@/postgres?host=SOCKET"),
	{name: "wrong password in a variable", env: "PGHOST=SOCKET\nPGUSER=cleaner\nPGDATABASE=postgres\nPGPASSWORD=wrong~"},
	{name: "wrong password in a file", env: "PGHOST=SOCKET\nPGUSER=cleaner\nPGDATABASE=postgres",
		files: map[string]string{".pgpass": "*:*:*:*:wrong~\n"}},
	{name: "open password file", env: "PGHOST=SOCKET\nPGUSER=cleaner\nPGDATABASE=postgres\nPGPASSFILE=HERE/open",
		files: map[string]string{"open": "*:*:*:*:~\n"}},
	{name: "wrong password in a service", env: "PGSERVICE=chat", files: map[string]string{".pg_service.conf": "[chat]\nhost=SOCKET\nuser=cleaner\npassword=wrong~\n"}},
	url("no such user", "postgres://nobody:~@/postgres?host=SOCKET"),
	url("no such database", "postgres://cleaner:~@/nosuch?host=SOCKET"),
	url("no right to the table", "postgres://cleaner:~@/postgres?host=SOCKET"),

	// Files.
	{name: "no such service", env: "PGSERVICE=nosuch", files: map[string]string{".pg_service.conf": "[chat]\npassword=~\n"}},
	{name: "a service file without a section", env: "PGSERVICE=chat", files: map[string]string{".pg_service.conf": "password=~\n"}},
	{name: "a service file without an equals sign", env: "PGSERVICE=chat", files: map[string]string{".pg_service.conf": "[chat]\npassword ~\n"}},
	{name: "credential with a wrong password", env: "CREDENTIALS_DIRECTORY=HERE", files: map[string]string{"database-url": "postgres://cleaner:wrong~@/postgres?host=SOCKET\n"}},
	{name: "credential of two lines", env: "CREDENTIALS_DIRECTORY=HERE", files: map[string]string{"database-url": "host=~\npassword=~\n"}},
	{name: "credential with a NUL", env: "CREDENTIALS_DIRECTORY=HERE", files: map[string]string{"database-url": "password=~\x00\n"}},
	{name: "credential that is a directory", env: "CREDENTIALS_DIRECTORY=HERE", files: map[string]string{"database-url/file": "~"}},
	{name: "credential in doubt", env: "CREDENTIALS_DIRECTORY=HERE", files: map[string]string{"database-url": "postgres://u:p@~@h\n"}},
	{name: "url in the file, nobody listens", files: map[string]string{"config.yaml": "database: {url: 'postgres://u:~@127.0.0.1:1/db'}\n"}},
	{name: "url in a file that everybody can write", files: map[string]string{"open.yaml": "database: {url: 'postgres://u:~@127.0.0.1:1/db'}\n"},
		args: []string{"run", "--config", "open.yaml"}},
	{name: "url where the section belongs", files: map[string]string{"config.yaml": "database: postgres://u:~@h\n"}},
	{name: "url that is a list", files: map[string]string{"config.yaml": "database: {url: [~]}\n"}},
	{name: "url without a colon", files: map[string]string{"config.yaml": "database:\n  url postgres://u:~@h\n"}},
	{name: "url with a tab", files: map[string]string{"config.yaml": "database:\n\turl: postgres://u:~@h\n"}},
	{name: "url that is a key", files: map[string]string{"config.yaml": "postgres://u:~@h: 1\n"}},
	{name: "url with an open quote", files: map[string]string{"config.yaml": "database: {url: 'postgres://u:~@h}\n"}},
	{name: "password as a key of its own", files: map[string]string{"config.yaml": "database: {url: 'postgres://u@h', password: ~}\n"}},
	{name: "url as a table", files: map[string]string{"config.yaml": "policies: [{table: 'postgres://u:~@h'}]\n"}},
	{name: "url without quotes in TOML", files: map[string]string{"config.toml": "[database]\nurl = postgres://u:~@h\n"}, args: []string{"run", "--config", "config.toml"}},
	{name: "url without quotes in JSON", files: map[string]string{"config.json": `{"database": {"url": postgres://u:~@h}}`}, args: []string{"run", "--config", "config.json"}},

	// The wrong place.
	{name: "an unknown variable", env: "MESSAGE_CLEANUP_DATABASE_PASSWORD=~"},
	{name: "url as a level", env: "MESSAGE_CLEANUP_LOG_LEVEL=postgres://u:~@h"},
	{name: "url as a duration", env: "MESSAGE_CLEANUP_BATCH_TARGET=host=h password=~"},
	{name: "url as an argument", args: []string{"run", "postgres://u:~@h/db"}},
	{name: "url as a command", args: []string{"postgres://u:~@h/db"}},
	{name: "url as a policy", args: []string{"run", "--policy", "postgres://u:~@h/db"}},
	{name: "url as a level on the command line", args: []string{"config", "--log-level", "postgres://u:~@h/db"}},
	{name: "url as an output", args: []string{"config", "--output", "postgres://u:~@h/db"}},
	{name: "url as a file", args: []string{"config", "--config", "postgres://u:~@h/db"}},
	{name: "url as a switch", args: []string{"run", "--dry-run=postgres://u:~@h/db"}},
	{name: "url as a flag", args: []string{"run", "--postgres://u:~@h/db"}},
	{name: "a flag for passwords", args: []string{"run", "--password=~"}},
	{name: "a short flag for passwords", args: []string{"run", "-pS"}},

	{name: "nothing fails", env: "DATABASE_URL=postgres://cleaner:~@/good?host=SOCKET", works: true},
}

func TestNoSecretIsShownHoweverARunFails(t *testing.T) {
	t.Parallel()
	socket, admin := passwordServer(t)
	pgtest.Exec(t, admin, "CREATE TABLE messages (expires_at timestamptz)")
	pgtest.Exec(t, admin, "CREATE DATABASE good OWNER cleaner")
	good := pgtest.Conn(t, "postgres://postgres@/good?host="+socket)
	pgtest.Exec(t, good, "CREATE TABLE messages AS SELECT now() AS expires_at; CREATE INDEX ON messages (expires_at); ALTER TABLE messages OWNER TO cleaner")

	var commands [][]string // all that there are, but the one that stays
	for _, command := range new(app).rootCommand().Commands() {
		if name := command.Name(); name != "schedule" && name != "help" && name != "completion" {
			for _, output := range []string{"text", "json"} {
				commands = append(commands, []string{name, "--output", output, "--log-level", "debug"})
			}
		}
	}
	for _, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			here := t.TempDir()
			fill := strings.NewReplacer("HERE", here, "SOCKET", socket, "~", secret)
			for name, content := range f.files {
				path := filepath.Join(here, name)
				mode := os.FileMode(0o600)
				if strings.HasPrefix(name, "open") {
					mode = 0o666
				}
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(fill.Replace(content)), mode); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, mode); err != nil {
					t.Fatal(err)
				}
			}
			tried := commands
			if f.args != nil {
				tried = [][]string{f.args}
			}
			for _, args := range tried {
				args = strings.Split(fill.Replace(strings.Join(args, "\n")), "\n")
				if f.args == nil && f.files["config.yaml"] != "" {
					args = append(args, "--config", "config.yaml")
				}
				cmd := exec.Command("message-cleanup", args...)
				cmd.Dir = here
				cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + here, "MESSAGE_CLEANUP_DATABASE_WAIT=0s", "GOTRACEBACK=all"}
				for variable := range strings.SplitSeq(f.env, "\n") {
					name, value, _ := strings.Cut(variable, "=")
					cmd.Env = append(cmd.Env, name+"="+fill.Replace(value))
				}
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				_ = cmd.Run()
				if status := cmd.ProcessState.ExitCode(); args[0] == "run" && (status == 0) != f.works {
					t.Errorf("%q exits with %d:\n%s", args, status, &out)
				}
				if strings.Contains(strings.ToLower(out.String()), strings.ToLower(secret)) {
					t.Errorf("%q shows the secret:\n%s", args, &out)
				}
			}
		})
	}
	if len(failures) < 50 {
		t.Errorf("only %d ways to fail", len(failures))
	}
}

func TestNobodyElseSeesTheSecretOfARunAtWork(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/environ"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "database-url"), []byte("postgres://u:"+secret+"@127.0.0.1:1/db"), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("sh", "-c", "ulimit -c $(ulimit -H -c); exec message-cleanup run --log-level debug")
	cmd.Dir, cmd.Stderr = dir, log
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "CREDENTIALS_DIRECTORY=" + dir, "GOTRACEBACK=crash"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	read := func(file string) string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	pgtest.Eventually(t, "the run to wait for its database", func() bool {
		return strings.Contains(read(log.Name()), "waiting for the database")
	})
	for _, file := range []string{"cmdline", "environ", "status"} {
		if content := read(fmt.Sprintf("/proc/%d/%s", cmd.Process.Pid, file)); content == "" || strings.Contains(content, secret) {
			t.Errorf("/proc/PID/%s is empty or has the secret: %q", file, content)
		}
	}

	// It dies with all that Go has to say, and leaves no core.
	if err := cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if last := read(log.Name()); !strings.Contains(last, "SIGQUIT") || !strings.Contains(last, "goroutine 1 ") || strings.Contains(last, secret) {
		t.Errorf("no trace, or one with the secret:\n%s", last)
	}
	if cores, err := filepath.Glob(filepath.Join(dir, "core*")); err != nil || len(cores) > 0 {
		t.Errorf("it left %q (%v)", cores, err)
	}
}
