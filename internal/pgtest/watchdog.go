package pgtest

import (
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

// watchdogScript waits until its standard input ends, and then removes the cluster in directory $1.
//
// The write end of that pipe is held by this process alone and closes with it, however it ends: Close, panic,
// os.Exit, go test's timeout, SIGKILL. That is the only signal the script heeds.
//
// An initdb is left to run to its end: neither a signal nor a missing directory makes its children clean up shared
// memory. A server gets SIGQUIT, the immediate shutdown. It takes postmaster.pid away as its very last act, when
// shared memory is gone; its process may be seen for longer than that, as a zombie that nobody reaps. What has not
// ended after ten seconds is killed, in the whole process group.
//
// The directory is then renamed, because that is atomic. A program that this process started just before its end
// either recorded its process id in time and is found now, or cannot record it any more and gives up (childScript).
// An initdb found only now makes the directory anew, so both names are removed. A
// test may have mounted a small disk for the log, which goes first.
//
// Only POSIX shell, except for fractions of a second, which every sleep in use knows.
const watchdogScript = `
finish() {
	if pid=$(cat "$1/initdb.pid" 2>/dev/null); then
		n=0
		while kill -s 0 -- "-$pid" 2>/dev/null && [ $((n += 1)) -lt 200 ]; do sleep 0.05; done
		kill -s KILL -- "-$pid" 2>/dev/null
		rm -f "$1/initdb.pid"
	fi
	if pid=$(cat "$1/server.pid" 2>/dev/null); then
		kill -s QUIT "$pid" 2>/dev/null
		n=0 locked=
		while kill -s 0 -- "-$pid" 2>/dev/null && [ $((n += 1)) -lt 200 ]; do
			if [ -e "$1/data/postmaster.pid" ]; then locked=1; elif [ "$locked" ]; then break; fi
			sleep 0.05
		done
		kill -s KILL -- "-$pid" 2>/dev/null
		rm -f "$1/server.pid"
	fi
}
trap '' HUP INT TERM
while read -r _; do :; done
finish "$1"
mv "$1" "$1.gone" 2>/dev/null || exit 0
finish "$1.gone"
umount "$1.gone/data/pg_wal" 2>/dev/null
n=0
until rm -rf "$1" "$1.gone" 2>/dev/null || [ $((n += 1)) -ge 100 ]; do sleep 0.1; done
`

// The files in the cluster's directory where watchdogScript looks.
const (
	initdbPID = "initdb.pid"
	serverPID = "server.pid"
)

// childScript records its process id in the file $0 before it becomes the command that follows, so that there is no
// moment at which a server runs and the watchdog cannot know of it. A half-written file is never seen.
const childScript = `echo $$ >"$0.new" && mv "$0.new" "$0" && exec "$@"`

// watchdog is a process that outlives this one just long enough to remove a cluster.
type watchdog struct {
	cmd  *exec.Cmd
	pipe io.Closer
}

// watch starts a watchdog over dir, which must exist. It has a session of its own: neither an interrupt from the
// terminal nor a signal to the test's process group reaches it.
func watch(dir string) (*watchdog, error) {
	cmd := exec.Command("/bin/sh", "-c", watchdogScript, "pgtest-watchdog", dir)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// The pipe is close-on-exec: no other child inherits it, least of all the server.
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start watchdog: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start watchdog: %w", err)
	}
	return &watchdog{cmd: cmd, pipe: pipe}, nil
}

// release lets the watchdog do what is left to do, usually nothing, and waits for its end.
func (w *watchdog) release() {
	_ = w.pipe.Close()
	_ = w.cmd.Wait()
}
