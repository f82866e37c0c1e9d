package config

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// mask stands for what must not be seen.
const mask = "****"

// space is what separates the pairs of a keyword string, as libpq has it.
const space = " \t\n\r\v\f"

// secret are the parameters whose value is masked, public those whose value
// may be seen. A string with any other is masked as a whole: it may be a piece
// of a password in which something was not escaped. The names are libpq's and
// pgx's: https://www.postgresql.org/docs/current/libpq-connect.html
var (
	secret = []string{"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
	public = []string{
		"host", "hostaddr", "port", "dbname", "database", "user", "passfile", "service", "servicefile",
		"sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir", "sslsni", "sslcertmode", "sslnegotiation",
		"ssl_min_protocol_version", "ssl_max_protocol_version", "min_protocol_version", "max_protocol_version",
		"channel_binding", "require_auth", "krbsrvname", "krbspn", "gssencmode", "target_session_attrs",
		"application_name", "fallback_application_name", "client_encoding", "options", "timezone", "search_path",
		"connect_timeout", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout",
		"default_query_exec_mode", "statement_cache_capacity", "description_cache_capacity",
	}
)

// maskURL returns a connection string in which no password is left. Whatever
// it does not fully understand it masks as a whole.
func maskURL(s string) string {
	if s == "" {
		return ""
	}
	for _, scheme := range []string{"postgres://", "postgresql://"} {
		if rest, ok := strings.CutPrefix(s, scheme); ok {
			masked, sure := maskAfterScheme(rest)
			if !sure {
				return mask
			}
			return scheme + masked
		}
	}
	if all, ok := keywordParameters(s); ok {
		if masked, sure := maskParameters(all, " "); sure {
			return masked
		}
	}
	return mask
}

// address is what only a connection string has in it.
var address = regexp.MustCompile(`(?i)postgres(ql)?://|\bpassword\s*=`)

// understood tells whether every part of a connection string is what it seems to
// be. In another, a part of a password may pass for the name of a host, a
// database or a parameter, which errors show.
func understood(s string) bool {
	plain := func(all []parameter, ok bool) bool {
		return ok && !slices.ContainsFunc(all, func(p parameter) bool { return !parameterName.MatchString(p.name) })
	}
	for _, scheme := range []string{"postgres://", "postgresql://"} {
		if rest, ok := strings.CutPrefix(s, scheme); ok {
			u, ok := cutURL(rest)
			return ok && (!u.hasQuery || plain(queryParameters(u.query)))
		}
	}
	return plain(keywordParameters(s))
}

// parameterName is how libpq's parameters and the server's settings are called.
var parameterName = regexp.MustCompile(`^[A-Za-z_.]+$`)

// cutURL cuts user:password@hosts/path?query as libpq and pgx do: what is before
// an @ that comes before any slash is user and password. It does not use
// url.Parse, which rejects a list of hosts.
func cutURL(s string) (u parts, ok bool) {
	if i := strings.IndexAny(s, "@/"); i >= 0 && s[i] == '@' {
		u.user, u.password, u.hasPassword = strings.Cut(s[:i], ":")
		u.hasUser, s = true, s[i+1:]
	}
	end := strings.IndexAny(s, "/?")
	if end < 0 {
		end = len(s)
	}
	u.hosts = s[:end]
	u.path, u.query, u.hasQuery = strings.Cut(s[end:], "?")
	// A password with an unescaped @ or slash spills over into what follows, and
	// who mixes the two forms has it anywhere.
	return u, plainHosts(u.hosts) && !strings.ContainsAny(u.path, ":@#=") &&
		!strings.Contains(u.user, "=") && !strings.Contains(strings.ToLower(u.user), "%3a")
}

type parts struct {
	user, password, hosts, path, query string
	hasUser, hasPassword, hasQuery     bool
}

func maskAfterScheme(s string) (masked string, sure bool) {
	u, ok := cutURL(s)
	if !ok {
		return "", false
	}
	out := u.user
	if u.hasPassword {
		out += ":"
	}
	if u.password != "" {
		out += mask
	}
	if u.hasUser {
		out += "@"
	}
	out += u.hosts + u.path
	if u.hasQuery {
		all, ok := queryParameters(u.query)
		if !ok {
			return "", false
		}
		parameters, sure := maskParameters(all, "&")
		return out + "?" + parameters, sure
	}
	return out, true
}

// plainHosts tells whether s is a list of hosts with ports and nothing else: a
// colon before anything but a port would be that of a password.
func plainHosts(s string) bool {
	for host := range strings.SplitSeq(s, ",") {
		if strings.HasPrefix(host, "[") { // an IPv6 address
			ip, rest, ok := strings.Cut(host[1:], "]")
			ip, _, _ = strings.Cut(ip, "%") // the zone
			if !ok || strings.Trim(ip, "0123456789abcdefABCDEF:.") != "" {
				return false
			}
			host = rest
		}
		_, port, _ := strings.Cut(host, ":")
		if strings.ContainsAny(host, "@=") || strings.Trim(port, "0123456789") != "" {
			return false
		}
	}
	return true
}

// parameter is one of a connection string.
type parameter struct {
	name, value string
	raw         string // the name as it is written
	written     string // all of it, as it is written
}

func queryParameters(query string) (all []parameter, ok bool) {
	for written := range strings.SplitSeq(query, "&") {
		rawName, rawValue, _ := strings.Cut(written, "=")
		name, err := url.PathUnescape(rawName)
		if err != nil {
			return nil, false
		}
		value, err := url.PathUnescape(rawValue)
		if err != nil {
			return nil, false
		}
		all = append(all, parameter{name, value, rawName, written})
	}
	return all, true
}

// keywordParameters reads keyword = value pairs, whose values may be quoted.
func keywordParameters(s string) (all []parameter, ok bool) {
	for s = strings.Trim(s, space); s != ""; s = strings.TrimLeft(s, space) {
		name, rest, ok := strings.Cut(s, "=")
		if !ok {
			return nil, false
		}
		value, after, ok := cutValue(strings.TrimLeft(rest, space))
		if !ok {
			return nil, false
		}
		name = strings.Trim(name, space)
		all = append(all, parameter{name, value, name, name + "=" + value})
		s = after
	}
	return all, true
}

func maskParameters(all []parameter, separator string) (masked string, sure bool) {
	shown := make([]string, len(all))
	for i, p := range all {
		hide, known := hides(p.name, p.value)
		if !known {
			return "", false
		}
		if shown[i] = p.written; hide {
			shown[i] = p.raw + "=" + mask
		}
	}
	return strings.Join(shown, separator), true
}

// cutValue splits a value, still quoted and escaped, from what follows it. A
// quote that stands elsewhere than around the whole value is in doubt.
func cutValue(s string) (value, rest string, ok bool) {
	quoted := strings.HasPrefix(s, "'")
	i := 0
	if quoted {
		i = 1
	}
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\':
			i++
		case c == '\'' && quoted:
			rest = s[i+1:]
			return s[:i+1], rest, rest == "" || strings.ContainsRune(space, rune(rest[0]))
		case c == '\'':
			return "", "", false
		case !quoted && strings.IndexByte(space, c) >= 0:
			return s[:i], s[i:], true
		}
	}
	return s, "", !quoted
}

// hides tells whether the value of a parameter must not be seen, and whether
// the parameter is known at all. The value of a public one is hidden if it
// looks like a connection string of its own, as libpq's dbname may be.
func hides(name, value string) (hide, known bool) {
	if slices.Contains(secret, name) {
		return true, true
	}
	return strings.ContainsAny(value, "@=") || strings.Contains(value, "://"), slices.Contains(public, name)
}
