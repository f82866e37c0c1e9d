package postgres_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
	"message-cleanup/internal/postgres"
)

// authority is a CA of the test's own. It writes files into dir.
type authority struct {
	t    *testing.T
	dir  string
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority makes a CA, whose certificate is dir/name.crt.
func newAuthority(t *testing.T, dir, name string) *authority {
	a := &authority{t: t, dir: dir, name: name}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = a.issue(name, a.cert)
	return a
}

// issue writes name.crt and name.key, signed by the CA.
func (a *authority) issue(name string, cert *x509.Certificate) *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	signer := a.key
	if signer == nil {
		signer = key
	}
	certDER, certErr := x509.CreateCertificate(rand.Reader, cert, a.cert, key.Public(), signer)
	keyDER, keyErr := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(certErr, keyErr,
		os.WriteFile(filepath.Join(a.dir, name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certDER}), 0o644),
		os.WriteFile(filepath.Join(a.dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)); err != nil {
		a.t.Fatal(err)
	}
	return key
}

// issueFor issues a certificate for a host.
func (a *authority) issueFor(name, host string) {
	a.issue(name, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

func TestAServerIsTrustedOnlyIfItProvesWhatTheAddressAsksFor(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Private(t, pgtest.Options{TCP: true})
	data := filepath.Join(cluster.Dir, "data")
	files := t.TempDir()
	ca := newAuthority(t, files, "ca")
	ca.issueFor("server", "localhost")
	newAuthority(t, files, "another")

	conn := pgtest.Conn(t, cluster.URL("postgres"))
	pgtest.Exec(t, conn, `CREATE ROLE cleaner LOGIN PASSWORD 'right'; CREATE ROLE open LOGIN`)
	info, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t) // a server does not take a key of somebody else's
	for _, name := range []string{"server.crt", "server.key"} {
		b, err := os.ReadFile(filepath.Join(files, name))
		if err := errors.Join(err, os.WriteFile(filepath.Join(data, name), b, 0o600), os.Chown(filepath.Join(data, name), int(owner.Uid), int(owner.Gid))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(`
local all postgres              trust
host  all open     127.0.0.1/32 trust
host  all cleaner  127.0.0.1/32 scram-sha-256
`), 0); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, conn, "ALTER SYSTEM SET ssl = on")
	pgtest.Exec(t, conn, "SELECT pg_reload_conf()")

	open := strings.NewReplacer("postgres:@", "open@", "postgres@", "open@", "sslmode=disable", "sslmode=").Replace(cluster.TCPURL("postgres"))
	pgtest.Eventually(t, "TLS and the rules to be in force", func() bool {
		secure, ok := encrypted(t, open+"prefer")
		return ok && secure
	})

	// connect returns the error of connecting; sslrootcert is named without its
	// directory.
	connect := func(host, user, parameters string) error {
		u, err := url.Parse(cluster.TCPURL("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		name, password, _ := strings.Cut(user, ":")
		if u.User = url.User(name); password != "" {
			u.User = url.UserPassword(name, password)
		}
		u.Host = host + ":" + u.Port()
		u.RawQuery = strings.ReplaceAll(parameters, "sslrootcert=", "sslrootcert="+files+"/")
		opts := newSetup(t, u.String()).opts
		opts.URL = u.String()
		opts.Waiting = func(error, time.Duration) { t.Errorf("%s as %s with %s is waited for", host, name, parameters) }
		db, err := postgres.Open(t.Context(), opts)
		if err == nil {
			db.Close()
		}
		return err
	}
	for _, c := range []struct {
		host, user, parameters string
		refused                string // in the error; "": it is accepted
		kind                   cleanup.Kind
	}{
		{"localhost", "cleaner:right", "sslmode=verify-full&sslrootcert=ca.crt", "", 0},
		{"localhost", "cleaner:right", "sslmode=verify-full&sslrootcert=ca.crt&channel_binding=require&require_auth=scram-sha-256", "", 0},
		{"127.0.0.1", "cleaner:right", "sslmode=verify-full&sslrootcert=ca.crt", "127.0.0.1", cleanup.Configuration},
		{"127.0.0.1", "cleaner:right", "sslmode=verify-ca&sslrootcert=ca.crt", "", 0},
		{"localhost", "cleaner:right", "sslmode=verify-full&sslrootcert=another.crt", "unknown authority", cleanup.Configuration},
		{"localhost", "cleaner:right", "sslmode=verify-ca&sslrootcert=another.crt", "unknown authority", cleanup.Configuration},
		{"localhost", "cleaner:right", "sslmode=verify-full", "unknown authority", cleanup.Configuration},
		{"localhost", "cleaner:right", "sslmode=verify-full&sslrootcert=nosuch.crt", "nosuch.crt: no such file", cleanup.Configuration},
		{"localhost", "cleaner:wrong", "sslmode=verify-full&sslrootcert=ca.crt", "password authentication failed", cleanup.Permission},
		{"localhost", "cleaner", "sslmode=verify-full&sslrootcert=ca.crt", "password", cleanup.Permission},
		{"localhost", "cleaner:right", "sslmode=disable", "", 0},
		{"localhost", "cleaner:wrong", "sslmode=disable", "password authentication failed", cleanup.Permission},
		{"localhost", "cleaner:right", "sslmode=disable&channel_binding=require", "channel binding required", cleanup.Configuration},
		{"localhost", "cleaner:right", "sslmode=disable&require_auth=none", "authentication method requirement", cleanup.Configuration},
		{"localhost", "open:right", "sslmode=disable", "", 0},
		{"localhost", "open:right", "sslmode=disable&require_auth=scram-sha-256", "authentication method requirement", cleanup.Configuration},
		{"localhost", "open", "sslmode=require&sslcertmode=require", "did not request", cleanup.Configuration},
	} {
		switch err := connect(c.host, c.user, c.parameters); {
		case c.refused == "":
			if err != nil {
				t.Errorf("%s as %s with %s: %v", c.host, c.user, c.parameters, err)
			}
		case err == nil:
			t.Errorf("%s as %s with %s is accepted", c.host, c.user, c.parameters)
		case !strings.Contains(err.Error(), c.refused) || cleanup.KindOf(err) != c.kind || cleanup.HintOf(err) == "":
			t.Errorf("%s as %s with %s: kind %d, %v, hint %q", c.host, c.user, c.parameters, cleanup.KindOf(err), err, cleanup.HintOf(err))
		case strings.Contains(err.Error(), "right") || strings.Contains(err.Error(), "wrong"):
			t.Errorf("the error has the password: %v", err)
		}
	}

	// A private key has to be private.
	key := filepath.Join(files, "server.key")
	withKey := "sslmode=verify-full&sslrootcert=ca.crt&sslcert=" + files + "/server.crt&sslkey=" + key
	if err := connect("localhost", "cleaner:right", withKey); err != nil {
		t.Errorf("with a private key: %v", err)
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := connect("localhost", "cleaner:right", withKey); cleanup.KindOf(err) != cleanup.Configuration || !strings.Contains(err.Error(), "private key "+key+" is open to others") {
		t.Errorf("with a key that others can read: %v", err)
	}

	// A server without TLS is not taken for one that is only away.
	pgtest.Exec(t, conn, "ALTER SYSTEM SET ssl = off")
	pgtest.Exec(t, conn, "SELECT pg_reload_conf()")
	pgtest.Eventually(t, "TLS to be off", func() bool {
		secure, ok := encrypted(t, open+"prefer")
		return ok && !secure
	})
	if err := connect("localhost", "cleaner:right", "sslmode=verify-full&sslrootcert=ca.crt"); cleanup.KindOf(err) != cleanup.Configuration ||
		!strings.Contains(err.Error(), "refused TLS") {
		t.Errorf("without TLS: %v", err)
	}
}

// encrypted connects and tells whether that was by TLS.
func encrypted(t *testing.T, address string) (secure, ok bool) {
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		return false, false
	}
	defer conn.Close(t.Context())
	err = conn.QueryRow(t.Context(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&secure)
	return secure, err == nil
}
