package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

const (
	searchPath  = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	bootLimit   = 90 * time.Second
	stopLimit   = 20 * time.Second
	cgroupStem  = "message-cleanup-e2e-"
	lockFile    = "message-cleanup-e2e.lock" // in the directory for temporary files: one machine at a time
	commandTime = 3 * time.Minute
)

// machine is a booted systemd.
type machine struct {
	t       testing.TB
	pid     int // of its PID 1
	console *output
}

// output collects what the console says.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// boot starts a machine on an overlay of root, with directories of the host
// shown at binds' keys, and waits until it runs. It is gone at the end of the
// test, however that ends.
func boot(t testing.TB, root string, binds map[string]string) *machine {
	t.Helper()
	lockMachine(t)
	unified, err := unifiedCgroup()
	if err != nil {
		t.Fatal(err)
	}
	cgroup := filepath.Join(unified, cgroupStem+strconv.Itoa(os.Getpid()))
	removeCgroups(t, unified) // of tests that were killed
	if err := os.Mkdir(cgroup, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeCgroups(t, unified) })
	member, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}

	work := t.TempDir()
	var pairs []string
	for target, source := range binds {
		pairs = append(pairs, source+":"+target)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envRoot+"="+root, envWork+"="+work, envConsole+"="+theirs.Name(),
		envBinds+"="+strings.Join(pairs, "\n"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
		UseCgroupFD: true, CgroupFD: int(member.Fd()),
		Setsid:    true,
		Pdeathsig: syscall.SIGKILL, // a killed test leaves no machine behind
	}

	m := &machine{t: t, console: &output{}}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// Pdeathsig comes when the thread ends, so this one has to stay.
		runtime.LockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start the machine: %v", err)
	}
	_ = theirs.Close()
	go func() { _, _ = io.Copy(m.console, ours) }()
	m.pid = cmd.Process.Pid
	t.Cleanup(func() {
		m.powerOff(cmd.Process, ended)
		_ = ours.Close()
	})
	m.waitForBoot(ended)
	return m
}

func (m *machine) waitForBoot(ended <-chan struct{}) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootLimit)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case <-ended:
			m.t.Fatalf("the machine ended while it started; its console says:\n%s", m.console)
		default:
		}
		// Before the bus is there this fails at once, and is the only way to learn
		// that it is not.
		out, _ := m.enter(ctx, "systemctl", "is-system-running", "--wait").Output()
		switch state := strings.TrimSpace(string(out)); state {
		case "running":
			return
		case "degraded":
			failed, _ := m.enter(ctx, "systemctl", "--failed", "--no-pager", "--plain").Output()
			m.t.Logf("the machine is degraded:\n%s", failed)
			return
		}
		pause(ctx, 50*time.Millisecond)
	}
	m.t.Fatalf("the machine did not boot within %v; its console says:\n%s", bootLimit, m.console)
}

// pause lets a machine work before it is asked again.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (m *machine) powerOff(init *os.Process, ended <-chan struct{}) {
	if m.t.Failed() {
		out, _ := m.enter(context.Background(), "/bin/sh", "-c", "journalctl --no-pager | grep -v -e run-u -e pam_unix -e Reloading | tail -n 100").CombinedOutput()
		m.t.Logf("the end of its journal:\n%s", out)
	}
	// systemd's own for "power off": https://www.freedesktop.org/software/systemd/man/latest/systemd.html#Signals
	const rtmin4 = syscall.Signal(34 + 4)
	_ = init.Signal(rtmin4)
	select {
	case <-ended:
	case <-time.After(stopLimit):
		m.t.Logf("the machine did not power off within %v, and is killed", stopLimit)
		_ = init.Kill()
		<-ended
	}
}

// enter makes a command that runs in the machine, but in no unit of its systemd.
func (m *machine) enter(ctx context.Context, args ...string) *exec.Cmd {
	in := []string{"-t", strconv.Itoa(m.pid), "-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w", "--",
		"env", "-i", "PATH=" + searchPath, "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"}
	return exec.CommandContext(ctx, "nsenter", append(in, args...)...)
}

// try runs a shell script as root, in a unit of its own, and returns what it
// says and its exit status.
func (m *machine) try(script string) (out string, status int) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	cmd := m.enter(ctx, "systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--service-type=exec",
		"-E", "PATH="+searchPath, "-E", "HOME=/root", "-E", "LANG=C.UTF-8", "-E", "DEBIAN_FRONTEND=noninteractive", "-E", "SYSTEMD_PAGER=cat",
		"--", "/bin/sh", "-c", `script=$(cat); exec </dev/null 2>&1; eval "$script"`)
	cmd.Stdin = strings.NewReader(script)
	said, err := cmd.CombinedOutput()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(said), ended.ExitCode()
	}
	if err != nil {
		m.t.Fatalf("%s: %v", script, err)
	}
	return string(said), 0
}

// sh runs a script that must succeed, and returns what it says without the last
// line break.
func (m *machine) sh(script string) string {
	m.t.Helper()
	out, status := m.try("set -e\n" + script)
	if status != 0 {
		m.t.Fatalf("%s\nexit status %d:\n%s", script, status, out)
	}
	return strings.TrimRight(out, "\n")
}

// eventually waits until a script succeeds. It is asked outside of all units,
// which is quick, and leaves the journal to what is tested.
func (m *machine) eventually(script string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var last []byte
	for ctx.Err() == nil {
		out, err := m.enter(ctx, "/bin/sh", "-c", script).CombinedOutput()
		if err == nil {
			return
		}
		last = out
		pause(ctx, 50*time.Millisecond)
	}
	m.t.Fatalf("%s\ndid not come true within a minute; the last time it said:\n%s", script, last)
}

// write creates a file.
func (m *machine) write(path, text string) {
	m.t.Helper()
	m.sh(fmt.Sprintf("mkdir -p %q\ncat >%q <<'END_OF_FILE'\n%s\nEND_OF_FILE", filepath.Dir(path), path, strings.TrimRight(text, "\n")))
}

// of is the machine for another test, which its failures belong to.
func (m *machine) of(t testing.TB) *machine {
	other := *m
	other.t = t
	return &other
}

// lockMachine waits until no other test has a machine.
func lockMachine(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(os.TempDir(), lockFile), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		return
	}
	t.Log("another test has a machine; waiting for it")
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
}

// unifiedCgroup returns where cgroup2 is mounted, alone or beside version 1.
func unifiedCgroup() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var stat unix.Statfs_t
		if err := unix.Statfs(dir, &stat); err == nil && stat.Type == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	return "", errors.New("no cgroup2 is mounted")
}

// removeCgroups ends what is left of machines, and removes their cgroups. Only
// who has the lock may call it.
func removeCgroups(t testing.TB, unified string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(unified, cgroupStem+"*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, top := range left {
		_ = os.WriteFile(filepath.Join(top, "cgroup.kill"), []byte("1"), 0)
		var dirs []string
		_ = filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append([]string{path}, dirs...) // the innermost first
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(context.Background(), stopLimit)
		for _, dir := range dirs {
			for unix.Rmdir(dir) == unix.EBUSY && ctx.Err() == nil {
				pause(ctx, 20*time.Millisecond)
			}
		}
		cancel()
		if _, err := os.Stat(top); err == nil {
			t.Errorf("%s is still there", top)
		}
	}
}
