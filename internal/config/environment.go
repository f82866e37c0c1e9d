package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	variablePrefix = "MESSAGE_CLEANUP_"

	// testVariable names the database of the test suite. It may be set in the
	// environment of a program that the suite runs.
	testVariable = variablePrefix + "TEST_URL"

	// credential is the name that the service's unit gives to the URL:
	// https://systemd.io/CREDENTIALS/
	credential = "database-url"

	// unset is what a credential says that is there only because the unit
	// needs one.
	unset = "unset"
)

// variables returns the environment by name. An empty variable is as good as
// none: that is how a unit or a shell takes one back.
func variables(environ []string) map[string]string {
	m := map[string]string{}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok {
			m[name] = value
		}
	}
	maps.DeleteFunc(m, func(_, value string) bool { return value == "" })
	return m
}

// checkVariables refuses variables that look like a key and are none: a guard
// that is set under a misspelt name guards nothing.
func (l *loader) checkVariables() {
	known := []string{testVariable}
	for _, k := range keys {
		if k.path != policiesPath {
			known = append(known, variable(k.path))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.environ)) {
		if strings.HasPrefix(name, variablePrefix) && !slices.Contains(known, name) {
			l.fail(printable(name), Error{Problem: "unknown environment variable", Hint: variableHint(name, known[1:])})
		}
	}
}

func variableHint(name string, known []string) string {
	rest := strings.TrimPrefix(name, variablePrefix)
	if strings.HasPrefix(rest, "POLIC") {
		return "policies come from the file only"
	}
	// Compared without the prefix, which would make every name similar.
	short := make([]string, len(known))
	for i, k := range known {
		short[i] = strings.TrimPrefix(k, variablePrefix)
	}
	if n := nearest(strings.ToUpper(rest), short); n != "" {
		return "did you mean " + variablePrefix + n + "?"
	}
	return "unset it; the known names are " + variablePrefix + " and the path of a key, e.g. " + variable("log.level")
}

// checkFlags refuses flags for what is no scalar key, which is a mistake of
// the program and not of its user.
func (l *loader) checkFlags() {
	for _, path := range slices.Sorted(maps.Keys(l.flags)) {
		if path == policiesPath || !isKey(path) {
			l.fail(flagName(path), Error{Problem: "is not the flag of a key"})
		}
	}
}

// findURL looks for the database URL where others keep it, if neither flag,
// environment nor file says it. Without any, libpq's PG* variables say it all.
func (l *loader) findURL(c *Config) {
	if c.Database.URL != "" {
		return
	}
	const path = "database.url"
	if dir := l.environ["CREDENTIALS_DIRECTORY"]; dir != "" {
		url, err := readCredential(filepath.Join(dir, credential))
		if err != nil {
			l.fail("credential "+credential, err)
			return
		}
		if url != "" {
			c.Database.URL = url
			l.sources[path] = "credential " + credential
			return
		}
	}
	if url := l.environ["DATABASE_URL"]; url != "" {
		if _, err := connection(url); err != nil {
			l.fail("DATABASE_URL", err)
			return
		}
		c.Database.URL = url
		l.sources[path] = "environment DATABASE_URL"
	}
}

// readCredential returns the one line of the file that is not a comment, or ""
// if there is none. No error shows what the file says.
func readCredential(file string) (string, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", Error{Problem: err.Error(), Hint: "the file must be readable by the service"}
	}
	var url string
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if url != "" {
			return "", Error{Problem: fmt.Sprintf("%s holds more than one line", file), Hint: "write the connection string in one line"}
		}
		url = line
	}
	if url == unset {
		return "", nil
	}
	return connection(url)
}
