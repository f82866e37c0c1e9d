package e2e

import "testing"

// check is what an administrator does before the timer is switched on, and when
// a night has failed. The timer is on when this begins.
func (h *host) check(*testing.T) {
	const (
		chat  = "cd /; DATABASE_URL='host=/run/postgresql dbname=chat' "
		check = chat + "runuser -u message-cleanup -- message-cleanup check"
	)
	h.fill("chat")
	h.sh(chat + "runuser -u postgres -- message-cleanup setup --apply")
	h.says(`(?m)^clean: nothing found$`, check)

	h.sh("systemctl disable --now message-cleanup.timer")
	h.says(`(?s)error: timer-disabled\n.*  mend      systemctl enable --now message-cleanup.timer\n1 error, 0 warnings`, check)
	h.sh("systemctl enable message-cleanup.timer")
	h.says(`(?s)error: timer-stopped\n.*  mend      systemctl start message-cleanup.timer\n1 error, 0 warnings`, check)
	h.sh("systemctl start message-cleanup.timer")
	h.says(`(?m)^clean: nothing found$`, check)

	h.sql("chat", `REVOKE DELETE ON messages FROM "message-cleanup"`)
	h.try("systemctl start message-cleanup")
	h.says(`(?s)error: privileges, .*error: last-run-failed\n  found     the last run of message-cleanup.service ended with exit status 77, .*\n2 errors, 0 warnings`, check)
	h.sql("chat", `GRANT DELETE ON messages TO "message-cleanup"`)
	h.sh("systemctl start message-cleanup")
	h.says(`(?m)^clean: nothing found$`, check)
}
