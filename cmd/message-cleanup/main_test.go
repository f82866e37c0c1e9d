package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/config"
	"message-cleanup/internal/pgtest"
)

func TestExitStatusTellsWhatThePersonHasToDo(t *testing.T) {
	t.Parallel()
	of := func(kind cleanup.Kind) error { return cleanup.Errorf(kind, "", "an error") }
	for _, test := range []struct {
		name string
		err  error
		want int
	}{
		{"no error", nil, 0},
		{"an error that nobody classed", errors.New("surprise"), 70},
		{"usage", usageError{errors.New("unknown flag")}, 64},
		{"configuration file", config.Errors{{Key: "log.level"}}, 78},
		{"a transaction that was tried often enough", &cleanup.TransientError{Err: errors.New("deadlock")}, 75},
		{"internal", of(cleanup.Internal), 70},
		{"configuration", of(cleanup.Configuration), 78},
		{"permission", of(cleanup.Permission), 77},
		{"unavailable", of(cleanup.Unavailable), 69},
		{"needs a person", of(cleanup.NeedsPerson), 65},
		{"incomplete", of(cleanup.Incomplete), 75},
		{"a status of its own", exitError{42}, 42},
		{"wrapped", fmt.Errorf("policy messages: %w", of(cleanup.Permission)), 77},
		{"what a person must look at outweighs what is tried again",
			errors.Join(&cleanup.TransientError{Err: errors.New("deadlock")}, of(cleanup.NeedsPerson)), 65},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := exitStatus(test.err); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
}

func TestResultStatusIsThatOfTheWorstPolicy(t *testing.T) {
	t.Parallel()
	none, some := int64(0), int64(1)
	complete := cleanup.PolicyResult{StopReason: cleanup.Exhausted, Backlog: &none}
	left := cleanup.PolicyResult{StopReason: cleanup.Exhausted, Backlog: &some}
	unverified := cleanup.PolicyResult{StopReason: cleanup.Exhausted}
	interrupted := cleanup.PolicyResult{StopReason: cleanup.Interrupted}
	dry := cleanup.PolicyResult{Backlog: &some}
	failed := func(kind cleanup.Kind) cleanup.PolicyResult {
		return cleanup.PolicyResult{StopReason: cleanup.Failed, Err: cleanup.Errorf(kind, "", "an error")}
	}
	for _, test := range []struct {
		name     string
		policies []cleanup.PolicyResult
		err      error
		want     int
	}{
		{"complete", []cleanup.PolicyResult{complete, complete}, nil, 0},
		{"a dry run", []cleanup.PolicyResult{dry}, nil, 0},
		{"something is left", []cleanup.PolicyResult{left, complete}, nil, 75},
		{"not verified", []cleanup.PolicyResult{unverified}, nil, 75},
		{"interrupted, so nothing was counted", []cleanup.PolicyResult{interrupted}, nil, 75},
		{"did not begin", nil, cleanup.Errorf(cleanup.Unavailable, "", "nobody listens"), 69},
		{"a person's work outweighs what the next run does", []cleanup.PolicyResult{failed(cleanup.NeedsPerson), left}, nil, 65},
		{"a wrong configuration outweighs a guard", []cleanup.PolicyResult{failed(cleanup.Configuration), failed(cleanup.NeedsPerson)}, nil, 78},
		{"a defect outweighs everything", []cleanup.PolicyResult{failed(cleanup.Configuration), failed(cleanup.Internal), complete}, nil, 70},
	} {
		t.Run(test.name, func(t *testing.T) {
			result := cleanup.Result{Policies: test.policies, Err: test.err, DryRun: test.name == "a dry run"}
			if got := resultStatus(result); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
			slices.Reverse(result.Policies)
			if got := resultStatus(result); got != test.want {
				t.Errorf("in reverse order: got %d, want %d", got, test.want)
			}
			if success := test.want == exitOK; result.Success() != success {
				t.Errorf("success is %t beside exit status %d", result.Success(), test.want)
			}
		})
	}
}

func TestEveryStatusHasASeverity(t *testing.T) {
	t.Parallel()
	for _, status := range []int{exitOK, exitNeedsPerson, exitUnavailable, exitSoftware, exitTempFail, exitNoPerm, exitConfig} {
		if !slices.Contains(severity, status) {
			t.Errorf("%d is missing, and would never be the worst", status)
		}
	}
}

func TestAWrongPasswordIsAPermissionAndNotWaitedFor(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{})
	conn := pgtest.Conn(t, cluster.URL("postgres"))
	pgtest.Exec(t, conn, "CREATE ROLE cleaner LOGIN PASSWORD 'right'")
	hba := filepath.Join(cluster.Dir, "data", "pg_hba.conf")
	rules, err := os.ReadFile(hba)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(hba, append([]byte("local all cleaner scram-sha-256\n"), rules...), 0); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, conn, "SELECT pg_reload_conf()")
	url := strings.Replace(cluster.URL("postgres"), "postgres://postgres@", "postgres://cleaner:Hidden123@", 1)
	pgtest.Eventually(t, "the new pg_hba.conf to be in force", func() bool {
		conn, err := pgx.Connect(t.Context(), url)
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err != nil
	})

	cmd := exec.Command("message-cleanup", "run")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "DATABASE_URL=" + url}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	_ = cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != exitNoPerm {
		t.Errorf("exit status is %d, want %d", got, exitNoPerm)
	}
	for text, want := range map[string]bool{
		"password authentication failed": true,
		"check the user, its password":   true,
		"waiting for the database":       false,
		"Hidden123":                      false,
	} {
		if strings.Contains(stderr.String(), text) != want {
			t.Errorf("stderr contains %q: %t, want %t\n%s", text, !want, want, stderr.String())
		}
	}
}

func TestTheRateIsThatOfTheWholePolicy(t *testing.T) {
	t.Parallel()
	start := time.Date(2025, 3, 1, 2, 0, 0, 0, time.UTC)
	var r rate
	for _, step := range []struct {
		policy string
		rows   int64
		after  time.Duration
		want   int64
	}{
		{"first", 100, 0, 0}, // nothing to compare with yet
		{"first", 200, 99 * time.Millisecond, 0},
		{"first", 300, time.Second, 200},
		{"first", 500, 2 * time.Second, 200},
		{"second", 50, 2 * time.Second, 0},
		{"second", 150, 3 * time.Second, 100},
	} {
		if got := r.of(step.policy, step.rows, start.Add(step.after)); got != step.want {
			t.Errorf("%s, %d rows after %s: got %d rows/s, want %d", step.policy, step.rows, step.after, got, step.want)
		}
	}
}

func TestTheLineOfATerminal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		width uint16
		use   func(*line)
		want  string
	}{
		{"is rewritten in place", 80, func(l *line) { l.draw("one"); l.draw("two") }, "\rone\x1b[K\rtwo\x1b[K"},
		{"is gone when cleared, once", 80, func(l *line) { l.draw("one"); l.clear(); l.clear() }, "\rone\x1b[K\r\x1b[K"},
		{"makes way for the log", 80, func(l *line) { l.draw("one"); fmt.Fprint(l, "logged"); l.draw("two") }, "\rone\x1b[K\r\x1b[Klogged\rtwo\x1b[K"},
		{"has no line breaks", 80, func(l *line) { l.draw("one\ntwo") }, "\rone two\x1b[K"},
		{"leaves the last column free", 4, func(l *line) { l.draw("1234") }, "\r123\x1b[K"},
		{"is whole if it just fits", 5, func(l *line) { l.draw("1234") }, "\r1234\x1b[K"},
		{"is cut between letters", 3, func(l *line) { l.draw("äöü") }, "\räö\x1b[K"},
		{"is whole where the width is unknown", 0, func(l *line) { l.draw("1234") }, "\r1234\x1b[K"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ours, theirs, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close()
			defer theirs.Close()
			if err := pty.Setsize(ours, &pty.Winsize{Rows: 24, Cols: test.width}); err != nil {
				t.Fatal(err)
			}
			test.use(&line{out: theirs})
			fmt.Fprint(theirs, "\x00") // the end
			var got []byte
			for b := make([]byte, 1); ; {
				if _, err := ours.Read(b); err != nil {
					t.Fatal(err)
				}
				if b[0] == 0 {
					break
				}
				got = append(got, b[0])
			}
			if string(got) != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestWithoutATerminalThereIsNoLine(t *testing.T) {
	t.Parallel()
	var none *line
	none.draw("nothing")
	none.clear()
}
