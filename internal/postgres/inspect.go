package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
)

// Nothing here depends on the role's search_path but resolveQuery.
const (
	// belowQuery begins queries about a table, $1, and everything below it.
	belowQuery = `
WITH RECURSIVE tree(oid) AS (
  SELECT $1::oid
  UNION
  SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
)`

	// resolveQuery finds the table that the policy names. A regclass is read as
	// SQL reads a name: folded to lower case unless quoted.
	resolveQuery = "SELECT coalesce(pg_catalog.to_regclass($1)::oid, 0::oid)"

	tableQuery = `
SELECT c.oid, c.relkind, n.nspname, c.relname, format('%I.%I', n.nspname, c.relname), coalesce(pg_partition_root(c.oid)::oid, 0)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1::oid`

	similarQuery = `
SELECT format('%I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND lower(c.relname) = lower(replace(regexp_replace($1, '^.*\.', ''), '"', ''))
ORDER BY 1 LIMIT 1`

	columnQuery = `
SELECT a.attname, format_type(a.atttypid, NULL)
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
  AND (a.attname = (parse_ident($2))[1] AND cardinality(parse_ident($2)) = 1
       OR lower(a.attname) = lower(replace($2, '"', '')))
ORDER BY a.attname <> (parse_ident($2))[1]`

	// leavesQuery lists the tables that hold rows: the table itself, or its
	// partitions and inheriting children at any depth. A partial index serves
	// if its condition is that the column is not null, which "before the cutoff"
	// implies. Foreign tables come last: a server that does not answer keeps no
	// row of this one.
	leavesQuery = belowQuery + `
SELECT c.oid, n.nspname, c.relname, c.relkind, c.reltuples,
       pg_relation_size(c.oid) / current_setting('block_size')::int,
       coalesce((SELECT quote_ident(i.relname)
                 FROM pg_catalog.pg_index x
                 JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
                 JOIN pg_catalog.pg_am m ON m.oid = i.relam
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = $2
                 WHERE x.indrelid = c.oid AND m.amname = 'btree'
                   AND x.indisvalid AND x.indisready AND x.indkey[0] = a.attnum
                   AND (x.indpred IS NULL OR pg_get_expr(x.indpred, x.indrelid) = format('(%I IS NOT NULL)', $2))
                 ORDER BY pg_relation_size(i.oid), i.oid LIMIT 1), ''),
       (SELECT s.correlation FROM pg_catalog.pg_stats s
        WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = $2 AND NOT s.inherited),
       has_table_privilege(c.oid, 'DELETE'),
       has_any_column_privilege(c.oid, 'UPDATE'),
       format('%I.%I', n.nspname, c.relname),
       pg_stat_get_mod_since_analyze(c.oid),
       coalesce((SELECT quote_ident(m.amname) FROM pg_catalog.pg_am m WHERE m.oid = c.relam AND m.amname <> 'heap'), ''),
       coalesce((SELECT quote_ident(s.srvname) FROM pg_catalog.pg_foreign_table f
                 JOIN pg_catalog.pg_foreign_server s ON s.oid = f.ftserver WHERE f.ftrelid = c.oid), ''),
       coalesce((SELECT string_agg(format('%L || left(%I::text, 100)', a.attname || '=', a.attname), ' || '', '' || ' ORDER BY k.place)
                 FROM pg_catalog.pg_index x
                 CROSS JOIN unnest(x.indkey) WITH ORDINALITY AS k(attnum, place)
                 JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
                 WHERE x.indrelid = c.oid AND x.indisprimary AND k.place <= x.indnkeyatts), '''ctid='' || ctid::text')
FROM tree JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'f')
ORDER BY c.relkind = 'f', n.nspname, c.relname`
)

// Inspect reads what a plan needs to know of a policy's table, from catalog
// and statistics. It needs no more than SELECT on the table.
func (db *DB) Inspect(ctx context.Context, policy cleanup.Policy, server Server, cutoff time.Time) (*Table, error) {
	t, root, err := db.identify(ctx, policy, server, cutoff)
	if err != nil {
		return nil, err
	}
	if root.kind == "p" {
		if err := t.readPartitions(ctx, policy, root.oid, root.column); err != nil {
			return nil, fmt.Errorf("inspect the partitions of %s: %w", t.facts.Name, err)
		}
	}
	if err := t.readLeaves(ctx, root.oid, root.column); err != nil {
		return nil, fmt.Errorf("inspect %s: %w", t.facts.Name, err)
	}
	return t, nil
}

// root is the table that a policy names, and its expiry column.
type root struct{ oid, kind, column string }

// identify finds a policy's table and its expiry condition, and nothing yet of
// what lies below it.
func (db *DB) identify(ctx context.Context, policy cleanup.Policy, server Server, cutoff time.Time) (t *Table, r root, err error) {
	t = &Table{
		db: db, version: server.Version, pooled: server.Pooled, tidRange: server.Version >= 140000, drops: newDrops(server),
		quoted: make(map[uint32]string), keys: make(map[uint32]string), cut: make(map[cleanup.Strategy]bool),
		advised: make(map[string]bool),
	}
	if r.oid, r.kind, err = t.find(ctx, policy.Table); err != nil {
		return nil, r, err
	}
	if err := db.checkDistributed(ctx, r.oid); err != nil {
		return nil, r, fmt.Errorf("inspect %s: %w", t.facts.Name, err)
	}
	t.facts.TIDRange, t.facts.Server = t.tidRange, server.Facts
	if r.column, t.facts.ColumnType, err = db.findColumn(ctx, r.oid, t.facts.Name, policy.Column); err != nil {
		return nil, r, err
	}
	t.expiry, err = db.newExpiry(ctx, policy, pgx.Identifier{r.column}.Sanitize(), t.facts.ColumnType, cutoff)
	if err != nil {
		return nil, r, fmt.Errorf("table %s: %w", t.facts.Name, err)
	}
	return t, r, nil
}

// find finds the table and fills its names.
func (t *Table) find(ctx context.Context, configured string) (oid, kind string, err error) {
	rows, err := t.db.queryOfRole(ctx, "SELECT", resolveQuery, configured)
	if err == nil {
		rows, err = t.db.query(ctx, tableQuery, rows[0][0])
	}
	if err != nil {
		return "", "", fmt.Errorf("find table %s: %w", configured, err)
	}
	if len(rows) == 0 {
		hint := "write it with its schema, or set search_path for the role"
		if similar, err := t.db.query(ctx, similarQuery, configured); err == nil && len(similar) > 0 {
			hint = fmt.Sprintf("did you mean table: '%s'?", similar[0][0])
		}
		return "", "", cleanup.Errorf(cleanup.Configuration, hint,
			"table %s does not exist in %s", configured, t.db.Address()).Named("table-missing")
	}
	row := rows[0]
	t.oid, t.root, t.name, t.facts.Name = row[0], row[5], pgx.Identifier{row[2], row[3]}.Sanitize(), row[4]
	if kind = row[1]; kind == "f" {
		return "", "", cleanup.Errorf(cleanup.Configuration, "clean it on the server that has its rows, by the address of that server",
			"%s is a foreign table", t.facts.Name).Named("foreign-table")
	}
	if kind != "r" && kind != "p" {
		return "", "", cleanup.Errorf(cleanup.Configuration, "name the table below it", "%s is not a table", t.facts.Name).Named("not-a-table")
	}
	return row[0], kind, nil
}

func (db *DB) findColumn(ctx context.Context, oid, table, configured string) (column, columnType string, err error) {
	rows, err := db.query(ctx, columnQuery, oid, configured)
	if err != nil {
		return "", "", fmt.Errorf("find column %s of %s: %w", configured, table, err)
	}
	if len(rows) > 0 && isName(configured, rows[0][0]) {
		return rows[0][0], rows[0][1], nil
	}
	hint := "compare it with the columns of the table; a name with upper case is written in double quotes"
	if len(rows) > 0 {
		hint = fmt.Sprintf("did you mean column: '%s'?", pgx.Identifier{rows[0][0]}.Sanitize())
	}
	return "", "", cleanup.Errorf(cleanup.Configuration, hint, "column %s does not exist in table %s", configured, table).Named("column-missing")
}

// isName tells whether SQL reads the configured text as that name.
func isName(configured, name string) bool {
	return configured == pgx.Identifier{name}.Sanitize() || fold(configured) == name
}

// fold makes lower case of ASCII's letters, and of no others, as PostgreSQL does
// with names in UTF-8.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, name)
}

// readLeaves fills the facts about the tables that hold rows.
func (t *Table) readLeaves(ctx context.Context, oid, column string) error {
	rows, err := t.db.query(ctx, leavesQuery, oid, column)
	if err != nil {
		return err
	}
	estimates, err := t.estimate(ctx, t.name, t.expiry.expired(), "SELECT "+oneProcess)
	if err != nil {
		return err
	}
	t.mayLock = true
	for _, row := range rows {
		leaf, err := parseLeaf(row)
		if err != nil {
			return err
		}
		quoted := pgx.Identifier{row[1], row[2]}.Sanitize()
		t.quoted[leaf.OID], t.keys[leaf.OID] = quoted, row[14]
		expired, reachable := estimates[quoted]
		if !reachable {
			if !t.drops.leaving[leaf.OID] {
				t.facts.Skipped++
			}
			continue
		}
		leaf.Expired = expired
		if leaf.Foreign != "" {
			if err := t.checkForeign(ctx, quoted, leaf, row[8] == "t"); err != nil {
				return err
			}
		} else if !t.drops.whole[leaf.OID] {
			if err := t.probe(ctx, quoted, &leaf, row[11]); err != nil {
				return err
			}
		}
		t.facts.Leaves = append(t.facts.Leaves, leaf)
		if row[8] != "t" {
			t.denied = append(t.denied, leaf.Name)
		}
		t.mayLock = t.mayLock && (row[9] == "t" || leaf.Foreign != "")
	}
	t.warn()
	return nil
}

func (t *Table) warn() {
	role := pgx.Identifier{t.db.config.User}.Sanitize()
	if len(t.denied) > 0 {
		t.warnf("privileges", "role %s may not delete: GRANT DELETE ON %s TO %s", role, strings.Join(t.denied, ", "), role)
	}
	if !t.mayLock {
		t.warnf("privileges", "role %s may not lock rows, so a batch in which a row is locked is left whole: GRANT UPDATE (%s) ON %s TO %s",
			role, t.expiry.column, t.facts.Name, role)
	}
}

func parseLeaf(row []string) (cleanup.Leaf, error) {
	oid, err := strconv.ParseUint(row[0], 10, 32)
	if err != nil {
		return cleanup.Leaf{}, fmt.Errorf("oid: %w", err)
	}
	tuples, err := strconv.ParseFloat(row[4], 64)
	if err != nil {
		return cleanup.Leaf{}, fmt.Errorf("reltuples: %w", err)
	}
	pages, err := strconv.ParseInt(row[5], 10, 64)
	if err != nil {
		return cleanup.Leaf{}, fmt.Errorf("pages: %w", err)
	}
	if tuples == 0 && pages > 0 { // before PostgreSQL 14, 0 was also "never analyzed"
		tuples = -1
	}
	correlation := math.NaN()
	if row[7] != "" {
		if correlation, err = strconv.ParseFloat(row[7], 64); err != nil {
			return cleanup.Leaf{}, fmt.Errorf("correlation: %w", err)
		}
	}
	return cleanup.Leaf{
		OID: uint32(oid), Name: row[10], Index: row[6], Method: row[12], Foreign: row[13],
		Pages: pages, Rows: tuples, Correlation: correlation,
	}, nil
}

// oneProcess keeps a statement to one process; a parallel plan would also tell
// the rows of one of several.
const oneProcess = "pg_catalog.set_config('max_parallel_workers_per_gather', '0', true)"

// estimate asks the planner how many rows of each leaf of a table meet a
// condition. A leaf that is not in the answer is one that the planner proved, by
// partition bounds or constraints, to hold no such row.
func (t *Table) estimate(ctx context.Context, table, condition, change string) (map[string]float64, error) {
	rows, err := t.db.queryWith(ctx, change,
		explain+"SELECT FROM "+table+" WHERE "+condition, t.expiry.bound)
	if err != nil {
		return nil, err
	}
	return readEstimates(rows)
}

const explain = "EXPLAIN (FORMAT JSON, VERBOSE) "

// readEstimates reads the planner's estimate for each leaf.
func readEstimates(rows [][]string) (map[string]float64, error) {
	plan, err := readPlan(rows)
	if err != nil {
		return nil, err
	}
	estimates := make(map[string]float64)
	plan.collect(estimates)
	return estimates, nil
}

// readPlan reads the answer to EXPLAIN. The top is a node of ours: by rules of a
// table, a statement may have several plans.
func readPlan(rows [][]string) (top planNode, err error) {
	var plans []struct{ Plan planNode }
	if err := json.Unmarshal([]byte(rows[0][0]), &plans); err != nil {
		return top, fmt.Errorf("read the planner's answer: %w", err)
	}
	for _, plan := range plans {
		top.Plans = append(top.Plans, plan.Plan)
	}
	return top, nil
}

// planNode is what is read of a node of EXPLAIN's answer.
type planNode struct {
	Type      string `json:"Node Type"`
	Operation string // Delete: of a node that deletes
	Schema    string
	Relation  string     `json:"Relation Name"`
	Rows      float64    `json:"Plan Rows"`
	Plans     []planNode `json:"Plans"`
}

func (n planNode) collect(estimates map[string]float64) {
	if n.Relation != "" {
		estimates[pgx.Identifier{n.Schema, n.Relation}.Sanitize()] += n.Rows
	}
	for _, child := range n.Plans {
		child.collect(estimates)
	}
}
