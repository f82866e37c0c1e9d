package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"message-cleanup/internal/cleanup"
)

const (
	// mayVacuumQuery tells whether the role may vacuum a table, and who owns it:
	// the owners of table and database may. MAINTAIN came with PostgreSQL 17.
	mayVacuumQuery = `
SELECT pg_has_role(c.relowner, 'USAGE')
       OR pg_has_role((SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database()), 'USAGE'),
       quote_ident(pg_get_userbyid(c.relowner))
FROM pg_catalog.pg_class c WHERE c.oid = $1::oid`
	mayMaintainQuery = "SELECT has_table_privilege($1::oid, 'MAINTAIN')"

	// vacuumSettings make a vacuum as gentle as autovacuum, and let it tell that
	// it has skipped the table. They are the session's, as VACUUM has no
	// transaction around it, and the connection is closed behind it.
	vacuumSettings = `
SELECT set_config('statement_timeout', '0', false), set_config('client_min_messages', 'warning', false),
       set_config('vacuum_cost_delay', current_setting(
           CASE current_setting('autovacuum_vacuum_cost_delay') WHEN '-1' THEN '' ELSE 'autovacuum_' END || 'vacuum_cost_delay'), false)`
)

// touched is what a run has changed.
type touched struct {
	mu     sync.Mutex
	leaves map[string]bool // of which rows were deleted, by their quoted name
	first  uint64          // the lowest id of a transaction that did; 0: none
}

// note notes that a transaction deleted rows of a leaf.
func (t *touched) note(leaf string, id uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leaves == nil {
		t.leaves = make(map[string]bool)
	}
	t.leaves[leaf] = true
	if t.first == 0 || id < t.first {
		t.first = id
	}
}

// Touched implements cleanup.Database.
func (t *Table) Touched() (leaves []cleanup.Leaf) {
	t.touched.mu.Lock()
	defer t.touched.mu.Unlock()
	for _, leaf := range t.facts.Leaves {
		if leaf.Foreign == "" && t.touched.leaves[t.quoted[leaf.OID]] {
			leaves = append(leaves, leaf)
		}
	}
	return leaves
}

// Vacuum implements cleanup.Database. The space becomes reusable; none is given
// back to the operating system, for that takes a lock that readers wait for.
func (t *Table) Vacuum(ctx context.Context, leaf cleanup.Leaf) error {
	if t.pooled {
		return cleanup.Errorf(cleanup.Permission, "leave it to autovacuum, or connect to the server directly",
			"%s was not vacuumed: through a pooler it cannot be made gentle", leaf.Name)
	}
	if err := t.checkMayVacuum(ctx, leaf); err != nil {
		return err
	}
	config := t.db.config.Copy()
	var skipped *pgconn.Notice
	config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) {
		if notice.SeverityUnlocalized == "WARNING" {
			skipped = notice
		}
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return classify(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := exec(ctx, conn,
		statement{sql: begin},
		statement{settings, []string{milliseconds(readLockTimeout), "0"}},
		statement{sql: vacuumSettings},
		statement{sql: commit}); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "VACUUM (SKIP_LOCKED, TRUNCATE false) "+t.quoted[leaf.OID]).ReadAll(); err != nil {
		return err
	}
	switch {
	case skipped == nil:
		return nil
	case skipped.Code == lockNotAvailable:
		return cleanup.ErrLocked
	}
	return (*pgconn.PgError)(skipped)
}

// checkMayVacuum refuses what the server would skip with a warning.
func (t *Table) checkMayVacuum(ctx context.Context, leaf cleanup.Leaf) error {
	oid := strconv.FormatUint(uint64(leaf.OID), 10)
	rows, err := t.db.query(ctx, mayVacuumQuery, oid)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		return errors.New("it is gone")
	}
	may, owner := rows[0][0] == "t", rows[0][1]
	role := pgx.Identifier{t.db.config.User}.Sanitize()
	hint := fmt.Sprintf("leave it to autovacuum, or GRANT %s TO %s: before PostgreSQL 17 only owners may", owner, role)
	if t.version >= 170000 {
		hint = fmt.Sprintf("GRANT MAINTAIN ON %s TO %s", leaf.Name, role)
		if rows, err = t.db.query(ctx, mayMaintainQuery, oid); err != nil {
			return err
		}
		may = may || rows[0][0] == "t"
	}
	if may {
		return nil
	}
	return cleanup.Errorf(cleanup.Permission, hint, "%s was not vacuumed: role %s may not", leaf.Name, role)
}
