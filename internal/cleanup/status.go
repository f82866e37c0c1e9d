package cleanup

import "time"

// Status is how a policy's table stands at one instant: what is expired and
// still there, and what expires when.
type Status struct {
	Table   string
	Cutoff  time.Time
	Backlog Count
	Overdue *time.Duration // how long before the cutoff the time of the oldest of the backlog came; nil: not found out
	Held    Count          // expired rows that hold keeps
	Null    Count          // rows without a time, which never expire
	Day     []Span         // the next 24 hours, without gaps
	Later   Count          // rows that expire after these
}

// Span is a span of time, and how many rows expire in it.
type Span struct {
	From, To time.Time
	Count
}

// Count is a number of rows that was not to take long to find out.
type Count struct {
	Rows int64
	Is   CountKind
}

// CountKind says what a number is worth.
type CountKind string

const (
	Exactly CountKind = "exactly"
	AtLeast CountKind = "at least" // counting ended at a bound
	About   CountKind = "about"    // the planner's estimate
	Unknown CountKind = "unknown"  // it took too long
)

// Plus adds two counts. The sum is worth what the worse of them is.
func (c Count) Plus(other Count) Count {
	order := map[CountKind]int{Exactly: 0, About: 1, AtLeast: 2, Unknown: 3}
	sum := Count{c.Rows + other.Rows, c.Is}
	if order[other.Is] > order[c.Is] {
		sum.Is = other.Is
	}
	return sum
}

// spanLength is that of the spans of a day but the first and the last, which
// begin and end with it.
const spanLength = 2 * time.Hour

// Spans cuts the 24 hours from an instant on at the even hours, UTC.
func Spans(from time.Time) []Span {
	end := from.Add(24 * time.Hour)
	var spans []Span
	for from.Before(end) {
		to := from.Truncate(spanLength).Add(spanLength)
		if to.After(end) {
			to = end
		}
		spans = append(spans, Span{From: from, To: to, Count: Count{Is: Exactly}})
		from = to
	}
	return spans
}
