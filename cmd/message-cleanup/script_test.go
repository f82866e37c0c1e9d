package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"message-cleanup/internal/config"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

// TestMain makes the test binary the program itself when it is called by the
// program's name.
func TestMain(m *testing.M) {
	testscript.Main(withDatabases{m}, map[string]func(){"message-cleanup": main, "terminal": terminal})
}

type withDatabases struct{ *testing.M }

func (m withDatabases) Run() int { return pgtest.Run(m.M) }

// terminal runs the command of its arguments with a terminal as its stderr.
func terminal() {
	ours, theirs, err := pty.Open()
	if err != nil {
		log.Fatal(err)
	}
	columns, err := strconv.ParseUint(os.Args[1], 10, 16)
	if err != nil {
		log.Fatal(err)
	}
	if err := pty.Setsize(ours, &pty.Winsize{Rows: 24, Cols: uint16(columns)}); err != nil {
		log.Fatal(err)
	}
	cmd := exec.Command(os.Args[2], os.Args[3:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, theirs
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	_ = theirs.Close()
	// The copy ends, with an error, when nobody has the terminal open any more.
	_, _ = io.Copy(os.Stderr, ours)
	_ = cmd.Wait()
	os.Exit(cmd.ProcessState.ExitCode())
}

// TestScripts runs the stories in testdata/script, each with a database of its
// own, in DATABASE_URL, and nothing else of the environment that the program
// reads. A script has these commands beside testscript's own:
//
//	alone                          have a server where nobody else writes: batches are as large as asked
//	sql STATEMENT | sql FILE.sql   run SQL as superuser, print rows as a|b
//	until QUERY                    wait until a query yields true
//	hold STATEMENT, release        keep a transaction open in another session
//	ledger TABLE                   make the ledger; the role, if there is one, may keep it
//	role                           create a role: $ROLE, and $ROLE_URL to log in
//	exits STATUS COMMAND ...       run a command that must exit with the status
//	signal TERM                    send a signal to the command in the background
//	logged FILE REGEXP             wait until the file has a match
//	ended STATUS                   check how the command ended, after wait
//	json PATH VALUE                check a value in the JSON on stdout: policies.0.name
//	json -keys PATH KEY ...        check which keys an object has, in order; . is the top
//	json -save PATH FILE           write a text into a file
//	explain FILE                   print the server's plan of the SQL in the file
//	jsonlog                        check that stderr is a log of JSON lines, all with the same run_id
//
// and the program terminal COLUMNS COMMAND ..., which runs a command whose
// stderr is a terminal.
func TestScripts(t *testing.T) {
	if _, err := os.Stat(config.DefaultFile); err == nil {
		t.Fatalf("%s exists: the program would read it; run the tests on a host where it is not installed", config.DefaultFile)
	}
	needsTIDRange(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		Setup:               setup,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"alone":   positive(cmdAlone),
			"sql":     positive(cmdSQL),
			"until":   positive(cmdUntil),
			"hold":    positive(cmdHold),
			"ledger":  positive(cmdLedger),
			"release": positive(cmdRelease),
			"role":    positive(cmdRole),
			"exits":   positive(cmdExits),
			"signal":  positive(cmdSignal),
			"ended":   positive(cmdEnded),
			"logged":  positive(cmdLogged),
			"json":    positive(cmdJSON),
			"explain": positive(cmdExplain),
			"jsonlog": positive(cmdJSONLog),
		},
	})
}

// needsTIDRange skips what has tables without an index, which PostgreSQL 13 needs.
func needsTIDRange(t *testing.T) {
	t.Helper()
	if pgtest.Int(t, pgtest.Conn(t, pgtest.Database(t)), "SELECT current_setting('server_version_num')::int") < 140000 {
		t.Skip("many tables here have no index, which PostgreSQL 13 needs")
	}
}

// positive refuses a "!" before a command that has no use for it.
func positive(run func(*testscript.TestScript, []string)) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("! has no meaning here")
		}
		run(ts, args)
	}
}

// script is what the commands of one script share.
type script struct {
	t         testing.TB
	url       string
	conn      *pgx.Conn // as superuser
	held      *pgx.Conn // nil: nothing was held yet
	signalled *exec.Cmd // the last one that was
}

type scriptKey struct{}

func of(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

func setup(env *testscript.Env) error {
	s := &script{t: env.T().(testing.TB)}
	s.use(pgtest.Database(s.t))
	env.Values[scriptKey{}] = s
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("DATABASE_URL", s.url)
	if env.Getenv("GORACE") == "" {
		env.Setenv("GORACE", "atexit_sleep_ms=0") // else every program under -race ends a second late
	}
	return nil
}

func (s *script) use(url string) { s.url, s.conn = url, pgtest.Conn(s.t, url) }

func cmdAlone(ts *testscript.TestScript, _ []string) {
	s := of(ts)
	s.use(pgtest.Private(s.t, pgtest.Options{}).URL("postgres"))
	ts.Setenv("DATABASE_URL", s.url)
}

func cmdSQL(ts *testscript.TestScript, args []string) {
	statement := argument(ts, args, "sql STATEMENT or sql FILE.sql")
	if strings.HasSuffix(statement, ".sql") {
		statement = ts.ReadFile(statement)
	}
	printRows(ts, statement)
}

func cmdExplain(ts *testscript.TestScript, args []string) {
	printRows(ts, "EXPLAIN "+ts.ReadFile(argument(ts, args, "explain FILE")))
}

func printRows(ts *testscript.TestScript, statement string) {
	ctx, cancel := limited()
	defer cancel()
	results, err := of(ts).conn.PgConn().Exec(ctx, statement).ReadAll()
	if err != nil {
		ts.Fatalf("%v\nin: %s", err, statement)
	}
	out := ts.Stdout()
	for _, result := range results {
		for _, row := range result.Rows {
			fmt.Fprintf(out, "%s\n", bytes.Join(row, []byte("|")))
		}
	}
}

func cmdUntil(ts *testscript.TestScript, args []string) {
	s, query := of(ts), argument(ts, args, "until QUERY")
	pgtest.Eventually(s.t, query, func() bool {
		ctx, cancel := limited()
		defer cancel()
		var yes bool
		ts.Check(s.conn.QueryRow(ctx, query).Scan(&yes))
		return yes
	})
}

func cmdHold(ts *testscript.TestScript, args []string) {
	s, statement := of(ts), argument(ts, args, "hold STATEMENT")
	if s.held == nil {
		s.held = pgtest.Conn(s.t, s.url)
	}
	pgtest.Exec(s.t, s.held, "BEGIN")
	pgtest.Exec(s.t, s.held, statement)
}

func cmdLedger(ts *testscript.TestScript, args []string) {
	table := argument(ts, args, "ledger TABLE")
	statements, err := postgres.LedgerSQL(table)
	ts.Check(err)
	if role := ts.Getenv("ROLE"); role != "" {
		grants, err := postgres.LedgerGrants(table, role)
		ts.Check(err)
		statements = append(statements, grants...)
	}
	for _, statement := range statements {
		printRows(ts, statement)
	}
}

func cmdRelease(ts *testscript.TestScript, args []string) {
	s := of(ts)
	if len(args) > 0 || s.held == nil {
		ts.Fatalf("usage: release, after hold")
	}
	pgtest.Exec(s.t, s.held, "ROLLBACK")
}

func cmdRole(ts *testscript.TestScript, args []string) {
	if len(args) > 0 {
		ts.Fatalf("usage: role")
	}
	s := of(ts)
	name, url := pgtest.Role(s.t, s.conn, s.url)
	ts.Setenv("ROLE", name)
	ts.Setenv("ROLE_URL", url)
}

func cmdExits(ts *testscript.TestScript, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND ...")
	}
	checkStatus(ts, args[0], ts.Exec(args[1], args[2:]...))
}

// checkStatus compares what a command returned with the status that it should
// have exited with.
func checkStatus(ts *testscript.TestScript, want string, err error) {
	got := 0
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		got = ended.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != want {
		ts.Fatalf("exit status is %d, want %s", got, want)
	}
}

func cmdSignal(ts *testscript.TestScript, args []string) {
	signals := map[string]os.Signal{
		"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT,
	}
	signal, known := signals[argument(ts, args, "signal NAME")]
	running := ts.BackgroundCmds()
	if !known || len(running) != 1 {
		ts.Fatalf("usage: signal TERM, INT, KILL, STOP or CONT, with one command in the background")
	}
	of(ts).signalled = running[0]
	ts.Check(running[0].Process.Signal(signal))
}

func cmdLogged(ts *testscript.TestScript, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: logged FILE REGEXP")
	}
	wanted, err := regexp.Compile(args[1])
	ts.Check(err)
	pgtest.Eventually(of(ts).t, args[1]+" in "+args[0], func() bool {
		return wanted.MatchString(ts.ReadFile(args[0]))
	})
}

func cmdEnded(ts *testscript.TestScript, args []string) {
	want, cmd := argument(ts, args, "ended STATUS"), of(ts).signalled
	if cmd == nil || len(ts.BackgroundCmds()) > 0 {
		ts.Fatalf("usage: ended STATUS, after signal and wait")
	}
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != want {
		ts.Fatalf("exit status is %s, want %s", got, want)
	}
}

// argument returns the one argument of a command.
func argument(ts *testscript.TestScript, args []string, usage string) string {
	if len(args) != 1 {
		ts.Fatalf("usage: %s", usage)
	}
	return args[0]
}

func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), time.Minute)
}
