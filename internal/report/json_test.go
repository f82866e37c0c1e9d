package report

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"message-cleanup/internal/cleanup"
)

func compare(t *testing.T, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

// write returns what WriteJSON writes, which is one line in any case: scripts
// read it line by line.
func write(t *testing.T, r cleanup.Result) string {
	t.Helper()
	var b strings.Builder
	if err := WriteJSON(&b, r); err != nil {
		t.Fatal(err)
	}
	text, ended := strings.CutSuffix(b.String(), "\n")
	if !ended || strings.Contains(text, "\n") || !json.Valid([]byte(text)) {
		t.Errorf("%q is not one JSON object on one line", b.String())
	}
	return text
}

func TestWriteJSON(t *testing.T) {
	t.Parallel()
	const (
		about  = `"timestamp":"2026-03-01T02:00:00.123456Z","run_id":"01a2b3c4-0000-7000-8000-000000000000",`
		policy = `{"name":"messages","table":"public.messages","cutoff":"2026-03-01T02:00:00.123456Z","strategy":"index",` +
			`"reasons":["index messages_expires_at_idx; the table was never analyzed"],`
		none = `"dropped_partitions":[],"duration_ms":2000`
	)
	tests := []struct {
		name   string
		result cleanup.Result
		want   string
	}{
		{"complete", complete(), `{"success":true,"deleted_count":1234567,` + about + `"outcome":"complete","duration_ms":2100,"policies":[` +
			policy + `"stop_reason":"exhausted","deleted_count":1234567,"backlog":0,"held_rows":0,"locked_rows":0,"refused_rows":0,"refused":[],` +
			`"batches":1235,"retries":0,` + none + `}]}`},
		{"locked rows", withLockedRows(), `{"success":false,"deleted_count":1,` + about + `"outcome":"incomplete","duration_ms":2100,"policies":[` +
			policy + `"stop_reason":"exhausted","deleted_count":1,"backlog":12,"held_rows":1,"locked_rows":12,"refused_rows":0,"refused":[],` +
			`"batches":1,"retries":3,"dropped_partitions":[],"duration_ms":500}]}`},
		{"refused rows", refused(), `{"success":false,"deleted_count":500,` + about + `"outcome":"failed","duration_ms":2100,` +
			`"error":"policy messages: 1 expired rows are still there","hint":"look for a trigger","policies":[` +
			policy + `"stop_reason":"exhausted","deleted_count":500,"backlog":1,"held_rows":0,"locked_rows":0,"refused_rows":1,` +
			`"refused":[{"table":"public.messages","key":"id=<17>","message":"no (SQLSTATE P0001)"}],` +
			`"batches":3,"retries":0,` + none + `,"error":"1 expired rows are still there","hint":"look for a trigger"}]}`},
		{"failed, with characters of HTML", failed(), `{"success":false,"deleted_count":2000,` + about + `"outcome":"failed","duration_ms":2100,` +
			`"error":"policy messages: permission denied for table \"a<b>\"","hint":"GRANT DELETE ON \"a<b>\" TO \"r&d\"","policies":[` +
			policy + `"stop_reason":"failed","deleted_count":2000,"backlog":null,"held_rows":null,"locked_rows":0,"refused_rows":0,"refused":[],` +
			`"batches":2,"retries":0,` + none + `,"error":"permission denied for table \"a<b>\"","hint":"GRANT DELETE ON \"a<b>\" TO \"r&d\""}]}`},
		{"no connection", unreachable(), `{"success":false,"deleted_count":0,` + about + `"outcome":"failed","duration_ms":2100,` +
			`"error":"connect to db.example: connection refused","hint":"is it running?","policies":[]}`},
		{"a policy that was not inspected", notInspected(), `{"success":false,"deleted_count":0,` + about + `"outcome":"failed","duration_ms":2100,` +
			`"error":"policy messages: table messages does not exist","hint":"set policies.table","policies":[` +
			`{"name":"messages","table":"messages","cutoff":null,"strategy":"","reasons":[],` +
			`"stop_reason":"failed","deleted_count":0,"backlog":null,"held_rows":null,"locked_rows":0,"refused_rows":0,"refused":[],` +
			`"batches":0,"retries":0,"dropped_partitions":[],"duration_ms":0,"error":"table messages does not exist","hint":"set policies.table"},` +
			policy + `"stop_reason":"exhausted","deleted_count":0,"backlog":0,"held_rows":0,"locked_rows":0,"refused_rows":0,"refused":[],` +
			`"batches":0,"retries":0,` + none + `}]}`},
		{"dry run", dryRun(), `{"success":true,"deleted_count":0,` + about + `"outcome":"dry-run","duration_ms":2100,"policies":[` +
			`{"name":"messages","table":"public.messages","cutoff":"2026-03-01T02:00:00.123456Z","strategy":"index","reasons":[],` +
			`"stop_reason":"","deleted_count":0,"backlog":1500,"held_rows":2000,"locked_rows":0,"refused_rows":0,"refused":[],` +
			`"batches":0,"retries":0,"dropped_partitions":[],"duration_ms":0,"warnings":["a trigger BEFORE DELETE may swallow deletes"],` +
			`"sql":["DELETE FROM ONLY public.messages\nWHERE expires_at < '2026-03-01'","DELETE FROM ONLY public.m2\nWHERE a && b"]}]}`},
		{"guard", guarded(), `{"success":false,"deleted_count":0,` + about + `"outcome":"failed","duration_ms":2100,` +
			`"error":"policy messages: guard.max_rows: more than 10 rows are expired","hint":"raise guard.max_rows","policies":[` +
			policy + `"stop_reason":"guard","deleted_count":0,"backlog":null,"held_rows":null,"locked_rows":0,"refused_rows":0,"refused":[],` +
			`"batches":0,"retries":0,` + none + `,"error":"guard.max_rows: more than 10 rows are expired","hint":"raise guard.max_rows"}]}`},
		{"time budget, the backlog not counted", overBudget(), `{"success":false,"deleted_count":1000,` + about + `"outcome":"incomplete","duration_ms":2100,"policies":[` +
			policy + `"stop_reason":"time_budget","deleted_count":1000,"backlog":null,"held_rows":null,"locked_rows":0,"refused_rows":0,"refused":[],` +
			`"batches":1,"retries":0,` + none + `}]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			compare(t, tt.want, write(t, tt.result))
		})
	}
}

// The names are a contract with scripts: each is there in every run, however it
// ended. Only what cannot be there in all is left out.
func TestJSONHasTheKeysOfTheContract(t *testing.T) {
	t.Parallel()
	run := []string{"success", "deleted_count", "timestamp", "run_id", "outcome", "duration_ms", "policies"}
	policy := []string{
		"name", "table", "cutoff", "strategy", "reasons", "stop_reason", "deleted_count", "backlog", "held_rows",
		"locked_rows", "refused_rows", "refused", "batches", "retries", "dropped_partitions", "duration_ms",
	}
	results := map[string]cleanup.Result{
		"complete": complete(), "locked rows": withLockedRows(), "refused rows": refused(), "failed": failed(),
		"no connection": unreachable(), "not inspected": notInspected(), "dry run": dryRun(), "guard": guarded(),
		"time budget": overBudget(), "partitions": partitioned(), "interrupted": interrupted(),
	}
	for name, result := range results {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got map[string]any
			if err := json.Unmarshal([]byte(write(t, result)), &got); err != nil {
				t.Fatal(err)
			}
			wantKeys(t, got, run, []string{"error", "hint"})
			if _, has := got["error"]; !has && got["outcome"] == "failed" || has && got["success"] == true {
				t.Errorf("outcome %v beside error %v", got["outcome"], got["error"])
			}
			if success := got["outcome"] == "complete" || got["outcome"] == "dry-run"; got["success"] != success {
				t.Errorf("success %v beside outcome %v", got["success"], got["outcome"])
			}
			for _, p := range got["policies"].([]any) {
				object := p.(map[string]any)
				wantKeys(t, object, policy, []string{"error", "hint", "warnings", "sql", "ledger_head"})
				for _, list := range []string{"reasons", "dropped_partitions", "refused"} {
					if _, ok := object[list].([]any); !ok {
						t.Errorf("%s is %v, not a list: a script would have to ask for null", list, object[list])
					}
				}
			}
		})
	}
}

// wantKeys compares the keys of an object with those that must and may be there.
func wantKeys(t *testing.T, object map[string]any, must, may []string) {
	t.Helper()
	got := slices.DeleteFunc(slices.Sorted(maps.Keys(object)), func(key string) bool { return slices.Contains(may, key) })
	if diff := cmp.Diff(slices.Sorted(slices.Values(must)), got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestTheTimestampIsInUTC(t *testing.T) {
	t.Parallel()
	r := complete()
	r.Start = r.Start.In(time.FixedZone("+0545", 5*3600+45*60))
	if text := write(t, r); !strings.Contains(text, `"timestamp":"2026-03-01T02:00:00.123456Z"`) {
		t.Errorf("the timestamp is not in UTC: %s", text)
	}
}

// Several errors are several lines for people; the object stays on its line.
func TestSeveralErrorsAreOneString(t *testing.T) {
	t.Parallel()
	first, second := failed().Policies[0], guarded().Policies[0]
	second.Name = "tokens"
	text := write(t, run(first, second))
	if want := `"error":"policy messages: permission denied for table \"a<b>\"\npolicy tokens: guard.max_rows: more than 10 rows are expired"`; !strings.Contains(text, want) {
		t.Errorf("the report lacks %s:\n%s", want, text)
	}
}
