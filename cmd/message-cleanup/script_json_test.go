package main

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
)

// cmdJSON looks into a result on stdout.
func cmdJSON(ts *testscript.TestScript, args []string) {
	switch {
	case len(args) == 2:
		if got := jsonText(ts, jsonAt(ts, args[0])); got != args[1] {
			ts.Fatalf("%s is %s, want %s", args[0], got, args[1])
		}
	case len(args) == 3 && args[0] == "-save":
		text, ok := jsonAt(ts, args[1]).(string)
		if !ok {
			ts.Fatalf("%s is not a text", args[1])
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(text), 0o666))
	case len(args) > 2 && args[0] == "-keys":
		object, ok := jsonAt(ts, args[1]).(map[string]any)
		if !ok {
			ts.Fatalf("%s is not an object", args[1])
		}
		var keys []string
		for key := range object {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		if diff := cmp.Diff(slices.Sorted(slices.Values(args[2:])), keys); diff != "" {
			ts.Fatalf("keys of %s (-want +got):\n%s", args[1], diff)
		}
	default:
		ts.Fatalf("usage: json PATH VALUE, json -save PATH FILE or json -keys PATH KEY ...")
	}
}

// jsonAt returns the value at a path in the JSON that stdout is.
func jsonAt(ts *testscript.TestScript, path string) any {
	decoder := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		ts.Fatalf("stdout is not JSON: %v", err)
	}
	if path == "." {
		return value
	}
	for name := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			found := false
			if value, found = v[name]; !found {
				ts.Fatalf("%s: there is no %s", path, name)
			}
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(v) {
				ts.Fatalf("%s: the list has %d items", path, len(v))
			}
			value = v[i]
		default:
			ts.Fatalf("%s: %s is below a scalar", path, name)
		}
	}
	return value
}

// jsonText is a text itself, and anything else as JSON writes it.
func jsonText(ts *testscript.TestScript, value any) string {
	if text, ok := value.(string); ok {
		return text
	}
	text, err := json.Marshal(value)
	ts.Check(err)
	return string(text)
}

// cmdJSONLog looks into a log on stderr.
func cmdJSONLog(ts *testscript.TestScript, args []string) {
	if len(args) > 0 {
		ts.Fatalf("usage: jsonlog")
	}
	first := ""
	for text := range strings.Lines(ts.ReadFile("stderr")) {
		var line struct {
			Time  time.Time
			Level string
			Msg   string
			RunID string `json:"run_id"`
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			ts.Fatalf("not a line of JSON: %v\n%s", err, text)
		}
		if first == "" {
			first = line.RunID
		}
		if line.Time.IsZero() || line.Level == "" || line.Msg == "" || line.RunID == "" || line.RunID != first {
			ts.Fatalf("it lacks time, level, msg or the run_id %s: %s", first, text)
		}
	}
	if first == "" {
		ts.Fatalf("nothing was logged")
	}
}
