// Package systemd is how the program talks to the systemd that started it: log
// entries with fields into the journal, and progress into `systemctl status`.
//
// Nothing here is needed to delete a row. Started from a shell, in a container
// or on a system without systemd, [StderrIsJournal] is false and a [Notifier]
// does nothing.
package systemd

import (
	"strings"
	"unicode"

	"github.com/coreos/go-systemd/v22/journal"
)

// StderrIsJournal reports whether the log belongs into the journal, as native
// entries: stderr is connected to it, and its socket can be reached.
//
// Either sign alone misleads. The socket is there in a terminal and under cron
// too, where whoever reads stderr would see nothing. And stderr can be the
// journal's while the socket is out of reach (a unit with a /run of its own),
// where native entries would be lost.
//
// When it is true, the log must not also be written to stderr: every line
// would be in the journal twice.
func StderrIsJournal() bool {
	// A malformed JOURNAL_STREAM is an error; text on stderr is right then too.
	connected, err := journal.StderrIsJournalStream()
	return err == nil && connected && journal.Enabled()
}

// oneLine makes s safe for a protocol that ends a value at the end of the
// line: control characters become spaces, and invalid UTF-8, for which systemd
// would throw the whole value away, is replaced.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
