// Probe is put into the place of the program, or beside it, by the tests of
// package e2e.
//
//	probe sandbox   tries what the sandbox of the service forbids, one line each
//	probe hook FILE listens on 127.0.0.1:8080 and writes what is posted to FILE
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "sandbox":
		sandbox()
	case len(os.Args) == 3 && os.Args[1] == "hook":
		hook(os.Args[2])
	default:
		log.Fatal("usage: probe sandbox | probe hook FILE")
	}
}

// sandbox tells of each attempt whether it succeeded.
func sandbox() {
	write := func(dir string) func() error {
		return func() error {
			f, err := os.CreateTemp(dir, "probe")
			if err == nil {
				err = os.Remove(f.Name())
			}
			return err
		}
	}
	socket := func(domain, kind, protocol int) func() error {
		return func() error {
			fd, err := unix.Socket(domain, kind, protocol)
			if err == nil {
				err = unix.Close(fd)
			}
			return err
		}
	}
	read := func(path string) func() error {
		return func() error { _, err := os.ReadFile(path); return err }
	}
	attempts := []struct {
		name string
		try  func() error
	}{
		{"write /etc", write("/etc")},
		{"write /usr", write("/usr")},
		{"write /var/lib", write("/var/lib")},
		{"write its state", write("/var/lib/message-cleanup")},
		{"write its /tmp", write("/tmp")},
		{"read the secret file", read("/etc/message-cleanup/database-url")},
		{"read its credential", read(filepath.Join(os.Getenv("CREDENTIALS_DIRECTORY"), "database-url"))},
		{"list /root", func() error { _, err := os.ReadDir("/root"); return err }},
		{"list /var/log", func() error { _, err := os.ReadDir("/var/log"); return err }},
		{"see other processes", func() error { _, err := os.Stat("/proc/1"); return err }},
		{"run another program", func() error { return exec.Command("/usr/bin/id").Run() }},
		{"unix socket", socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)},
		{"tcp socket", socket(unix.AF_INET, unix.SOCK_STREAM, 0)},
		{"raw socket", socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)},
		{"netlink socket", socket(unix.AF_NETLINK, unix.SOCK_RAW, 0)},
		{"packet socket", socket(unix.AF_PACKET, unix.SOCK_RAW, 0)},
		{"connect to the database by tcp", func() error {
			conn, err := net.Dial("tcp", "127.0.0.1:5432")
			if err == nil {
				err = conn.Close()
			}
			return err
		}},
		{"new namespace", func() error { return unix.Unshare(unix.CLONE_NEWUSER) }},
		{"mount", func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") }},
		{"set the host name", func() error { return unix.Sethostname([]byte("probe")) }},
		{"memory to write and execute", func() error {
			_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
			return err
		}},
		{"setuid bit", func() error {
			path := "/tmp/suid"
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return unix.Chmod(path, 0o4755)
		}},
		{"keyring", func() error { _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true); return err }},
		{"reboot", func() error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) }},
		{"trace", func() error {
			_, _, errno := syscall.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0, 0, 0, 0)
			if errno != 0 {
				return errno
			}
			return nil
		}},
		{"kernel log", read("/dev/kmsg")},
		{"keep privileges", func() error {
			set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
			if err == nil && set == 1 {
				return fmt.Errorf("no new privileges")
			}
			return err
		}},
	}
	for _, a := range attempts {
		if err := a.try(); err != nil {
			fmt.Printf("denied: %s: %v\n", a.name, err)
		} else {
			fmt.Printf("allowed: %s\n", a.name)
		}
	}
}

func hook(file string) {
	http.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = os.WriteFile(file, []byte("Title: "+r.Header.Get("Title")+"\n"+string(body)), 0o644)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", nil))
}
