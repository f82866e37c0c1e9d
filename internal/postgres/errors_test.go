package postgres

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"message-cleanup/internal/cleanup"
)

func TestWhatTheServerSaysDecidesWhoHasToAct(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		severity, code string
		transient      bool
		kind           cleanup.Kind // of what is not
	}{
		{"ERROR", "40001", true, 0},
		{"ERROR", "53100", true, 0}, // out of disk for a temporary file
		{"ERROR", "53200", true, 0}, // out of memory
		{"FATAL", "25P03", true, 0}, // idle in transaction: this program was stopped
		{"FATAL", "25P04", true, 0}, // transaction_timeout, PostgreSQL 17
		{"FATAL", "57P01", true, 0},
		{"FATAL", "XX000", true, 0}, // the postmaster is gone
		{"PANIC", "53100", true, 0}, // out of disk for the log
		{"ERROR", "57014", false, cleanup.Incomplete},
		{"ERROR", "42P01", false, cleanup.Configuration},
		{"ERROR", "42501", false, cleanup.Permission},
		{"ERROR", "25006", false, cleanup.NeedsPerson},
		{"ERROR", "58030", false, cleanup.NeedsPerson}, // the server's disk fails
		{"ERROR", "XX001", false, cleanup.NeedsPerson}, // a damaged page
		{"ERROR", "0A000", false, cleanup.Internal},
	} {
		err := classify(&pgconn.PgError{SeverityUnlocalized: tt.severity, Code: tt.code})
		_, transient := errors.AsType[*cleanup.TransientError](err)
		if transient != tt.transient || !transient && cleanup.KindOf(err) != tt.kind {
			t.Errorf("%s %s: transient %v, kind %d; want %v, %d", tt.severity, tt.code, transient, cleanup.KindOf(err), tt.transient, tt.kind)
		}
	}
}
