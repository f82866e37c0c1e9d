package config

import (
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// file is the fs.FileInfo of a file.
type file struct {
	mode     fs.FileMode
	uid, gid uint32
}

func (f file) Name() string       { return "config.yaml" }
func (f file) Size() int64        { return 0 }
func (f file) Mode() fs.FileMode  { return f.mode }
func (f file) ModTime() time.Time { return time.Time{} }
func (f file) IsDir() bool        { return false }
func (f file) Sys() any           { return &syscall.Stat_t{Uid: f.uid, Gid: f.gid} }

func TestAFileThatOthersCanWriteIsRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		file    file
		euid    int
		refused string // in the problem; "" if it is not
	}{
		{"root's", file{0o644, 0, 0}, 0, ""},
		{"root's, for a service", file{0o640, 0, 33}, 0, ""},
		{"root's group", file{0o664, 0, 0}, 0, ""},
		{"another group", file{0o664, 0, 33}, 0, "can be written by group 33 (mode 0664)"},
		{"everybody", file{0o646, 0, 0}, 0, "can be written by everybody (mode 0646)"},
		{"another user's", file{0o600, 1000, 0}, 0, "belongs to user 1000"},
		{"root's, read by a service", file{0o644, 0, 0}, 999, ""},
		{"the service's own", file{0o600, 999, 999}, 999, ""},
		{"a deployer's", file{0o664, 1000, 1000}, 999, ""},
		{"everybody's, read by a service", file{0o666, 0, 0}, 999, "can be written by everybody"},
	} {
		err := checkWriters("/etc/config.yaml", test.file, test.euid)
		if (err != nil) != (test.refused != "") || err != nil && !strings.Contains(err.Error(), "/etc/config.yaml "+test.refused) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestTheFileThatIsReadIsTheOneThatIsChecked(t *testing.T) {
	t.Parallel()
	path := write(t, "config.yaml", "workers: 2\n")
	link := write(t, "link.yaml", "")
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, Options{File: link})
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{path, link} {
		if _, err := loadHere(t, Options{File: file}); err == nil || !strings.Contains(err.Error(), "chmod go-w "+file) {
			t.Errorf("%s: got %v", file, err)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 65534, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := loadHere(t, Options{File: path}); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("a file of another user's: got %v", err)
	}
}
