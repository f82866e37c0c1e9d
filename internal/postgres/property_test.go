package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

// schedules is how many random schedules the property is tried on.
const schedules = 240

// Whatever the table looks like, however it is cut, and whatever others do
// meanwhile: exactly the rows that were expired at the cutoff, and that nobody
// held locked or gave more time, are gone, no other row is, and the count is
// the difference. Each schedule is drawn from its number alone, so one that
// fails can be repeated.
func TestExactlyTheExpiredRowsGoOverRandomSchedules(t *testing.T) {
	const lanes = 4
	for lane := range lanes {
		t.Run(fmt.Sprint(lane), func(t *testing.T) {
			t.Parallel()
			needsTIDRange(t) // two of three schedules have no index, or block ranges
			url := pgtest.Database(t)
			conn, app := pgtest.Conn(t, url), pgtest.Conn(t, url)
			for seed := lane; seed < schedules; seed += lanes {
				newSchedule(t, uint64(seed), url, conn, app).play()
			}
		})
	}
}

// schedule is one random case, and the model of what must come of it.
type schedule struct {
	*testing.T
	random    *rand.Rand
	seed      uint64
	setup     *setup
	conn, app *pgx.Conn // app is the application, which works beside the run
	table     string

	rows     int
	expired  []int64        // ids
	locked   map[int64]bool // expired, held locked by app for the whole run
	extended map[int64]bool // given more time by app during the run
	inserted int64          // by app during the run
	busy     bool           // app works during the run
	next     int64          // the next id
}

func newSchedule(t *testing.T, seed uint64, url string, conn, app *pgx.Conn) *schedule {
	random := rand.New(rand.NewPCG(seed, 2026))
	s := &schedule{
		T: t, random: random, seed: seed, setup: newSetup(t, url), conn: conn, app: app,
		table:  fmt.Sprintf("messages_%d", seed),
		rows:   random.IntN(1_500),
		locked: map[int64]bool{}, extended: map[int64]bool{},
	}
	s.setup.policy.Table = s.table
	s.setup.ledger = seed%2 == 0
	s.setup.policy.Strategy = pick(random, cleanup.Auto, cleanup.Index, cleanup.Heap)
	s.setup.opts.LockTimeout = 10 * time.Millisecond
	s.setup.runner.BatchMaxRows = 1 + random.IntN(400)
	s.setup.runner.Workers = 1 + random.IntN(3)
	s.setup.runner.BatchTarget = time.Duration(1+random.IntN(20)) * time.Millisecond
	s.fill()
	return s
}

func pick[T any](random *rand.Rand, choices ...T) T { return choices[random.IntN(len(choices))] }

// fill creates the table: plain or partitioned, indexed or not, with the rows
// in order, shuffled, or sharing a few values.
func (s *schedule) fill() {
	partitioning := ""
	switch s.random.IntN(3) {
	case 0:
		partitioning = " PARTITION BY HASH (id)"
	case 1:
		if s.random.IntN(2) == 0 {
			partitioning = " PARTITION BY RANGE (expires_at)"
		}
	}
	pgtest.Exec(s, s.conn, "CREATE TABLE "+s.table+" (id bigint, body text, expires_at timestamptz)"+partitioning)
	switch {
	case strings.Contains(partitioning, "HASH"):
		for i := range 3 {
			pgtest.Exec(s, s.conn, fmt.Sprintf("CREATE TABLE %s_%d PARTITION OF %s FOR VALUES WITH (MODULUS 3, REMAINDER %d)", s.table, i, s.table, i))
		}
	case strings.Contains(partitioning, "RANGE"):
		pgtest.Exec(s, s.conn, fmt.Sprintf(`CREATE TABLE %[1]s_a PARTITION OF %[1]s FOR VALUES FROM (MINVALUE) TO ('2001-01-01');
			CREATE TABLE %[1]s_b PARTITION OF %[1]s DEFAULT`, s.table))
	}
	if s.setup.policy.Strategy == cleanup.Index || s.random.IntN(2) == 0 {
		pgtest.Exec(s, s.conn, "CREATE INDEX ON "+s.table+" (expires_at)")
	}
	values := 1 + s.random.IntN(pick(s.random, 3, 50, 100_000)) // how many distinct times
	share := s.random.Float64()
	var rows [][]any
	for range s.rows {
		var at any
		minutes := 2 + s.random.IntN(values)
		switch {
		case s.random.IntN(50) == 0:
			at = pick[any](s.random, nil, "infinity")
		case s.random.Float64() < share:
			at = time.Now().Truncate(time.Minute).Add(-time.Duration(minutes) * time.Minute).Format(time.RFC3339)
			s.expired = append(s.expired, s.next)
		default:
			at = time.Now().Truncate(time.Minute).Add(time.Duration(minutes+5) * time.Minute).Format(time.RFC3339)
		}
		rows = append(rows, []any{s.next, strings.Repeat("x", s.random.IntN(400)), at})
		s.next++
	}
	batch := &pgx.Batch{}
	for _, row := range rows {
		batch.Queue("INSERT INTO "+s.table+" VALUES ($1, $2, $3::text::timestamptz)", row...)
	}
	if err := s.conn.SendBatch(s.Context(), batch).Close(); err != nil {
		s.Fatal(err)
	}
	if s.random.IntN(3) > 0 {
		pgtest.Exec(s, s.conn, "ANALYZE "+s.table)
	}
}

// play lets the application lock rows, runs, with the application at work
// after every batch, and compares the table with the model.
func (s *schedule) play() {
	holder := pgtest.Conn(s, s.setup.url)
	if len(s.expired) > 0 && s.random.IntN(3) == 0 {
		var ids []int64
		for range 1 + s.random.IntN(len(s.expired)) {
			id := pick(s.random, s.expired...)
			s.locked[id] = true
			ids = append(ids, id)
		}
		pgtest.Exec(s, holder, "BEGIN")
		pgtest.Exec(s, holder, "SELECT FROM "+s.table+" WHERE id = ANY ($1) FOR UPDATE", ids)
	}
	s.busy = s.random.IntN(2) == 0
	s.setup.runner.Progress = func(p cleanup.Progress) {
		if s.busy && p.Phase == cleanup.Deleting && p.Batches < 30 {
			s.write()
		}
	}
	r := s.setup.run(s.T)
	s.check(r)
	_ = holder.Close(s.Context())
	pgtest.Exec(s, s.conn, "DROP TABLE "+s.table)
}

// write is one step of the application.
func (s *schedule) write() {
	switch s.random.IntN(3) {
	case 0: // more time for a row, if it is still there
		if len(s.expired) == 0 {
			return
		}
		id := pick(s.random, s.expired...)
		if s.locked[id] {
			return
		}
		tag, err := s.app.Exec(s.Context(), "UPDATE "+s.table+" SET expires_at = now() + interval '1 hour', body = body || 'more' WHERE id = $1", id)
		if err != nil {
			s.Fatal(err)
		}
		if tag.RowsAffected() == 1 {
			s.extended[id] = true
		}
	case 1: // a new row that lives
		pgtest.Exec(s, s.app, "INSERT INTO "+s.table+" VALUES ($1, '', now() + interval '1 hour')", s.next)
		s.next++
		s.inserted++
	case 2: // a new row that is expired already: it may go or stay
		pgtest.Exec(s, s.app, "INSERT INTO "+s.table+" VALUES (-1, '', now() - interval '1 hour')")
		s.inserted++
	}
}

func (s *schedule) check(r cleanup.PolicyResult) {
	s.Helper()
	fail := func(format string, args ...any) {
		s.Errorf("schedule %d (%d rows, strategy %s, batches of %d, %d workers): %s", s.seed, s.rows, s.setup.policy.Strategy,
			s.setup.runner.BatchMaxRows, s.setup.runner.Workers, fmt.Sprintf(format, args...))
	}
	if r.Err != nil {
		fail("%v", r.Err)
		return
	}
	present := map[int64]bool{}
	left := int64(0)
	rows, err := s.conn.Query(s.Context(), "SELECT id FROM "+s.table)
	if err != nil {
		s.Fatal(err)
	}
	var id int64
	if _, err := pgx.ForEachRow(rows, []any{&id}, func() error {
		present[id] = true
		left++
		return nil
	}); err != nil {
		s.Fatal(err)
	}

	gone := map[int64]bool{}
	for _, id := range s.expired {
		gone[id] = !s.locked[id] && !s.extended[id]
	}
	for id := range s.next {
		if present[id] == gone[id] {
			fail("row %d: present %v, expired and free %v", id, present[id], gone[id])
		}
	}
	if difference := int64(s.rows) + s.inserted - left; r.Deleted != difference {
		fail("reports %d deleted rows, %d are gone", r.Deleted, difference)
	}
	// A row that the application works on at the moment of the last pass is
	// locked as well.
	if locked := int64(len(s.locked)); r.Locked < locked || r.Locked > locked && !s.busy {
		fail("reports %d locked rows, %d are locked", r.Locked, locked)
	}
	if complete := r.Outcome() == cleanup.OutcomeComplete; complete && len(s.locked) > 0 {
		fail("is complete with %d rows locked", len(s.locked))
	}
}
