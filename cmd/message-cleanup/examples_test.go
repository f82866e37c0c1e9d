package main

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"message-cleanup/internal/pgtest"
)

// example is what a section of docs/examples.md is tried with: rows that have to
// go and rows that have to stay, by a statement that fills its table. A row that
// has to go says so in one of its columns.
type example struct {
	fill    string
	goes    int64  // rows
	stays   string // a query for what is left
	left    int64  // its answer
	dropped []string
	found   []string // by check, as the page says
}

var examples = map[string]example{
	"Chat messages that carry their own end": {
		fill: `INSERT INTO messages (conversation_id, sender_id, body, legal_hold, expires_at)
				SELECT 1, n, 'goes', false, now() - n * interval '1 hour' FROM generate_series(1, 20) AS n;
			INSERT INTO attachments (message_id, url) SELECT id, 'goes' FROM messages;
			INSERT INTO messages (conversation_id, sender_id, body) SELECT 1, n, 'by the default' FROM generate_series(1, 10) AS n;
			INSERT INTO messages (conversation_id, sender_id, body, legal_hold, expires_at) VALUES (1, 1, 'held', true, now() - interval '1 day');
			INSERT INTO attachments (message_id, url) SELECT id, 'stays' FROM messages WHERE body <> 'goes'`,
		goes: 20, left: 22,
		stays: "SELECT (SELECT count(*) FROM messages WHERE body <> 'goes') + (SELECT count(*) FROM attachments)",
	},
	"Sessions with a time in seconds": {
		fill: `INSERT INTO sessions (id, payload, last_activity)
				SELECT 'goes ' || n, '', extract(epoch FROM now() - interval '2 hours 1 minute' - n * interval '1 hour') FROM generate_series(1, 20) AS n;
			INSERT INTO sessions (id, payload, last_activity) SELECT 'stays ' || n, '', extract(epoch FROM now() - n * interval '10 minutes') FROM generate_series(0, 9) AS n`,
		goes: 20, stays: "SELECT count(*) FROM sessions WHERE id LIKE 'stays %'", left: 10, found: []string{"default-missing"},
	},
	"Posts with a time in milliseconds": {
		fill: `INSERT INTO posts (id, message, ispinned, createat)
				SELECT 'goes ' || n, '', CASE WHEN n > 10 THEN false END, 1000 * extract(epoch FROM now() - interval '366 days' - n * interval '1 hour') FROM generate_series(1, 20) AS n;
			INSERT INTO posts (id, message, ispinned, createat) VALUES ('pinned', '', true, 1000 * extract(epoch FROM now() - interval '10 years'));
			INSERT INTO posts (id, message, createat) SELECT 'stays ' || n, '', 1000 * extract(epoch FROM now() - n * interval '36 days') FROM generate_series(1, 10) AS n`,
		goes: 20, stays: "SELECT count(*) FROM posts WHERE id NOT LIKE 'goes %'", left: 11, found: []string{"default-missing"},
	},
	"A log that is kept for 30 days": {
		fill: `INSERT INTO versions (item_type, item_id, event, created_at)
				SELECT 'Order', n, 'goes', now() AT TIME ZONE 'UTC' - interval '30 days 1 minute' - n * interval '1 day' FROM generate_series(1, 20) AS n;
			INSERT INTO versions (item_type, item_id, event, created_at)
				SELECT 'Order', n, 'stays', now() AT TIME ZONE 'UTC' - n * interval '1 day' FROM generate_series(0, 29) AS n`,
		goes: 20, stays: "SELECT count(*) FROM versions WHERE event = 'stays'", left: 30, found: []string{"default-missing"},
	},
	"Events in a partition for each month": {
		fill: `DO $$ BEGIN EXECUTE format('CREATE TABLE events_now PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
				now() - interval '100 days', now() + interval '100 days'); END $$;
			INSERT INTO events (occurred_at) SELECT '2026-01-01'::timestamptz + n * interval '1 day' FROM generate_series(1, 50) AS n;
			INSERT INTO events (occurred_at, payload) SELECT now() - interval '90 days' - n * interval '1 hour', '{}' FROM generate_series(1, 20) AS n;
			INSERT INTO events (occurred_at) SELECT now() - n * interval '1 day' FROM generate_series(0, 89) AS n`,
		goes: 70, stays: "SELECT count(*) FROM events WHERE payload IS NULL", left: 90,
		dropped: []string{"public.events_2026_01", "public.events_2026_02"},
	},
}

var exampleParts = regexp.MustCompile("(?s)^(.*?)\n.*?```sql\n(.*?)```\n\n```yaml\n(.*?)```")

func TestExamplesOfTheDocumentation(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/examples.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(text), "\n## ")[1:]
	if len(sections) != len(examples) {
		t.Errorf("docs/examples.md has %d examples, %d are tried", len(sections), len(examples))
	}
	for _, section := range sections {
		parts := exampleParts.FindStringSubmatch(section)
		if parts == nil {
			t.Fatalf("an example has not both an SQL and a YAML block:\n%s", section)
		}
		title, schema, policy := parts[1], parts[2], parts[3]
		e, known := examples[title]
		if !known {
			t.Errorf("the example %q is not tried", title)
			continue
		}
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			url := pgtest.Database(t)
			o := &operator{t: t, url: url, conn: pgtest.Conn(t, url), yaml: policy, now: time.Now}
			pgtest.Exec(t, o.conn, schema)
			pgtest.Exec(t, o.conn, e.fill)

			status, out := o.does(url, "run", "--output", "json")
			var ran struct {
				Outcome      string
				DeletedCount int64 `json:"deleted_count"`
				Policies     []struct {
					Dropped []string `json:"dropped_partitions"`
				}
			}
			if err := json.Unmarshal([]byte(out), &ran); err != nil {
				t.Fatal(err)
			}
			if status != 0 || ran.Outcome != "complete" || ran.DeletedCount != e.goes {
				t.Errorf("exit status %d, %s, %d rows deleted, want %d", status, ran.Outcome, ran.DeletedCount, e.goes)
			}
			if !slices.Equal(ran.Policies[0].Dropped, e.dropped) {
				t.Errorf("dropped %v, want %v", ran.Policies[0].Dropped, e.dropped)
			}
			if left := pgtest.Int(t, o.conn, e.stays); left != e.left {
				t.Errorf("%d rows are left, want %d", left, e.left)
			}
			_, out = o.does(url, "check", "--output", "json")
			var check checked
			if err := json.Unmarshal([]byte(out), &check); err != nil {
				t.Fatal(err)
			}
			var found []string
			for _, f := range check.Findings {
				found = append(found, f.Name)
			}
			if !slices.Equal(found, e.found) {
				t.Errorf("check finds %v, want %v\n%s", found, e.found, out)
			}
			if status, out := o.does(url, "status"); status != 0 || !strings.Contains(out, "no expired row\n") {
				t.Errorf("status: exit status %d\n%s", status, out)
			}
		})
	}
}
