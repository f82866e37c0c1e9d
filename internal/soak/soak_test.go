package main

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// A short soak. The long one is make soak; what it found is in
// docs/reliability.md.
func TestSoak(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "message-cleanup")
	if out, err := exec.Command("go", "build", "-o", binary, "message-cleanup/cmd/message-cleanup").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	report, err := soak(t.Context(), binary, 10*time.Second, t.Output())
	t.Log(report)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.violations) > 0 || report.runs < 2 || report.deleted+report.unreported == 0 || len(report.faults) == 0 {
		t.Error("it should have runs, faults, deleted rows, and no violations")
	}
}
