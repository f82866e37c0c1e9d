package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5/pgconn"

	"message-cleanup/internal/cleanup"
)

// quartersSQL counts the rows of a piece, and finds the lowest and the highest of
// what they are cut by, and what lies between its quarters.
const quartersSQL = `
SELECT n, q[1], q[2], q[3], q[4], q[5]
FROM (SELECT count(*) AS n, percentile_disc(ARRAY[0, 0.25, 0.5, 0.75, 1]::float8[]) WITHIN GROUP (ORDER BY %[1]s) AS q
      FROM ONLY %[2]s WHERE %[3]s) AS piece`

// Split implements cleanup.Divisible. Windows are cut by the expiry column as long as
// its values differ, everything else by place.
func (p *piece) Split(ctx context.Context) (rows int64, parts []cleanup.Divisible, err error) {
	column, cast := p.table.expiry.column, p.table.expiry.cast
	if p.byTID {
		column, cast = "ctid", "tid"
	}
	rows, cuts, err := p.quarters(ctx, column)
	if err == nil && rows > 1 && cuts[0] == cuts[4] && cast != "tid" {
		if p.planned.Placeless() {
			return rows, nil, nil
		}
		column, cast = "ctid", "tid"
		rows, cuts, err = p.quarters(ctx, column)
	}
	if err != nil || rows < 2 {
		return rows, nil, err
	}
	low := cuts[0]
	cuts = slices.DeleteFunc(slices.Compact(cuts[1:4]), func(cut string) bool { return cut == low })
	if len(cuts) == 0 { // most rows share the lowest value
		return rows, []cleanup.Divisible{p.within(column+" <= ", cast, low), p.within(column+" > ", cast, low)}, nil
	}
	rest := p
	for _, cut := range cuts {
		parts = append(parts, rest.within(column+" < ", cast, cut))
		rest = rest.within(column+" >= ", cast, cut)
	}
	return rows, append(parts, rest), nil
}

func (p *piece) quarters(ctx context.Context, column string) (rows int64, cuts []string, err error) {
	answer, err := p.table.db.queryOfRole(ctx, "SELECT", fmt.Sprintf(quartersSQL, column, p.leaf, p.condition()), p.parameters()...)
	if SQLState(err) == undefinedTable { // since a moment; the next batch tells
		return 0, make([]string, 5), nil
	}
	if err != nil {
		return 0, nil, err
	}
	rows, err = strconv.ParseInt(answer[0][0], 10, 64)
	return rows, answer[0][1:], err
}

// within is the part of a piece that also compares like that with a bound.
func (p *piece) within(comparison, cast, bound string) *piece {
	part := *p
	part.args = append(slices.Clone(p.args), bound)
	part.bounds = append(slices.Clone(p.bounds), fmt.Sprintf("%s$%d::%s", comparison, len(part.args)+1, cast))
	return &part
}

// Key implements cleanup.Divisible.
func (p *piece) Key(ctx context.Context) (table, key string, err error) {
	table = p.planned.Name
	answer, err := p.table.db.queryOfRole(ctx, "SELECT",
		"SELECT "+p.table.keys[p.planned.OID]+" FROM ONLY "+p.leaf+" WHERE "+p.condition()+" LIMIT 1", p.parameters()...)
	if err != nil || len(answer) == 0 {
		return table, "", err
	}
	return table, oneLine(answer[0][0]), nil
}

// obstacle looks closer at the classified error of a batch, which began at some
// time: after some, a part of the rows may be deleted all the same.
func (p *piece) obstacle(ctx context.Context, err error, began time.Time) error {
	server := serverErrorOf(err)
	_, ofLedger := errors.AsType[*ledgerError](err)
	switch {
	case server == nil || ctx.Err() != nil || ofLedger:
		return err
	case server.Code == queryCanceled && time.Since(began) >= p.table.db.batchLimit():
		return &cleanup.TooLongError{Err: err}
	case isTransient(server) || !isRefusal(server):
		return err
	}
	return refusedError(server)
}

// isRefusal tells the errors that speak of a row, and not of the statement, the
// role or the server: those of constraints and of triggers. What a function
// raises by itself is one whatever SQLSTATE it chose.
func isRefusal(server *pgconn.PgError) bool {
	switch server.Code[:2] {
	case "23", // integrity constraint violation
		"P0",       // PL/pgSQL: RAISE, ASSERT, STRICT
		"09", "27", // triggered action exception, triggered data change violation
		"38", "39", // external routine exception and its invocation: other languages
		"44": // WITH CHECK OPTION violation
		return true
	case "22": // a wrong value; the policy's own conditions are tried again by Split
		return server.Where != ""
	}
	return server.Routine == "exec_stmt_raise"
}

// refusedError says what the server said, without what it tells of the row: the
// DETAIL has values, of other tables' rows too, and so has the message about a
// wrong value. What a trigger's author put into a message stays.
func refusedError(server *pgconn.PgError) *cleanup.RefusedError {
	told := *server
	told.Detail = ""
	told.Message = oneLine(told.Message)
	hint := "a trigger of the table refuses the deletion; rows that are to be kept belong under the policy's hold"
	switch {
	case server.Code == foreignKeyViolation || server.Code == restrictViolation:
		hint = "delete what refers to it first, or give the foreign key ON DELETE CASCADE"
	case strings.HasPrefix(server.Code, "23"):
		hint = "what a trigger of the table, or a foreign key's action, does behind the deletion breaks a constraint"
	case strings.HasPrefix(server.Code, "22"):
		told.Message = "a function that a trigger calls met a value that it cannot work with"
	}
	return &cleanup.RefusedError{Err: serverError{&told}, Hint: hint}
}

// longestText bounds, in bytes, what is shown of a text from the database.
const longestText = 300

// oneLine makes a text from the database fit to be shown: a terminal obeys control
// characters, and one entry of a log is one line.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) > longestText {
		text = strings.ToValidUTF8(text[:longestText], "") + "..."
	}
	return text
}
