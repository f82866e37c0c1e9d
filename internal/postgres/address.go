package postgres

import (
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgservicefile"
	"github.com/jackc/pgx/v5/pgconn"

	"message-cleanup/internal/cleanup"
)

// unsupported are the parameters of libpq that decide where it connects or whom
// it trusts, and that pgx does not know: it would send them to the server, which
// refuses the connection, and not look at the variables at all. Whoever set one
// relies on it, so it is an error here, unless its value asks for no more than
// what is done anyway. The list is that of libpq 18 less what pgconn.ParseConfig
// reads: https://www.postgresql.org/docs/18/libpq-connect.html
var unsupported = []struct {
	keyword, variable string
	done              []string // values, in lower case, that ask for what is done anyway
	hint              string
}{
	{"hostaddr", "PGHOSTADDR", nil, "write the IP address into host, or PGHOST"},
	{"requirepeer", "PGREQUIREPEER", nil,
		"connect by TCP with sslmode=verify-full; or unset it, and see that only the server's user can write into the directory of the socket"},
	{"sslcrl", "PGSSLCRL", nil, "unset it; lists of revoked certificates are not read, so let the server's certificate be short-lived, or give it a CA of its own"},
	{"sslcrldir", "PGSSLCRLDIR", nil, "unset it; lists of revoked certificates are not read, so let the server's certificate be short-lived, or give it a CA of its own"},
	{"ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", []string{"tlsv1", "tlsv1.1", "tlsv1.2"},
		"unset it, for which TLSv1.2 is the least, and ask for more by ssl_min_protocol_version of the server"},
	{"ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", []string{"tlsv1.3"},
		"unset it, and limit the server by its ssl_max_protocol_version"},
	{"gssencmode", "PGGSSENCMODE", []string{"disable", "prefer"}, "use TLS: sslmode=verify-full, and gssencmode=disable"},
	{"requiressl", "PGREQUIRESSL", []string{"0"}, "write sslmode=require, or better verify-full"},
}

// parseAddress reads a connection string as pgx does, with what it leaves out from
// libpq's variables and files, and refuses what pgx would pass over in silence.
// No error shows a part of the string: it may be one of a password.
func parseAddress(conn string) (*pgconn.Config, error) {
	said := sources{sayings(conn), nil, variables()}
	if err := said.readService(); err != nil {
		return nil, err
	}
	config, err := pgconn.ParseConfig(conn)
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return nil, cleanup.Errorf(cleanup.Configuration, "see sslrootcert, sslcert and sslkey in the database's address, and their variables",
			"a file that the database's address names cannot be read: %w", file)
	}
	if err != nil { // the parser's message may hold the password: it is dropped
		return nil, cleanup.Errorf(cleanup.Configuration,
			"write postgres://user@host/database or host=... dbname=...; special characters of a password in a URL are written %40 and the like",
			"the database's address, or one of libpq's PG* variables and files, cannot be understood")
	}
	if err := refuseUnsupported(config); err != nil {
		return nil, err
	}
	return config, said.checkFiles(config)
}

func refuseUnsupported(config *pgconn.Config) error {
	for _, p := range unsupported {
		value, where := os.Getenv(p.variable), p.variable
		if said, ok := config.RuntimeParams[p.keyword]; ok { // what pgx does not know it would send to the server
			delete(config.RuntimeParams, p.keyword)
			value, where = said, p.keyword+", in the database's address or its service,"
		}
		if value != "" && !slices.Contains(p.done, strings.ToLower(value)) {
			return cleanup.Errorf(cleanup.Configuration, p.hint, "%s is set, and this program cannot do what it asks for", where)
		}
	}
	return nil
}

// sources are what address, service and environment say of secrets and the files
// that hold them, the strongest first. pgx reads the same and does not tell.
type sources [3]map[string]string

func (s *sources) get(keyword string) string {
	for _, source := range s {
		if value, ok := source[keyword]; ok {
			return value
		}
	}
	return ""
}

// file returns the path that a keyword has, or the one that is usual in the home
// directory.
func (s *sources) file(keyword, usual string) string {
	if path := s.get(keyword); path != "" {
		return path
	}
	home, _ := os.UserHomeDir()
	return filepath.Join(home, usual)
}

// readService reads the service that is asked for. pgx does so too, but would say
// of no mistake in it what it is.
func (s *sources) readService() error {
	name := s.get("service")
	if name == "" {
		return nil
	}
	path := s.file("servicefile", ".pg_service.conf")
	file, err := pgservicefile.ReadServicefile(path)
	if err == nil {
		var service *pgservicefile.Service
		if service, err = file.GetService(name); err == nil {
			s[1] = service.Settings
			return nil
		}
	}
	return cleanup.Errorf(cleanup.Configuration, "see PGSERVICE and PGSERVICEFILE, or service in the database's address; a service file of the whole system is not read",
		"read service %q from %s: %w", name, path, err)
}

// checkFiles refuses files that libpq would not take a secret from, and a list
// of revoked certificates that it would read.
func (s *sources) checkFiles(config *pgconn.Config) error {
	if s.get("password") == "" && config.Password != "" { // then it comes from there
		if err := checkSecret("password file", s.file("passfile", ".pgpass"), false); err != nil {
			return err
		}
	}
	tls := config.TLSConfig
	for _, fallback := range config.Fallbacks {
		if tls == nil {
			tls = fallback.TLSConfig
		}
	}
	if tls == nil {
		return nil
	}
	if len(tls.Certificates) > 0 {
		if err := checkSecret("private key", s.file("sslkey", ".postgresql/postgresql.key"), true); err != nil {
			return err
		}
	}
	revoked := s.file("", ".postgresql/root.crl")
	if _, err := os.Stat(revoked); err == nil && tls.RootCAs != nil {
		return cleanup.Errorf(cleanup.Configuration, "move it away, and give the server's certificate a CA of its own if one of that CA was revoked",
			"%s exists, and this program does not read lists of revoked certificates", revoked)
	}
	return nil
}

// checkSecret has libpq's rule: nobody but its owner may read the file. A key of
// root's may have a group that reads it.
func checkSecret(what, path string, group bool) error {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	forbidden := fs.FileMode(0o077)
	if group && info.Sys().(*syscall.Stat_t).Uid == 0 {
		forbidden = 0o037
	}
	if info.Mode().Perm()&forbidden == 0 {
		return nil
	}
	return cleanup.Errorf(cleanup.Configuration, "chmod 0600 "+path+"; if others may have read it, change what it holds",
		"the %s %s is open to others (mode %#o), so it is not used", what, path, info.Mode().Perm())
}

func variables() map[string]string {
	said := make(map[string]string)
	for _, keyword := range []string{"password", "passfile", "sslkey", "service", "servicefile"} {
		if value := os.Getenv("PG" + strings.ToUpper(keyword)); value != "" {
			said[keyword] = value
		}
	}
	return said
}

// pair is one keyword = value of a connection string, escape what is escaped in
// the value.
var (
	pair   = regexp.MustCompile(`\s*([^\s=]+)\s*=\s*(?:'((?s:[^'\\]|\\.)*)'|((?s:[^\s\\]|\\.)*))`)
	escape = regexp.MustCompile(`\\(?s:(.))`)
)

// sayings returns the parameters of a connection string. What it does not
// understand it leaves out, for pgx refuses that.
func sayings(conn string) map[string]string {
	said := make(map[string]string)
	scheme, rest, _ := strings.Cut(conn, "://")
	if scheme != "postgres" && scheme != "postgresql" {
		for _, match := range pair.FindAllStringSubmatch(conn, -1) {
			said[match[1]] = escape.ReplaceAllString(match[2]+match[3], "$1")
		}
		return said
	}
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		if _, password, _ := strings.Cut(rest[:i], ":"); password != "" {
			said["password"] = password
		}
		rest = rest[i+1:]
	}
	_, query, _ := strings.Cut(rest, "?")
	for parameter := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(parameter, "=")
		name, nameErr := url.PathUnescape(name)
		if value, err := url.PathUnescape(value); errors.Join(nameErr, err) == nil {
			said[name] = value
		}
	}
	return said
}
