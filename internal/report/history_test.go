package report

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"message-cleanup/internal/cleanup"
)

// recorded is a run of a policy at 02:00 UTC of a day in March 2026.
func recorded(day int, policy string, outcome cleanup.Outcome, deleted, left int64) cleanup.LedgerRow {
	at := time.Date(2026, 3, day, 2, 0, 3, 123456000, time.UTC)
	end, oldest := at.Add(2100*time.Millisecond), at.Add(-24*time.Hour)
	row := cleanup.LedgerRow{
		RunID: fmt.Sprintf("01a2b3c4-0000-7000-8000-%012d", day), Policy: policy, Table: "public." + policy,
		Definition: "delete rows of " + policy + " once expires_at has passed", DefinitionHash: strings.Repeat("d", 64),
		Cutoff: &at, Started: at, Outcome: outcome, StopReason: cleanup.Exhausted, Deleted: deleted, Batches: 1 + deleted/1000,
		Host: "db1", Version: "1.2.3", OldestExpiry: &oldest, NewestExpiry: &at,
	}
	switch outcome {
	case cleanup.OutcomeUnfinished:
		row.StopReason = ""
		return row
	case cleanup.OutcomeFailed:
		row.StopReason = cleanup.Failed
	default:
		row.Backlog, row.Held = &left, new(int64(0))
	}
	row.Finished = &end
	return row
}

// history is a month with all that may happen in it.
func history(t *testing.T) cleanup.History {
	t.Helper()
	var rows []cleanup.LedgerRow
	for day := 1; day <= 27; day++ {
		switch day {
		case 9:
			rows = append(rows, recorded(day, "messages", cleanup.OutcomeFailed, 0, 0))
		case 10, 11:
		case 20:
			rows = append(rows, recorded(day, "messages", cleanup.OutcomeIncomplete, 400_000, 812_345))
			rows = append(rows, recorded(day, "messages", cleanup.OutcomeIncomplete, 300_000, 512_345))
		default:
			rows = append(rows, recorded(day, "messages", cleanup.OutcomeComplete, int64(1_000_000+day*day*1_234), 0))
		}
		if day > 12 {
			row := recorded(day, `audit <script>alert("1")</script>`, cleanup.OutcomeComplete, int64(day%4), 0)
			row.Dropped = []string{fmt.Sprintf("audit.events_2025_%02d", day)}
			rows = append(rows, row)
		}
	}
	rows = append(rows, recorded(27, "messages", cleanup.OutcomeUnfinished, 5_000, 0))
	for i := range rows {
		rows[i].Position = new(int64(i + 1))
		rows[i].Content = fmt.Sprint(i)
		rows[i].Hash = rows[i].Sum()
		if i > 0 {
			rows[i].Previous = rows[i-1].Hash
		}
	}
	h, err := cleanup.NewHistory(rows, []string{"messages", `audit <script>alert("1")</script>`}, nil,
		time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 27, 9, 0, 0, 0, time.UTC), "")
	if err != nil {
		t.Fatal(err)
	}
	h.Database, h.Table = "database chat at db.internal:5432 as message-cleanup", "message_cleanup.runs"
	return h
}

func TestHistoryHasALineForEachRunAndTheGapsWhereTheyAre(t *testing.T) {
	t.Parallel()
	h := history(t)
	var b strings.Builder
	if err := WriteHistory(&b, h); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	head := []string{
		`STARTED (UTC)        POLICY                             OUTCOME       DELETED     LEFT  HELD   TOOK  STOPPED BY`,
		`2026-03-01 02:00:03  messages                           complete    1,001,234        0     0  2.1 s`,
	}
	if diff := cmp.Diff(head, lines[:2]); diff != "" {
		t.Error(diff)
	}
	middle := []string{
		`2026-03-09 02:00:03  messages                           failed              0        -     -  2.1 s`,
		`2026-03-09           messages                           GAP: 3 nights without a verified run, to 2026-03-11`,
		`2026-03-12 02:00:03  messages                           complete    1,177,696        0     0  2.1 s`,
	}
	if diff := cmp.Diff(middle, lines[9:12]); diff != "" {
		t.Error(diff)
	}
	tail := []string{
		`2026-03-27 02:00:03  messages                           unfinished      5,000        -     -`,
		"42 runs since 2026-03-01, 31,390,376 rows deleted; 4 nights without a verified run",
		"ledger: 42 rows, each as it was written",
		"head:   " + h.Chain.Head,
		"",
	}
	if diff := cmp.Diff(tail, lines[len(lines)-5:]); diff != "" {
		t.Error(diff)
	}
}

func TestHistorySaysWhatIsWrongWithTheLedger(t *testing.T) {
	t.Parallel()
	h := history(t)
	h.Rows[2].Content += "1"
	chain, err := cleanup.VerifyChain(append(h.Rows[:5:5], h.Rows[6:]...), "")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := WriteChain(&b, chain); err != nil {
		t.Fatal(err)
	}
	want := `row 3 (policy messages, run 01a2b3c4-0000-7000-8000-000000000003) was edited or inserted: its hash is that of another content
row 6 is missing: it was removed
ledger: 41 rows, NOT as they were written: 2 findings
head:   ` + chain.Head + "\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

func TestHistoryAsCSVHasEveryColumnOfTheLedger(t *testing.T) {
	t.Parallel()
	h := history(t)
	var b strings.Builder
	if err := WriteHistoryCSV(&b, h); err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 1+len(h.Rows) {
		t.Errorf("%d lines for %d runs", len(records), len(h.Rows))
	}
	var columns map[string]any
	row, err := json.Marshal(h.Rows[0])
	if err == nil {
		err = json.Unmarshal(row, &columns)
	}
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(columns)), slices.Sorted(slices.Values(records[0]))); diff != "" {
		t.Error(diff)
	}
	if got := strings.Join(records[1][:9], " "); got != "2026-03-01T02:00:03.123456Z 2026-03-01T02:00:05.223456Z messages complete exhausted 2026-03-01T02:00:03.123456Z 1001234 0 0" {
		t.Error(got)
	}
}

func TestHistoryAsJSONHasRunsGapsAndChain(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := WriteHistoryJSON(&b, history(t)); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(b.String()), &got); err != nil {
		t.Fatal(err)
	}
	wantKeys(t, got, []string{"success", "timestamp", "since", "ledger", "runs", "gaps", "chain"}, []string{"error", "hint"})
	wantKeys(t, got["chain"].(map[string]any), []string{"rows", "open", "head", "findings"}, nil)
	if got["success"] != false || len(got["runs"].([]any)) != 42 || !strings.Contains(b.String(), `"gaps":[{"policy":"messages","from":"2026-03-09","to":"2026-03-11","nights":3},`) {
		t.Error(b.String())
	}
	b.Reset()
	if err := WriteHistoryJSON(&b, cleanup.History{}); err != nil || !strings.Contains(b.String(), `"success":true`) || strings.Contains(b.String(), "null") {
		t.Error(err, b.String())
	}
}

// pageOf writes a history as a page.
func pageOf(t *testing.T, h cleanup.History) string {
	t.Helper()
	var b strings.Builder
	if err := WriteHistoryHTML(&b, h, "1.2.3"); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// An auditor may be far from any network, and will not trust a page that asks
// something of one.
func TestThePageNeedsNothingFromOutside(t *testing.T) {
	t.Parallel()
	page := pageOf(t, history(t))
	for _, part := range []string{"<script", "http:", "https:", "src=", "href=", "@import", "url(", "ZgotmplZ"} {
		if strings.Contains(page, part) {
			t.Errorf("the page has %s", part)
		}
	}
	for _, part := range []string{
		"&lt;script&gt;alert(", "<b>31,390,376</b>rows deleted", "<b>4 nights</b>without a verified run", "<b>intact</b>all 42 rows",
		"2026-03-09 to 2026-03-11; 2026-03-20", "audit.events_2025_13", "<title>2026-03-20: 700,000 rows deleted, 512,345 left</title>",
	} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %s", part)
		}
	}
}

func TestThePageSaysThatTheLedgerWasEdited(t *testing.T) {
	t.Parallel()
	h := history(t)
	h.Chain.Findings = []cleanup.ChainFinding{{Position: 3, RunID: "x", Policy: "<b>", Problem: "was edited"}}
	if page := pageOf(t, h); !strings.Contains(page, "<li>row 3 (policy &lt;b&gt;, run x) was edited</li>") || strings.Contains(page, "intact") {
		t.Error(page)
	}
	if page := pageOf(t, cleanup.History{Since: h.Since, Now: h.Now}); !strings.Contains(page, "No run is on record in this time.") {
		t.Error(page)
	}
}

// A policy whose definition was changed shows both, with when they were in force.
func TestThePageShowsThatADefinitionWasChanged(t *testing.T) {
	t.Parallel()
	h := history(t)
	for i := range h.Rows {
		if h.Rows[i].Started.Day() >= 15 {
			h.Rows[i].Definition, h.Rows[i].DefinitionHash = "delete later", strings.Repeat("e", 64)
		}
	}
	page := pageOf(t, h)
	for _, part := range []string{"(from 2026-03-01 to 2026-03-14;", "<p>delete later, in table public.messages <span class=\"faint\">(from 2026-03-15 to 2026-03-27;"} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %s", part)
		}
	}
}

// What a browser makes of the page: charts with their bars inside of them, and a
// table of all runs that is not wider than the page.
func TestABrowserShowsThePage(t *testing.T) {
	t.Parallel()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("SKIPPED: the page is not looked at in a browser, for there is no chromium: apt-get install chromium")
	}
	dir := t.TempDir()
	// The page's own policy forbids scripts. This copy has one, which writes down
	// what the browser measures.
	page := strings.Replace(pageOf(t, history(t)), "default-src 'none'; style-src 'unsafe-inline'", "default-src 'unsafe-inline'", 1)
	page = strings.Replace(page, "</body>", `<script>
const inside = (a, b) => a.left >= b.left - 1 && a.right <= b.right + 1 && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
let outside = 0;
for (const svg of document.querySelectorAll("svg"))
  for (const part of svg.querySelectorAll("rect, text, line"))
    if (!inside(part.getBoundingClientRect(), svg.getBoundingClientRect())) outside++;
document.title = [document.querySelectorAll("svg").length, document.querySelectorAll("rect.deleted").length,
  document.querySelectorAll("rect.gap").length, document.querySelectorAll("tbody").length, outside,
  document.documentElement.scrollWidth > document.documentElement.clientWidth].join(" ");
</script></body>`, 1)
	file := filepath.Join(dir, "page.html")
	if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), browser, "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+dir, "--window-size=1200,800", "--dump-dom", "file://"+file)
	dom, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, dom)
	}
	_, title, _ := strings.Cut(string(dom), "<title>")
	title, _, _ = strings.Cut(title, "</title>")
	// 2 charts, 25 + 15 days with runs, 2 gaps, 42 runs, nothing outside of its chart.
	if want := "2 40 2 42 0 false"; title != want {
		t.Errorf("the browser shows %q, want %q", title, want)
	}
}
