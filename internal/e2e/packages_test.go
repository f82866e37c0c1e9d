//go:build linux

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A configuration file that changes from one release to the next stops every
// unattended upgrade of a host where it was edited, with a question that nobody
// answers. What is new goes into the manual and into defaults.
func TestConfigurationFilesNeverChange(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"config.yaml":  "08ef0cf860f32691338be3a514a3e6379c7e6b8ad17ab5293c38deb494fc3a14",
		"database-url": "79e9026178d7e4d633aa9c95e34adeac2846b11fad81179d6e04a809f1256bbd",
		"cron":         "c0e4be41f5ac821295f9de7b86df42b3967dc8520b56d07130b6493508b4214a",
	} {
		text, err := os.ReadFile(filepath.Join(sourceRoot, "packaging", name))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("packaging/%s has changed (sha256 %s): leave it as it was released", name, got)
		}
	}
}

func TestMaintainerScriptsStaySmall(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob(filepath.Join(sourceRoot, "packaging/scripts/*"))
	if err != nil || len(scripts) != 3 {
		t.Fatalf("found %v (%v)", scripts, err)
	}
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n > 20 {
			t.Errorf("%s has %d lines; what needs more than 20 belongs into the program", script, n)
		}
		if !strings.HasPrefix(string(text), "#!/bin/sh\n") {
			t.Errorf("%s: the shell of all distributions is /bin/sh", script)
		}
	}
}

// Two builds of the same sources are the same bytes: in another directory, with
// another umask, time zone, locale and number of processors.
func TestPackagesAreReproducible(t *testing.T) {
	if err := exec.Command("git", "-C", sourceRoot, "rev-parse").Run(); err != nil {
		t.Skip("NOT TESTED: this is no git checkout")
	}
	first := filepath.Join(packages(t), before)
	elsewhere := filepath.Join(t.TempDir(), "else where")
	copySources(t, elsewhere)
	out := t.TempDir()
	err := build(elsewhere, out, before, "TZ=Asia/Kolkata", "LC_ALL=C.UTF-8", "GOMAXPROCS=1", "GOFLAGS=-buildvcs=false")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(filepath.Join(first, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(out, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("two builds differ:\n%s\n%s", want, got)
	}
	listed := regexp.MustCompile(`(?m)^[0-9a-f]{64}  message-cleanup[-_]1\.0\.0-1[._]\w+\.(deb|rpm)$`)
	if n := len(listed.FindAllString(string(got), -1)); n != 2 {
		t.Errorf("SHA256SUMS lists %d packages, want 2:\n%s", n, got)
	}
}

// copySources copies what git would take into another directory.
func copySources(t *testing.T, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	script := `umask 077; git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- --ignore-failed-read | tar --extract --touch --no-same-permissions --directory "$1"`
	cmd := exec.Command("sh", "-c", script, "sh", to)
	cmd.Dir = sourceRoot
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("copy the sources: %v\n%s", err, out)
	}
}
