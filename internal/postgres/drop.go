package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"message-cleanup/internal/cleanup"
)

// A partition is dropped in two steps. It is detached, so that nobody's way
// leads to it any more; then one transaction locks it, counts its rows, and drops
// it if all of them are expired. That may take as long as it likes: nobody waits
// for it. The application meets the first step only, which changes the catalog.

// drops is what a Table knows of partitions that are dropped.
type drops struct {
	concurrently bool // the server can detach without a lock that shuts everybody out

	whole   map[uint32]bool // leaves of what is to be dropped
	leaving map[uint32]bool // leaves of what was on its way out when the plan was made

	detaching sync.Mutex // only one partition of a table can be on its way out

	mu     sync.Mutex        // guards all below
	gone   map[uint32]bool   // dropped
	hidden map[uint32]string // detached and not dropped, by their oid: not seen through the table
	waits  int               // how often in a row a lock was waited for in vain, in the last pass
}

func newDrops(server Server) *drops {
	return &drops{
		// DETACH ... CONCURRENTLY cannot be in a transaction, and a lock_timeout
		// outside of one would be some other client's behind a pooler.
		concurrently: server.Version >= 140000 && !server.Pooled,
		whole:        make(map[uint32]bool),
		leaving:      make(map[uint32]bool),
		gone:         make(map[uint32]bool),
		hidden:       make(map[uint32]string),
	}
}

func (d *drops) hide(oid uint32, name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hidden[oid] = name
}

func (d *drops) show(oid uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.hidden, oid)
}

func (d *drops) drop(oid uint32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.hidden, oid)
	d.gone[oid] = true
	d.waits = 0
}

func (d *drops) isGone(oid uint32) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.gone[oid]
}

// from names what a count has to read: the table, and what was detached from it
// and is still there.
func (t *Table) from() string {
	t.drops.mu.Lock()
	defer t.drops.mu.Unlock()
	if len(t.drops.hidden) == 0 {
		return t.name
	}
	from := "(SELECT " + t.expiry.column + " FROM " + t.name
	for _, name := range t.drops.hidden {
		from += " UNION ALL SELECT " + t.expiry.column + " FROM " + name
	}
	return from + ") AS everywhere"
}

// dropCutter makes one piece of a whole partition.
type dropCutter struct {
	piece *dropPiece
	done  bool
}

func newDropCutter(t *Table, leaf cleanup.LeafPlan) *dropCutter {
	return &dropCutter{piece: &dropPiece{table: t, oid: leaf.OID, name: leaf.Name}}
}

// Next implements cleanup.Cutter.
func (c *dropCutter) Next(context.Context, int) (cleanup.Piece, error) {
	if c.done || c.piece.table.drops.isGone(c.piece.oid) {
		return nil, nil
	}
	c.done = true
	return c.piece, nil
}

// dropPiece is a whole partition.
type dropPiece struct {
	table *Table
	oid   uint32
	name  string // when the plan was made

	detached bool // by this run
	tried    bool
}

// standing is where a partition stands between being one and being gone.
type standing struct {
	name       string // as SQL and people need it
	parent     string // likewise; "": it is detached
	pending    bool
	bound      string // FOR VALUES ...
	comment    string
	hasDefault bool // the parent has a default partition
}

const standingQuery = `
SELECT format('%I.%I', n.nspname, c.relname), CASE WHEN p.oid IS NULL THEN '' ELSE format('%I.%I', pn.nspname, p.relname) END,
       coalesce((to_jsonb(i) ->> 'inhdetachpending')::bool, false),
       coalesce(pg_get_expr(c.relpartbound, c.oid), ''),
       coalesce(obj_description(c.oid, 'pg_class'), ''),
       coalesce(t.partdefid <> 0, false)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
LEFT JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
LEFT JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
LEFT JOIN pg_catalog.pg_partitioned_table t ON t.partrelid = p.oid
WHERE c.oid = $1::oid`

// read returns nil if the partition is gone.
func (p *dropPiece) read(ctx context.Context, conn *pgconn.PgConn) (*standing, error) {
	results, err := exec(ctx, conn, statement{standingQuery, []string{p.oidText()}})
	if err != nil {
		return nil, classify(err)
	}
	if len(results[0].rows) == 0 {
		p.table.drops.drop(p.oid) // by somebody else
		return nil, nil
	}
	row := results[0].rows[0]
	s := &standing{name: row[0], parent: row[1], pending: row[2] == "t", bound: row[3], comment: row[4], hasDefault: row[5] == "t"}
	if s.parent == "" || s.pending {
		p.table.drops.hide(p.oid, s.name)
	}
	return s, nil
}

func (p *dropPiece) oidText() string { return strconv.FormatUint(uint64(p.oid), 10) }

// Delete implements cleanup.Piece.
func (p *dropPiece) Delete(ctx context.Context) (cleanup.Batch, error) {
	db, began := p.table.db, time.Now()
	s, err := db.borrow(ctx)
	if err != nil {
		return cleanup.Batch{}, err
	}
	defer db.giveBack(s)
	if err := db.ready(ctx, s); err != nil {
		return cleanup.Batch{}, err
	}
	if err := db.fates.takeLost(); err != nil {
		return cleanup.Batch{}, err
	}
	now, err := p.detach(ctx, s.conn)
	if err != nil || now == nil {
		return cleanup.Batch{}, p.patient(ctx, err)
	}
	rows, err := p.drop(ctx, s, now)
	if err != nil {
		return cleanup.Batch{}, p.patient(ctx, err)
	}
	p.table.drops.drop(p.oid)
	return cleanup.Batch{Deleted: rows, Took: time.Since(began), Dropped: now.name}, nil
}

// DeleteUnlocked implements cleanup.Piece: it leaves the whole partition.
func (p *dropPiece) DeleteUnlocked(ctx context.Context) (cleanup.Batch, error) {
	rows, err := p.table.db.query(ctx, standingQuery, p.oidText())
	if err != nil || len(rows) == 0 {
		return cleanup.Batch{}, err
	}
	n, err := p.table.db.query(ctx, "SELECT count(*) FROM "+rows[0][0]+" WHERE "+p.table.expiry.expired(), p.table.expiry.bound)
	if err != nil {
		return cleanup.Batch{}, err
	}
	locked, err := integer(n)
	return cleanup.Batch{Locked: locked}, err
}

// detach detaches the partition, or ends what was begun. It returns how it
// stands then, or nil if somebody else dropped it.
func (p *dropPiece) detach(ctx context.Context, conn *pgconn.PgConn) (*standing, error) {
	p.table.drops.detaching.Lock()
	defer p.table.drops.detaching.Unlock()
	now, err := p.read(ctx, conn)
	if err != nil || now == nil || now.parent == "" {
		return now, err
	}
	if now.pending {
		err = p.transact(ctx, conn, "ALTER TABLE "+now.parent+" DETACH PARTITION "+now.name+" FINALIZE")
	} else {
		now.comment = unmarked(now.comment)
		if p.table.drops.concurrently && !now.hasDefault {
			err = p.detachConcurrently(ctx, conn, now)
		} else {
			err = p.transact(ctx, conn, "ALTER TABLE "+now.parent+" DETACH PARTITION "+now.name, p.markSQL(now))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("detach partition %s: %w", now.name, classify(err))
	}
	p.detached = true
	p.table.drops.hide(p.oid, now.name)
	return now, nil
}

// detachConcurrently never makes anybody wait for a lock on the table. It is two
// transactions of the server's own; the partition is not seen through the table
// from the first on, and the second waits for those who might still see it.
func (p *dropPiece) detachConcurrently(ctx context.Context, conn *pgconn.PgConn, now *standing) error {
	if err := p.transact(ctx, conn, p.markSQL(now)); err != nil {
		return err
	}
	_, err := exec(ctx, conn, statement{detachSettings, []string{milliseconds(p.table.db.opts.LockTimeout)}})
	if err == nil {
		_, err = conn.Exec(ctx, "ALTER TABLE "+now.parent+" DETACH PARTITION "+now.name+" CONCURRENTLY").ReadAll()
		if !conn.IsClosed() {
			_, resetErr := conn.Exec(context.WithoutCancel(ctx), detachReset).ReadAll()
			err = errors.Join(err, resetErr)
		}
	}
	if err == nil {
		return nil
	}
	if after, readErr := p.read(ctx, conn); readErr == nil && after != nil && after.parent != "" && !after.pending {
		_ = p.transact(ctx, conn, commentSQL(after.name, unmarked(after.comment))) // the mark says what is not so
	}
	return err
}

// These settings outlive their transaction, because the DETACH has several. It
// need not be on disk before the DROP is, which waits for the disk.
const (
	detachSettings = `
SELECT set_config('lock_timeout', $1, false), set_config('statement_timeout', '0', false),
       set_config('synchronous_commit', 'off', false)`
	detachReset = "RESET lock_timeout; RESET statement_timeout; RESET synchronous_commit"
)

// transact executes statements that only change the catalog.
func (p *dropPiece) transact(ctx context.Context, conn *pgconn.PgConn, statements ...string) error {
	pipeline := []statement{
		{sql: begin},
		{settings, []string{milliseconds(p.table.db.opts.LockTimeout), milliseconds(batchTimeout)}},
		{sql: "SELECT set_config('synchronous_commit', 'off', true)"},
	}
	for _, sql := range statements {
		pipeline = append(pipeline, statement{sql: sql})
	}
	_, err := exec(ctx, conn, append(pipeline, statement{sql: commit})...)
	return err
}

func (p *dropPiece) markSQL(now *standing) string {
	return commentSQL(now.name, marked(attachSQL(now.parent, now.name, now.bound), now.comment))
}

// commentSQL has the comment as a literal, since COMMENT takes no parameters; an
// empty one removes it.
func commentSQL(name, comment string) string {
	return "COMMENT ON TABLE " + name + " IS E'" + strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(comment) + "'"
}

const nameQuery = "SELECT to_regclass($1)::oid = $2::oid"

// drop drops the partition if all its rows are expired, and returns how many
// they were.
func (p *dropPiece) drop(ctx context.Context, s *session, now *standing) (int64, error) {
	db := p.table.db
	results, err := exec(ctx, s.conn,
		statement{sql: begin},
		statement{batchStart, []string{milliseconds(db.opts.LockTimeout), "0"}},
		statement{sql: wholeSettings},
		statement{sql: "LOCK TABLE " + now.name + " IN ACCESS EXCLUSIVE MODE"},
		statement{nameQuery, []string{now.name, p.oidText()}},
		statement{p.table.wholeSQL(now.name), []string{p.table.expiry.bound}})
	if err != nil {
		return 0, fmt.Errorf("count partition %s, which is detached: %w", now.name, classify(err))
	}
	start, counted := results[1].rows[0], results[5].rows[0]
	if same := results[4].rows[0][0] == "t"; !same {
		rollback(ctx, s.conn)
		return 0, &cleanup.TransientError{Err: fmt.Errorf("partition %s was renamed meanwhile", now.name)}
	}
	rows, err := strconv.ParseInt(counted[0], 10, 64)
	if err == nil && counted[1] == "t" {
		err = cleanup.Errorf(cleanup.NeedsPerson, "compare its rows with its bounds, or set strategy: auto",
			"partition %s is not dropped: it holds rows that have not expired", now.name)
	}
	if err != nil {
		rollback(ctx, s.conn)
		return 0, p.undo(ctx, s.conn, now, err)
	}
	if _, err := exec(ctx, s.conn, statement{sql: "DROP TABLE " + now.name}); err != nil {
		if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code != lockNotAvailable && !isConnectionLoss(server.Code) && ctx.Err() == nil {
			err = p.undo(ctx, s.conn, now, forPerson(cleanup.NeedsPerson, server, "remove what stands in the way, or set strategy: auto"))
		}
		return 0, fmt.Errorf("drop partition %s, which is detached: %w", now.name, classify(err))
	}
	position, err := parseLSN(start[2])
	if err != nil {
		return 0, err
	}
	if err := db.fates.begin(s, position, start[1]); err != nil {
		return 0, err
	}
	// A DROP waits for the disk whatever synchronous_commit says.
	return rows, db.commit(ctx, &transaction{session: s, replayed: s.replayed, xid: start[0], began: start[2], piece: p, rows: rows})
}

// undo attaches the partition again that this run has detached, because of what
// is wrong with it.
func (p *dropPiece) undo(ctx context.Context, conn *pgconn.PgConn, now *standing, wrong error) error {
	if !p.detached {
		return wrong
	}
	sql := attachSQL(now.parent, now.name, now.bound)
	if err := p.transact(ctx, conn, sql, commentSQL(now.name, now.comment)); err != nil {
		return cleanup.Errorf(cleanup.KindOf(wrong), sql, "%w; it is detached and could not be attached again: %w", wrong, err)
	}
	p.detached = false
	p.table.drops.show(p.oid)
	return fmt.Errorf("%w; it is attached again", wrong)
}

// maxWaits is how often in a row a lock on any partition is waited for in the
// last pass, about six seconds with the pauses between.
const maxWaits = 7

// patient decides what becomes of a failure. When somebody holds a lock, the
// other partitions go first; in the last pass, it is tried some more.
func (p *dropPiece) patient(ctx context.Context, err error) error {
	if state := SQLState(err); state != lockNotAvailable && state != notInState {
		return err
	}
	d := p.table.drops
	d.mu.Lock()
	first := !p.tried
	p.tried = true
	if !first {
		d.waits++
	}
	again := !first && d.waits <= maxWaits
	giveUp := !first && d.waits == maxWaits+1 // this is said once, not for each partition
	d.mu.Unlock()
	if again {
		return &cleanup.TransientError{Err: err}
	}
	if giveUp {
		p.table.db.opts.Log.Warn(cleanup.EventLocked, "table", p.table.facts.Name, "partition", p.name, "error", err, "holder", p.holder(ctx))
	}
	return cleanup.ErrLocked
}

// holderQuery names who has been in a transaction for longest of those who hold
// a lock on a partition, or on what it is a partition of.
const holderQuery = `
SELECT format('server process %s (%s), %s since %s', l.pid, coalesce(nullif(a.application_name, ''), 'no name'),
              coalesce(a.state, 'in a state that this role may not see'),
              coalesce(to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), 'an unknown time'))
FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'relation' AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.relation = $1::oid OR l.relation IN (SELECT relid FROM pg_partition_ancestors($1::oid))
       OR l.relation = to_regclass($2))
  AND coalesce(a.application_name, '') <> current_setting('application_name')
ORDER BY a.xact_start LIMIT 1`

func (p *dropPiece) holder(ctx context.Context) string {
	rows, err := p.table.db.query(ctx, holderQuery, p.oidText(), p.table.name)
	if err != nil || len(rows) == 0 {
		return "unknown"
	}
	return rows[0][0]
}

// sql returns what a run would do, for people.
func (p *dropPiece) sql(ctx context.Context) (string, error) {
	rows, err := p.table.db.query(ctx, standingQuery, p.oidText())
	if err != nil || len(rows) == 0 {
		return "", err
	}
	name, parent, pending, hasDefault := rows[0][0], rows[0][1], rows[0][2] == "t", rows[0][5] == "t"
	drop := "DROP TABLE " + name
	if parent == "" {
		return drop, nil
	}
	detach := "ALTER TABLE " + parent + " DETACH PARTITION " + name
	switch {
	case pending:
		detach += " FINALIZE"
	case p.table.drops.concurrently && !hasDefault:
		detach += " CONCURRENTLY"
	}
	return detach + ";\n" + drop, nil
}
