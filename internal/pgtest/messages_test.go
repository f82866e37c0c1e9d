package pgtest

import (
	"fmt"
	"math"
	"testing"
)

func TestMessagesAreAsOrdered(t *testing.T) {
	t.Parallel()
	for _, o := range []MessagesOptions{
		{Rows: 20_000, Expired: 0.5, Index: true},
		{Rows: 20_000, Expired: 0.05, Shuffled: true, Index: true},
		{Rows: 20_001, Expired: 0.9499, Shuffled: true},
		{Rows: 999, Expired: 0, Index: true},
		{Rows: 999, Expired: 1},
		{Rows: 1, Expired: 0.5},
		{Rows: 0, Expired: 0.5, Index: true},
	} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			t.Parallel()
			conn := Conn(t, Database(t))
			if err := Messages(t.Context(), conn, o); err != nil {
				t.Fatal(err)
			}
			expired := int64(math.Round(float64(o.Rows) * o.Expired))
			for _, check := range []struct {
				what, sql string
				want      int64
			}{
				{"rows", "SELECT count(*) FROM messages", int64(o.Rows)},
				{"expired for a minute", "SELECT count(*) FROM messages WHERE expires_at <= now() - interval '1 minute'", expired},
				{"to expire in an hour or later", "SELECT count(*) FROM messages WHERE expires_at > now() + interval '1 hour'", int64(o.Rows) - expired},
				{"not created two days before expiry", "SELECT count(*) FROM messages WHERE created_at <> expires_at - interval '2 days'", 0},
				{"created in the future", "SELECT count(*) FROM messages WHERE created_at > now()", 0},
				{"indexes on expires_at", "SELECT count(*) FROM pg_indexes WHERE indexname = 'messages_expires_at_idx'", map[bool]int64{true: 1}[o.Index]},
				{"indexes in all", "SELECT count(*) FROM pg_indexes WHERE tablename = 'messages'", map[bool]int64{true: 3, false: 2}[o.Index]},
				{"rows in the planner's eyes", "SELECT reltuples::bigint FROM pg_class WHERE oid = 'messages'::regclass", int64(o.Rows)},
			} {
				if got := Int(t, conn, check.sql); got != check.want {
					t.Errorf("%s: got %d, want %d", check.what, got, check.want)
				}
			}
			if o.Rows < 10_000 {
				return // too few for statistics
			}
			if mean := Int(t, conn, "SELECT avg(octet_length(body))::bigint FROM messages"); mean < 320 || mean > 400 {
				t.Errorf("bodies have %d bytes on average, want about 360", mean)
			}
			if size := Int(t, conn, "SELECT pg_relation_size('messages') / count(*) FROM messages"); size < 430 || size > 490 {
				t.Errorf("rows have %d bytes on average, want about 460", size)
			}
			var correlation float64
			err := conn.QueryRow(t.Context(), "SELECT correlation FROM pg_stats WHERE tablename = 'messages' AND attname = 'expires_at'").Scan(&correlation)
			if err != nil {
				t.Fatal(err)
			}
			if o.Shuffled && math.Abs(correlation) > 0.2 || !o.Shuffled && correlation < 0.99 {
				t.Errorf("got a correlation of %v", correlation)
			}
		})
	}
}

func TestMessagesAreTheSameEachTime(t *testing.T) {
	t.Parallel()
	var hashes [2]int64
	for i := range hashes {
		conn := Conn(t, Database(t))
		if err := Messages(t.Context(), conn, MessagesOptions{Rows: 2000, Expired: 0.5, Shuffled: true}); err != nil {
			t.Fatal(err)
		}
		hashes[i] = Int(t, conn, `
SELECT hashtextextended(string_agg(concat(id, conversation_id, sender_id, role, body, expires_at - first), '' ORDER BY id), 0)
FROM messages, (SELECT min(expires_at) AS first FROM messages) AS m`)
	}
	if hashes[0] != hashes[1] {
		t.Error("two tables with the same options differ")
	}
}

func TestImpossibleMessagesAreRefused(t *testing.T) {
	for _, o := range []MessagesOptions{{Rows: -1}, {Expired: -0.1}, {Expired: 1.1}, {Expired: math.NaN()}} {
		if err := Messages(t.Context(), nil, o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
