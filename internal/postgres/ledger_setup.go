package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
)

// ledgerColumns are the ledger's columns, but for the hash over all of them,
// which depends on their order and names.
var ledgerColumns = []struct {
	name, definition string
	grows            bool // the role that runs may change it, until the row is closed
}{
	{"run_id", "uuid NOT NULL", false},
	{"policy", "text NOT NULL", false},
	{"table_name", "text NOT NULL", false},
	{"definition", "text NOT NULL", false},
	{"definition_hash", "text NOT NULL", false},
	{"cutoff", "timestamptz", false},
	{"started", "timestamptz NOT NULL DEFAULT clock_timestamp()", false},
	{"finished", "timestamptz", true},
	{"outcome", "text", true},
	{"stop_reason", "text", true},
	{"deleted", "bigint NOT NULL DEFAULT 0", true},
	{"batches", "bigint NOT NULL DEFAULT 0", true},
	{"dropped_partitions", "text[] NOT NULL DEFAULT '{}'", true},
	{"backlog", "bigint", true},
	{"held", "bigint", true},
	{"locked", "bigint NOT NULL DEFAULT 0", true},
	{"refused", "bigint NOT NULL DEFAULT 0", true},
	{"oldest_expiry", "timestamptz", true},
	{"newest_expiry", "timestamptz", true},
	{"host", "text NOT NULL", false},
	{"version", "text NOT NULL", false},
	{"system_identifier", "bigint", false},
	{"timeline", "bigint", false},
	{"position", "bigint UNIQUE", true},
	{"previous", "text", true},
}

// LedgerSQL returns the statements that make the ledger, for its owner to run.
// They can be run again. table is an SQL name, with its schema or without.
func LedgerSQL(table string) ([]string, error) {
	name, err := parseName(table)
	if err != nil {
		return nil, err
	}
	quoted := name.Sanitize()
	var columns strings.Builder
	for _, c := range ledgerColumns {
		fmt.Fprintf(&columns, "  %s %s,\n", c.name, c.definition)
	}
	var statements []string
	if len(name) == 2 {
		statements = append(statements, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{name[0]}.Sanitize())
	}
	statements = append(statements,
		"CREATE TABLE IF NOT EXISTS "+quoted+" (\n"+columns.String()+"  hash text,\n  PRIMARY KEY (run_id, policy)\n) WITH (fillfactor = 50)",
		"COMMENT ON TABLE "+quoted+" IS 'The ledger of message-cleanup: one row for each policy in each run. message-cleanup history --verify checks it.'")
	return append(statements, appendOnlySQL(name)...), nil
}

// appendOnlySQL returns the statements that make the trigger append_only, which
// keeps everybody from changing the row of a run that is over, but who may take
// the trigger away. Its condition is all that a batch pays for it.
func appendOnlySQL(table pgx.Identifier) []string {
	quoted := table.Sanitize()
	refuse := slices.Clone(table)
	refuse[len(refuse)-1] += "_append_only"
	return []string{
		"CREATE OR REPLACE FUNCTION " + refuse.Sanitize() + `() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the ledger''s row of policy % in run % is closed, and is not changed or deleted', OLD.policy, OLD.run_id;
END $$`,
		`DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = ` + literalText(quoted) + `::regclass AND tgname = 'append_only') THEN
    CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON ` + quoted + `
    FOR EACH ROW WHEN (OLD.hash IS NOT NULL) EXECUTE FUNCTION ` + refuse.Sanitize() + `();
  END IF;
END $$`,
	}
}

// LedgerGrants returns the statements that let a role keep the ledger: it adds
// rows and closes them, and cannot delete them.
func LedgerGrants(table, role string) ([]string, error) {
	name, err := parseName(table)
	if err != nil {
		return nil, err
	}
	to := " TO " + pgx.Identifier{role}.Sanitize()
	var statements []string
	if len(name) == 2 {
		statements = append(statements, "GRANT USAGE ON SCHEMA "+pgx.Identifier{name[0]}.Sanitize()+to)
	}
	return append(statements, "GRANT SELECT, INSERT, UPDATE ("+strings.Join(growingColumns(), ", ")+") ON "+name.Sanitize()+to), nil
}

func growingColumns() []string {
	var names []string
	for _, c := range ledgerColumns {
		if c.grows {
			names = append(names, c.name)
		}
	}
	return append(names, "hash")
}

// parseName reads an SQL name of one or two parts, as PostgreSQL does: folded
// to lower case unless quoted.
func parseName(s string) (pgx.Identifier, error) {
	wrong := cleanup.Errorf(cleanup.Configuration, "write schema.table, e.g. message_cleanup.runs", "ledger.table: %q is not the name of a table", s)
	var name pgx.Identifier
	for rest := s; ; {
		part, after := "", ""
		if strings.HasPrefix(rest, `"`) {
			end := 1
			for ; end < len(rest); end++ {
				if rest[end] != '"' {
					continue
				}
				if !strings.HasPrefix(rest[end:], `""`) {
					break
				}
				end++
			}
			if end >= len(rest) {
				return nil, wrong
			}
			part, after = strings.ReplaceAll(rest[1:end], `""`, `"`), rest[end+1:]
		} else {
			end := strings.IndexFunc(rest, func(r rune) bool {
				return r != '_' && r != '$' && r < 0x80 && !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
			})
			if end < 0 {
				end = len(rest)
			}
			part, after = fold(rest[:end]), rest[end:]
			if part != "" && strings.ContainsAny(part[:1], "0123456789$") {
				return nil, wrong
			}
		}
		if part == "" || len(name) == 2 {
			return nil, wrong
		}
		name = append(name, part)
		if after == "" {
			return name, nil
		}
		if rest = strings.TrimPrefix(after, "."); rest == after {
			return nil, wrong
		}
	}
}

// literalText writes a string as SQL does, for statements that people run.
func literalText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
