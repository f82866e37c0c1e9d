package postgres

import (
	"context"
	"fmt"
	"strings"

	"message-cleanup/internal/cleanup"
)

// place is where the rows of a policy are, with the names as SQL needs them.
type place struct {
	oid, kind  string // of pg_class
	table      string
	column     string
	attnum     string
	columnType string
	role       string
}

const placeQuery = `
SELECT format('%I.%I', n.nspname, c.relname), quote_ident(a.attname), a.attnum, quote_ident($3)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
WHERE c.oid = $1::oid AND a.attname = $2`

// locate finds table and column of a policy as Inspect does, and reads no row.
func (db *DB) locate(ctx context.Context, policy cleanup.Policy, role string) (p place, err error) {
	t := &Table{db: db}
	if p.oid, p.kind, err = t.find(ctx, policy.Table); err != nil {
		return p, err
	}
	column, columnType, err := db.findColumn(ctx, p.oid, t.facts.Name, policy.Column)
	if err != nil {
		return p, err
	}
	rows, err := db.query(ctx, placeQuery, p.oid, column, role)
	if err != nil {
		return p, fmt.Errorf("find column %s of %s: %w", policy.Column, t.facts.Name, err)
	}
	if len(rows) == 0 {
		return p, cleanup.Errorf(cleanup.Incomplete, "", "table %s was changed meanwhile", t.facts.Name)
	}
	p.table, p.column, p.attnum, p.role, p.columnType = rows[0][0], rows[0][1], rows[0][2], rows[0][3], columnType
	return p, nil
}

// closedSchema opens the schema of a table whose name cannot even be looked up.
const closedSchema = `
SELECT format('GRANT USAGE ON SCHEMA %I TO %I', (parse_ident($1))[1], $2::text)
WHERE cardinality(parse_ident($1)) = 2`

// CheckTable tells what is wrong with a policy's table, from the catalog alone:
// it takes no privilege. zoned says that the policy names a time zone.
func (db *DB) CheckTable(ctx context.Context, policy cleanup.Policy, zoned bool, server Server) (findings []cleanup.Finding) {
	p, err := db.locate(ctx, policy, db.config.User)
	if err != nil {
		finding := cleanup.FindingOf(policy.Name, err)
		if rows, err := db.query(ctx, closedSchema, policy.Table, db.config.User); finding.Name == "privileges" && err == nil && len(rows) > 0 {
			finding.SQL = rows[0]
		}
		return []cleanup.Finding{finding}
	}
	for _, look := range []func() ([]cleanup.Finding, error){
		func() ([]cleanup.Finding, error) { return db.checkPrivileges(ctx, p, policy, server) },
		func() ([]cleanup.Finding, error) { return checkZone(p, policy, zoned), nil },
		func() ([]cleanup.Finding, error) { return nil, db.checkSyntax(ctx, p, policy) },
		func() ([]cleanup.Finding, error) { return db.checkIndexes(ctx, p, policy) },
		func() ([]cleanup.Finding, error) { return db.checkReferences(ctx, p) },
		func() ([]cleanup.Finding, error) { return db.checkDefault(ctx, p, policy) },
		func() ([]cleanup.Finding, error) { return db.checkTriggers(ctx, p) },
		func() ([]cleanup.Finding, error) { return db.checkAutovacuum(ctx, p, policy) },
	} {
		found, err := look()
		if err != nil {
			found = append(found, cleanup.FindingOf("", err))
		}
		findings = append(findings, found...)
	}
	for i := range findings {
		findings[i].Policy = policy.Name
	}
	return findings
}

func checkZone(p place, policy cleanup.Policy, zoned bool) []cleanup.Finding {
	if zoned || p.columnType != "timestamp without time zone" {
		return nil
	}
	return []cleanup.Finding{{
		Name: "time-zone-unset", Severity: cleanup.SeverityError,
		Text: fmt.Sprintf("%s of %s does not say in which zone its times are, nor does the policy: they are read as %s", p.column, p.table, policy.TimeZone),
		Hint: "write time_zone into the policy: UTC, or the zone that the application writes in",
	}}
}

// checkSyntax reads the conditions. The server does so before it looks whether the
// role may read the table.
func (db *DB) checkSyntax(ctx context.Context, p place, policy cleanup.Policy) error {
	err := db.checkConditions(ctx, p.table, policy.Where, policy.Hold)
	if SQLState(err) == insufficientRights {
		return nil // said already
	}
	return err
}

// triggersQuery lists the triggers that are fired before a row, or a statement,
// is deleted. They can do away with the deletion without an error: by returning
// NULL for a row, as by returning NEW, which is NULL here. A function of which no
// way out returns OLD does so always, or raises. The bits of tgtype are those of
// src/include/catalog/pg_trigger.h: 1 row, 2 before, 8 delete. A partition's copy of its
// table's trigger goes with that.
const triggersQuery = belowQuery + `
SELECT quote_ident(g.tgname), format('%I.%I', n.nspname, c.relname),
       g.tgtype & 1 <> 0 AND l.lanname = 'plpgsql' AND g.tgqual IS NULL AND f.prosrc !~* 'return[^;]*\mold\M'
FROM tree JOIN pg_catalog.pg_trigger g ON g.tgrelid = tree.oid
JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_proc f ON f.oid = g.tgfoid JOIN pg_catalog.pg_language l ON l.oid = f.prolang
WHERE NOT g.tgisinternal AND g.tgparentid = 0 AND g.tgtype & 10 = 10 AND g.tgenabled IN ('O', 'A')
ORDER BY c.oid <> $1::oid, n.nspname, c.relname, g.tgname`

func (db *DB) checkTriggers(ctx context.Context, p place) (findings []cleanup.Finding, err error) {
	rows, err := db.query(ctx, triggersQuery, p.oid)
	if err != nil {
		return nil, fmt.Errorf("look for triggers of %s: %w", p.table, err)
	}
	for _, row := range rows {
		finding := cleanup.Finding{
			Name: "delete-trigger", Severity: cleanup.SeverityWarning,
			Text: fmt.Sprintf("trigger %s of %s is fired before each deletion, and may refuse it or drop it", row[0], row[1]),
			SQL:  []string{fmt.Sprintf("ALTER TABLE %s DISABLE TRIGGER %s", row[1], row[0])},
			Hint: "if all ways out of its function return OLD, or end in an error that is meant, leave it",
		}
		if row[2] == "t" {
			finding.Severity = cleanup.SeverityError
			finding.Text = fmt.Sprintf("trigger %s of %s lets no row be deleted: its function never returns OLD", row[0], row[1])
			finding.Hint = "disable it, or let its function return OLD"
		}
		findings = append(findings, finding)
	}
	return findings, nil
}

// autovacuumQuery lists the leaves that autovacuum passes by. A setting with
// another spelling of false is as good as off.
const autovacuumQuery = belowQuery + `
SELECT format('%I.%I', n.nspname, c.relname)
FROM tree JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace,
     pg_options_to_table(c.reloptions) AS o
WHERE c.relkind = 'r' AND o.option_name = 'autovacuum_enabled' AND NOT o.option_value::bool
ORDER BY 1`

func (db *DB) checkAutovacuum(ctx context.Context, p place, policy cleanup.Policy) ([]cleanup.Finding, error) {
	if policy.Vacuum == cleanup.VacuumAfter {
		return nil, nil
	}
	rows, err := db.query(ctx, autovacuumQuery, p.oid)
	if err != nil {
		return nil, fmt.Errorf("look for the storage parameters of %s: %w", p.table, err)
	}
	everywhere, err := db.value(ctx, "SELECT current_setting('autovacuum')::bool AND current_setting('track_counts')::bool")
	if err != nil {
		return nil, err
	}
	finding := cleanup.Finding{
		Name: "autovacuum-off", Severity: cleanup.SeverityError,
		Hint: "or let the run do it: vacuum: after",
	}
	var names []string
	for _, row := range rows {
		names = append(names, row[0])
		finding.SQL = append(finding.SQL, "ALTER TABLE "+row[0]+" RESET (autovacuum_enabled)")
	}
	if everywhere != "t" {
		names = []string{"the whole server"}
		finding.SQL = append(finding.SQL, "ALTER SYSTEM SET autovacuum = on", "ALTER SYSTEM SET track_counts = on", "SELECT pg_reload_conf()")
	}
	if len(names) == 0 {
		return nil, nil
	}
	finding.Text = fmt.Sprintf("autovacuum is off for %s, so the space of deleted rows is not used again", strings.Join(names, ", "))
	return []cleanup.Finding{finding}, nil
}

// defaultQuery tells how a column gets its value, if not by the INSERT.
const defaultQuery = `
SELECT a.atthasdef OR a.attidentity <> '' OR (SELECT y.typdefault IS NOT NULL FROM pg_catalog.pg_type y WHERE y.oid = a.atttypid),
       a.attnotnull
FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::oid AND a.attnum = $2::int2`

func (db *DB) checkDefault(ctx context.Context, p place, policy cleanup.Policy) ([]cleanup.Finding, error) {
	rows, err := db.query(ctx, defaultQuery, p.oid, p.attnum)
	if err != nil || len(rows) == 0 || rows[0][0] == "t" {
		return nil, err
	}
	value := newValue(p.columnType, policy)
	if value == "" { // a column of a type that Inspect refuses
		return nil, nil
	}
	finding := cleanup.Finding{
		Name: "default-missing", Severity: cleanup.SeverityError, SQL: []string{defaultSQL(p, value)},
		Text: fmt.Sprintf("%s of %s has no default: a row inserted without it never expires", p.column, p.table),
	}
	if rows[0][1] == "t" {
		finding.Severity = cleanup.SeverityWarning
		finding.Text = fmt.Sprintf("%s of %s has no default: an INSERT without it fails", p.column, p.table)
	}
	return []cleanup.Finding{finding}, nil
}

func defaultSQL(p place, value string) string {
	return fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s", p.table, p.column, value)
}
