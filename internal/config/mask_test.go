package config

import (
	"strings"
	"testing"
)

func TestMaskURL(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, in, want string }{
		{"empty", "", ""},
		{"no password", "postgres://u@h/db", "postgres://u@h/db"},
		{"no user", "postgres://h:5432/db", "postgres://h:5432/db"},
		{"empty password", "postgres://u:@h/db", "postgres://u:@h/db"},
		{"in userinfo", "postgres://u:p@h:5432/db", "postgres://u:****@h:5432/db"},
		{"other scheme name", "postgresql://u:p@h/db", "postgresql://u:****@h/db"},
		{"colon in the password", "postgres://u:p:q@h/db", "postgres://u:****@h/db"},
		{"everywhere", "postgres://u:p%40w@h/db?password=x&sslpassword=y", "postgres://u:****@h/db?password=****&sslpassword=****"},
		{"name escaped", "postgres://h/db?pass%77ord=x", "postgres://h/db?pass%77ord=****"},
		{"public parameters", "postgres://u:p@h/db?sslmode=require&passfile=/etc/pw", "postgres://u:****@h/db?sslmode=require&passfile=/etc/pw"},
		{"several hosts", "postgres://u:p@a:1,b:2/db?target_session_attrs=read-write", "postgres://u:****@a:1,b:2/db?target_session_attrs=read-write"},
		{"ipv6 with a zone", "postgres://u:p@[fe80::1%25eth0]:5432/db", "postgres://u:****@[fe80::1%25eth0]:5432/db"},
		{"ipv6", "postgres://u:p@[::1]:5432/db", "postgres://u:****@[::1]:5432/db"},
		{"socket", "postgres:///db?host=/run/postgresql", "postgres:///db?host=/run/postgresql"},

		{"unescaped at", "postgres://u:p@w@h/db", mask},
		{"unescaped slash", "postgres://u:p/w@h/db", mask},
		{"unescaped slash, no host", "postgres://u:p/w", mask},
		{"unescaped question mark", "postgres://u:1?w@h/db", "postgres://u:****@h/db"},
		{"unescaped hash", "postgres://u:1#w@h/db", "postgres://u:****@h/db"},
		{"unescaped ampersand", "postgres://h/db?password=a&b", mask},
		{"unknown parameter", "postgres://h/db?passwort=x", mask},
		{"bad escape", "postgres://h/db?host=%zz", mask},
		{"no host", "postgres://u:secret", mask},
		{"colon escaped in the user", "postgres://u%3Asecret@h/db", mask},
		{"string inside a string", "postgres://h/db?dbname=postgres://u:p%40h", "postgres://h/db?dbname=****"},
		{"another scheme", "mysql://u:p@h/db", mask},
		{"scheme in upper case", "POSTGRES://u:p@h/db", mask},

		{"keywords", "host=h user=u password=p dbname=d", "host=h user=u password=**** dbname=d"},
		{"keywords without one", "host=/run/postgresql dbname=d", "host=/run/postgresql dbname=d"},
		{"quoted", `password='a b\' c' host=h`, `password=**** host=h`},
		{"quoted with a backslash", `password='a\\' host=h`, `password=**** host=h`},
		{"escaped space", `password=a\ b host=h`, `password=**** host=h`},
		{"blanks around", "  host = h\tpassword =  p\n", "host=h password=****"},
		{"quotes of others", `host='h x' sslpassword=p`, `host='h x' sslpassword=****`},
		{"options", `options='-c lock_timeout=1' host=h`, `options=**** host=h`},

		{"unquoted space", "password=a b host=h", mask},
		{"open quote", "password='a host=h", mask},
		{"quote inside", "password=a'b c' host=h", mask},
		{"text after the quote", "password='a'b host=h", mask},
		{"unknown keyword", "host=h passwd=p", mask},
		{"upper case", "host=h PASSWORD=p", mask},
		{"connection string as a name", "dbname=postgres://u:p@h/d", "dbname=****"},
		{"garbage", "hunter2", mask},
		{"more garbage", "=", mask},
		{"NUL", "password=\x00", "password=****"},
	}
	for _, tt := range tests {
		if got := maskURL(tt.in); got != tt.want {
			t.Errorf("%s: maskURL(%q) = %q, want %q", tt.name, tt.in, got, tt.want)
		}
	}
}

func TestAnAddressInDoubtIsRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "postgres://h/db", "postgres://u:p@h:5432/db?sslmode=require", "postgres://u:p%40w%2F@a:1,b:2/db",
		"postgres://u:1?#:w@h/db", "postgres://u@[::1]/db", "postgresql:///db?host=/run/postgresql&TimeZone=UTC&auto_explain.log_nested_statements=on",
		"postgres://h/db?application_name=me@here", "host=h password='a b' dbname=d", `password=a\ b`, "options='-c lock_timeout=1'",
	} {
		if _, err := connection(s); err != nil {
			t.Errorf("%s is refused: %v", s, err)
		}
	}
	for _, s := range []string{
		"postgres://u:hunter@2@h/db", "postgres://u:12/hunter2@h/db", "postgres://u:p/hunter2@h", "postgres://u%3Ahunter2@h/db",
		"postgres://h/db?password=a&hunter2=b", "postgres://h/db?password=a&hunter2", "postgres://h/db?host=%zz",
		"mysql://u:hunter2@h/db?ssl=true", "postgres://password=hunter2", "postgres://h/password=hunter2", "postgres://password=hunter2@h", "POSTGRES://u:hunter2@h/db?sslmode=x", "host=h password=a hunter2", "host=h password=a hunter2=b",
		"password='a host=h", "hunter2",
	} {
		if _, err := connection(s); err == nil || strings.Contains(err.Error(), "hunter") {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func FuzzMaskURL(f *testing.F) {
	f.Add("postgres://u:", "@h/db")
	f.Add("host=h password=", " user=u")
	f.Add("password='", "'")
	f.Add("postgres://h/?password=", "&sslmode=require")
	f.Fuzz(func(t *testing.T, before, after string) {
		// A password must not survive, wherever a connection string may have it.
		const password = "Zq7secretZq7"
		_, isUser := strings.CutPrefix(before, "postgres://")
		isUser = isUser && strings.HasSuffix(before, ":") && strings.HasPrefix(after, "@")
		if isUser || strings.HasSuffix(before, "password=") || strings.HasSuffix(before, "password='") {
			if got := maskURL(before + password + after); strings.Contains(got, password) {
				t.Errorf("maskURL(%q) = %q", before+password+after, got)
			}
		}
	})
}
