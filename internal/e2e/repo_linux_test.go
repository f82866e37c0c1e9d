package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository makes a signed repository of both versions, with a key that lives as
// long as the test.
func repository(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	// Not below the folder: gpg's sockets have short names only, and the key is
	// nobody's business.
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "GNUPGHOME="+home, "URL=file:///opt/repo")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		return string(out)
	}
	t.Cleanup(func() {
		run("gpgconf", "--kill", "all")
		_ = os.RemoveAll(home)
	})
	const key = "e2e@example.org"
	run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", key, "rsa3072", "sign", "1d")
	for _, version := range []string{before, after} {
		run(filepath.Join(sourceRoot, "packaging/repo"), filepath.Join(packages(t), version), folder, key)
	}
	// A package that nothing but rpm's dependencies asks for: this machine has what
	// it stands for, but not from an rpm.
	stub := filepath.Join(folder, "stub.yaml")
	if err := os.WriteFile(stub, []byte("{name: stub, version: 1.0.0, provides: [systemd, /bin/sh], arch: all}"), 0o644); err != nil {
		t.Fatal(err)
	}
	tool := exec.Command("go", "tool", "-n", "nfpm")
	tool.Dir = filepath.Join(sourceRoot, "packaging/tools")
	nfpm, err := tool.Output()
	if err != nil {
		t.Fatalf("build nfpm: %v", err)
	}
	run(strings.TrimSpace(string(nfpm)), "package", "--config", stub, "--packager", "rpm", "--target", filepath.Join(folder, "stub.rpm"))
	for dir := folder; dir != os.TempDir(); dir = filepath.Dir(dir) { // apt reads it as another user
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func TestRepositories(t *testing.T) {
	need(t, "nsenter", "git", "gzip", "gpg", "gpgconf", "apt-ftparchive", "createrepo_c", "rpmsign", "dnf", "rpm")
	h := &host{boot(t, "/", map[string]string{"/opt/repo": repository(t), "/opt/e2e": packages(t)})}
	for _, step := range []struct {
		name string
		run  func(h *host, t *testing.T)
	}{
		{"apt installs and upgrades", (*host).aptInstalls},
		{"apt refuses what was tampered with", (*host).aptRefuses},
		{"an rpm has its files in an empty root", (*host).rpmFiles},
		{"dnf installs, upgrades and removes", (*host).dnf},
		{"dnf refuses what was tampered with", (*host).dnfRefuses},
	} {
		t.Run(step.name, func(t *testing.T) { step.run(&host{h.of(t)}, t) })
	}
}

// aptInstalls follows the README.
func (h *host) aptInstalls(*testing.T) {
	h.sh(`rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
install -D -m 0644 /opt/repo/message-cleanup.asc /etc/apt/keyrings/message-cleanup.asc
cp /opt/repo/message-cleanup.sources /etc/apt/sources.list.d/
apt-get update
apt-get install -y message-cleanup=` + before + `-1`)
	h.sh("systemctl enable --now message-cleanup.timer; echo '# edited' >>/etc/message-cleanup/config.yaml; apt-get upgrade -y </dev/null")
	h.is("message-cleanup "+after, "message-cleanup version")
	h.is("enabled", "systemctl is-enabled message-cleanup.timer")
	h.is("# edited", "tail -n 1 /etc/message-cleanup/config.yaml")
	h.sh("apt-get purge -y message-cleanup")
}

func (h *host) aptRefuses(t *testing.T) {
	h.sh(`cp -r /opt/repo /var/tmp/bad
sed -i s,/opt/repo,/var/tmp/bad, /etc/apt/sources.list.d/message-cleanup.sources
for deb in /var/tmp/bad/apt/pool/*.deb; do echo >>$deb; done; apt-get update`)
	if out, status := h.try("apt-get install -y message-cleanup"); status == 0 {
		t.Errorf("a changed package was installed:\n%s", out)
	}
	h.sh("sed -i 's/^Origin: .*/Origin: somebody/' /var/tmp/bad/apt/dists/stable/InRelease; rm -rf /var/lib/apt/lists/*")
	if out, status := h.try("apt-get update && apt-get install -y message-cleanup"); status == 0 {
		t.Errorf("a changed repository was used:\n%s", out)
	}
	h.is("1", "dpkg -s message-cleanup >/dev/null 2>&1; echo $?")
}

func (h *host) rpmFiles(*testing.T) {
	rpm := "/opt/e2e/" + before + "/*.rpm"
	h.sh("mkdir /var/tmp/empty; rpm --root /var/tmp/empty -i --nodeps --noscripts " + rpm)
	h.is("", "rpm --root /var/tmp/empty -V --nodeps message-cleanup")
	h.is("message-cleanup "+before, "/var/tmp/empty/usr/bin/message-cleanup version")
	h.is("/etc/message-cleanup/config.yaml\n/etc/message-cleanup/database-url", "rpm -qpc "+rpm)
	h.is("600", "stat -c %a /var/tmp/empty/etc/message-cleanup/database-url")
	h.is("", "rpm --root /var/tmp/empty -e --noscripts message-cleanup 2>/dev/null; find /var/tmp/empty -name '*message-cleanup*' -not -path '*/var/lib/rpm/*'")
}

func (h *host) dnf(*testing.T) {
	h.sh(`mkdir -p /etc/yum.repos.d; cp /opt/repo/message-cleanup.repo /etc/yum.repos.d/
rpm -i --nodeps /opt/repo/stub.rpm
dnf -y --releasever=1 install message-cleanup-` + before)
	h.is("message-cleanup "+before, "message-cleanup version")
	h.is("disabled", "systemctl is-enabled message-cleanup.timer")
	h.is("message-cleanup", "id -un message-cleanup")
	h.is("600 root:root", "stat -c '%a %U:%G' /etc/message-cleanup/database-url")
	h.says(runStarted, "journalctl --list-catalog")

	// An upgrade keeps what was switched on and edited.
	h.sh(`systemctl enable --now message-cleanup.timer; echo '# edited' >>/etc/message-cleanup/config.yaml
dnf -y --releasever=1 upgrade message-cleanup`)
	h.is("message-cleanup "+after, "message-cleanup version")
	h.is("enabled", "systemctl is-enabled message-cleanup.timer")
	h.is("active", "systemctl is-active message-cleanup.timer")
	h.is("# edited", "tail -n 1 /etc/message-cleanup/config.yaml")

	h.sh("dnf -y --releasever=1 remove message-cleanup")
	h.is("inactive", "systemctl is-active message-cleanup.timer")
	h.is("/etc/message-cleanup\n/etc/message-cleanup/config.yaml.rpmsave",
		"find /etc /usr /var/lib -name '*message-cleanup*' -not -path '/etc/apt/*' -not -path '/etc/yum.repos.d/*'; ls /etc/message-cleanup/*")
}

func (h *host) dnfRefuses(t *testing.T) {
	h.sh("sed -i s,/opt/repo,/var/tmp/bad, /etc/yum.repos.d/message-cleanup.repo; dnf -q clean all; for rpm in /var/tmp/bad/rpm/*.rpm; do printf x | dd of=$rpm bs=1 seek=200000 conv=notrunc status=none; done")
	if out, status := h.try("dnf -y --releasever=1 install message-cleanup"); status == 0 {
		t.Errorf("a changed package was installed:\n%s", out)
	}
	h.sh("createrepo_c --quiet /var/tmp/bad/rpm; dnf -q clean all")
	if out, status := h.try("dnf -y --releasever=1 install message-cleanup"); status == 0 {
		t.Errorf("a changed repository was used:\n%s", out)
	}
	h.is("1", "rpm -q message-cleanup >/dev/null; echo $?")
}
