package config

import (
	"fmt"
	"io/fs"
	"syscall"
)

// checkWriters refuses a configuration that others can write: they would choose
// what is deleted. For root the rule is that of sudo: the file is root's, and
// no other group can write it. Anybody else may have it from whom they like, if
// not just anybody can write it.
func checkWriters(path string, info fs.FileInfo, euid int) error {
	file, mode := info.Sys().(*syscall.Stat_t), info.Mode().Perm()
	refuse := func(problem string) error {
		hint := "chmod go-w " + path
		if euid == 0 {
			hint = "chown root:root " + path + "; " + hint
		}
		return Error{Problem: fmt.Sprintf("%s %s, so it is not used", path, problem), Hint: hint + "; before that, see what it says"}
	}
	switch {
	case mode&0o002 != 0:
		return refuse(fmt.Sprintf("can be written by everybody (mode %#o)", mode))
	case euid != 0:
		return nil
	case file.Uid != 0:
		return refuse(fmt.Sprintf("belongs to user %d, and this is root", file.Uid))
	case mode&0o020 != 0 && file.Gid != 0:
		return refuse(fmt.Sprintf("can be written by group %d (mode %#o), and this is root", file.Gid, mode))
	}
	return nil
}
