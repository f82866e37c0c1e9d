package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"message-cleanup/internal/cleanup"
)

// branchesQuery lists a table and everything below it, a parent before its
// children, and beside each its indexes that begin with one of some columns of
// the table. A partial index serves if its condition is that the column is not
// null, as in leavesQuery.
//
// An index is plain if it is just what CREATE INDEX (columns) makes: then it can
// be attached to such an index of the parent.
const branchesQuery = `
WITH RECURSIVE tree(oid, parent, depth) AS (
  SELECT $1::oid, 0::oid, 0
  UNION ALL
  SELECT i.inhrelid, i.inhparent, depth + 1 FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
), wanted(names) AS (
  SELECT array_agg(a.attname ORDER BY array_position($2::int2[], a.attnum))
  FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1::oid AND a.attnum = ANY ($2::int2[])
)
SELECT c.oid, tree.parent, c.relkind, quote_ident(n.nspname), quote_ident(c.relname), c.relname,
       (SELECT string_agg(quote_ident(name), ', ' ORDER BY place) FROM unnest(wanted.names) WITH ORDINALITY AS u(name, place)),
       (SELECT string_agg(name, '_' ORDER BY place) FROM unnest(wanted.names) WITH ORDINALITY AS u(name, place)),
       coalesce(quote_ident(x.relname), ''), x.indisvalid AND x.indisready,
       x.amname = 'btree' AND x.indpred IS NULL AND x.indexprs IS NULL AND NOT x.indisunique
         AND x.indnatts = x.indnkeyatts AND x.keys = wanted.names AND x.indoption::text ~ '^[0 ]*$',
       EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = x.indexrelid)
FROM tree JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN wanted
LEFT JOIN LATERAL (
  SELECT x.*, i.relname, m.amname,
         (SELECT array_agg(a.attname ORDER BY k.place)
               FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
               JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
               WHERE k.place <= x.indnkeyatts) AS keys,
         (SELECT a.attname FROM pg_catalog.pg_attribute a WHERE a.attrelid = x.indrelid AND a.attnum = x.indkey[0]) AS first
  FROM pg_catalog.pg_index x
  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  JOIN pg_catalog.pg_am m ON m.oid = i.relam
  WHERE x.indrelid = c.oid AND x.indislive AND m.amname = ANY ($3::name[])
) AS x ON x.first = ANY (wanted.names)
      AND (x.indpred IS NULL OR pg_get_expr(x.indpred, x.indrelid) = format('(%I IS NOT NULL)', x.first))
WHERE c.relkind IN ('r', 'p')
ORDER BY tree.depth, n.nspname, c.relname, x.relname`

// How rows are looked for: windows need the order of a btree, a foreign key asks
// for one value.
const (
	byOrder = "{btree}"
	byValue = "{btree,hash}"
)

// branch is a table of a tree of partitions, with its indexes on some columns.
type branch struct {
	oid, parent  string
	parted       bool
	schema, name string        // as SQL needs them
	indexBase    string        // table and columns, for the name of an index
	columns      string        // as SQL needs them
	indexes      []branchIndex // those that begin with one of the columns
}

// branchIndex is an index of a branch.
type branchIndex struct {
	name                   string
	valid, plain, attached bool
}

func (b branch) table() string { return b.schema + "." + b.name }

// usable tells whether some index leads to the rows.
func (b branch) usable() bool {
	return slices.ContainsFunc(b.indexes, func(x branchIndex) bool { return x.valid })
}

// indexes tells what there is of indexes on columns of a table, and which
// statements make what is missing. The SQL does no harm to who writes meanwhile,
// and can be run again.
type indexes struct {
	missing []string // leaves without any
	invalid []string // indexes that cost every write and serve nothing
	sql     []string
}

// findIndexes looks for indexes on columns of a table, which are given by their
// numbers as a literal of an array, and for what is missing.
func (db *DB) findIndexes(ctx context.Context, oid, attnums, methods string) (found indexes, err error) {
	rows, err := db.query(ctx, branchesQuery, oid, attnums, methods)
	if err != nil {
		return found, fmt.Errorf("look for indexes: %w", err)
	}
	var branches []*branch
	for _, row := range rows {
		if n := len(branches); n == 0 || branches[n-1].oid != row[0] {
			branches = append(branches, &branch{
				oid: row[0], parent: row[1], parted: row[2] == "p", schema: row[3], name: row[4], indexBase: row[5] + "_" + row[7], columns: row[6],
			})
		}
		if b := branches[len(branches)-1]; row[8] != "" {
			b.indexes = append(b.indexes, branchIndex{row[8], row[9] == "t", row[10] == "t", row[11] == "t"})
		}
	}
	for _, b := range branches {
		if b.parted {
			continue
		}
		for i, x := range b.indexes {
			if x.valid {
				continue
			}
			found.invalid = append(found.invalid, b.schema+"."+x.name)
			if b.usable() && !x.attached {
				found.sql = append(found.sql, "DROP INDEX CONCURRENTLY IF EXISTS "+b.schema+"."+x.name)
				continue
			}
			found.sql = append(found.sql, "REINDEX INDEX CONCURRENTLY "+b.schema+"."+x.name)
			b.indexes[i].valid = true // from then on
		}
		if !b.usable() {
			found.missing = append(found.missing, b.table())
		}
	}
	if len(found.missing) > 0 {
		sql, err := db.createSQL(ctx, branches)
		if err != nil {
			return found, err
		}
		found.sql = append(found.sql, sql...)
	}
	return found, nil
}

// createSQL makes an index on every leaf that has none. On a partitioned table
// CONCURRENTLY is not possible: an index on the parent alone, which serves
// nothing yet, is followed by one on each partition, which is attached to it; with
// the last one it becomes valid, and new partitions get theirs by themselves.
func (db *DB) createSQL(ctx context.Context, branches []*branch) (sql []string, err error) {
	parted := branches[0].parted
	of := make(map[string]string) // the index of a partitioned table, by its oid
	for _, b := range branches {
		if !parted && b.usable() {
			continue
		}
		plain := slices.IndexFunc(b.indexes, func(x branchIndex) bool { return x.plain })
		var index branchIndex
		if plain >= 0 {
			index = b.indexes[plain]
		} else {
			if index.name, err = db.freeName(ctx, b.schema, b.indexBase); err != nil {
				return nil, err
			}
			create := "CREATE INDEX CONCURRENTLY IF NOT EXISTS " + index.name + " ON " + b.table()
			if b.parted {
				create = "CREATE INDEX IF NOT EXISTS " + index.name + " ON ONLY " + b.table()
			}
			sql = append(sql, create+" ("+b.columns+")")
		}
		name := b.schema + "." + index.name
		if b.parted {
			of[b.oid] = name
		}
		if above := of[b.parent]; above != "" && !index.attached {
			sql = append(sql, "ALTER INDEX "+above+" ATTACH PARTITION "+name)
		}
	}
	return sql, nil
}

// maxName is the length of a name in bytes: NAMEDATALEN - 1.
const maxName = 63

// freeName finds a name for an index that nothing in the schema has, and returns
// it as SQL needs it.
func (db *DB) freeName(ctx context.Context, schema, base string) (string, error) {
	for n := 0; ; n++ {
		suffix := "_idx"
		if n > 0 {
			suffix = fmt.Sprintf("_idx%d", n)
		}
		name := base[:min(len(base), maxName-len(suffix))]
		for !utf8.ValidString(name) {
			name = name[:len(name)-1]
		}
		rows, err := db.query(ctx, "SELECT quote_ident($1), to_regclass($2 || '.' || quote_ident($1)) IS NULL", name+suffix, schema)
		if err != nil {
			return "", err
		}
		if rows[0][1] == "t" {
			return rows[0][0], nil
		}
	}
}

// checkIndexes tells where windows of the expiry column would have no index.
func (db *DB) checkIndexes(ctx context.Context, p place, policy cleanup.Policy) (findings []cleanup.Finding, err error) {
	found, err := db.findIndexes(ctx, p.oid, "{"+p.attnum+"}", byOrder)
	if err != nil {
		return nil, err
	}
	if policy.Strategy == cleanup.Heap { // it needs none
		found.missing = nil
	}
	switch {
	case len(found.invalid) > 0:
		return []cleanup.Finding{{
			Name: "index-invalid", Severity: cleanup.SeverityError, SQL: found.sql,
			Text: fmt.Sprintf("index %s is invalid: every write pays for it, and it serves nothing", strings.Join(found.invalid, ", ")),
		}}, nil
	case len(found.missing) > 0:
		return []cleanup.Finding{{
			Name: "index-missing", Severity: cleanup.SeverityError, SQL: found.sql,
			Text: fmt.Sprintf("no usable index on %s of %s: every run reads all of it", p.column, someOf(found.missing)),
			Hint: "if none is wanted, set strategy: heap",
		}}, nil
	}
	return nil, nil
}

// someOf names the first of many.
func someOf(names []string) string {
	if len(names) <= 3 {
		return strings.Join(names, ", ")
	}
	return names[0] + " and " + cleanup.FormatCount(int64(len(names)-1)) + " more"
}
