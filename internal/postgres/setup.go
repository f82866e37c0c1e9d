package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"message-cleanup/internal/cleanup"
)

// Setup says what the database shall be prepared for.
type Setup struct {
	Role     string // that makes the runs; need not exist
	Policies []cleanup.Policy
	MaxLag   time.Duration // how far a standby may be behind; 0: nobody looks
	Ledger   string        // its table, an SQL name; "": none
}

// Step is one statement of what is missing. It can be run again without harm.
type Step struct {
	Policy string // "": all of them
	Why    string
	SQL    string
}

// setupQuery tells what a role lacks for any run: itself, CONNECT, and a look at
// the standbys, if there are any.
const setupQuery = `
SELECT quote_ident($1), role.oid <> 0,
       has_database_privilege(role.oid, current_database(), 'CONNECT'),
       quote_ident(current_database()),
       EXISTS (SELECT FROM pg_catalog.pg_stat_replication) AND NOT pg_has_role(role.oid, 'pg_read_all_stats', 'USAGE')
FROM (SELECT coalesce((SELECT oid FROM pg_catalog.pg_roles WHERE rolname = $1), 0)) AS role(oid)`

// Setup returns what is missing before the role can make runs, and the check
// finds nothing. It needs no privilege; who runs the statements does.
func (db *DB) Setup(ctx context.Context, server Server, s Setup) (steps []Step, err error) {
	rows, err := db.query(ctx, setupQuery, s.Role)
	if err != nil {
		return nil, fmt.Errorf("look for role %s: %w", s.Role, err)
	}
	role, exists, connects, database, blind := rows[0][0], rows[0][1] == "t", rows[0][2] == "t", rows[0][3], rows[0][4] == "t"
	if !exists {
		steps = append(steps, Step{Why: "A role that logs in and owns nothing. A local server lets the system user of that name in without a password (peer); else set one: \\password " + role,
			SQL: "DO $setup$ BEGIN CREATE ROLE " + role + " LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $setup$"})
	}
	if !connects {
		steps = append(steps, Step{Why: "It may connect", SQL: "GRANT CONNECT ON DATABASE " + database + " TO " + role})
	}
	if blind && s.MaxLag > 0 {
		steps = append(steps, Step{Why: "It sees how far behind the standbys are (pace.max_replica_lag)", SQL: seeStandbys(role)})
	}
	for _, policy := range s.Policies {
		p, err := db.locate(ctx, policy, s.Role)
		if err != nil {
			return steps, fmt.Errorf("policy %s: %w", policy.Name, err)
		}
		more, err := db.setupPolicy(ctx, server, p, policy, s.Role)
		if err != nil {
			return steps, fmt.Errorf("policy %s: %w", policy.Name, err)
		}
		steps = append(steps, more...)
	}
	if s.Ledger == "" {
		return steps, nil
	}
	sql, err := db.ledgerSQL(ctx, s.Ledger, s.Role)
	for _, statement := range sql {
		steps = append(steps, Step{Why: "The ledger: the role adds rows and closes them, and cannot delete them", SQL: statement})
	}
	return steps, err
}

func (db *DB) setupPolicy(ctx context.Context, server Server, p place, policy cleanup.Policy, role string) (steps []Step, err error) {
	add := func(why string, statements ...string) {
		for _, sql := range statements {
			steps = append(steps, Step{policy.Name, why, sql})
		}
	}
	l, err := db.lacks(ctx, p, policy, server, role)
	if err != nil {
		return nil, err
	}
	add("What a run needs, and nothing more. Nothing is updated: PostgreSQL asks for UPDATE before it lets anybody skip locked rows", l.grants...)
	if l.hidden != "" {
		add("Row-level security would hide rows of "+l.hidden, bypassSQL(p.role))
	}
	indexes, err := db.checkIndexes(ctx, p, policy)
	if err != nil {
		return nil, err
	}
	for _, finding := range indexes {
		add("Expired rows are found by it. Writers do not wait while it is made; it cannot be made inside of a transaction", finding.SQL...)
	}
	missing, err := db.checkDefault(ctx, p, policy)
	if err != nil {
		return nil, err
	}
	for _, finding := range missing {
		add("A row that is inserted without a time gets one", finding.SQL...)
	}
	return steps, nil
}

// applyLockTimeout bounds how long others queue behind a statement of the setup
// that waits for a lock.
const applyLockTimeout = 5 * time.Second

// Apply runs one statement of the setup in a transaction of its own, or outside
// of one where it must.
func (db *DB) Apply(ctx context.Context, sql string) error {
	db.readers.Lock()
	defer db.readers.Unlock()
	var err error
	if strings.Contains(sql, " CONCURRENTLY ") {
		_, err = db.reader.Exec(ctx, sql).ReadAll()
	} else {
		_, err = exec(ctx, db.reader,
			statement{sql: begin},
			statement{settingsOfRole, []string{milliseconds(applyLockTimeout), "0"}},
			statement{sql: sql},
			statement{sql: commit})
	}
	if err = classify(err); err != nil && cleanup.KindOf(err) == cleanup.Permission {
		return cleanup.Errorf(cleanup.Permission, "connect as a superuser, or as the owner of the table, for the setup", "%w", err)
	}
	return err
}
