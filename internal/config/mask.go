package config

import (
	"net/url"
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
	if masked, sure := maskKeywords(s); sure {
		return masked
	}
	return mask
}

// maskAfterScheme masks userinfo@hosts/path?parameters. It does not use
// url.Parse, which rejects a list of hosts.
func maskAfterScheme(s string) (masked string, sure bool) {
	end := strings.IndexAny(s, "/?#")
	if end < 0 {
		end = len(s)
	}
	authority, rest := s[:end], s[end:]
	path, query, hasQuery := strings.Cut(rest, "?")
	// A password with an unescaped slash, question mark or hash spills over
	// into what follows the hosts.
	if strings.ContainsAny(path, ":@#") || strings.ContainsAny(query, "@#") {
		return "", false
	}
	user, hosts, hasUser := strings.Cut(authority, "@")
	if !hasUser {
		user, hosts = "", authority
	}
	if !plainHosts(hosts) {
		return "", false
	}
	name, password, _ := strings.Cut(user, ":")
	if strings.Contains(strings.ToLower(name), "%3a") {
		return "", false
	}
	if password != "" {
		password = mask
	}
	out := name
	if strings.Contains(user, ":") {
		out += ":" + password
	}
	if hasUser {
		out += "@"
	}
	out += hosts + path
	if hasQuery {
		parameters, sure := maskParameters(query)
		return out + "?" + parameters, sure
	}
	return out, true
}

// plainHosts tells whether s is a list of hosts with ports and nothing else: a
// colon before anything but a port would be that of a password.
func plainHosts(s string) bool {
	for host := range strings.SplitSeq(s, ",") {
		if strings.HasPrefix(host, "[") { // an IPv6 address
			address, rest, ok := strings.Cut(host[1:], "]")
			if !ok || strings.Trim(address, "0123456789abcdefABCDEF:.") != "" {
				return false
			}
			host = rest
		}
		_, port, _ := strings.Cut(host, ":")
		if strings.Contains(host, "@") || strings.Trim(port, "0123456789") != "" {
			return false
		}
	}
	return true
}

func maskParameters(query string) (masked string, sure bool) {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return "", false
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil {
			return "", false
		}
		hide, known := hides(name, value)
		if !known {
			return "", false
		}
		if hide {
			pairs[i] = rawName + "=" + mask
		}
	}
	return strings.Join(pairs, "&"), true
}

// maskKeywords masks keyword = value pairs, whose values may be quoted.
func maskKeywords(s string) (masked string, sure bool) {
	var pairs []string
	for s = strings.Trim(s, space); s != ""; s = strings.TrimLeft(s, space) {
		name, rest, ok := strings.Cut(s, "=")
		if !ok {
			return "", false
		}
		rest = strings.TrimLeft(rest, space)
		value, after, ok := cutValue(rest)
		if !ok {
			return "", false
		}
		name = strings.Trim(name, space)
		hide, known := hides(name, value)
		if !known {
			return "", false
		}
		if hide {
			value = mask
		}
		pairs = append(pairs, name+"="+value)
		s = after
	}
	return strings.Join(pairs, " "), true
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
