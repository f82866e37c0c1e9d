package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if os.Getenv(envRoot) != "" {
		fmt.Fprintln(os.Stderr, "become systemd:", becomeSystemd())
		os.Exit(1)
	}
	status := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(status)
}

// The versions that are built: an installation, and an upgrade of it.
const (
	before = "1.0.0"
	after  = "1.1.0"
)

// lowerRoot is the root file system of the machines.
func lowerRoot() string {
	if root := os.Getenv("MESSAGE_CLEANUP_E2E_ROOT"); root != "" {
		return root
	}
	return "/"
}

// need skips a test where it cannot run, or fails it where it must.
func need(t *testing.T, commands ...string) {
	t.Helper()
	missing := func(format string, args ...any) {
		t.Helper()
		text := "NOT TESTED: " + fmt.Sprintf(format, args...)
		if os.Getenv("MESSAGE_CLEANUP_E2E") == "required" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	if os.Getuid() != 0 {
		missing("booting a systemd needs root")
	}
	if _, err := unifiedCgroup(); err != nil {
		missing("%v", err)
	}
	if err := exec.Command("unshare", "--mount", "true").Run(); err != nil {
		missing("this root may not make namespaces (a container without CAP_SYS_ADMIN?): %v", err)
	}
	inRoot := func(path string) bool { return unix.Access(filepath.Join(lowerRoot(), path), unix.X_OK) == nil }
	if !inRoot("lib/systemd/systemd") {
		missing("systemd is not installed (Debian: systemd-sysv dbus)")
	}
	if !inRoot("usr/bin/pg_createcluster") {
		missing("PostgreSQL with Debian's pg_createcluster is not installed (Debian: postgresql)")
	}
	for _, command := range commands {
		if _, err := exec.LookPath(command); err != nil {
			missing("%s is not installed; make test installs it", command)
		}
	}
}

// built is what packaging/build has made, once for all tests.
var built struct {
	sync.Once
	dir string
	err error
}

// packages returns a folder with what is put into machines: packages of two
// versions in folders of these names, and the probe.
func packages(t *testing.T) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "message-cleanup-e2e-"); built.err != nil {
			return
		}
		// The service, which is not root, runs the probe.
		if built.err = os.Chmod(built.dir, 0o755); built.err != nil {
			return
		}
		for _, version := range []string{before, after} {
			if built.err = build(sourceRoot, filepath.Join(built.dir, version), version); built.err != nil {
				return
			}
		}
		for _, name := range []string{"message-cleanup-alert@.service", "local-socket.conf"} { // images leave out examples
			text, err := os.ReadFile(filepath.Join(sourceRoot, "systemd", name))
			if err == nil {
				err = os.WriteFile(filepath.Join(built.dir, name), text, 0o644)
			}
			if built.err = err; err != nil {
				return
			}
		}
		probe := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(built.dir, "probe"), "./probe")
		probe.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := probe.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build the probe: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.dir
}

const sourceRoot = "../.."

// build makes the packages of this machine's architecture.
func build(source, out, version string, environ ...string) error {
	cmd := exec.Command(filepath.Join(source, "packaging/build"), out)
	cmd.Env = append(os.Environ(), "VERSION="+version, "SOURCE_DATE_EPOCH=1790000000", "ARCHES="+runtime.GOARCH)
	cmd.Env = append(cmd.Env, environ...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("packaging/build of %s: %w\n%s", version, err, said)
	}
	return nil
}

// lines splits what a command said.
func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}
