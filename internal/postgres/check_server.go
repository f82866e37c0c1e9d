package postgres

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
)

// CheckServer tells what is wrong with the server for all policies, and with the
// way to it. maxLag is how far a standby may be behind; 0: nobody looks.
func (db *DB) CheckServer(ctx context.Context, server Server, maxSkew, maxLag time.Duration) (findings []cleanup.Finding, err error) {
	if err := server.Check(maxSkew); err != nil {
		finding := cleanup.FindingOf("", err)
		if finding.SQL, err = db.mend(ctx, finding.Name); err != nil {
			return nil, err
		}
		findings = append(findings, finding)
	}
	findings = append(findings, server.Warnings()...)
	if db.exposed() {
		findings = append(findings, cleanup.Finding{
			Name: "no-tls", Severity: cleanup.SeverityWarning,
			Text: fmt.Sprintf("the connection to %s is not encrypted", db.config.Host),
			Hint: "add sslmode=verify-full to the address, and sslrootcert= if the server's certificate is of an authority of your own",
		})
	}
	if server.Standby { // what follows is the primary's
		return findings, nil
	}
	holders, err := db.query(ctx, "SELECT pg_snapshot_xmax(pg_current_snapshot())")
	if err != nil {
		return findings, err
	}
	old, err := db.holders(ctx, holders[0][0])
	if err != nil {
		return findings, err
	}
	if finding, held := cleanup.HeldBack(old, 0); held {
		findings = append(findings, finding)
	}
	if maxLag > 0 {
		pressure, err := db.pressure(ctx, time.Now)
		if err != nil {
			return findings, err
		}
		if pressure.Hidden != "" {
			findings = append(findings, cleanup.Finding{
				Name: "standbys-hidden", Severity: cleanup.SeverityWarning, Text: pressure.Hidden,
				SQL: []string{seeStandbys(db.quotedUser())},
			})
		}
	}
	return findings, nil
}

// readOnlySource names where default_transaction_read_only comes from, in the
// words of pg_settings.source, and what resets it there.
const readOnlySource = `
SELECT CASE source
         WHEN 'database' THEN format('ALTER DATABASE %I RESET default_transaction_read_only', current_database())
         WHEN 'user' THEN format('ALTER ROLE %I RESET default_transaction_read_only', session_user)
         WHEN 'database user' THEN format('ALTER ROLE %I IN DATABASE %I RESET default_transaction_read_only', session_user, current_database())
         WHEN 'global' THEN 'ALTER ROLE ALL RESET default_transaction_read_only'
         WHEN 'client' THEN ''
         ELSE 'ALTER SYSTEM SET default_transaction_read_only = off'
       END
FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only'`

// mend returns the statements that mend what the server's check found.
func (db *DB) mend(ctx context.Context, name string) ([]string, error) {
	if name != "read-only" {
		return nil, nil
	}
	reset, err := db.value(ctx, readOnlySource)
	switch {
	case err != nil || reset == "":
		return nil, err
	case strings.HasPrefix(reset, "ALTER SYSTEM"):
		return []string{reset, "SELECT pg_reload_conf()"}, nil
	}
	return []string{reset}, nil
}

// Encryption says how the connection is kept from others: the version of TLS,
// "local socket", or "not encrypted".
func (db *DB) Encryption() string {
	if encrypted, ok := db.reader.Conn().(*tls.Conn); ok {
		return tls.VersionName(encrypted.ConnectionState().Version)
	}
	if _, ok := db.reader.Conn().(*net.UnixConn); ok {
		return "local socket"
	}
	return unencrypted
}

const unencrypted = "not encrypted"

// exposed tells whether others could read the connection.
func (db *DB) exposed() bool {
	return db.Encryption() == unencrypted && leavesHost(db.reader.Conn().RemoteAddr())
}

func leavesHost(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	return ok && !tcp.IP.IsLoopback()
}

// quotedUser is the role of the connection as SQL needs it.
func (db *DB) quotedUser() string { return pgx.Identifier{db.config.User}.Sanitize() }

// seeStandbys lets a role see how far behind the standbys are.
func seeStandbys(role string) string { return "GRANT pg_read_all_stats TO " + role }
