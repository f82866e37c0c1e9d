package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDatabaseURLSources(t *testing.T) {
	t.Parallel()
	const (
		file  = "database: {url: 'host=file'}\n"
		ours  = "MESSAGE_CLEANUP_DATABASE_URL=host=ours"
		other = "DATABASE_URL=host=other"
	)
	tests := []struct {
		name       string
		file       string
		credential string
		environ    []string
		url        string
		source     string // FILE stands for the file's path
	}{
		{"none", "", "", nil, "", "default"},
		{"file over all but ours", file, "host=cred", []string{other}, "host=file", "file FILE"},
		{"ours over all", file, "host=cred", []string{ours, other}, "host=ours", "environment MESSAGE_CLEANUP_DATABASE_URL"},
		{"credential over DATABASE_URL", "", "host=cred", []string{other}, "host=cred", "credential database-url"},
		{"empty in the file", "database: {url: ''}\n", "host=cred", nil, "host=cred", "credential database-url"},
		{"empty variable", file, "", []string{"MESSAGE_CLEANUP_DATABASE_URL="}, "host=file", "file FILE"},
		{"DATABASE_URL", "", "", []string{other}, "host=other", "environment DATABASE_URL"},
		{"DATABASE_URL empty", "", "", []string{"DATABASE_URL="}, "", "default"},
		{"credential is trimmed", "", "\n  host=cred \n\n", nil, "host=cred", "credential database-url"},
		{"credential with comments", "", "# the URL\nhost=cred\n", nil, "host=cred", "credential database-url"},
		{"credential of comments", "", "# nothing\n  # yet\n", []string{other}, "host=other", "environment DATABASE_URL"},
		{"credential of blanks", "", " \n", []string{other}, "host=other", "environment DATABASE_URL"},
		{"credential unset", "", "unset\n", []string{other}, "host=other", "environment DATABASE_URL"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := Options{File: write(t, "config.yaml", tt.file), Environ: tt.environ}
			dir := t.TempDir()
			if tt.credential != "" {
				if err := os.WriteFile(filepath.Join(dir, "database-url"), []byte(tt.credential), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			o.Environ = append(o.Environ, "CREDENTIALS_DIRECTORY="+dir)
			c := mustLoad(t, o)
			if c.Database.URL != tt.url {
				t.Errorf("URL is %q, want %q", c.Database.URL, tt.url)
			}
			want := Value{"database.url", tt.url, strings.ReplaceAll(tt.source, "FILE", o.File)}
			if got := c.Values()[0]; got != want {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestEmptyURLInTheFileStaysTheFiles(t *testing.T) {
	t.Parallel()
	file := write(t, "config.yaml", "database: {url: ''}\n")
	checkOnly(t, mustLoad(t, Options{File: file}), Value{"database.url", "", "file " + file})
}

func TestBadCredential(t *testing.T) {
	t.Parallel()
	unreadable := t.TempDir()
	if err := os.Mkdir(filepath.Join(unreadable, "database-url"), 0o700); err != nil {
		t.Fatal(err)
	}
	twoLines := write(t, "database-url", "host=hunter2\nhost=hunter3\n")
	nul := write(t, "database-url", "host=hunter2\x00")
	for _, dir := range []string{unreadable, filepath.Dir(twoLines), filepath.Dir(nul)} {
		_, err := loadHere(t, Options{Environ: []string{"CREDENTIALS_DIRECTORY=" + dir}})
		errs, ok := errors.AsType[Errors](err)
		if !ok || len(errs) != 1 || errs[0].Key != "credential database-url" || strings.Contains(err.Error(), "hunter") {
			t.Errorf("got %v", err)
		}
	}
}

func TestPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	const password = "hunter2"
	const url = "postgres://u:" + password + "@h/db"
	c := mustLoad(t, Options{Environ: []string{"DATABASE_URL=" + url}})
	if c.Database.URL != url {
		t.Errorf("URL is %q", c.Database.URL)
	}
	for _, s := range []string{fmt.Sprint(c.Values()), fmt.Sprintf("%v %+v", c, *c)} {
		if strings.Contains(s, password) || !strings.Contains(s, "postgres://u:****@h/db") {
			t.Errorf("got %s", s)
		}
	}
}

// A connection string is easily put where another thing belongs.
func TestNoErrorShowsAConnectionString(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	contents := map[string]string{
		"scalar section":     "database: postgres://u:hunter2@h\n",
		"list section":       "database: ['postgres://u:hunter2@h']\n",
		"no colon":           "database:\n  url postgres://u:hunter2@h\n",
		"url as a key":       "database: {postgres://u:hunter2@h/db}\n",
		"key twice":          "database:\n  hunter2@h: 1\n  hunter2@h: 2\n",
		"keyword as a key":   "database: {password=hunter2}\n",
		"url of a list":      "database: {url: [hunter2]}\n",
		"url of a map":       "database: {url: {hunter2: 1}}\n",
		"whole file":         "hunter2\n",
		"url with a NUL":     "database: {url: \"hunter2\\0\"}\n",
		"policies":           "policies: hunter2\n",
		"policy":             "policies: [hunter2]\n",
		"url in doubt":       "database: {url: 'postgres://u:p@hunter2@h'}\n",
		"url as a duration":  "batch: {target: 'postgres://u:hunter2@h'}\n",
		"url as a level":     "log: {level: 'host=h password=hunter2'}\n",
		"url as a table":     "policies: [{table: 'postgres://u:hunter2@h'}]\n",
		"url as a zone":      "policies: [{table: m, time_zone: 'postgres://u:hunter2@h'}]\n",
		"case collision":     "database: {password=Hunter2: 1, password=hunter2: 1}\n",
		"unknown in section": "database: {password: hunter2}\n",
	}
	for name, content := range contents {
		_, err := loadHere(t, Options{File: write(t, "config.yaml", content)})
		if err == nil || strings.Contains(strings.ToLower(err.Error()), secret) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Whatever is around an address in a file of whatever format: nothing crashes,
// and neither an error nor the printed configuration shows its password.
func FuzzConfigurationShowsNoPassword(f *testing.F) {
	for _, seed := range []struct{ before, after string }{
		{"database: {url: '", "'}"}, {"database:\n  url: ", "\n"}, {"database: ", ""}, {"database: {url: [", "]}"},
		{"policies: [{table: '", "'}]"}, {"policies: [{name: a, table: b, time_zone: '", "'}]"}, {"batch: {target: '", "'}"},
		{"- ", ""}, {"'", "': 1"}, {"database: {url: \"", ""}, {"a: &a '", "'\nb: *a"}, {"--- ", "\n---\n"},
		{"[database]\nurl = \"", "\""}, {"[database]\nurl = ", ""}, {"[[policies]]\ntable = '", "'"}, {"[\"", "\"]"},
		{`{"database": {"url": "`, `"}}`}, {`{"database": {"url": `, `}}`}, {`{"`, `": 1}`}, {"", ""},
	} {
		for format := range byte(len(formats)) {
			f.Add(seed.before, seed.after, format)
		}
	}
	f.Fuzz(func(t *testing.T, before, after string, format byte) {
		const password = "Zq7secretZq7"
		path := filepath.Join(t.TempDir(), "config."+formats[int(format)%len(formats)])
		if err := os.WriteFile(path, []byte(before+"postgres://u:"+password+"@h/db"+after), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := load(Options{File: path}, path)
		if err != nil {
			if strings.Contains(strings.ToLower(err.Error()), strings.ToLower(password)) {
				t.Errorf("the error shows it: %v", err)
			}
			return
		}
		for _, v := range c.Values() {
			// A condition is the operator's, and shown as it is.
			if strings.Contains(v.Value, password) && !strings.HasSuffix(v.Key, ".where") && !strings.HasSuffix(v.Key, ".hold") {
				t.Errorf("%s shows it: %s", v.Key, v.Value)
			}
		}
	})
}
