package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"message-cleanup/internal/cleanup"
)

// grantsQuery tells for a table, and everything below it, what a role may do
// there; of one that does not exist yet, what everybody may, for which 0 stands.
// MAINTAIN came with PostgreSQL 17.
const grantsQuery = belowQuery + `, role(oid) AS (
  SELECT coalesce((SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = $2), 0)
)
SELECT c.relkind, format('%I.%I', n.nspname, c.relname), quote_ident(n.nspname), quote_ident(pg_get_userbyid(c.relowner)),
       has_schema_privilege(role.oid, n.oid, 'USAGE'),
       has_table_privilege(role.oid, c.oid, 'SELECT'),
       has_table_privilege(role.oid, c.oid, 'DELETE'),
       has_any_column_privilege(role.oid, c.oid, 'UPDATE'),
       pg_has_role(role.oid, c.relowner, 'USAGE'),
       CASE WHEN current_setting('server_version_num')::int >= 170000
            THEN has_table_privilege(role.oid, c.oid, 'MAINTAIN') END,
       c.relrowsecurity AND (role.oid = 0 OR EXISTS (
         SELECT FROM pg_catalog.pg_roles r
         WHERE r.oid = role.oid AND NOT r.rolsuper AND NOT r.rolbypassrls
           AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE'))))
FROM tree JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, role
WHERE c.relkind IN ('r', 'p', 'f')
ORDER BY c.oid <> $1::oid, n.nspname, c.relname`

// lacking is what a role lacks for the runs of a policy.
type lacking struct {
	grants []string // the statements that give it, and nothing beside it
	words  []string // the same for people
	fatal  bool     // a run would fail
	hidden string   // a table whose rows row-level security may hide; "": none
}

// lacks finds out what a role lacks for the runs of a policy. role is a name, not
// quoted. The parent of partitions is only read, for the count that proves that
// nothing is left; each partition is cut and deleted from by its own name.
func (db *DB) lacks(ctx context.Context, p place, policy cleanup.Policy, server Server, role string) (l lacking, err error) {
	rows, err := db.query(ctx, grantsQuery, p.oid, role)
	if err != nil {
		return l, fmt.Errorf("look for the privileges of role %s: %w", role, err)
	}
	to := " TO " + p.role
	grant := func(statement string, words ...string) {
		if !slices.Contains(l.grants, statement+to) {
			l.grants = append(l.grants, statement+to)
		}
		for _, word := range words {
			if !slices.Contains(l.words, word) {
				l.words = append(l.words, word)
			}
		}
	}
	drops := p.kind == "p" && policy.Strategy == cleanup.Partition && policy.Where == "" && policy.Hold == ""
	vacuums := policy.Vacuum == cleanup.VacuumAfter
	for i, row := range rows {
		yes := func(column int) bool { return row[column] == "t" }
		kind, table, schema, owner := row[0], row[1], row[2], row[3]
		if !yes(4) {
			grant("GRANT USAGE ON SCHEMA "+schema, "USAGE of schema "+schema)
			l.fatal = true
		}
		if yes(10) && l.hidden == "" {
			l.hidden = table
		}
		member, fatal := yes(8), !yes(5) || kind != "p" && !yes(6)
		if !member && (drops || vacuums && server.Version < 170000) {
			grant("GRANT "+owner, "the rights of owner "+owner)
			l.fatal = l.fatal || fatal
			continue
		}
		var missing []string
		if kind != "p" || i == 0 {
			missing = appendUnless(missing, "SELECT", yes(5))
		}
		if kind != "p" {
			missing = appendUnless(missing, "DELETE", yes(6))
		}
		if kind == "r" { // rows of a foreign table are not locked from here, nor is it vacuumed
			missing = appendUnless(missing, "UPDATE", yes(7))
			missing = appendUnless(missing, "MAINTAIN", !vacuums || member || yes(9))
		}
		if len(missing) > 0 {
			grant(grantSQL(missing, p.column, table), missing...)
			l.fatal = l.fatal || fatal
		}
	}
	return l, nil
}

func appendUnless(list []string, item string, has bool) []string {
	if has {
		return list
	}
	return append(list, item)
}

// grantSQL is a GRANT on a table. UPDATE of one column is what PostgreSQL asks
// for before it lets a role lock rows; nothing is ever updated.
func grantSQL(privileges []string, column, table string) string {
	list := strings.Join(privileges, ", ")
	return "GRANT " + strings.Replace(list, "UPDATE", "UPDATE ("+column+")", 1) + " ON " + table
}

// checkPrivileges tells what the role of the connection lacks.
func (db *DB) checkPrivileges(ctx context.Context, p place, policy cleanup.Policy, server Server) (findings []cleanup.Finding, err error) {
	l, err := db.lacks(ctx, p, policy, server, db.config.User)
	if err != nil {
		return nil, err
	}
	if len(l.grants) > 0 {
		finding := cleanup.Finding{
			Name: "privileges", Severity: cleanup.SeverityWarning, SQL: l.grants,
			Text: fmt.Sprintf("role %s lacks for %s: %s", p.role, p.table, strings.Join(l.words, ", ")),
		}
		if l.fatal {
			finding.Severity = cleanup.SeverityError
		}
		findings = append(findings, finding)
	}
	if l.hidden != "" {
		findings = append(findings, cleanup.Finding{
			Name: "row-level-security", Severity: cleanup.SeverityError, SQL: []string{bypassSQL(p.role)},
			Text: fmt.Sprintf("row-level security would hide rows of %s from role %s, so a run ends at once", l.hidden, p.role),
		})
	}
	return findings, nil
}

func bypassSQL(role string) string { return "ALTER ROLE " + role + " BYPASSRLS" }
