package postgres

import (
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"message-cleanup/internal/cleanup"
)

// What PgBouncer refuses has one SQLSTATE, protocol violation, so only its words
// tell what it is; it does not translate them.
const (
	protocolViolation    = "08P01"
	statementMode        = "transaction blocks not allowed in statement pooling mode"
	unsupportedParameter = "unsupported startup parameter"
	poolExhausted        = "query_wait_timeout"
)

// poolerError returns what a pooler refuses as an error for a person, or nil. To
// try again does not help.
func poolerError(server *pgconn.PgError) *cleanup.Error {
	if server.Code != protocolViolation {
		return nil
	}
	switch {
	case strings.HasPrefix(server.Message, statementMode):
		return forPerson(cleanup.Configuration, server,
			"the connection pooler is in statement mode: set pool_mode to transaction or session for this database and user, or connect to the server directly").Named("connection")
	case strings.HasPrefix(server.Message, unsupportedParameter):
		return forPerson(cleanup.Configuration, server,
			"a connection pooler refuses it: take it out of the database's address or PGOPTIONS, or add it to the pooler's ignore_startup_parameters").Named("connection")
	case server.Message == poolExhausted:
		return forPerson(cleanup.Incomplete, server,
			"the connection pooler had no server connection to spare: a run needs one for its lock and one more, in session mode one for each worker and two more (pool_size)")
	}
	return nil
}
