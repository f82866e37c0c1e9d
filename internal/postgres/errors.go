package postgres

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"message-cleanup/internal/cleanup"
)

// SQLSTATEs that decide something here; the list is appendix A of the
// PostgreSQL manual.
const (
	lockNotAvailable     = "55P03"
	deadlockDetected     = "40P01"
	serializationFailure = "40001"
	tooManyConnections   = "53300"
	queryCanceled        = "57014"
	insufficientRights   = "42501"
	undefinedDatabase    = "3D000"
	readOnlyTransaction  = "25006"
	invalidParameter     = "22023"
	divisionByZero       = "22012"
	datetimeOverflow     = "22008"
	undefinedTable       = "42P01"
	foreignKeyViolation  = "23503"
	restrictViolation    = "23001" // ON DELETE RESTRICT, from PostgreSQL 18 on
	undefinedObject      = "42704"
	notInState           = "55000" // DETACH: another partition is on its way out; DELETE: no replica identity
)

// isConnectionLoss tells the SQLSTATEs with which a server ends a connection,
// or does not let one begin yet: class 08, and being shut down, crashed or
// starting.
func isConnectionLoss(code string) bool {
	return strings.HasPrefix(code, "08") || code == "57P01" || code == "57P02" || code == "57P03" || code == "57P05"
}

// isTransient tells the errors after which the same statement can be tried again.
func isTransient(server *pgconn.PgError) bool {
	code := server.Code
	return code == lockNotAvailable || code == deadlockDetected || code == serializationFailure || endsConnection(server) ||
		strings.HasPrefix(code, "53") // out of disk, memory or connections: others may give some back
}

// endsConnection tells the errors after which the connection is gone: whatever
// the server calls FATAL, such as a timeout of a session that was stopped, or
// PANIC, with which all of it goes down. What became of the transaction only the
// next connection can ask.
func endsConnection(server *pgconn.PgError) bool {
	return server.SeverityUnlocalized == "FATAL" || server.SeverityUnlocalized == "PANIC" || isConnectionLoss(server.Code)
}

// SQLState returns the SQLSTATE of the server's error in err's chain, or "".
func SQLState(err error) string {
	if server := serverErrorOf(err); server != nil {
		return server.Code
	}
	return ""
}

// serverErrorOf returns the server's error in err's chain, or nil.
func serverErrorOf(err error) *pgconn.PgError {
	server, _ := errors.AsType[*pgconn.PgError](err)
	return server
}

// classify turns what pgx returns into what the rest of the program decides
// on: an error that can be tried again, or one for a person, with a hint.
func classify(err error) error {
	if _, known := errors.AsType[*cleanup.Error](err); err == nil || known {
		return err
	}
	if _, connecting := errors.AsType[*pgconn.ConnectError](err); connecting {
		return classifyConnect(err)
	}
	server, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		// The connection broke, or was closed after its context was cancelled.
		return &cleanup.TransientError{Err: err}
	}
	switch code := server.Code; {
	case isTransient(server):
		return &cleanup.TransientError{Err: err}
	case code == insufficientRights && strings.Contains(server.Routine, "rls"),
		code == insufficientRights && strings.Contains(server.Message, "row-level security"):
		return forPerson(cleanup.NeedsPerson, server,
			"row-level security would hide rows from this role: run as the table's owner or as a role with BYPASSRLS").Named("row-level-security")
	case code == insufficientRights, strings.HasPrefix(code, "28"):
		return forPerson(cleanup.Permission, server, "grant the role what it needs: message-cleanup check, as this role, prints the GRANT")
	case code == undefinedDatabase, strings.HasPrefix(code, "42"), strings.HasPrefix(code, "22"):
		// Class 42: a name or a condition that does not fit; class 22: a value.
		return forPerson(cleanup.Configuration, server, "compare the policy's table, column, where and hold with the database; message-cleanup check says which")
	case code == readOnlyTransaction:
		return forPerson(cleanup.NeedsPerson, server, "connect to the primary: target_session_attrs=read-write with all hosts in the address does it")
	case code == notInState, strings.HasPrefix(code, "23"):
		return forPerson(cleanup.NeedsPerson, server, server.Hint)
	case strings.HasPrefix(code, "58"), strings.HasPrefix(code, "XX"):
		return forPerson(cleanup.NeedsPerson, server, "the server reports damage, or trouble of its own: look into its log")
	case code == queryCanceled:
		return forPerson(cleanup.Incomplete, server, "a statement was cancelled by an administrator, or took longer than a minute: lower batch.max_rows, and look for a foreign key to the table without an index")
	}
	return forPerson(cleanup.Internal, server, server.Hint)
}

func classifyConnect(err error) error {
	server, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case errors.Is(err, syscall.EMFILE):
		return &cleanup.Error{Kind: cleanup.Unavailable, Err: err,
			Hint: "this program may not open more files: raise LimitNOFILE= of the service, or ulimit -n, or lower workers"}
	case !ok && mistrusted(err):
		return &cleanup.Error{Kind: cleanup.Configuration, Err: err,
			Hint: "see host, sslmode, sslrootcert, channel_binding and require_auth in the database's address; do not ask for less before you know that it is the right server"}
	case !ok || isConnectionLoss(server.Code) || server.Code == tooManyConnections:
		return &cleanup.Error{Kind: cleanup.Unavailable, Err: err,
			Hint: "check that the server runs and that database.url, or PGHOST and PGPORT, name it"}
	case server.Code == undefinedDatabase:
		return &cleanup.Error{Kind: cleanup.Configuration, Err: err, Hint: "check the database's name in database.url or PGDATABASE", Name: "connection"}
	case server.Code == undefinedObject, server.Code == invalidParameter:
		return &cleanup.Error{Kind: cleanup.Configuration, Err: err, Name: "connection",
			Hint: "what pgx does not know in the database's address, and PGOPTIONS, is a setting of the server: see whether it has that one, and is not a pooler"}
	}
	return &cleanup.Error{Kind: cleanup.Permission, Err: err,
		Hint: "check the user, its password or certificate, and the server's pg_hba.conf", Name: "connection"}
}

// mistrusted tells errors of a server that does not prove what the address asks
// of it: who it is, or that it is careful. Most of pgx's have no type.
func mistrusted(err error) bool {
	_, full := errors.AsType[*tls.CertificateVerificationError](err) // verify-full
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)     // verify-ca
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	_, alert := errors.AsType[tls.AlertError](err) // it does not like our certificate
	if full || unknown || invalid || alert {
		return true
	}
	text := err.Error()
	for _, said := range []string{
		"server refused TLS connection", "authentication method requirement", "channel binding required", "sslcertmode check failed",
	} {
		if strings.Contains(text, said) {
			return true
		}
	}
	return false
}

// forPerson makes an error of a server's, for the person who has to act on it.
func forPerson(kind cleanup.Kind, server *pgconn.PgError, hint string) *cleanup.Error {
	return &cleanup.Error{Kind: kind, Err: serverError{server}, Hint: hint}
}

// serverError writes a server's error in the order in which it is read: what
// happened, to which values, and last the code to search for.
type serverError struct{ *pgconn.PgError }

func (e serverError) Error() string {
	text := e.Message
	if e.Detail != "" {
		text += ": " + strings.TrimSuffix(e.Detail, ".")
	}
	return text + " (SQLSTATE " + e.Code + ")"
}

func (e serverError) Unwrap() error { return e.PgError }
