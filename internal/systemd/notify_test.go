package systemd

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// listen is the service manager's end of NOTIFY_SOCKET; the function returns
// the next datagram.
func listen(t *testing.T) (receive func() string) {
	t.Helper()
	address := &net.UnixAddr{Net: "unixgram", Name: filepath.Join(t.TempDir(), "notify")}
	socket, err := net.ListenUnixgram("unixgram", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	t.Setenv("NOTIFY_SOCKET", address.Name)

	return func() string {
		t.Helper()
		if err := socket.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		datagram := make([]byte, 1<<16)
		n, err := socket.Read(datagram)
		if err != nil {
			t.Fatalf("no notification: %v", err)
		}
		return string(datagram[:n])
	}
}

func TestNotifications(t *testing.T) {
	tests := []struct {
		name   string
		notify func(n *Notifier) error
		want   string
	}{
		{"progress", func(n *Notifier) error { return n.Progress("12 rows deleted", TimeoutStart) },
			"STATUS=12 rows deleted\nEXTEND_TIMEOUT_USEC=600000000"},
		{"progress that does not ask for time", func(n *Notifier) error { return n.Progress("waiting", 0) },
			"STATUS=waiting"},
		{"ready", func(n *Notifier) error { return n.Ready("next run at 02:00:00 UTC") },
			"READY=1\nSTATUS=next run at 02:00:00 UTC"},
		{"stopping", func(n *Notifier) error { return n.Stopping("interrupted") },
			"STOPPING=1\nSTATUS=interrupted"},
		{"a line break begins no assignment", func(n *Notifier) error { return n.Progress("a\nMAINPID=1\r\nb\x00c\u0085d", 0) },
			"STATUS=a MAINPID=1  b c d"},
		{"a line break in stopping", func(n *Notifier) error { return n.Stopping("a\nMAINPID=1") },
			"STOPPING=1\nSTATUS=a MAINPID=1"},
		{"invalid UTF-8, which systemd would ignore", func(n *Notifier) error { return n.Progress("a\xffb", 0) },
			"STATUS=a\uFFFDb"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			receive := listen(t)
			if err := tt.notify(new(Notifier)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, receive()); diff != "" {
				t.Errorf("datagram (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNoMoreTimeOnceStopping(t *testing.T) {
	receive := listen(t)
	var n Notifier
	if err := n.Stopping("interrupted"); err != nil {
		t.Fatal(err)
	}
	if err := n.Progress("last batch", TimeoutStart); err != nil {
		t.Fatal(err)
	}
	receive()
	if got, want := receive(), "STATUS=last batch"; got != want {
		t.Errorf("after Stopping: sent %q, want %q; an extension would now stretch TimeoutStopSec=", got, want)
	}
}

func TestLongStatusKeepsTheNotificationReadable(t *testing.T) {
	receive := listen(t)
	// Three bytes each, so that the limit falls inside of a character.
	if err := new(Notifier).Progress(strings.Repeat("\u20ac", 3000), TimeoutStart); err != nil {
		t.Fatal(err)
	}
	got := receive()
	if len(got) > 4096 || !utf8.ValidString(got) || !strings.HasSuffix(got, "\nEXTEND_TIMEOUT_USEC=600000000") {
		t.Errorf("systemd would ignore this notification of %d bytes: %.40q ... %.60q", len(got), got, got[max(0, len(got)-60):])
	}
}

func TestNoServiceManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var n Notifier
	if err := n.Progress("working", TimeoutStart); err != nil {
		t.Errorf("Progress without NOTIFY_SOCKET: %v", err)
	}
	if err := n.Stopping("done"); err != nil {
		t.Errorf("Stopping without NOTIFY_SOCKET: %v", err)
	}
}

func TestUnreachableServiceManagerIsAnError(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody-listens"))
	err := new(Notifier).Progress("working", TimeoutStart)
	if err == nil || !strings.HasPrefix(err.Error(), "notify systemd: ") {
		t.Errorf("Progress = %v, want an error that says what went wrong", err)
	}
}
