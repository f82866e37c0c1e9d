package pgtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// serverUser returns whom to run the server as: PostgreSQL refuses to run as root. Nil means the current user.
func serverUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	return unprivileged("postgres", "nobody")
}

// unprivileged returns the first of the named users that exists, without any supplementary group.
func unprivileged(names ...string) (*syscall.Credential, error) {
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("look up user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("look up user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("run as root: none of the users %s exists, and PostgreSQL refuses to run as root",
		strings.Join(names, ", "))
}

// makeDir creates the cluster's directory where its user can reach it and the socket's path stays short: the kernel
// allows 107 bytes.
func makeDir(user *syscall.Credential) (string, error) {
	parent := os.TempDir()
	if len(parent) > 60 || user != nil && !everyoneEnters(parent) {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "pgtest-")
	if err != nil {
		return "", fmt.Errorf("create cluster directory: %w", err)
	}
	if user != nil {
		if err := os.Chown(dir, int(user.Uid), int(user.Gid)); err != nil {
			return "", errors.Join(fmt.Errorf("create cluster directory: %w", err), os.Remove(dir))
		}
	}
	return dir, nil
}

// everyoneEnters reports whether any user may pass through dir and all directories above it.
func everyoneEnters(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// freePort asks the kernel for a port and gives it back, for the server to take.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
