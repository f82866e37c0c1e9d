package e2e

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

// host is a machine with a PostgreSQL, a database "chat" and the packages, as
// its administrator finds it.
type host struct{ *machine }

// startPostgreSQL makes a cluster and the database "chat" in it.
func (h *host) startPostgreSQL() {
	h.t.Helper()
	h.sh(`version=$(ls /usr/lib/postgresql | sort -n | tail -1)
mkdir -p /etc/postgresql /var/lib/postgresql && chown postgres: /etc/postgresql /var/lib/postgresql
pg_createcluster "$version" main --port 5432 -o fsync=off -- --no-sync >/dev/null
systemctl start "postgresql@$version-main"`)
	h.sql("postgres", "CREATE DATABASE chat")
}

// sql runs statements as superuser, and returns rows as a|b.
func (h *host) sql(database, statements string) string {
	h.t.Helper()
	return h.sh("cd /; setpriv --reuid=postgres --regid=postgres --clear-groups psql -qAtX -v ON_ERROR_STOP=1 -d " + database + " <<'SQL'\n" + statements + "\nSQL")
}

// until waits until a query yields true.
func (h *host) until(database, query string) {
	h.t.Helper()
	h.eventually("cd /; setpriv --reuid=postgres --regid=postgres --clear-groups psql -qAtX -d " + database + ` -c "` + query + `" | grep -x t`)
}

// fill makes a table of messages of which 100 have expired and 50 have not.
func (h *host) fill(database string) {
	h.t.Helper()
	h.sql(database, `DROP TABLE IF EXISTS messages;
CREATE TABLE messages AS SELECT now() - n * interval '1 hour' AS expires_at FROM generate_series(-49, 100) AS n;
DELETE FROM messages WHERE expires_at BETWEEN now() - interval '1 minute' AND now() + interval '1 minute';
INSERT INTO messages SELECT now() + interval '1 day' WHERE (SELECT count(*) FROM messages WHERE expires_at > now()) < 50;
CREATE INDEX ON messages (expires_at);
ANALYZE messages;
GRANT SELECT, DELETE, UPDATE (expires_at) ON messages TO "message-cleanup";`)
}

// cleaned waits until no expired row is left, and checks that all others are.
func (h *host) cleaned(database string) {
	h.t.Helper()
	h.until(database, "SELECT count(*) = 0 FROM messages WHERE expires_at < now()")
	if left := h.sql(database, "SELECT count(*) FROM messages"); left != "50" {
		h.t.Errorf("%s rows are left, want the 50 that have not expired", left)
	}
}

// settled waits until a service is not at work.
func (h *host) settled(unit string) {
	h.t.Helper()
	h.eventually(`state=$(systemctl show -P ActiveState ` + unit + `); echo $state; test $state = inactive -o $state = failed`)
}

// is compares what a command prints.
func (h *host) is(want, command string) {
	h.t.Helper()
	got, _ := h.try(command)
	if got = strings.TrimSpace(got); got != want {
		h.t.Errorf("%s: %q, want %q", command, got, want)
	}
}

// says looks for a match in what a command prints.
func (h *host) says(want, command string) {
	h.t.Helper()
	if got, _ := h.try(command); !regexp.MustCompile(want).MatchString(got) {
		h.t.Errorf("%s: no match for %s in:\n%s", command, want, got)
	}
}

// entry is one entry of the journal.
type entry map[string]any

func (e entry) field(name string) string { s, _ := e[name].(string); return s }

// entries returns what the journal has for a match.
func (h *host) entries(match string) []entry {
	h.t.Helper()
	var all []entry
	for _, line := range lines(h.sh("journalctl --sync; journalctl -o json --no-pager " + match)) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			h.t.Fatalf("journalctl -o json: %v in %s", err, line)
		}
		all = append(all, e)
	}
	return all
}

// atTheGate starts a run that waits inside its third batch of 10 rows.
func (h *host) atTheGate() {
	h.t.Helper()
	h.fill("chat")
	h.sql("chat", `DROP SEQUENCE IF EXISTS batches; CREATE SEQUENCE batches; GRANT USAGE ON SEQUENCE batches TO "message-cleanup";
CREATE OR REPLACE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF nextval('batches') > 2 THEN
		WHILE NOT pg_try_advisory_xact_lock_shared(1) LOOP PERFORM pg_sleep(0.05); END LOOP;
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER gate BEFORE DELETE ON messages FOR EACH STATEMENT EXECUTE FUNCTION gate();`)
	h.write("/etc/default/message-cleanup", "MESSAGE_CLEANUP_BATCH_MAX_ROWS=10\nMESSAGE_CLEANUP_BATCH_TARGET=1m")
	h.sh(`systemd-run --quiet --unit=gate -p User=postgres -p WorkingDirectory=/ psql -d chat -c 'SELECT pg_advisory_lock(1), pg_sleep(3600)'`)
	h.until("chat", "SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND granted")
	h.sh("systemctl start --no-block message-cleanup")
	h.until("chat", "SELECT count(*) = 1 FROM pg_stat_activity WHERE usename = 'message-cleanup' AND wait_event = 'PgSleep'")
}

func (h *host) openTheGate() {
	h.t.Helper()
	h.sql("chat", `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_advisory_lock(1)%' AND pid <> pg_backend_pid()`)
	h.eventually("! systemctl is-active --quiet gate")
	h.try("systemctl reset-failed gate")
}

func (h *host) systemd() int {
	h.t.Helper()
	version, err := strconv.Atoi(h.sh("systemctl --version | sed -n '1s/^systemd \\([0-9]*\\).*/\\1/p'"))
	if err != nil {
		h.t.Fatal(err)
	}
	return version
}
