package systemd

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/coreos/go-systemd/v22/daemon"
)

// TimeoutStart is how long a run may go without progress before systemd ends
// it: TimeoutStartSec= of the service, and what every [Notifier.Progress] of a
// working run asks for anew. WatchdogSec= would say it more plainly, but has
// no effect on a oneshot service.
//
// It has to outlast the longest time between two calls of Progress, which is
// that of one statement: most of all the count that proves that nothing is left,
// on a large table without an index.
const TimeoutStart = 10 * time.Minute

// maxStatus keeps a notification within the 4096 bytes that systemd reads of
// one; it ignores a longer one altogether, the extension of the timeout included.
const maxStatus = 1024

// Notifier reports progress to the service manager, as described in
// https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html.
// It does nothing when NOTIFY_SOCKET is not set. The zero value is ready, and
// safe for concurrent use; it must not be copied after the first use.
//
// An error means that one notification did not arrive. It never is a reason to
// stop deleting rows.
type Notifier struct {
	// stopping is set for good by Stopping. From then on the timeout that an
	// extension would extend is TimeoutStopSec=, which is meant to be short.
	stopping atomic.Bool
}

// Progress shows status as the Status line of `systemctl status` and gives the
// run extend from now on before it counts as stuck. systemd never shortens the
// time by it. An extend of 0, or a call after [Notifier.Stopping], changes the
// status only.
func (n *Notifier) Progress(status string, extend time.Duration) error {
	if extend <= 0 || n.stopping.Load() {
		return notify(statusLine(status))
	}
	return notify(statusLine(status), fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extend.Microseconds()))
}

// Ready tells that a program that stays has started, and what it waits for. It
// may be told again, with another status.
func (n *Notifier) Ready(status string) error {
	return notify(daemon.SdNotifyReady, statusLine(status))
}

// Stopping tells that the program is on its way to its end, and why.
func (n *Notifier) Stopping(status string) error {
	n.stopping.Store(true)
	return notify(daemon.SdNotifyStopping, statusLine(status))
}

// statusLine makes the assignment for status. A line break in it, say from a
// server's error message, would begin an assignment of its own.
func statusLine(status string) string {
	status = oneLine(status)
	if len(status) > maxStatus {
		end := maxStatus
		for !utf8.RuneStart(status[end]) {
			end--
		}
		status = status[:end]
	}
	return "STATUS=" + status
}

// notify sends all assignments in one datagram, so that they count together.
func notify(assignments ...string) error {
	// The socket stays in the environment: this is not the only notification.
	_, err := daemon.SdNotify(false, strings.Join(assignments, "\n"))
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
