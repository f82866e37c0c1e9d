package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"message-cleanup/internal/pgtest"
)

// However few files the program may open: it ends at once, says what to do, and
// counts what is gone. With more, some of the workers find their connection.
func TestOutOfFileDescriptorsEndsTheRunWithAnExactCount(t *testing.T) {
	t.Parallel()
	url := pgtest.Database(t)
	conn := pgtest.Conn(t, url)
	pgtest.Exec(t, conn, `CREATE TABLE messages (expires_at timestamptz); CREATE INDEX ON messages (expires_at);
		INSERT INTO messages SELECT now() - n * interval '1 hour' FROM generate_series(1, 2000) AS n`)
	before, partly, completed := int64(2000), false, false
	for limit := 4; limit < 24 && !completed; limit++ {
		cmd := exec.Command("sh", "-c", fmt.Sprintf("ulimit -n %d; exec message-cleanup run --output json", limit))
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "DATABASE_URL=" + url,
			"MESSAGE_CLEANUP_WORKERS=4", "MESSAGE_CLEANUP_BATCH_MAX_ROWS=10"}
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		left := pgtest.Int(t, conn, "SELECT count(*) FROM messages")
		gone := before - left
		before = left

		var result struct {
			Deleted *int64 `json:"deleted_count"`
		}
		if json.Unmarshal(stdout.Bytes(), &result) != nil || result.Deleted == nil {
			// Go's runtime, or the loader, has too few itself.
			if err == nil || gone > 0 {
				t.Errorf("with %d files: %d rows are gone without a result: %v\n%s", limit, gone, err, stderr.String())
			}
			continue
		}
		if *result.Deleted != gone {
			t.Errorf("with %d files: deleted_count is %d, %d rows are gone\n%s", limit, *result.Deleted, gone, stdout.String())
		}
		completed = cmd.ProcessState.ExitCode() == exitOK
		partly = partly || gone > 0 && !completed
		if !completed && (cmd.ProcessState.ExitCode() != exitUnavailable || !strings.Contains(stdout.String(), "LimitNOFILE=")) {
			t.Errorf("with %d files: %v\n%s%s", limit, err, stdout.String(), stderr.String())
		}
	}
	if !partly || !completed {
		t.Errorf("some workers found no connection: %v; all found one: %v; want both", partly, completed)
	}
}
