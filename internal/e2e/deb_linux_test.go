package e2e

import (
	"regexp"
	"strings"
	"testing"
)

// TestDebianPackage is the life of an installation, from apt install to purge, in
// the order in which it happens: each step stands on the ones before.
func TestDebianPackage(t *testing.T) {
	need(t, "nsenter", "git", "gzip")
	files := packages(t)
	h := &host{boot(t, lowerRoot(), map[string]string{"/opt/e2e": files})}
	h.startPostgreSQL()

	for _, step := range []struct {
		name string
		run  func(h *host, t *testing.T)
	}{
		{"installing starts nothing", (*host).install},
		{"the timer fires, once it is enabled", (*host).timer},
		{"the journal has every field, once", (*host).journal},
		{"status answers what a newcomer asks", (*host).status},
		{"the exit status has a name", (*host).failures},
		{"check names what is wrong with the host", (*host).check},
		{"a failure reaches somebody", (*host).alert},
		{"an upgrade leaves a run in progress alone, and stop finishes its batch", (*host).upgradeDuringRun},
		{"a missed night is made up for", (*host).persistent},
		{"a password stays secret", (*host).secret},
		{"the sandbox holds", (*host).sandbox},
		{"the local socket needs no network", (*host).localSocket},
		{"several databases have an instance each", (*host).instances},
		{"schedule tells systemd when it is ready", (*host).schedule},
		{"cron is off where systemd is, and syslog gets the log", (*host).cron},
		{"remove keeps the configuration, purge leaves nothing", (*host).remove},
	} {
		ok := t.Run(step.name, func(t *testing.T) {
			step.run(&host{h.of(t)}, t)
		})
		if !ok {
			t.Fatal("the steps after this one stand on it")
		}
	}
}

// statusOf shows the service, with the newest of its log.
const statusOf = "journalctl --sync; systemctl status --no-pager --full --lines=20 message-cleanup"

func (h *host) install(t *testing.T) {
	h.sh("apt-get install -y /opt/e2e/" + before + "/*.deb")
	h.is("disabled", "systemctl is-enabled message-cleanup.timer")
	h.is("inactive", "systemctl is-active message-cleanup.timer")
	h.is("disabled\ndisabled", "systemctl preset message-cleanup.timer message-cleanup@x.timer; systemctl is-enabled message-cleanup.timer message-cleanup@x.timer")
	h.is("", "systemctl show -P ExecMainStartTimestamp message-cleanup.service")
	h.is("600 root:root", "stat -c '%a %U:%G' /etc/message-cleanup/database-url")
	h.is("644 root:root", "stat -c '%a %U:%G' /etc/message-cleanup/config.yaml")
	h.is("/var/lib/message-cleanup", "getent passwd message-cleanup | cut -d: -f6")
	h.is("message-cleanup "+before, "message-cleanup version")
	h.says(runStarted+" message-cleanup: ", "journalctl --list-catalog")
	h.is("0", "ls /usr/share/man/man8/message-cleanup.8.gz /usr/share/man/man5/message-cleanup.yaml.5.gz /usr/share/bash-completion/completions/message-cleanup >/dev/null; echo $?")
	h.is("", "dpkg --verify message-cleanup | grep -v /usr/share/doc/ | grep -v /usr/share/man/") // which images leave out

	// These tests start it more often than anybody would.
	h.write("/run/systemd/system/message-cleanup.service.d/e2e.conf", "[Unit]\nStartLimitIntervalSec=0\n")
	h.sh("systemctl daemon-reload")

	// The address of a database with peer authentication is no secret. This is what
	// the README says to do.
	h.sql("chat", `CREATE ROLE "message-cleanup" LOGIN`)
	h.fill("chat")
	h.sh("echo 'host=/run/postgresql dbname=chat' >/etc/message-cleanup/database-url")
	// Batches of as many rows as the tests ask for.
	h.sh(`printf 'policies:\n  - table: messages\n    strategy: index\n' >>/etc/message-cleanup/config.yaml`)
	h.says("100 rows would be deleted", "cd /; DATABASE_URL='host=/run/postgresql dbname=chat' runuser -u message-cleanup -- message-cleanup run --dry-run")
}

func (h *host) timer(*testing.T) {
	h.sh("systemctl enable --now message-cleanup.timer")
	h.is("", "systemctl show -P ExecMainStartTimestamp message-cleanup.service") // not at once
	h.says(`02:0\d:\d\d`, "TZ=UTC systemctl list-timers --no-pager message-cleanup.timer")

	// As `systemctl edit` would: without the empty line there would be two schedules.
	h.write("/etc/systemd/system/message-cleanup.timer.d/e2e.conf",
		"[Timer]\nOnCalendar=\nOnCalendar=*:*:0/2\nRandomizedDelaySec=0\nAccuracySec=1us\n")
	h.sh("systemctl daemon-reload; systemctl restart message-cleanup.timer")
	h.cleaned("chat")
	h.sh("rm -r /etc/systemd/system/message-cleanup.timer.d; systemctl daemon-reload; systemctl restart message-cleanup.timer")
	h.settled("message-cleanup")
	h.is("success", "systemctl show -P Result message-cleanup.service")
	h.says("Status: .*complete: ", statusOf)
	h.is("enabled", "systemctl is-enabled message-cleanup.timer")
	h.is("0", "systemctl --failed --plain --no-legend | grep -c message-cleanup")
}

const (
	runStarted  = "4febfcb837584e1fb5417201575b5f91"
	runFinished = "8d5437a0bbd244ac8b8ad26c44bc7634"
	runFailed   = "56f9993d4d904623afb672f14b132c21"
)

func (h *host) journal(t *testing.T) {
	h.fill("chat")
	h.sh("systemctl start message-cleanup")
	invocation := h.sh("systemctl show -P InvocationID message-cleanup")
	all := h.entries("_SYSTEMD_INVOCATION_ID=" + invocation)
	if len(all) < 4 || all[0].field("MESSAGE_ID") != runStarted {
		t.Fatalf("the first of %d entries is %v, want \"run started\"", len(all), all)
	}
	run := all[0].field("CLEANUP_RUN_ID")
	seen := make(map[string]bool)
	for _, e := range all {
		text := e.field("MESSAGE")
		if seen[text] {
			t.Errorf("%q is there twice", text)
		}
		seen[text] = true
		for field, want := range map[string]string{
			"CLEANUP_RUN_ID": run, "INVOCATION_ID": invocation, "SYSLOG_IDENTIFIER": "message-cleanup",
			"_SYSTEMD_UNIT": "message-cleanup.service", "_TRANSPORT": "journal",
		} {
			if got := e.field(field); got != want || want == "" {
				t.Errorf("%s: %s=%q, want %q", text, field, got, want)
			}
		}
		if e.field("MESSAGE_ID") == "" {
			t.Errorf("%s has no MESSAGE_ID", text)
		}
	}
	last := all[len(all)-1]
	if last.field("MESSAGE_ID") != runFinished || last.field("CLEANUP_DELETED") != "100" || last.field("CLEANUP_OUTCOME") != "complete" {
		t.Errorf("the last entry is %v", last)
	}
	explained := h.sh("journalctl --no-pager -x _SYSTEMD_INVOCATION_ID=" + invocation)
	for _, want := range []string{"Run " + run, "100 rows were deleted", "Policy messages: complete", "man:message-cleanup(8)"} {
		if !strings.Contains(explained, want) {
			t.Errorf("journalctl -x does not say %q:\n%s", want, explained)
		}
	}
}

// failures plants one failure after the other, and looks at what systemctl says.
func (h *host) failures(*testing.T) {
	h.sh("echo MESSAGE_CLEANUP_DATABASE_WAIT=0s >/etc/default/message-cleanup")
	fails := func(status string) {
		h.t.Helper()
		if _, got := h.try("systemctl start message-cleanup"); got == 0 {
			h.t.Errorf("systemctl start says that it went well, want %s", status)
		}
		h.says(`code=exited, status=`+status+`\n`, statusOf)
		// Also a run that ends at once is found by its unit, with its explanation.
		h.says(" -- Subject: |A run has failed|failed", "journalctl --sync; journalctl --no-pager -x -n 20 -u message-cleanup")
	}
	h.sh("cp /etc/message-cleanup/config.yaml /root/config.yaml; echo 'batch: {size: 3}' >/etc/message-cleanup/config.yaml")
	fails("78/CONFIG")
	first := h.entries("MESSAGE_ID=" + runFailed + " _SYSTEMD_UNIT=message-cleanup.service")
	if len(first) != 1 || !strings.Contains(first[0].field("CLEANUP_ERROR"), "batch.size: unknown key") {
		h.t.Errorf("the journal has %v for a wrong configuration", first)
	}
	h.sh("cp /root/config.yaml /etc/message-cleanup/config.yaml")

	h.sql("chat", `REVOKE DELETE ON messages FROM "message-cleanup"`)
	fails("77/NOPERM")
	h.sql("chat", `GRANT DELETE ON messages TO "message-cleanup"`)

	h.sh("systemctl stop 'postgresql@*.service'")
	fails("69/UNAVAILABLE")
	h.sh("systemctl start postgresql@$(ls /etc/postgresql)-main; rm /etc/default/message-cleanup")
	h.sh("systemctl start message-cleanup")
}

func (h *host) alert(*testing.T) {
	h.sh(`cp /opt/e2e/message-cleanup-alert@.service /etc/systemd/system/
printf '#!/bin/sh\ncat >/var/tmp/mail\n' >/usr/sbin/sendmail; chmod 755 /usr/sbin/sendmail
systemd-run --quiet --unit=hook /opt/e2e/probe hook /var/tmp/hook`)
	h.write("/etc/default/message-cleanup-alert", "MAILTO=oncall\nWEBHOOK=http://127.0.0.1:8080/")
	h.write("/etc/systemd/system/message-cleanup.service.d/alert.conf", "[Unit]\nOnFailure=message-cleanup-alert@%n.service\n")
	h.write("/etc/default/message-cleanup", "MESSAGE_CLEANUP_BATCH_SIZE=3") // no such setting
	h.sh("systemctl daemon-reload")
	h.try("systemctl start message-cleanup")
	h.eventually("test -s /var/tmp/mail && test -s /var/tmp/hook && ! systemctl is-active --quiet message-cleanup-alert@message-cleanup.service.service")
	for _, file := range []string{"/var/tmp/mail", "/var/tmp/hook"} {
		h.says(`message-cleanup.service failed on e2e`, "cat "+file)
		h.says(`status=78/CONFIG`, "cat "+file)
		h.says(`MESSAGE_CLEANUP_BATCH_SIZE`, "cat "+file)
	}
	h.says(`^To: oncall\nSubject: .*\n\n`, "cat /var/tmp/mail")
	h.is("success", "systemctl show -P Result message-cleanup-alert@message-cleanup.service.service")
	h.sh("systemctl stop hook; rm -r /etc/default/message-cleanup /etc/systemd/system/message-cleanup.service.d /usr/sbin/sendmail; systemctl daemon-reload")
}

func (h *host) upgradeDuringRun(t *testing.T) {
	h.atTheGate()
	h.says(`Status: "?messages: [12]0 rows deleted \(about [12]0 %\)`, statusOf)
	pid := h.sh("systemctl show -P MainPID message-cleanup")
	h.sh("echo '# edited' >>/etc/message-cleanup/config.yaml")

	h.sh("apt-get install -y /opt/e2e/" + after + "/*.deb")
	h.is("message-cleanup "+after, "message-cleanup version")
	h.is(pid, "systemctl show -P MainPID message-cleanup")
	h.is("activating", "systemctl show -P ActiveState message-cleanup")
	h.is("enabled", "systemctl is-enabled message-cleanup.timer")
	h.is("active", "systemctl is-active message-cleanup.timer")
	h.is("# edited", "tail -n 1 /etc/message-cleanup/config.yaml")
	h.is("host=/run/postgresql dbname=chat", "cat /etc/message-cleanup/database-url")

	h.sh("systemctl stop --no-block message-cleanup")
	h.eventually("journalctl --sync; journalctl -n 20 -u message-cleanup | grep -q 'stopping after the current batch'")
	h.openTheGate()
	h.settled("message-cleanup")
	h.says(`status=75/TEMPFAIL`, statusOf)
	finished := h.entries("-n 1 _SYSTEMD_UNIT=message-cleanup.service MESSAGE_ID=" + runFinished)
	if len(finished) != 1 || finished[0].field("CLEANUP_DELETED") != "30" || finished[0].field("CLEANUP_OUTCOME") != "incomplete" {
		t.Errorf("the run says %v", finished)
	}
	if left := h.sql("chat", "SELECT count(*) FROM messages"); left != "120" {
		t.Errorf("%s rows are left, want 120: what it said is not what it did", left)
	}
	h.sh("rm /etc/default/message-cleanup; systemctl start message-cleanup") // goes on
	h.cleaned("chat")
}

func (h *host) persistent(*testing.T) {
	h.fill("chat")
	// The delay that spreads hosts is for a missed night too, and would be waited for.
	h.write("/etc/systemd/system/message-cleanup.timer.d/e2e.conf", "[Timer]\nRandomizedDelaySec=0\n")
	h.sh("systemctl daemon-reload; systemctl stop message-cleanup.timer; touch -d '2 days ago' /var/lib/systemd/timers/stamp-message-cleanup.timer; systemctl start message-cleanup.timer")
	h.cleaned("chat")
	h.settled("message-cleanup")
	h.sh("rm -r /etc/systemd/system/message-cleanup.timer.d; systemctl daemon-reload")
}

func (h *host) instances(*testing.T) {
	h.sql("postgres", "CREATE DATABASE orders")
	h.fill("orders")
	h.sql("orders", "ALTER TABLE messages RENAME TO orders")
	h.write("/etc/message-cleanup/orders.yaml", "database: {url: host=/run/postgresql dbname=orders}\npolicies: [{table: orders}]")
	h.sh("systemctl start message-cleanup@orders")
	h.sql("orders", "ALTER TABLE orders RENAME TO messages")
	h.cleaned("orders")
	h.says("run finished", "journalctl --sync; journalctl --no-pager -u message-cleanup@orders")
	h.says(`\(orders\)`, "systemctl status --no-pager message-cleanup@orders.timer")
	h.sh("systemctl enable --now message-cleanup@orders.timer")
	h.says("message-cleanup@orders.service", "systemctl list-timers --no-pager")

	// All in one slice, which has one weight.
	h.is("system-messagecleanup.slice", "systemctl show -P Slice message-cleanup.service message-cleanup@orders.service | sort -u | xargs")
	h.is("20 20", "systemctl show -P CPUWeight -P IOWeight system-messagecleanup.slice | xargs")

	// In turn: the second begins when the first has ended, though that fails.
	h.write("/etc/message-cleanup/chat.yaml", "database: {url: host=/run/postgresql dbname=chat}")
	h.sql("orders", "ALTER TABLE messages RENAME TO away")
	h.fill("chat")
	h.sh("cp /usr/share/doc/message-cleanup/examples/message-cleanup-in-turn.service /etc/systemd/system/")
	h.write("/etc/systemd/system/message-cleanup.timer.d/e2e.conf",
		"[Timer]\nUnit=message-cleanup-in-turn.service\nOnCalendar=\nOnCalendar=*:*:0/2\nRandomizedDelaySec=0\nAccuracySec=1us\n")
	h.sh("systemctl daemon-reload; systemctl restart message-cleanup.timer")
	h.cleaned("chat")
	h.sh("systemctl stop message-cleanup.timer")
	h.settled("message-cleanup-in-turn")
	h.is("failed", "systemctl is-failed message-cleanup@orders")
	h.is("Starting orders Failed orders Starting chat Finished chat", `journalctl --sync; journalctl -o cat -u 'message-cleanup@*' |
		sed -nE 's/^(Starting|Failed|Finished) .*\((orders|chat)\).*/\1 \2/p' | tail -n 4 | xargs`)
	h.sh("rm -r /etc/systemd/system/message-cleanup.timer.d /etc/systemd/system/message-cleanup-in-turn.service /etc/message-cleanup/chat.yaml; systemctl daemon-reload; systemctl restart message-cleanup.timer; systemctl reset-failed message-cleanup@orders")
}

func (h *host) schedule(*testing.T) {
	h.fill("chat")
	// With Type=notify, this returns once it is ready.
	h.sh(`systemd-run --quiet --unit=schedule -p Type=notify -p User=message-cleanup -E PGHOST=/run/postgresql -E PGDATABASE=chat \
	-E MESSAGE_CLEANUP_SCHEDULE_CRON='*/2 * * * * *' -E MESSAGE_CLEANUP_SCHEDULE_JITTER=0s /usr/bin/message-cleanup schedule`)
	h.cleaned("chat")
	h.eventually(`systemctl show -P StatusText schedule | grep -E 'last run complete: .*; next run at .* UTC$'`)
	h.sh("systemctl stop schedule")
	h.is("0", "systemctl is-failed --quiet schedule; journalctl --sync; journalctl -u schedule | grep -c 'schedule: Failed'")
	h.says("schedule ended", "journalctl --no-pager -u schedule")
}

func (h *host) cron(*testing.T) {
	line := h.sh("tail -n 1 /etc/cron.d/message-cleanup")
	match := regexp.MustCompile(`^#0 2 \* \* \*  message-cleanup  (.*)$`).FindStringSubmatch(line)
	if match == nil {
		h.t.Fatalf("the last line of the cron file is %q", line)
	}
	h.fill("chat")
	asCron := "cd /; set -a; MESSAGE_CLEANUP_LOG_FORMAT=syslog; PGHOST=/run/postgresql; PGDATABASE=chat; runuser -u message-cleanup -- /bin/sh -c "
	if out := h.sh(asCron + "'" + match[1] + "'"); out != "" {
		h.t.Errorf("cron would mail this every night: %q", out)
	}
	if left := h.sql("chat", "SELECT count(*) FROM messages WHERE expires_at < now()"); left != "100" {
		h.t.Errorf("%s expired rows are left: cron has run beside systemd", left)
	}
	// Where systemd is not: the same without the guard.
	if out := h.sh(asCron + "'" + strings.Replace(match[1], "test -d /run/systemd/system || ", "", 1) + "'"); out != "" {
		h.t.Errorf("cron would mail this every night: %q", out)
	}
	h.cleaned("chat")
	h.says(`run finished outcome=complete deleted=100 run_id=`, "journalctl --sync; journalctl -o cat _TRANSPORT=syslog -t message-cleanup")
	out, status := h.try(asCron + "'PGPORT=1 MESSAGE_CLEANUP_DATABASE_WAIT=0s message-cleanup run >/dev/null'")
	if status != 69 || !strings.Contains(out, "hint: ") {
		h.t.Errorf("a failure ends with %d and this mail: %q", status, out)
	}
	h.says("run failed", "journalctl --sync; journalctl -o cat -p err _TRANSPORT=syslog -t message-cleanup")
}

func (h *host) remove(t *testing.T) {
	h.sh("systemctl start message-cleanup.timer; apt-get remove -y message-cleanup")
	h.is("inactive", "systemctl is-active message-cleanup.timer")
	h.is("inactive", "systemctl is-active message-cleanup@orders.timer")
	h.is("# edited", "tail -n 1 /etc/message-cleanup/config.yaml")
	h.is("host=/run/postgresql dbname=chat", "cat /etc/message-cleanup/database-url")

	h.sh("apt-get purge -y message-cleanup")
	// But for what the tests have put there themselves, as an administrator would.
	left := h.sh(`rm -f /etc/systemd/system/message-cleanup-alert@.service /etc/default/message-cleanup-alert
find /etc /usr /var -xdev -name '*message-cleanup*' -not -path '/var/cache/*'`)
	for _, path := range lines(left) {
		t.Errorf("purge has left %s", path)
	}
	h.is("0", "systemctl daemon-reload; systemctl list-unit-files --no-legend | grep -c message-cleanup")
}
