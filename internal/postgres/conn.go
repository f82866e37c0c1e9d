// Package postgres is everything that speaks to PostgreSQL: it connects,
// reads the catalog, cuts tables into pieces, deletes them, and knows after
// every fault which transactions were committed.
//
// It supports PostgreSQL 13 and later; block ranges (the heap strategy) need
// 14. All statements are sent without prepared statements, and all settings are
// local to their transaction, so that a connection pooler may stand in between.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"message-cleanup/internal/cleanup"
)

// Options say how to reach the database and how to behave in it.
type Options struct {
	// URL is a postgres:// URL or keyword=value pairs. What it leaves out comes
	// from libpq's environment variables and files, as far as pgx supports them.
	URL string
	// ConnectTimeout bounds one attempt to connect; a connect_timeout in the
	// URL or in PGCONNECT_TIMEOUT has precedence.
	ConnectTimeout time.Duration
	// Wait is how long an unreachable server is waited for; 0: not at all.
	Wait time.Duration
	// LockTimeout is how long a batch waits for rows that others hold locked.
	LockTimeout time.Duration
	// BatchTimeout is how long one statement of a batch may take; 0 is a minute.
	BatchTimeout time.Duration
	// Workers is how many batches may be in work at once; 0 is 1.
	Workers int

	Log     *slog.Logger
	Stop    <-chan struct{} // closed: do not wait any longer
	Waiting func(cause error, next time.Duration)
}

// DB is one database. It has a connection for each worker that deletes, one that
// reads, so that it can look ahead meanwhile, and one that holds the lock. It
// reconnects by itself.
type DB struct {
	opts     Options
	config   *pgconn.Config
	sessions chan *session // those that no worker uses

	locks sync.Mutex
	lock  *lock // nil: none is held; guarded by locks

	readers sync.Mutex
	reader  *pgconn.PgConn // reads; guarded by readers

	fates  fates
	others others

	written history // used by pressure alone
}

// session is a connection that deletes. One worker at a time uses it.
type session struct {
	conn   *pgconn.PgConn // nil or closed: to be connected at next use
	server incarnation    // when conn began
}

// Open connects to the database, waiting for it as long as the options say.
func Open(ctx context.Context, opts Options) (*DB, error) {
	config, err := parseAddress(opts.URL)
	if err != nil {
		return nil, err
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = opts.ConnectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "message-cleanup"
	}
	config.RuntimeParams["client_encoding"] = "UTF8" // which names in the configuration are in
	// A cancelled context asks the server to cancel the statement and waits for
	// its answer, so that the fate of the transaction is known.
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 5 * time.Second}
	}
	db := &DB{opts: opts, config: config, sessions: make(chan *session, max(1, opts.Workers))}
	for range cap(db.sessions) {
		db.sessions <- &session{}
	}
	if db.reader, err = db.connect(ctx); err != nil {
		return nil, err
	}
	return db, nil
}

// Close ends all connections. No batch may be in work. What was not flushed is
// not confirmed.
func (db *DB) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	db.Unlock(ctx)
	for range cap(db.sessions) {
		if s := <-db.sessions; s.conn != nil {
			_ = s.conn.Close(ctx)
		}
	}
	db.readers.Lock()
	defer db.readers.Unlock()
	_ = db.reader.Close(ctx)
}

// Address names the database for people: never a password.
func (db *DB) Address() string {
	host := net.JoinHostPort(db.config.Host, strconv.Itoa(int(db.config.Port)))
	return fmt.Sprintf("database %s at %s as %s", db.config.Database, host, db.config.User)
}

// borrow takes a session for one transaction.
func (db *DB) borrow(ctx context.Context) (*session, error) {
	select {
	case s := <-db.sessions:
		return s, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// borrowConnected takes a session that is connected, if there is one. No batch
// may be in work. What one worker's lost connection ends, the others' may still
// bring to its end.
func (db *DB) borrowConnected(ctx context.Context) (*session, error) {
	for range cap(db.sessions) - 1 {
		s, err := db.borrow(ctx)
		if err != nil || s.conn != nil && !s.conn.IsClosed() {
			return s, err
		}
		db.giveBack(s)
	}
	return db.borrow(ctx)
}

// session takes a connected session for a batch. It fails as long as there is
// news of lost batches that nobody was told.
func (db *DB) session(ctx context.Context) (*session, error) {
	s, err := db.borrow(ctx)
	if err != nil {
		return nil, err
	}
	if err = db.ready(ctx, s); err == nil {
		err = db.fates.takeLost()
	}
	if err != nil {
		db.giveBack(s)
		return nil, err
	}
	return s, nil
}

func (db *DB) giveBack(s *session) { db.sessions <- s }

// ready connects a session that has lost its connection, or never had one, and
// finds out which transactions the server kept.
func (db *DB) ready(ctx context.Context, s *session) error {
	if s.conn != nil && !s.conn.IsClosed() {
		return nil
	}
	conn, err := db.connect(ctx)
	if err != nil {
		return err
	}
	if s.conn != nil {
		err = db.relock(ctx)
	}
	var server incarnation
	if err == nil {
		server, err = db.fates.settle(ctx, conn, s)
	}
	if err != nil {
		_ = conn.Close(ctx)
		return err
	}
	s.conn, s.server = conn, server
	return nil
}

const (
	firstWait = 100 * time.Millisecond
	maxWait   = 5 * time.Second
)

// connect makes one connection, and waits for a server that is not there.
func (db *DB) connect(ctx context.Context) (*pgconn.PgConn, error) {
	deadline := time.Now().Add(db.opts.Wait)
	var logged time.Time
	for wait := firstWait; ; wait = min(2*wait, maxWait) {
		conn, err := pgconn.ConnectConfig(ctx, db.config)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, cleanup.Errorf(cleanup.Incomplete, "", "interrupted while connecting to the database: %w", context.Cause(ctx))
		}
		left := time.Until(deadline)
		if !worthWaiting(err) || left <= 0 {
			return nil, classify(err)
		}
		next := min(wait/2+rand.N(wait), left)
		if time.Since(logged) >= time.Minute { // not for every try: there may be a hundred
			logged = time.Now()
			db.opts.Log.Warn(cleanup.EventWaiting, "error", err, "at_most", left.Round(time.Second).String())
		}
		if db.opts.Waiting != nil {
			db.opts.Waiting(err, next)
		}
		select {
		case <-ctx.Done():
		case <-db.opts.Stop:
			return nil, cleanup.Errorf(cleanup.Incomplete, "", "interrupted while waiting for the database: %w", err)
		case <-time.After(next):
		}
	}
}

// worthWaiting tells whether a server that could not be connected to may be
// there in a moment.
func worthWaiting(err error) bool {
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		return isConnectionLoss(server.Code) || server.Code == tooManyConnections
	}
	if name, ok := errors.AsType[*net.DNSError](err); ok && name.IsNotFound {
		return false
	}
	if errors.Is(err, syscall.EMFILE) { // nobody else closes our files
		return false
	}
	return !mistrusted(err)
}

// statement is one SQL statement with its parameters in PostgreSQL's text
// form. The server infers their types, which the statements make plain with
// casts.
type statement struct {
	sql  string
	args []string
}

func (s statement) queue(batch *pgconn.Batch) {
	args := make([][]byte, len(s.args))
	for i, a := range s.args {
		args[i] = []byte(a)
	}
	batch.ExecParams(s.sql, args, nil, nil, nil)
}

// result is the answer to one statement: its rows as text, a NULL as "".
type result struct {
	rows     [][]string
	affected int64
}

// exec sends statements as one pipeline. Statements behind a failed one are
// not executed; a transaction that failed is rolled back.
func exec(ctx context.Context, conn *pgconn.PgConn, statements ...statement) ([]result, error) {
	batch := &pgconn.Batch{}
	for _, s := range statements {
		s.queue(batch)
	}
	answers, err := conn.ExecBatch(ctx, batch).ReadAll()
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
		rollback(ctx, conn)
		return nil, err
	}
	results := make([]result, len(answers))
	for i, answer := range answers {
		results[i].affected = answer.CommandTag.RowsAffected()
		for _, values := range answer.Rows {
			row := make([]string, len(values))
			for j, v := range values {
				row[j] = string(v)
			}
			results[i].rows = append(results[i].rows, row)
		}
	}
	return results, nil
}

// rollback ends a failed transaction, so that the connection can be used again.
func rollback(ctx context.Context, conn *pgconn.PgConn) {
	if conn.IsClosed() || conn.TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if _, err := conn.Exec(ctx, "rollback").ReadAll(); err != nil {
		_ = conn.Close(ctx)
	}
}
