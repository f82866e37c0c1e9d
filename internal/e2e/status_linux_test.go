package e2e

import "testing"

// statusCommand is what somebody types who wants to know, as the README says.
const statusCommand = "cd /; DATABASE_URL='host=/run/postgresql dbname=chat' runuser -u message-cleanup -- message-cleanup status"

// status asks, after good and bad nights, what a newcomer asks: did it work, what
// is left, when is the next run. Without metrics systemd alone knows of a run.
func (h *host) status(t *testing.T) {
	h.fill("chat")
	h.sh("systemctl start message-cleanup")
	h.says(`\n  last run  complete, .* ago, at 20.* UTC \(systemd\)\n  verified  at its end: nothing expired was left\n  backlog   no expired row\n`, statusCommand)
	h.says(`\n  backlog   no expired row\n`, "systemd-run --quiet --pipe --wait --collect -p User=message-cleanup -p LoadCredential=database-url:/etc/message-cleanup/database-url message-cleanup status")
	h.says(`\nnext run: in .*, at 20\S+ 02:0\d:\d\d UTC \(message-cleanup.timer\)\n$`, statusCommand)

	// The service may write its metrics there, and everybody read them.
	h.sh(`printf 'metrics: {textfile: /var/lib/message-cleanup/metrics.prom}\n' >>/etc/message-cleanup/config.yaml`)
	h.fill("chat")
	h.sh("systemctl start message-cleanup")
	h.says(`message_cleanup_deleted_rows_total.* 100\n`, "runuser -u nobody -- cat /var/lib/message-cleanup/metrics.prom")
	h.says(`\n  last run  complete, .* UTC: 100 rows deleted \(/var/lib/message-cleanup/metrics.prom\)\n`, statusCommand)

	h.sql("chat", `REVOKE DELETE ON messages FROM "message-cleanup"`)
	h.try("systemctl start message-cleanup")
	h.sql("chat", `GRANT DELETE ON messages TO "message-cleanup"`)
	h.says(`\n  last run  failed, .*: 0 rows deleted .*\n  verified  .* ago, at `, statusCommand)

	// A run that is killed leaves no word, but systemd knows. The file is set back
	// by an hour, so that the run is plainly a later one.
	h.sh(`sed -i 's/^\(message_cleanup_last_run_timestamp_seconds.*\) .*/\1 1.7e9/' /var/lib/message-cleanup/metrics.prom`)
	h.atTheGate()
	h.says(`\na run is in work: messages: [12]0 rows deleted .*\nnext run: `, statusCommand)
	h.sh("systemctl kill -s KILL message-cleanup")
	h.openTheGate()
	h.settled("message-cleanup")
	h.says(`\n  last run  failed by signal, .* \(systemd\)\n`, statusCommand)

	h.sh("rm /etc/default/message-cleanup; systemctl start message-cleanup; systemctl stop message-cleanup.timer")
	h.cleaned("chat")
	h.says(`\nnext run: not known: message-cleanup.timer is off: systemctl enable --now message-cleanup.timer\n$`, statusCommand)
	h.sh("systemctl start message-cleanup.timer")
	h.is("3", statusCommand+" --critical 1d --config /etc/message-cleanup/nosuch.yaml >/dev/null; echo $?")
	h.fill("chat")
	h.is("2", statusCommand+" --critical 1d >/dev/null; echo $?")
	h.sh("systemctl start message-cleanup")
	t.Log(h.sh(statusCommand)) // what the README shows
}
