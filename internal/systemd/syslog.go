package systemd

import (
	"fmt"
	"log/slog"
	"log/syslog"

	"github.com/coreos/go-systemd/v22/journal"
)

// NewSyslogHandler returns a handler that sends records to the syslog daemon of
// this host, for systems without a journal. What [NewJournalHandler] makes fields
// of is key=value in the text here, and the priorities are the same.
func NewSyslogHandler(level slog.Leveler) (slog.Handler, error) {
	daemon, err := syslog.New(syslog.LOG_DAEMON|syslog.LOG_INFO, identifier)
	if err != nil {
		return nil, fmt.Errorf("reach the syslog daemon: %w", err)
	}
	h := newHandler(level)
	h.plain = func(priority journal.Priority, line string) error {
		switch priority {
		case journal.PriDebug:
			return daemon.Debug(line)
		case journal.PriWarning:
			return daemon.Warning(line)
		case journal.PriErr:
			return daemon.Err(line)
		default:
			return daemon.Info(line)
		}
	}
	return h, nil
}
