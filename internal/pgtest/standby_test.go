package pgtest

import (
	"os"
	"testing"
)

func TestStandbyFollowsItsPrimary(t *testing.T) {
	t.Parallel()
	primary := Private(t, Options{})
	conn := Conn(t, primary.URL("postgres"))
	Exec(t, conn, "CREATE TABLE copied AS SELECT 1 AS n")
	standby := Standby(t, primary, "second")
	Exec(t, conn, "INSERT INTO copied VALUES (2)")

	copied := Conn(t, standby.URL("postgres"))
	Eventually(t, "the second row to arrive", func() bool {
		return Int(t, copied, "SELECT count(*) FROM copied") == 2
	})
	if n := Int(t, conn, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'second' AND state = 'streaming'"); n != 1 {
		t.Errorf("the primary streams to %d standbys called second, want 1", n)
	}
	if n := Int(t, copied, "SELECT pg_is_in_recovery()::int"); n != 1 {
		t.Error("the standby is none")
	}
	standby.Close()
	if _, err := os.Stat(standby.Dir); !os.IsNotExist(err) {
		t.Errorf("the standby's directory is left: %v", err)
	}
	Exec(t, conn, "INSERT INTO copied VALUES (3)")
}
