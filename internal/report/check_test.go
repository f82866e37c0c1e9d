package report

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"message-cleanup/internal/cleanup"
)

func checkup(findings ...cleanup.Finding) cleanup.Checkup {
	return cleanup.Checkup{
		Start: time.Date(2026, 3, 1, 3, 0, 0, 0, time.FixedZone("CET", 3600)), Database: "database chat", Findings: findings,
	}
}

func TestWriteCheck(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 9 {
		many = append(many, fmt.Sprintf("GRANT SELECT ON m%d TO r", i))
	}
	for _, c := range []struct {
		name    string
		checkup cleanup.Checkup
		want    string
	}{
		{"clean", checkup(), "database chat\nclean: nothing found\n"},
		{"nobody answers", cleanup.Checkup{Findings: cleanup.Findings{{Name: "connection", Severity: cleanup.SeverityError, Text: "refused:\nby all", Hint: "look"}}},
			"error: connection\n  found     refused:\n            by all\n  hint      look\n1 error, 0 warnings\n"},
		{"statements, of several lines too", checkup(cleanup.Finding{Name: "a", Severity: cleanup.SeverityWarning, Policy: "p", Text: "t", SQL: []string{"DO $$\nEND $$", "ANALYZE"}}),
			"database chat\nwarning: a, policy p\n  found     t\n  mend      DO $$\n            END $$;\n            ANALYZE;\n0 errors, 1 warning\n"},
		{"a command that does the same", checkup(cleanup.Finding{Name: "a", Severity: cleanup.SeverityError, Text: "t", SQL: []string{"CREATE"}, Command: "setup"}),
			"database chat\nerror: a\n  found     t\n  mend      setup\n1 error, 0 warnings\n"},
		{"more statements than people read", checkup(cleanup.Finding{Name: "a", Severity: cleanup.SeverityError, Text: "t", SQL: many}),
			"database chat\nerror: a\n  found     t\n  mend      " + strings.Join(many[:5], ";\n            ") +
				";\n            -- and 4 more: --output json has them all\n1 error, 0 warnings\n"},
		{"as many as are shown", checkup(cleanup.Finding{Name: "a", Severity: cleanup.SeverityError, Text: "t", SQL: many[:6]}),
			"database chat\nerror: a\n  found     t\n  mend      " + strings.Join(many[:6], ";\n            ") + ";\n1 error, 0 warnings\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			if err := WriteCheck(&b, c.checkup); err != nil {
				t.Fatal(err)
			}
			compare(t, c.want, b.String())
		})
	}
}

func TestWriteCheckJSON(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	err := WriteCheckJSON(&b, checkup(
		cleanup.Finding{Name: "a-b", Severity: cleanup.SeverityError, Policy: "p", Text: "x < y", SQL: []string{"A", "B"}, Command: "c", Hint: "h"},
		cleanup.Finding{Name: "d", Severity: cleanup.SeverityWarning, Text: "t", Hint: "h"}))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, `{"success":false,"timestamp":"2026-03-01T02:00:00Z","database":"database chat","errors":1,"warnings":1,"findings":[`+
		`{"name":"a-b","severity":"error","policy":"p","message":"x < y","sql":["A","B"],"command":"c","hint":"h"},`+
		`{"name":"d","severity":"warning","message":"t","sql":[],"hint":"h"}]}`+"\n", b.String())
}
