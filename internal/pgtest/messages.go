package pgtest

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"
)

// MessagesOptions say what the table of Messages holds.
type MessagesOptions struct {
	// Rows is the number of messages; two million make about 900 MB.
	Rows int

	// Expired is the share of the rows, from 0 to 1, that have expired. Exactly round(Rows*Expired) have, the last
	// of them one minute before the call; the others expire two hours after it at the earliest.
	Expired float64

	// Shuffled stores the rows in an order that has nothing to do with their expiry. Otherwise they are stored in the
	// order of expiry, save that PostgreSQL puts a short row back on a page that a long one did not fit on.
	Shuffled bool

	// Index creates messages_expires_at_idx.
	Index bool
}

// Messages creates the tables of a chat application, users, conversations and messages, in conn's current schema
// and fills them. The content depends on the options alone, but for the time of the call, to which all times are
// relative. It ends with VACUUM (ANALYZE), so it must not be called in a transaction.
func Messages(ctx context.Context, conn *pgx.Conn, o MessagesOptions) error {
	if o.Rows < 0 || !(o.Expired >= 0 && o.Expired <= 1) {
		return fmt.Errorf("fill messages: %d rows, of which a share of %v has expired, cannot be made", o.Rows, o.Expired)
	}
	order := "rank"
	if o.Shuffled {
		order = "hashint8extended(rank, 0), rank"
	}
	expired := int64(math.Round(float64(o.Rows) * o.Expired))

	steps := []struct {
		name, sql string
		args      []any
	}{
		{"create tables", messagesTables, nil},
		{"fill messages", messagesFill + order + ") AS ranked", []any{o.Rows, expired}},
		{"index messages", messagesConstraints, nil},
	}
	if o.Index {
		steps = append(steps, struct {
			name, sql string
			args      []any
		}{"index messages", `CREATE INDEX messages_expires_at_idx ON messages (expires_at)`, nil})
	}
	for _, s := range steps {
		if _, err := conn.Exec(ctx, s.sql, s.args...); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if _, err := conn.Exec(ctx, `VACUUM (ANALYZE) users, conversations, messages`); err != nil {
		return fmt.Errorf("vacuum messages: %w", err)
	}
	return nil
}

// Users and conversations are few, so that they stay in cache and the benchmark measures messages alone.
const messagesTables = `
CREATE TABLE users (
	id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name       text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE conversations (
	id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	owner_id   bigint NOT NULL REFERENCES users,
	title      text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE messages (
	id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	conversation_id bigint NOT NULL,
	sender_id       bigint NOT NULL,
	role            text NOT NULL,
	body            text NOT NULL,
	created_at      timestamptz NOT NULL DEFAULT now(),
	expires_at      timestamptz DEFAULT now() + interval '2 days'
);
INSERT INTO users (name)
SELECT 'user ' || n
FROM generate_series(1, 200) AS n;
INSERT INTO conversations (owner_id, title)
SELECT 1 + n % 200, 'conversation ' || n
FROM generate_series(1, 1000) AS n;
`

// messagesFill takes the number of rows and how many of them have expired; the physical order and the end of
// the subquery are appended.
//
// A row's rank is its place in the order of expiry: the expired ones are spread evenly over the 48 hours that end a
// minute ago, the others over the time from 2 to 48 hours ahead. Everything else comes from hashes of the rank, each
// with a seed of its own. Bodies are drawn from an array of 512, which is far quicker than to make each anew. Their
// lengths, 4 to 176 words, are squares of something uniform: as in a chat, most are short.
const messagesFill = `
WITH word AS (
	SELECT string_to_array(
		'the a to of and in is it you that for on with this we can not be have are what if so but I will just from your '
		'about there when which do please thanks maybe tomorrow yesterday meeting question answer database conversation '
		'actually something because already deadline invoice customer release branch review holiday weather message '
		'train dinner project important', ' ') AS list
), length AS (
	SELECT n, 4 + (172 * (((hashint8extended(n, 1) & 1023) / 1023.0) ^ 2))::int AS words
	FROM generate_series(1, 512) AS n
), body AS (
	SELECT n, string_agg(list[1 + (hashint8extended(n * 1000 + i, 2) & 1023) % cardinality(list)], ' ' ORDER BY i) AS text
	FROM word, length, generate_series(1, words) AS i
	GROUP BY n
)
INSERT INTO messages (conversation_id, sender_id, role, body, created_at, expires_at)
SELECT
	1 + (hashint8extended(rank, 3) & 1048575) % 1000,
	1 + (hashint8extended(rank, 4) & 1048575) % 200,
	(ARRAY['user', 'assistant', 'user', 'assistant', 'user', 'assistant', 'user', 'system'])[1 + (hashint8extended(rank, 5) & 7)],
	(SELECT array_agg(text ORDER BY n) FROM body)[1 + (hashint8extended(rank, 6) & 511)],
	expires_at - interval '2 days',
	expires_at
FROM (
	SELECT rank, CASE
		WHEN rank <= $2::bigint
		THEN now() - interval '1 minute' - interval '48 hours' * (($2::bigint - rank) / $2::float8)
		ELSE now() + interval '2 hours' + interval '46 hours' * ((rank - $2::bigint) / ($1::bigint - $2::bigint)::float8)
	END AS expires_at
	FROM generate_series(1, $1::bigint) AS rank
	ORDER BY `

// messagesConstraints come last because building an index or checking a foreign key once is quicker than for each row.
const messagesConstraints = `
CREATE INDEX messages_conversation_id_created_at_idx ON messages (conversation_id, created_at);
ALTER TABLE messages
	ADD FOREIGN KEY (conversation_id) REFERENCES conversations,
	ADD FOREIGN KEY (sender_id) REFERENCES users;
`
