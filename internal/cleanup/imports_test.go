package cleanup

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// modulePath is the module's name in go.mod.
const modulePath = "message-cleanup"

// arrow is one import: from a package of ours, named by its folder, to a
// package of ours, named likewise, or to another's import path.
type arrow struct{ from, to string }

// arrowRules are the direction of the house. Each says which imports it
// forbids, and why; example is one of those.
var arrowRules = []struct {
	rule      string
	reason    string
	forbidden func(arrow) bool
	example   arrow
}{
	{
		rule:      "internal/cleanup imports the standard library only",
		reason:    "the domain decides which rows go: it must be readable and testable without a database, a file or systemd",
		forbidden: func(a arrow) bool { return a.from == "internal/cleanup" && !isStandard(a.to) },
		example:   arrow{"internal/cleanup", "github.com/jackc/pgx/v5"},
	},
	{
		rule:   "internal/config, postgres, report and systemd import of ours only internal/cleanup",
		reason: "they do not know of each other: cmd translates between them, so that each can be changed alone",
		forbidden: func(a arrow) bool {
			sides := []string{"internal/config", "internal/postgres", "internal/report", "internal/systemd"}
			return slices.Contains(sides, a.from) && isOurs(a.to) && a.to != "internal/cleanup"
		},
		example: arrow{"internal/report", "internal/postgres"},
	},
	{
		rule:   "only internal/config imports viper",
		reason: "viper's keys are strings: behind config every value is typed, checked and explained",
		forbidden: func(a arrow) bool {
			return a.from != "internal/config" && within(a.to, "github.com/spf13/viper")
		},
		example: arrow{"cmd/message-cleanup", "github.com/spf13/viper"},
	},
	{
		rule:   "only internal/postgres, pgtest, bench and soak import pgx",
		reason: "what is sent to the server is read in one place; the others talk to a test's or a benchmark's own database",
		forbidden: func(a arrow) bool {
			allowed := within(a.from, "internal/postgres") || within(a.from, "internal/pgtest") || within(a.from, "internal/bench") || within(a.from, "internal/soak")
			return !allowed && within(a.to, "github.com/jackc")
		},
		example: arrow{"cmd/message-cleanup", "github.com/jackc/pgx/v5/pgconn"},
	},
	{
		rule:   "only internal/systemd imports go-systemd",
		reason: "the program runs without systemd too: one package knows what to do then",
		forbidden: func(a arrow) bool {
			return a.from != "internal/systemd" && within(a.to, "github.com/coreos/go-systemd")
		},
		example: arrow{"cmd/message-cleanup", "github.com/coreos/go-systemd/v22/daemon"},
	},
	{
		rule:   "only internal/report imports prometheus",
		reason: "metrics are one form of a result: the engine counts, and does not know who reads it",
		forbidden: func(a arrow) bool {
			return a.from != "internal/report" && within(a.to, "github.com/prometheus")
		},
		example: arrow{"internal/cleanup", "github.com/prometheus/client_golang/prometheus"},
	},
	{
		rule:   "only tests, internal/pgtest, bench and soak import pgtest, bench or soak",
		reason: "they start servers and fill tables: nothing of that belongs into the binary that runs beside production data",
		forbidden: func(a arrow) bool {
			allowed := within(a.from, "internal/pgtest") || within(a.from, "internal/bench") || within(a.from, "internal/soak")
			return !allowed && (within(a.to, "internal/pgtest") || within(a.to, "internal/bench") || within(a.to, "internal/soak"))
		},
		example: arrow{"internal/postgres", "internal/pgtest"},
	},
	{
		rule:      "nobody imports cmd",
		reason:    "it is the wiring: what two programs need is a package in internal",
		forbidden: func(a arrow) bool { return within(a.to, "cmd") },
		example:   arrow{"internal/bench", "cmd/message-cleanup"},
	},
}

func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	files := moduleImports(t)
	for _, r := range arrowRules {
		if !r.forbidden(r.example) {
			t.Errorf("%s: the rule does not see %s importing %s", r.rule, r.example.from, r.example.to)
		}
		for _, file := range slices.Sorted(maps.Keys(files)) {
			for _, to := range files[file] {
				if r.forbidden(arrow{path.Dir(file), to}) {
					t.Errorf("%s imports %s\n\tbut %s,\n\tbecause %s", file, to, r.rule, r.reason)
				}
			}
		}
	}
}

// moduleImports returns what each Go file of the module imports, tests apart,
// whatever system it is built for. A package of ours is named by its folder.
func moduleImports(t *testing.T) map[string][]string {
	t.Helper()
	root := filepath.Join("..", "..")
	if text, err := os.ReadFile(filepath.Join(root, "go.mod")); err != nil || !strings.HasPrefix(string(text), "module "+modulePath+"\n") {
		t.Fatalf("%s is not the root of module %s: %v", root, modulePath, err)
	}
	files := make(map[string][]string)
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			// The folders that the go command does not look into either.
			if base := entry.Name(); name != "." && (base[0] == '.' || base[0] == '_' || base == "testdata" || base == "vendor") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			files[name] = append(files[name], strings.TrimPrefix(to, modulePath+"/"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// Without these the walk went wrong, and the rules would hold for nothing.
	for _, file := range []string{"cmd/message-cleanup/main.go", "internal/postgres/conn.go", "internal/cleanup/runner.go"} {
		if len(files[file]) == 0 {
			t.Fatalf("%s was not found among %d files", file, len(files))
		}
	}
	return files
}

// within tells whether a package is the named one or lies below it.
func within(pkg, parent string) bool {
	return pkg == parent || strings.HasPrefix(pkg, parent+"/")
}

func isOurs(pkg string) bool { return within(pkg, "internal") || within(pkg, "cmd") }

// isStandard tells whether an import path is of the standard library: no other
// has a first element without a dot, but ours.
func isStandard(pkg string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	return !isOurs(pkg) && !strings.Contains(first, ".")
}
