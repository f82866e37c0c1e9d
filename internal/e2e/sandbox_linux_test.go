package e2e

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// secret runs with a password, by TCP, and looks for it where others look.
func (h *host) secret(t *testing.T) {
	const password = "correct-horse"
	h.sql("chat", `ALTER ROLE "message-cleanup" PASSWORD '`+password+`'`)
	h.sh("echo 'postgres://message-cleanup:" + password + "@127.0.0.1/chat' >/etc/message-cleanup/database-url")
	h.atTheGate()
	h.is("0", "pid=$(systemctl show -P MainPID message-cleanup); cat /proc/$pid/environ /proc/$pid/cmdline | grep -ac "+password)
	h.is("0", "(systemctl show message-cleanup; systemctl cat message-cleanup; systemctl status message-cleanup; cat /proc/[0-9]*/cmdline) | grep -ac 'correct[-]horse'")
	for _, path := range []string{"/etc/message-cleanup/database-url", "/run/credentials/message-cleanup.service/database-url"} {
		if _, status := h.try("cd /; runuser -u nobody -- cat " + path); status == 0 {
			t.Errorf("anybody can read %s", path)
		}
	}
	h.openTheGate()
	h.settled("message-cleanup")
	h.is("success", "systemctl show -P Result message-cleanup")
	h.cleaned("chat")

	// A wrong one is not said either.
	h.sh("echo 'postgres://message-cleanup:wrong-" + password + "@127.0.0.1/chat' >/etc/message-cleanup/database-url")
	h.try("systemctl start message-cleanup")
	h.says("status=77/NOPERM", statusOf)
	h.is("0", "journalctl --sync; journalctl --no-pager -o verbose -u message-cleanup | grep -c "+password)
	h.sh("rm /etc/default/message-cleanup; echo 'host=/run/postgresql dbname=chat' >/etc/message-cleanup/database-url")

	// Without the file the credential is a placeholder, and the run takes PG*.
	h.sh("mv /etc/message-cleanup/database-url /root/; printf 'PGHOST=/run/postgresql\nPGDATABASE=chat\n' >/etc/default/message-cleanup")
	h.sh("systemctl start message-cleanup; rm /etc/default/message-cleanup; mv /root/database-url /etc/message-cleanup/")
}

// sandboxProbe runs the probe in the place of the program, and returns what it
// was allowed and denied.
func (h *host) sandboxProbe() (allowed, denied map[string]bool) {
	h.t.Helper()
	h.write("/etc/systemd/system/message-cleanup.service.d/probe.conf",
		"[Service]\nExecStart=\nExecStart=/opt/e2e/probe sandbox\nExecPaths=/opt/e2e/probe\n")
	h.sh("systemctl daemon-reload; systemctl start message-cleanup")
	said := h.sh("journalctl --sync; journalctl -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID message-cleanup)")
	h.sh("rm /etc/systemd/system/message-cleanup.service.d/probe.conf; systemctl daemon-reload")
	allowed, denied = make(map[string]bool), make(map[string]bool)
	for _, line := range lines(said) {
		if name, ok := strings.CutPrefix(line, "allowed: "); ok {
			allowed[name] = true
		} else if name, ok := strings.CutPrefix(line, "denied: "); ok {
			name, _, _ = strings.Cut(name, ": ")
			denied[name] = true
		}
	}
	return allowed, denied
}

var mayAlways = []string{"write its state", "write its /tmp", "read its credential", "unix socket"}

func (h *host) sandbox(t *testing.T) {
	allowed, denied := h.sandboxProbe()
	for _, name := range append(mayAlways, "tcp socket", "connect to the database by tcp") {
		if !allowed[name] {
			t.Errorf("%s is denied", name)
		}
		delete(allowed, name)
	}
	if h.systemd() < 248 {
		delete(allowed, "run another program") // NoExecPaths= is newer
	}
	for name := range allowed {
		t.Errorf("%s is allowed", name)
	}
	if len(denied) < 15 {
		t.Errorf("the probe tried only %v", denied)
	}
	h.exposure(1.1)
}

// exposure checks the score that systemd gives the service, as it is.
func (h *host) exposure(most float64) {
	h.t.Helper()
	said := h.sh("systemd-analyze security --no-pager message-cleanup.service | tail -n 1")
	match := regexp.MustCompile(`: (\d+\.\d) `).FindStringSubmatch(said)
	if match == nil {
		h.t.Fatalf("systemd-analyze security says %q", said)
	}
	if score, err := strconv.ParseFloat(match[1], 64); err != nil || score > most {
		h.t.Errorf("the exposure is %s, want at most %.1f", match[1], most)
	}
}

func (h *host) localSocket(t *testing.T) {
	h.sh("install -D -m 0644 /opt/e2e/local-socket.conf /etc/systemd/system/message-cleanup.service.d/local-socket.conf; systemctl daemon-reload")
	h.exposure(0.3)
	allowed, _ := h.sandboxProbe()
	for _, name := range []string{"tcp socket", "connect to the database by tcp"} {
		if allowed[name] {
			t.Errorf("%s is allowed", name)
		}
	}
	h.fill("chat")
	h.sh("systemctl start message-cleanup")
	h.cleaned("chat")
	h.sh("rm -r /etc/systemd/system/message-cleanup.service.d; systemctl daemon-reload")
}
