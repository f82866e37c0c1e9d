package systemd

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What systemd 252 answers, as far as it is read; internal/e2e asks a real one.
func TestUnitsAreReadFromProperties(t *testing.T) {
	t.Parallel()
	const usec = 1_793_757_791_000_000 // 2026-11-04 01:23:11 UTC
	at := time.UnixMicro(usec).UTC()
	tests := []struct {
		name           string
		timer, service map[string]any
		want           Units
	}{
		{
			"waiting after a run that was complete",
			map[string]any{"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled", "NextElapseUSecRealtime": uint64(usec)},
			map[string]any{
				"ActiveState": "inactive", "StatusText": "complete: 3 rows deleted", "Result": "success",
				"ExecMainStatus": int32(0), "ExecMainExitTimestamp": uint64(usec),
			},
			Units{
				Timer{Unit: "x.timer", Installed: true, Active: true, Enabled: true, Next: at},
				Service{Status: "complete: 3 rows deleted", Ended: at, Result: "success"},
			},
		},
		{
			"running, after a run that failed",
			map[string]any{"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "disabled", "NextElapseUSecRealtime": uint64(math.MaxUint64)},
			map[string]any{
				"ActiveState": "activating", "StatusText": "messages: 10 rows deleted", "Result": "exit-code",
				"ExecMainStatus": int32(77), "ExecMainExitTimestamp": uint64(0),
			},
			Units{
				Timer{Unit: "x.timer", Installed: true, Active: true},
				Service{Running: true, Status: "messages: 10 rows deleted", Result: "exit-code", ExitStatus: 77},
			},
		},
		{
			"not installed",
			map[string]any{"LoadState": "not-found", "ActiveState": "inactive", "UnitFileState": "", "NextElapseUSecRealtime": uint64(0)},
			nil,
			Units{Timer: Timer{Unit: "x.timer"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, units("x", tt.timer, tt.service)); diff != "" {
				t.Errorf("units (-want +got):\n%s", diff)
			}
		})
	}
}
