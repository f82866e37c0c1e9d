package pgtest

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// errNoBinaries is what a test may skip for when it has a server of its own already.
var errNoBinaries = errors.New("no PostgreSQL server binaries found " +
	"in $PG_BIN, $PATH, /usr/lib/postgresql/*/bin or /usr/pgsql-*/bin\n" +
	"hint: apt-get install postgresql, or dnf install postgresql-server, or set PG_BIN to the directory that holds initdb")

// findBinaries returns the directory that holds initdb and postgres.
//
// A directory that was asked for, by dir or by PG_BIN, is never replaced by another one: a test run against the
// wrong major version looks exactly like one against the right version.
func findBinaries(dir string) (string, error) {
	if dir == "" {
		dir = os.Getenv("PG_BIN")
	}
	if dir != "" {
		if err := checkBinaries(dir); err != nil {
			return "", fmt.Errorf("use PostgreSQL binaries in %s: %w", dir, err)
		}
		return filepath.Abs(dir)
	}

	if initdb, err := exec.LookPath("initdb"); err == nil {
		// Distributions link initdb into PATH; its libraries and share files are found from where it really is.
		if initdb, err = filepath.EvalSymlinks(initdb); err == nil {
			if dir = filepath.Dir(initdb); checkBinaries(dir) == nil {
				return dir, nil
			}
		}
	}

	for _, dir := range packagedBinaries("/") {
		if checkBinaries(dir) == nil {
			return dir, nil
		}
	}
	return "", errNoBinaries
}

// checkBinaries demands a whole server: client packages also have a bin directory, with psql alone.
func checkBinaries(dir string) error {
	for _, name := range []string{"initdb", "postgres", "pg_ctl"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if info.IsDir() || info.Mode()&0o111 == 0 {
			return &fs.PathError{Op: "execute", Path: filepath.Join(dir, name), Err: fs.ErrPermission}
		}
	}
	return nil
}

var majorVersion = regexp.MustCompile(`/(?:postgresql/|pgsql-)([0-9]+)/bin$`)

// packagedBinaries lists the directories under root where Debian's and the PGDG's packages put their binaries,
// newest major version first. The order is numeric: 9 is older than 16.
func packagedBinaries(root string) []string {
	var dirs []string
	for _, pattern := range []string{"usr/lib/postgresql/*/bin", "usr/pgsql-*/bin"} {
		// Glob's only error is a malformed pattern, and these are constants.
		found, _ := filepath.Glob(filepath.Join(root, pattern))
		dirs = append(dirs, found...)
	}
	major := func(dir string) int {
		if m := majorVersion.FindStringSubmatch(dir); m != nil {
			n, _ := strconv.Atoi(m[1])
			return n
		}
		return 0 // Debian's 9.6 and other names too old to be worth an order among themselves
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return cmp.Compare(major(b), major(a)) })
	return dirs
}
