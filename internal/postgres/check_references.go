package postgres

import (
	"context"
	"fmt"
	"time"

	"message-cleanup/internal/cleanup"
)

// referencesQuery lists the foreign keys that refer to a table, or to something
// below it, with what it takes to make the same one with ON DELETE CASCADE. The
// copies that partitions have of their table's are left out.
const referencesQuery = belowQuery + `
SELECT k.conrelid, quote_ident(k.conname), format('%I.%I', n.nspname, c.relname), k.conkey::text, k.confdeltype,
       format('FOREIGN KEY (%s) REFERENCES %I.%I (%s)%s%s ON DELETE CASCADE%s%s', keys.own, rn.nspname, r.relname, keys.others,
         CASE k.confmatchtype WHEN 'f' THEN ' MATCH FULL' ELSE '' END,
         CASE k.confupdtype WHEN 'r' THEN ' ON UPDATE RESTRICT' WHEN 'c' THEN ' ON UPDATE CASCADE'
              WHEN 'n' THEN ' ON UPDATE SET NULL' WHEN 'd' THEN ' ON UPDATE SET DEFAULT' ELSE '' END,
         CASE WHEN k.condeferrable THEN ' DEFERRABLE' ELSE '' END,
         CASE WHEN k.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END),
       keys.own, keys.others, keys.joined,
       has_table_privilege(k.conrelid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE'), pg_relation_size(k.conrelid) > 0 OR c.relkind = 'p'
FROM tree JOIN pg_catalog.pg_constraint k ON k.confrelid = tree.oid
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class r ON r.oid = k.confrelid JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace,
LATERAL (
  SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY place) AS own,
         string_agg(quote_ident(b.attname), ', ' ORDER BY place) AS others,
         string_agg(format('referring.%I = expired.%I', a.attname, b.attname), ' AND ' ORDER BY place) AS joined
  FROM unnest(k.conkey, k.confkey) WITH ORDINALITY AS u(mine, theirs, place)
  JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.mine
  JOIN pg_catalog.pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = u.theirs
) AS keys
WHERE k.contype = 'f' AND k.conparentid = 0
ORDER BY n.nspname, c.relname, k.conname`

// reference is a foreign key that refers to a policy's table.
type reference struct {
	name, table string // the foreign key's, and the referring table's
	oid         string // of the referring table
	attnums     string // the referring columns, as a literal of an array
	refuses     bool   // NO ACTION or RESTRICT
	cascade     string // its definition with ON DELETE CASCADE
	own, others string // the columns of both ends
	joined      string // the condition under which a row "referring" refers to a row "expired"
	readable    bool   // by the role of the connection
	hasRows     bool   // the referring table has rows, or may have
}

func (db *DB) references(ctx context.Context, p place) (references []reference, err error) {
	rows, err := db.query(ctx, referencesQuery, p.oid)
	if err != nil {
		return nil, fmt.Errorf("look for foreign keys to %s: %w", p.table, err)
	}
	for _, row := range rows {
		references = append(references, reference{
			oid: row[0], name: row[1], table: row[2], attnums: row[3], refuses: row[4] == "a" || row[4] == "r",
			cascade: row[5], own: row[6], others: row[7], joined: row[8], readable: row[9] == "t", hasRows: row[10] == "t",
		})
	}
	return references, nil
}

// checkReferences tells which foreign keys would read their whole table for each
// row that is deleted.
func (db *DB) checkReferences(ctx context.Context, p place) (findings []cleanup.Finding, err error) {
	references, err := db.references(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, r := range references {
		found, err := db.findIndexes(ctx, r.oid, r.attnums, byValue)
		if err != nil {
			return findings, fmt.Errorf("foreign key %s of %s: %w", r.name, r.table, err)
		}
		if len(found.sql) > 0 {
			findings = append(findings, cleanup.Finding{
				Name: "foreign-key-unindexed", Severity: cleanup.SeverityError, SQL: found.sql,
				Text: fmt.Sprintf("foreign key %s has no usable index on %s (%s): all of it is read for each deleted row", r.name, r.table, r.own),
			})
		}
	}
	return findings, nil
}

// checkRefusals tells which foreign keys refuse to let rows go that are expired
// by the next night.
func (t *Table) checkRefusals(ctx context.Context, p place, policy cleanup.Policy, now time.Time) (findings []cleanup.Finding, err error) {
	references, err := t.db.references(ctx, p)
	if err != nil {
		return nil, err
	}
	tonight, err := t.db.newExpiry(ctx, policy, p.column, p.columnType, policy.Cutoff(now.Add(24*time.Hour)))
	if err != nil {
		return nil, err
	}
	for _, r := range references {
		if !r.refuses || !r.hasRows {
			continue
		}
		finding := cleanup.Finding{
			Name: "foreign-key-refuses", Severity: cleanup.SeverityWarning,
			SQL:  []string{fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s, ADD CONSTRAINT %s %s", r.table, r.name, r.name, r.cascade)},
			Hint: "if they shall not go together, delete those that refer first, or keep these by the policy's hold",
		}
		var refers, refuses [][]string
		if r.readable {
			// The conditions of the operator see the columns of their table alone.
			refuses, err = t.lookOfRole(ctx, checkTimeout, "SELECT EXISTS (SELECT FROM (SELECT "+r.others+" FROM "+t.name+" WHERE "+tonight.doomed()+
				"\n) AS expired JOIN "+r.table+" AS referring ON "+r.joined+")", tonight.bound)
			if err == nil && !isTrue(refuses) {
				refers, err = t.look(ctx, checkTimeout, "SELECT EXISTS (SELECT FROM "+r.table+" WHERE ("+r.own+") IS NOT NULL)")
			}
			if err != nil {
				return findings, fmt.Errorf("look for rows of %s that refer to %s: %w", r.table, p.table, err)
			}
		}
		switch {
		case isTrue(refuses):
			finding.Severity = cleanup.SeverityError
			finding.Text = fmt.Sprintf("foreign key %s of %s does not let rows go that expire by tomorrow: it refers to them", r.name, r.table)
		case isTrue(refers):
			finding.Text = fmt.Sprintf("foreign key %s of %s will not let rows go that it refers to", r.name, r.table)
		case !r.readable:
			finding.Hint = "to know, run check as the owner of both tables; " + finding.Hint
			finding.Text = fmt.Sprintf("foreign key %s of %s may not let rows go: role %s cannot see whether it refers to any", r.name, r.table, p.role)
		default:
			continue
		}
		findings = append(findings, finding)
	}
	return findings, nil
}

func isTrue(rows [][]string) bool {
	return len(rows) == 1 && rows[0][0] == "t"
}
