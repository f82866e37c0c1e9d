package main

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

// tables are the table and the record of it. Rows expire soon, many of them
// while a run is at work.
const tables = `
CREATE TABLE messages (
	id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	body       text NOT NULL,
	expires_at timestamptz NOT NULL
);
CREATE INDEX messages_expires_at_idx ON messages (expires_at);
CREATE TABLE record (id bigint PRIMARY KEY, expires_at timestamptz NOT NULL)`

// insertSQL inserts $1 rows, a share $2 of which has expired, in both tables.
const insertSQL = `
WITH new AS (
	INSERT INTO messages (body, expires_at)
	SELECT repeat('x', (random() * 300)::int),
	       now() + CASE WHEN random() < $2 THEN random() * interval '-1 day' ELSE random() * interval '1 minute' END
	FROM generate_series(1, $1)
	RETURNING id, expires_at)
INSERT INTO record SELECT id, expires_at FROM new`

// use is an application at work on the table. It comes back after every fault.
type use struct {
	url                string
	inserted, extended atomic.Int64
}

// start uses the table until ctx is done; wait returns when all is quiet.
func (u *use) start(ctx context.Context) (wait func()) {
	var group sync.WaitGroup
	for _, do := range []func(context.Context, *pgx.Conn) error{u.insert, u.extend, u.extend, u.read} {
		group.Go(func() {
			for ctx.Err() == nil {
				u.session(ctx, do)
			}
		})
	}
	return group.Wait
}

// session repeats something on one connection until that fails: the server is
// restarted, or a deadlock found.
func (u *use) session(ctx context.Context, do func(context.Context, *pgx.Conn) error) {
	conn, err := pgx.Connect(ctx, u.url)
	for err == nil && ctx.Err() == nil {
		if err = do(ctx, conn); err == nil {
			pause(ctx, 10*time.Millisecond)
		}
	}
	if conn != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
	}
	pause(ctx, 20*time.Millisecond)
}

func (u *use) insert(ctx context.Context, conn *pgx.Conn) error {
	const rows = 50
	_, err := conn.Exec(ctx, insertSQL, rows, 0.5)
	if err == nil {
		u.inserted.Add(rows)
	}
	return err
}

// extend gives some rows a longer life, in whatever order, while a run may be
// about to delete them: those that are there get it.
func (u *use) extend(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, "SELECT id FROM messages TABLESAMPLE SYSTEM (1) LIMIT 20")
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	extended := int64(0)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, id := range ids {
			until := time.Duration(rand.IntN(60_000)) * time.Millisecond
			tag, err := tx.Exec(ctx, `
				WITH changed AS (UPDATE messages SET expires_at = now() + $2 WHERE id = $1 RETURNING id, expires_at)
				UPDATE record SET expires_at = changed.expires_at FROM changed WHERE record.id = changed.id`, id, until)
			if err != nil {
				return err
			}
			extended += tag.RowsAffected()
		}
		return nil
	})
	if err == nil {
		u.extended.Add(extended)
	}
	return err
}

func (u *use) read(ctx context.Context, conn *pgx.Conn) error {
	var rows int64
	return conn.QueryRow(ctx, "SELECT count(*) FROM messages WHERE expires_at > now()").Scan(&rows)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
