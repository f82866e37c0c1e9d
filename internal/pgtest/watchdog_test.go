package pgtest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// childMode is the environment variable that turns the test binary into the process of beChild.
const childMode = "PGTEST_CHILD"

// beChild starts a cluster, prints the process id of its server, and waits for a line of input before it ends in a bad
// way: "panic", or whatever the parent does to it while it waits.
func beChild(mode string) {
	if signal.Ignored(os.Interrupt) {
		// Shells start background commands so, and Go leaves it at that. Die of it nevertheless.
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, os.Interrupt)
		go func() { <-interrupted; os.Exit(2) }()
	}
	c, err := Start(context.Background(), Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(c.server.Process.Pid)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	if mode == "panic" {
		panic("as a test might")
	}
	select {}
}

func TestNothingStaysBehind(t *testing.T) {
	t.Parallel()
	if _, err := findBinaries(""); err != nil {
		t.Skip(err)
	}
	for _, test := range []struct {
		name, mode string
		signal     syscall.Signal
		early      bool // while the cluster is being made, rather than when it runs
	}{
		{name: "panic", mode: "panic"},
		{name: "killed", mode: "wait", signal: syscall.SIGKILL},
		{name: "interrupted", mode: "wait", signal: syscall.SIGINT},
		{name: "terminated", mode: "wait", signal: syscall.SIGTERM},
		{name: "killed during initdb", mode: "wait", signal: syscall.SIGKILL, early: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			parent := shortTempDir(t)
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), childMode+"="+test.mode, "TMPDIR="+parent)
			// A group of its own, all of which gets the signal, as with ^C and with impatient CI runners.
			child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			in, err := child.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = child.Process.Kill() })

			server := 0
			if test.early {
				Eventually(t, "initdb to be at work", func() bool {
					found, _ := filepath.Glob(filepath.Join(parent, "*", "data", "base"))
					return len(found) > 0
				})
			} else {
				line, _ := bufio.NewReader(out).ReadString('\n')
				if server, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
					t.Fatalf("the child has not started a cluster: %s", line)
				}
			}
			if !running(server, parent) {
				t.Fatal("the cluster's processes are not recognized")
			}
			if test.mode == "panic" {
				_, err = in.Write([]byte("\n"))
			} else {
				err = syscall.Kill(-child.Process.Pid, test.signal)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Wait(); err == nil {
				t.Error("the child has ended well")
			}

			Eventually(t, "the cluster's directory to be removed", func() bool { return len(list(t, parent)) == 0 })
			Eventually(t, "the cluster's processes to end", func() bool { return !running(server, parent) })
		})
	}
}

// shortTempDir is t.TempDir with a path that leaves room for a socket, and that the server's user can enter.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pgtest-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// list returns the names of the files in dir.
func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// running reports whether any process of the cluster runs whose server had this process id and whose directory was in
// parent: the server's children are known by their working directory, initdb and the watchdog by their arguments.
//
// Where there is no /proc only the server itself is looked at. With it, zombies do not count, which have neither
// directory nor arguments: in a container there may be nobody to reap them.
func running(server int, parent string) bool {
	if _, err := os.Stat("/proc/self/cmdline"); err != nil {
		return server != 0 && syscall.Kill(server, 0) == nil
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		// Errors mean that it has ended by now.
		args, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		cwd, _ := os.Readlink(filepath.Join(p, "cwd"))
		if strings.Contains(string(args), parent) || strings.HasPrefix(cwd, parent) {
			return true
		}
	}
	return false
}
