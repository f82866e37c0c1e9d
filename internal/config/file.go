package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/viper"
)

// formats are those of viper's formats that have sections and lists.
var formats = []string{"yaml", "yml", "toml", "json"}

// readFile reads the named file, or the default one if it exists, and sorts
// what it says by the paths of the keys.
func (l *loader) readFile(named, standard string) {
	path, key := named, "--config"
	if named == "" {
		path, key = standard, standard
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
	if address.MatchString(path) {
		l.fail(key, misplaced)
		return
	}
	tree, err := decodeFile(path)
	if all, ok := errors.AsType[Errors](err); ok {
		l.errs = append(l.errs, all...)
		return
	}
	if err != nil {
		l.fail(key, err)
		return
	}
	l.file = path
	l.values = map[string]any{}
	l.flatten(tree, "")
}

// flatten notes the value of every key below a section, and what is neither a
// key nor a section.
func (l *loader) flatten(tree map[string]any, section string) {
	for _, name := range slices.Sorted(maps.Keys(tree)) {
		path := name
		if section != "" {
			path = section + "." + name
		}
		// A name with a dot in it only looks like a path.
		switch known := slices.Contains(below(section), name); {
		case known && isKey(path):
			l.values[path] = tree[name]
		case known && isSection(path):
			l.section(tree[name], path)
		default:
			l.fail(pathOf(section, name), Error{Problem: "unknown key", Hint: unknownHint(name, below(section))})
		}
	}
}

func (l *loader) section(raw any, path string) {
	switch v := raw.(type) {
	case nil: // every line of the section is a comment
	case map[string]any:
		l.flatten(v, path)
	default:
		// Not shown: it may be a connection string.
		l.fail(path, Error{
			Problem: kind(raw) + " where a section belongs",
			Hint:    "its keys are " + strings.Join(below(path), ", "),
		})
	}
}

// pathOf returns the path of an unknown key as an error may show it.
func pathOf(section, name string) string {
	if section == "" {
		return printable(name)
	}
	return section + "." + printable(name)
}

// unknownHint says what an unknown key may have been meant to be: one of those
// beside it, or one of the same name in another place.
func unknownHint(name string, siblings []string) string {
	if isKey(name) {
		section, rest, _ := strings.Cut(name, ".")
		return fmt.Sprintf("nest it: %s below %s", rest, section)
	}
	if n := nearest(name, siblings); n != "" {
		return "did you mean " + n + "?"
	}
	var elsewhere []string
	for _, k := range keys {
		if strings.HasSuffix(k.path, "."+name) {
			elsewhere = append(elsewhere, k.path)
		}
	}
	for _, k := range policyKeys {
		if k.path == name {
			elsewhere = append(elsewhere, policiesPath+"[]."+name)
		}
	}
	if len(elsewhere) > 0 {
		return "did you mean " + either(elsewhere) + "?"
	}
	return "the keys here are " + strings.Join(siblings, ", ")
}

// decodeFile returns what viper reads, with keys in lower case.
func decodeFile(path string) (map[string]any, error) {
	if !slices.Contains(formats, strings.TrimPrefix(filepath.Ext(path), ".")) {
		return nil, Error{
			Problem: fmt.Sprintf("%s: its suffix does not tell a known format", path),
			Hint:    "name it .yaml, .yml, .toml or .json",
		}
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Error{Problem: path + " does not exist"}
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat() // of what is read, whatever becomes of the path
	if err != nil {
		return nil, err
	}
	if err := checkWriters(path, info, os.Geteuid()); err != nil {
		return nil, err
	}
	strict := &strictDecoder{formats: viper.NewCodecRegistry(), path: path}
	v := viper.NewWithOptions(
		viper.KeyDelimiter("::"), // a dot belongs to table names
		viper.WithDecoderRegistry(strict),
	)
	v.SetConfigFile(path) // only the suffix counts; never a search, which prefers a config.json nobody meant
	var parse viper.ConfigParseError
	if err := v.ReadConfig(file); errors.As(err, &parse) {
		return nil, parse.Unwrap()
	} else if err != nil {
		return nil, err
	}
	return strict.tree, nil
}

// strictDecoder lets viper's decoders do the work, refuses what they would
// pass over in silence, and keeps the tree: viper itself no longer tells a key
// without a value from an absent one.
type strictDecoder struct {
	formats viper.DecoderRegistry
	path    string
	inner   viper.Decoder
	tree    map[string]any
}

// Decoder implements viper.DecoderRegistry.
func (s *strictDecoder) Decoder(format string) (viper.Decoder, error) {
	inner, err := s.formats.Decoder(format)
	s.inner = inner
	return s, err
}

// Decode implements viper.Decoder. viper changes tree's keys to lower case
// after it, in place.
func (s *strictDecoder) Decode(b []byte, tree map[string]any) error {
	if err := s.inner.Decode(b, tree); err != nil {
		return Errors{{Key: s.path, Problem: syntax(err)}}
	}
	s.tree = tree
	if ext := filepath.Ext(s.path); (ext == ".yaml" || ext == ".yml") && hasSecondDocument(b) {
		return Errors{{Key: s.path, Problem: "holds more than one YAML document", Hint: "only the first would be read; remove the --- between them"}}
	}
	if errs := collisions(tree, ""); len(errs) > 0 {
		return errs
	}
	return nil
}

// echo is how decoders quote the file: values in backticks, keys in quotes.
var echo = regexp.MustCompile("`[^`]*`" + `|"(\\.|[^"\\])*"`)

// syntax returns a decoder's message in one line and without what it quotes
// from the file where that may be a part of the connection string.
func syntax(err error) string {
	message := strings.Join(strings.Fields(err.Error()), " ")
	return echo.ReplaceAllStringFunc(message, func(quoted string) string {
		if quoted[0] == '`' {
			return "a value"
		}
		return printable(quoted[1 : len(quoted)-1])
	})
}

// collisions finds keys that differ in case only. viper folds them and keeps
// one at random.
func collisions(raw any, path string) Errors {
	var errs Errors
	switch v := raw.(type) {
	case []any:
		for i, item := range v {
			errs = append(errs, collisions(item, fmt.Sprintf("%s[%d]", path, i))...)
		}
	case map[string]any:
		seen := map[string]string{}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			lower := strings.ToLower(name)
			key := pathOf(path, lower)
			if other, twice := seen[lower]; twice {
				problem := fmt.Sprintf("is written as %s and as %s", printable(other), printable(name))
				errs = append(errs, Error{Key: key, Problem: problem, Hint: "keep one"})
			}
			seen[lower] = name
			errs = append(errs, collisions(v[name], key)...)
		}
	}
	return errs
}

// hasSecondDocument tells whether a YAML stream goes on after its first
// document. A marker counts in the first column only, where no scalar inside a
// mapping can reach: https://yaml.org/spec/1.2.2/#91-documents
func hasSecondDocument(b []byte) bool {
	begun, ended := false, false
	for line := range bytes.Lines(b) {
		fields := bytes.Fields(line)
		switch {
		case len(fields) == 0 || fields[0][0] == '#' || line[0] == '%':
		case bytes.HasPrefix(line, []byte("---")) && len(fields[0]) == 3:
			if begun {
				return true
			}
			begun = true
		case bytes.HasPrefix(line, []byte("...")) && len(fields[0]) == 3:
			ended = begun
		case ended:
			return true
		default:
			begun = true
		}
	}
	return false
}
