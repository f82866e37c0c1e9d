package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"message-cleanup/internal/cleanup"
)

// Server is what the server says of itself when a run begins.
type Server struct {
	Version  int           // as server_version_num: 150018 is 15.18
	Clock    time.Time     // the server's clock
	Skew     time.Duration // how far the server's clock is ahead of the host's
	Standby  bool          // it replays what a primary writes
	ReadOnly bool          // transactions are read-only unless they say otherwise
	Pooled   bool          // a connection pooler stands in between

	Facts cleanup.ServerFacts
}

const serverQuery = `
SELECT current_setting('server_version_num'),
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
       pg_is_in_recovery(),
       current_setting('default_transaction_read_only')::bool,
       pg_backend_pid(),
       pg_size_bytes(current_setting('shared_buffers')) / current_setting('block_size')::int,
       current_setting('random_page_cost')::float8 / greatest(current_setting('seq_page_cost')::float8, 0.01),
       pg_size_bytes(current_setting('wal_buffers'))`

// Server asks the server for its facts, and refuses one of which that makes no
// sense. now is the host's clock.
func (db *DB) Server(ctx context.Context, now func() time.Time) (Server, error) {
	if err := db.checkEngine(ctx); err != nil {
		return Server{}, err
	}
	before := now()
	rows, err := db.query(ctx, serverQuery)
	after := now()
	if err != nil {
		return Server{}, fmt.Errorf("ask the server for its version and clock: %w", err)
	}
	row := rows[0]
	version, err := strconv.Atoi(row[0])
	if err != nil {
		return Server{}, fmt.Errorf("server_version_num: %w", err)
	}
	micros, err := strconv.ParseInt(row[1], 10, 64)
	if err != nil {
		return Server{}, fmt.Errorf("clock_timestamp: %w", err)
	}
	var facts cleanup.ServerFacts
	if facts.Buffers, err = strconv.ParseInt(row[5], 10, 64); err != nil {
		return Server{}, fmt.Errorf("shared_buffers: %w", err)
	}
	if facts.RandomCost, err = strconv.ParseFloat(row[6], 64); err != nil {
		return Server{}, fmt.Errorf("random_page_cost: %w", err)
	}
	if facts.WALBuffers, err = strconv.ParseInt(row[7], 10, 64); err != nil {
		return Server{}, fmt.Errorf("wal_buffers: %w", err)
	}
	clock := time.UnixMicro(micros).UTC()
	return Server{
		Version:  version,
		Clock:    clock,
		Skew:     clock.Sub(before.Add(after.Sub(before) / 2)),
		Standby:  row[2] == "t",
		ReadOnly: row[3] == "t",
		// A pooler hands out process ids of its own.
		Pooled: row[4] != strconv.Itoa(int(db.reader.PID())),
		Facts:  facts,
	}, nil
}

// Check refuses a server on which a run must not begin.
func (s Server) Check(maxSkew time.Duration) error {
	switch {
	case s.Standby:
		return cleanup.Errorf(cleanup.NeedsPerson, "connect to the primary: target_session_attrs=read-write with all hosts in the address does it",
			"the server is a standby, nothing can be deleted there").Named("standby")
	case s.ReadOnly:
		return cleanup.Errorf(cleanup.NeedsPerson, "somebody set default_transaction_read_only for the server, the database or the role: ask why before you unset it",
			"the database is read-only, nothing can be deleted there").Named("read-only")
	case s.Skew.Abs() > maxSkew:
		return cleanup.Errorf(cleanup.NeedsPerson, "set the wrong clock right; guard.max_clock_skew is the limit",
			"the server's clock is %s and differs by %s from this host's, more than %s: a run deletes nothing",
			s.Clock.Format(time.RFC3339), s.Skew.Abs().Round(time.Second), maxSkew).Named("clock-skew")
	}
	return nil
}

// Warnings tells what a run does differently on this server.
func (s Server) Warnings() []cleanup.Finding {
	if !s.Pooled {
		return nil
	}
	return []cleanup.Finding{{
		Name: "pooler", Severity: cleanup.SeverityWarning,
		Text: "a connection pooler stands in between: the lock against a second run is held by an open transaction",
		Hint: "let message-cleanup connect to the server directly",
	}}
}
