package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Variables that the parent hands to the child that becomes PID 1.
const (
	envRoot    = "E2E_INIT_ROOT"    // the lower layer
	envWork    = "E2E_INIT_WORK"    // an empty directory to mount on
	envBinds   = "E2E_INIT_BINDS"   // source:target, separated by newlines
	envConsole = "E2E_INIT_CONSOLE" // the terminal that gets systemd's own messages
)

// dropped are the capabilities that reach the kernel, the clock, the hardware or
// the audit state of the host, whatever namespace one is in.
var dropped = []uintptr{unix.CAP_SYS_MODULE, unix.CAP_SYS_TIME, unix.CAP_SYS_RAWIO, unix.CAP_AUDIT_CONTROL, unix.CAP_AUDIT_READ}

// masked are units that would touch what the kernel shares with the host, want a
// terminal, or wait for a network that is not there.
var masked = []string{
	"console-getty.service", "getty.target", "systemd-remount-fs.service", "modprobe@.service",
	"systemd-modules-load.service", "systemd-journald-audit.socket", "sys-kernel-debug.mount",
	"sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount", "dev-hugepages.mount",
	"systemd-timesyncd.service", "systemd-resolved.service", "systemd-networkd-wait-online.service",
}

// becomeSystemd turns this process, the first in its new namespaces, into the
// systemd of an overlay. It returns only if that fails.
func becomeSystemd() error {
	runtime.LockOSThread() // what follows belongs to a thread, and the thread becomes systemd
	// The process was moved into its cgroup before; this makes it the root of all
	// that it sees.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("unshare the cgroup namespace: %w", err)
	}
	if err := mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	work := os.Getenv(envWork)
	if err := mount("e2e", work, "tmpfs", 0, "mode=755,size=3g"); err != nil {
		return err
	}
	root, upper, scratch := work+"/root", work+"/upper", work+"/work"
	for _, dir := range []string{root, upper, scratch} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := mount("e2e", root, "overlay", 0, "lowerdir="+os.Getenv(envRoot)+",upperdir="+upper+",workdir="+scratch); err != nil {
		return err
	}
	for _, step := range []func(root string) error{forget, kernelFiles, devices, bind} {
		if err := step(root); err != nil {
			return err
		}
	}
	if err := enterRoot(root); err != nil {
		return err
	}
	for _, capability := range dropped {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", capability, err)
		}
	}
	// Started as init of a container, it leaves the kernel's own settings alone.
	return syscall.Exec("/lib/systemd/systemd",
		[]string{"systemd", "--unit=multi-user.target", "--show-status=yes", "--log-target=journal"},
		[]string{"container=e2e", "PATH=" + searchPath})
}

// forget removes what the lower root would start, mount or remember.
func forget(root string) error {
	for _, pattern := range []string{
		"etc/systemd/system/*.wants", "etc/systemd/system/*.requires", "etc/crypttab", "var/lib/dbus/machine-id",
		"var/log/journal/*", "var/lib/systemd/timers",
		"usr/sbin/policy-rc.d",                     // of container images: forbids packages to start anything
		"etc/postgresql/*", "var/lib/postgresql/*", // a cluster of the host may be running on them
		"etc/message-cleanup", "etc/default/message-cleanup*",
	} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, path := range found {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	for name, text := range map[string]string{"etc/fstab": "", "etc/machine-id": "", "etc/hostname": "e2e\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "var/log/journal"), 0o755); err != nil {
		return err
	}
	for _, unit := range masked {
		path := filepath.Join(root, "etc/systemd/system", unit)
		_ = os.Remove(path)
		if err := os.Symlink("/dev/null", path); err != nil {
			return err
		}
	}
	return nil
}

// kernelFiles mounts what shows the kernel, so that nothing set there reaches
// the host.
func kernelFiles(root string) error {
	const harmless = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"proc", "proc", "proc", harmless, ""},
		{root + "/proc/sys", "proc/sys", "", unix.MS_BIND, ""},
		{"", "proc/sys", "", unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY, ""},
		{"/dev/null", "proc/sysrq-trigger", "", unix.MS_BIND, ""},
		{"sysfs", "sys", "sysfs", harmless | unix.MS_RDONLY, ""},
		{"cgroup2", "sys/fs/cgroup", "cgroup2", harmless, "nsdelegate"},
		{"run", "run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755"},
		{"tmp", "tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	} {
		if _, err := os.Stat(filepath.Join(root, m.target)); os.IsNotExist(err) {
			continue // a kernel without sysrq
		}
		if err := mount(m.source, filepath.Join(root, m.target), m.kind, m.flags, m.data); err != nil {
			return err
		}
	}
	return os.Mkdir(filepath.Join(root, "run/lock"), 0o755)
}

// devices fills a /dev of its own.
func devices(root string) error {
	dev := filepath.Join(root, "dev")
	if err := mount("dev", dev, "tmpfs", unix.MS_NOSUID, "mode=755"); err != nil {
		return err
	}
	defer unix.Umask(unix.Umask(0))
	for name, minor := range map[string]uint32{"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9} {
		if err := unix.Mknod(filepath.Join(dev, name), unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
	}
	if err := unix.Mknod(filepath.Join(dev, "tty"), unix.S_IFCHR|0o666, int(unix.Mkdev(5, 0))); err != nil {
		return fmt.Errorf("make /dev/tty: %w", err)
	}
	for _, dir := range []string{"pts", "shm", "mqueue"} {
		if err := os.Mkdir(filepath.Join(dev, dir), 0o755); err != nil {
			return err
		}
	}
	if err := mount("devpts", dev+"/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,gid=5"); err != nil {
		return err
	}
	if err := mount("shm", dev+"/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777"); err != nil {
		return err
	}
	for name, target := range map[string]string{"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"} {
		if err := os.Symlink(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(dev+"/console", nil, 0o600); err != nil {
		return err
	}
	return mount(os.Getenv(envConsole), dev+"/console", "", unix.MS_BIND, "")
}

// bind shows directories of the host, read-only.
func bind(root string) error {
	for pair := range strings.Lines(os.Getenv(envBinds)) {
		source, target, _ := strings.Cut(strings.TrimSpace(pair), ":")
		target = filepath.Join(root, target)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := mount(source, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
		if err := mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
			return err
		}
	}
	return nil
}

// enterRoot makes root the root directory, and forgets the old one.
func enterRoot(root string) error {
	old := filepath.Join(root, "run/old")
	if err := os.Mkdir(old, 0o700); err != nil {
		return err
	}
	if err := unix.PivotRoot(root, old); err != nil {
		return fmt.Errorf("make %s the root: %w", root, err)
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := unix.Unmount("/run/old", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	// In a container systemd leaves this alone, and LoadCredential= needs it: a
	// service would find its directory empty or closed.
	return mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "")
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s %q on %s: %w", kind, source, target, err)
	}
	return nil
}
