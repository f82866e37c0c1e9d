package postgres

import (
	"testing"

	"message-cleanup/internal/cleanup"
)

func TestSupportedServers(t *testing.T) {
	for text, test := range map[string]struct {
		version int
		want    string // the error
	}{
		"PostgreSQL 12.22 on x86_64-pc-linux-gnu":                                 {120022, "PostgreSQL 12 is too old: 13 or later is needed"},
		"PostgreSQL 13.23 on x86_64-pc-linux-gnu":                                 {130023, ""},
		"PostgreSQL 15.18 (Debian 15.18-0+deb12u1) on x86_64-pc-linux-gnu":        {150018, ""},
		"PostgreSQL 18.4 on x86_64-pc-linux-gnu, compiled by gcc (Debian) 12.2.0": {180004, ""},
		"CockroachDB CCL v24.3.0 (x86_64-pc-linux-gnu, built 2024/11/18)":         {130000, "the server is CockroachDB CCL v24.3.0, which only speaks like PostgreSQL: nothing was tried there, so nothing is deleted"},
		"PostgreSQL 15.12-YB-2.25.2.0-b0 on x86_64-pc-linux-gnu":                  {150012, "the server is PostgreSQL 15.12-YB-2.25.2.0-b0, which only speaks like PostgreSQL: nothing was tried there, so nothing is deleted"},
	} {
		err := supported(text, test.version)
		if test.want == "" && err == nil {
			continue
		}
		if err == nil || err.Error() != test.want || cleanup.KindOf(err) != cleanup.Configuration || cleanup.HintOf(err) == "" {
			t.Errorf("%s: %v, want %q", text, err, test.want)
		}
		name := map[bool]string{true: "server-too-old", false: "not-postgresql"}[test.version < minVersion]
		if got := cleanup.FindingOf("", err); got.Name != name {
			t.Errorf("%s: a check calls it %s, want %s", text, got.Name, name)
		}
	}
}
