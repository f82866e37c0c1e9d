package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
func (c *dropCutter) Next(context.Context, int, bool) (cleanup.Piece, error) {
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

// Delete implements cleanup.Piece.
func (p *dropPiece) Delete(ctx context.Context) (cleanup.Batch, error) {
	db, began := p.table.db, time.Now()
	s, err := db.session(ctx)
	if err != nil {
		return cleanup.Batch{}, err
	}
	defer db.giveBack(s)
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
	rows, err := p.table.db.query(ctx, standingQuery, oidText(p.oid))
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

const nameQuery = "SELECT pg_catalog.to_regclass($1)::oid = $2::oid"

// drop drops the partition if all its rows are expired, and returns how many
// they were.
func (p *dropPiece) drop(ctx context.Context, s *session, now *standing) (int64, error) {
	db := p.table.db
	results, err := exec(ctx, s.conn,
		statement{sql: begin},
		statement{batchStart, []string{milliseconds(db.opts.LockTimeout), "0"}},
		statement{sql: wholeSettings},
		statement{sql: "LOCK TABLE " + now.name + " IN ACCESS EXCLUSIVE MODE"},
		statement{nameQuery, []string{now.name, oidText(p.oid)}},
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
	dropped, err := exec(ctx, s.conn, statement{sql: "DROP TABLE " + now.name}, statement{sql: positionsQuery})
	if err != nil {
		if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code != lockNotAvailable && !endsConnection(server) && ctx.Err() == nil {
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
	return rows, db.commit(ctx, &transaction{
		session: s, server: s.server, xid: start[0], deleted: dropped[1].rows[0][0], piece: p,
		rows: rows, ledger: p.table.entry.grow(rows, now.name),
	})
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
		p.table.db.opts.Log.Warn(cleanup.EventNotDropped, "table", p.table.facts.Name, "partition", p.name, "error", err, "holder", p.holder(ctx))
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
	rows, err := p.table.db.query(ctx, holderQuery, oidText(p.oid), p.table.name)
	if err != nil || len(rows) == 0 {
		return "unknown"
	}
	return rows[0][0]
}

// sql returns what a run would do, for people.
func (p *dropPiece) sql(ctx context.Context) (string, error) {
	rows, err := p.table.db.query(ctx, standingQuery, oidText(p.oid))
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
