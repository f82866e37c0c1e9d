package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

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
	rows, err := readOn(ctx, conn, settings, "SELECT", standingQuery, oidText(p.oid))
	if err != nil {
		return nil, classify(err)
	}
	if len(rows) == 0 {
		p.table.drops.drop(p.oid) // by somebody else
		return nil, nil
	}
	row := rows[0]
	s := &standing{name: row[0], parent: row[1], pending: row[2] == "t", bound: row[3], comment: row[4], hasDefault: row[5] == "t"}
	if s.parent == "" || s.pending {
		p.table.drops.hide(p.oid, s.name)
	}
	return s, nil
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
	now.comment = unmarked(now.comment)
	if now.pending {
		err = p.transact(ctx, conn, "ALTER TABLE "+now.parent+" DETACH PARTITION "+now.name+" FINALIZE")
	} else if p.table.drops.concurrently && !now.hasDefault {
		err = p.detachConcurrently(ctx, conn, now)
	} else {
		err = p.transact(ctx, conn, "ALTER TABLE "+now.parent+" DETACH PARTITION "+now.name, p.markSQL(now))
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
SELECT pg_catalog.set_config('lock_timeout', $1, false), pg_catalog.set_config('statement_timeout', '0', false),
       pg_catalog.set_config('synchronous_commit', 'off', false)`
	detachReset = "RESET lock_timeout; RESET statement_timeout; RESET synchronous_commit"
)

// transact executes statements that only change the catalog. Event triggers may
// run with them.
func (p *dropPiece) transact(ctx context.Context, conn *pgconn.PgConn, statements ...string) error {
	pipeline := []statement{
		{sql: begin},
		{settingsOfRole, []string{milliseconds(p.table.db.opts.LockTimeout), milliseconds(batchTimeout)}},
		{sql: "SELECT pg_catalog.set_config('synchronous_commit', 'off', true)"},
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
