package postgres

import (
	"context"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/pgtest"
)

// A name in the configuration is read as the server reads it, and what is sent
// for it, quoted, is the same name.
func FuzzNamesAreReadAsTheServerDoes(f *testing.F) {
	for _, seed := range []string{
		"messages", "public.messages", "Messages", `"Messages"`, `"a ""b"".c"`, `a."b.c"`, "ä", "Ä", "_$1", "1a", "a b", "a.", ".a", `"`, `""`, `"a"b`,
		" a", "a;--", `"a\nb"`, `"$1::text"`, "a.b.c", "E'a'", `U&"a"`, strings.Repeat("x", 64),
	} {
		f.Add(seed)
	}
	conn := pgtest.Conn(f, pgtest.Database(f))
	f.Fuzz(func(t *testing.T, s string) {
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			return // the configuration has no such text
		}
		for _, name := range []string{s, strings.ToUpper(s)} {
			if name != "" && !isName(pgx.Identifier{name}.Sanitize(), name) {
				t.Errorf("%q is not read as the name that it is quoted of", pgx.Identifier{name}.Sanitize())
			}
		}
		name, err := parseName(s)
		if err != nil {
			return
		}
		for _, text := range []string{s, name.Sanitize()} {
			var parts []string
			if err := conn.QueryRow(context.Background(), "SELECT parse_ident($1)", text).Scan(&parts); err != nil {
				t.Fatalf("%q is read as %q, the server says of %q: %v", s, name, text, err)
			}
			if !slices.Equal(parts, name) {
				t.Errorf("%q is read as %q, the server reads %q as %q", s, name, text, parts)
			}
		}
		if len(name) == 1 && !isName(s, name[0]) {
			t.Errorf("%q is not read as the column %q", s, name[0])
		}
	})
}
