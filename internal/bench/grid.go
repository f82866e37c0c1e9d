package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/pgtest"
)

// messages fills a case with chat messages, of which a share has expired.
func messages(name string, rows int, expired float64, shuffled bool) testCase {
	o := pgtest.MessagesOptions{Rows: rows, Expired: expired, Shuffled: shuffled, Index: true}
	return testCase{
		name: name, rows: rows, expired: expired, shuffled: shuffled,
		content: fmt.Sprint(o),
		fill:    func(ctx context.Context, conn *pgx.Conn) error { return pgtest.Messages(ctx, conn, o) },
	}
}

// The shares that have expired, and how many times more rows the table has
// where they lie in order and have an index. Otherwise a small share is
// deleted in less time than a process needs to start and connect.
var gridShares = []struct {
	expired float64
	larger  int
}{{0.01, 5}, {0.05, 2}, {0.33, 1}, {0.5, 1}, {0.95, 1}}

// gridCases are those shares, rows in order of their expiry or shuffled, an
// index on expires_at or none.
func gridCases(o options) []testCase {
	big := way{name: bigName, run: bigDelete}
	cleanup := way{name: cleanupName, run: messageCleanup("")}
	common := []way{big, cleanup, {name: workersName, run: messageCleanup("", workers(2))}}
	indexed := append(common[:len(common):len(common)],
		way{name: indexName, run: messageCleanup("index")},
		way{name: heapName, run: messageCleanup("heap")})
	all := append(indexed[:len(indexed):len(indexed)],
		way{name: loopName, run: loop},
		way{name: procedureName, run: procedure})

	var cases []testCase
	for _, shuffled := range []bool{false, true} {
		order := "in order"
		if shuffled {
			order = "shuffled"
		}
		for _, share := range gridShares {
			name := fmt.Sprintf("%s, %.0f %%", order, 100*share.expired)
			rows := o.rows
			if !shuffled {
				rows *= share.larger
			}
			index := messages(name, rows, share.expired, shuffled)
			index.ways, index.idle = indexed, true
			if share.expired == 0.5 {
				index.ways = all
			}
			none := messages(name+", no index", o.rows, share.expired, shuffled)
			none.noIndex, none.alter = true, "DROP INDEX messages_expires_at_idx"
			none.ways = common
			cases = append(cases, index, none)
		}
	}
	// So slow that a smaller table has to do, and fewer rounds.
	small := messages(ormCase, o.rows/5, 0.5, false)
	small.rounds = 2
	small.ways = []way{big, cleanup, {name: ormName, run: orm}}
	return append(cases, small)
}

const ormCase = "in order, 50 %, ORM"
