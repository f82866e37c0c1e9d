package postgres_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

// watch gives a setup limits of the pressure, and a log to read.
func (s *setup) watch(limits cleanup.PressureLimits) *bytes.Buffer {
	var log bytes.Buffer
	s.runner.Pressure = limits
	s.runner.Log = slog.New(slog.NewTextHandler(&log, nil))
	return &log
}

func pressure(t *testing.T, table *postgres.Table) cleanup.Pressure {
	t.Helper()
	p, err := table.Pressure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// stuckStandby is a standby that has replayed everything so far, and replays
// nothing more until it is told to.
func stuckStandby(t *testing.T, primary *pgtest.Cluster, conn *pgx.Conn) (resume func()) {
	standby := pgtest.Conn(t, pgtest.Standby(t, primary, "second").URL("postgres"))
	pgtest.Eventually(t, "the standby to replay everything", func() bool {
		return pgtest.Int(t, conn, "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = pg_current_wal_flush_lsn()") == 1
	})
	pgtest.Exec(t, standby, "SELECT pg_wal_replay_pause()")
	pgtest.Eventually(t, "the standby to stop replaying", func() bool {
		return pgtest.Int(t, standby, "SELECT pg_is_wal_replay_paused()::int") == 1
	})
	return func() { pgtest.Exec(t, standby, "SELECT pg_wal_replay_resume()") }
}

func TestRunPausesForAStandbyThatIsBehindAndGoesOn(t *testing.T) {
	t.Parallel()
	primary := pgtest.Private(t, pgtest.Options{})
	conn := pgtest.Conn(t, primary.URL("postgres"))
	table(t, conn, 3_000)
	resume := stuckStandby(t, primary, conn)

	s := newSetup(t, primary.URL("postgres"))
	s.runner.Workers = 2
	log := s.watch(cleanup.PressureLimits{ReplicaLag: 500 * time.Millisecond, Pause: time.Minute})
	s.begin = func(table *postgres.Table) {
		if p := pressure(t, table); len(p.Standbys) != 1 || p.Standbys[0].Lag > s.runner.Pressure.ReplicaLag || p.Hidden != "" {
			t.Errorf("a standby that has replayed everything is %+v", p)
		}
		pgtest.Exec(t, conn, "CREATE TABLE news ()")
		pgtest.Eventually(t, "the standby to be behind", func() bool {
			return pressure(t, table).Standbys[0].Lag > s.runner.Pressure.ReplicaLag
		})
	}
	paused := 0
	s.runner.Progress = func(p cleanup.Progress) {
		if p.Phase != cleanup.Paused {
			return
		}
		if paused++; paused == 2 {
			if n := pgtest.Int(t, conn, expiredRows); n != 3_000 {
				t.Errorf("%d rows are left in the pause, want all 3,000", n)
			}
			resume()
		}
	}
	r := s.run(t)
	want(t, r, cleanup.OutcomeComplete, 3_000)
	if !strings.Contains(log.String(), `msg=paused policy=messages table=public.messages reason="standby second is `) ||
		!strings.Contains(log.String(), "s behind, more than pace.max_replica_lag (500ms)") ||
		strings.Count(log.String(), `msg="pause ended"`) != 1 || len(r.Warnings) > 0 {
		t.Errorf("warnings %q, log:\n%s", r.Warnings, log)
	}
}

func TestRunEndsWhenASlotThatNobodyReadsKeepsTooMuch(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{})
	conn := pgtest.Conn(t, cluster.URL("postgres"))
	pgtest.Exec(t, conn, "SELECT pg_create_physical_replication_slot('unread', true), pg_create_physical_replication_slot('unused')")
	table(t, conn, 3_000) // more than a MB

	s := newSetup(t, cluster.URL("postgres"))
	log := s.watch(cleanup.PressureLimits{SlotWAL: 1 << 20, Pause: 1500 * time.Millisecond})
	s.begin = func(table *postgres.Table) {
		if p := pressure(t, table); len(p.Slots) != 1 || p.Slots[0].Name != "unread" || p.Slots[0].WAL < 1<<20 {
			t.Errorf("the slots are %+v", p.Slots)
		}
	}
	r := s.run(t)
	wantKind(t, r, cleanup.Incomplete)
	if r.StopReason != cleanup.UnderPressure || r.Outcome() != cleanup.OutcomeIncomplete || r.Deleted != 0 || r.Backlog == nil || *r.Backlog != 3_000 {
		t.Errorf("ended as %q, %q with %d rows and backlog %v", r.StopReason, r.Outcome(), r.Deleted, r.Backlog)
	}
	if text := r.Err.Error(); !strings.Contains(text, "of WAL for replication slot unread, more than pace.max_slot_wal (1MB)") {
		t.Errorf("the error does not name the slot: %s", text)
	}
	if n := strings.Count(log.String(), "msg=paused"); n != 1 {
		t.Errorf("%d pauses, want 1:\n%s", n, log)
	}

	pgtest.Exec(t, conn, "SELECT pg_drop_replication_slot('unread')")
	s = newSetup(t, cluster.URL("postgres"))
	s.watch(cleanup.PressureLimits{SlotWAL: 1 << 20, Pause: time.Minute})
	want(t, s.run(t), cleanup.OutcomeComplete, 3_000)
}

func TestStandbysThatTheRoleMayNotSeeAreSaid(t *testing.T) {
	t.Parallel()
	primary := pgtest.Private(t, pgtest.Options{})
	conn := pgtest.Conn(t, primary.URL("postgres"))
	table(t, conn, 100)
	role, url := pgtest.Role(t, conn, primary.URL("postgres"))
	pgtest.Exec(t, conn, "GRANT SELECT, DELETE, UPDATE (expires_at) ON messages TO "+role)
	limits := cleanup.PressureLimits{ReplicaLag: time.Minute, Pause: time.Minute}

	s := newSetup(t, url)
	s.watch(limits)
	s.begin = func(table *postgres.Table) {
		if p := pressure(t, table); len(p.Standbys) > 0 || p.Hidden != "" {
			t.Errorf("without a standby the pressure is %+v", p)
		}
	}
	if r := s.run(t); len(r.Warnings) > 0 {
		t.Errorf("without a standby the run warns: %q", r.Warnings)
	}

	pgtest.Standby(t, primary, "second")
	s = newSetup(t, url) // another run
	s.watch(limits)
	const said = "may not see how far behind the standbys are, so the run does not wait for them: GRANT pg_read_all_stats TO "
	if r := s.run(t); len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], said) {
		t.Errorf("warnings %q, want one with %q", r.Warnings, said)
	}

	pgtest.Exec(t, conn, "GRANT pg_read_all_stats TO "+role)
	s = newSetup(t, url)
	s.watch(limits)
	s.begin = func(table *postgres.Table) {
		pgtest.Eventually(t, "the standby to say how far it is", func() bool { return len(pressure(t, table).Standbys) == 1 })
	}
	if r := s.run(t); len(r.Warnings) > 0 {
		t.Errorf("a role that may see the standby warns: %q", r.Warnings)
	}
}

// A subscriber has confirmed nothing for long: its slot counts, its lag does not.
func TestLogicalSubscribersCountByTheirSlot(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{Settings: map[string]string{"wal_level": "logical"}})
	url := cluster.URL("postgres")
	conn := pgtest.Conn(t, url)
	table(t, conn, 10)
	pgtest.Exec(t, conn, "CREATE PUBLICATION all_messages FOR TABLE messages")
	pgtest.Exec(t, conn, "SELECT pg_create_logical_replication_slot('subscriber', 'pgoutput')")
	subscribe(t, url, "subscriber", "all_messages")
	pgtest.Eventually(t, "the subscriber's position", func() bool {
		return pgtest.Int(t, conn, "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn < pg_current_wal_flush_lsn()") == 1
	})

	s := newSetup(t, url)
	s.begin = func(table *postgres.Table) {
		if p := pressure(t, table); len(p.Standbys) > 0 || len(p.Slots) != 1 || p.Slots[0].Name != "subscriber" || p.Slots[0].WAL <= 0 {
			t.Errorf("a subscriber is %+v, want a slot alone", p)
		}
	}
	want(t, s.run(t), cleanup.OutcomeComplete, 10)
}

// subscribe reads a slot as a logical subscriber does that confirms the first
// byte of the WAL, and nothing more.
func subscribe(t *testing.T, url, slot, publication string) {
	t.Helper()
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	front := conn.Frontend()
	front.SendQuery(&pgproto3.Query{String: "START_REPLICATION SLOT " + slot + " LOGICAL 0/0 (proto_version '1', publication_names '" + publication + "')"})
	if err := front.Flush(); err != nil {
		t.Fatal(err)
	}
	for {
		message, err := conn.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, both := message.(*pgproto3.CopyBothResponse); both {
			break
		}
	}
	// https://www.postgresql.org/docs/current/protocol-replication.html, Standby status update (F)
	status := []byte{'r'}
	for _, value := range []uint64{1, 1, 1, 0} { // written, flushed, applied, the time
		status = binary.BigEndian.AppendUint64(status, value)
	}
	front.Send(&pgproto3.CopyData{Data: append(status, 0)})
	if err := front.Flush(); err != nil {
		t.Fatal(err)
	}
}
