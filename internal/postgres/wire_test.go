package postgres_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"

	"message-cleanup/internal/cleanup"
	"message-cleanup/internal/pgtest"
)

// The answer to a COMMIT is lost, once after the server got the COMMIT and once
// before: the batch counts once, or not at all.
func TestLostAnswerToACommitIsAskedFor(t *testing.T) {
	for i := range 4 {
		committed, ledger := i%2 == 0, i/2 == 0
		t.Run(fmt.Sprintf("committed %v ledger %v", committed, ledger), func(t *testing.T) {
			eachStrategy(t, func(t *testing.T, strategy cleanup.Strategy) {
				url := pgtest.Database(t)
				conn := pgtest.Conn(t, url)
				table(t, conn, 5_000)
				wire := cutAtCommit(t, conn.Config().Host, conn.Config().Port, 2, committed)

				s := newSetup(t, fmt.Sprintf("host=%s user=%s dbname=%s sslmode=disable", wire, conn.Config().User, conn.Config().Database))
				s.policy.Strategy, s.ledger = strategy, ledger
				r := s.run(t)

				want(t, r, cleanup.OutcomeComplete, 5_000)
				if left := pgtest.Int(t, conn, "SELECT count(*) FROM messages"); left != 5_000 {
					t.Errorf("%d rows are left, want 5,000", left)
				}
				if tried := r.Retries > 0; tried == committed {
					t.Errorf("%d retries although the COMMIT arrived: %v", r.Retries, committed)
				}
			})
		})
	}
}

// cutAtCommit listens on a socket in the returned directory, passes everything
// on to the server, and cuts the connection at the nth COMMIT of a batch:
// behind it, so that only the answer is lost, or before it.
func cutAtCommit(t *testing.T, host string, port uint16, nth int32, deliver bool) (dir string) {
	dir = t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", 5432)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	var commits atomic.Int32
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := dialServer(host, port)
			if err != nil {
				t.Error(err)
				return
			}
			go func() {
				_, _ = io.Copy(client, server)
				_ = client.Close()
			}()
			go func() {
				defer server.Close()
				defer client.Close()
				buffer := make([]byte, 64<<10)
				for {
					n, err := client.Read(buffer)
					if err != nil {
						return
					}
					// A batch's COMMIT is sent when all before it was answered.
					cut := bytes.Contains(buffer[:n], []byte("commit\x00")) && !bytes.Contains(buffer[:n], []byte("begin ")) && commits.Add(1) == nth
					if cut {
						_ = client.Close()
					}
					if cut && !deliver {
						return
					}
					if _, err := server.Write(buffer[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return dir
}

func dialServer(host string, port uint16) (net.Conn, error) {
	if filepath.IsAbs(host) {
		return net.Dial("unix", filepath.Join(host, fmt.Sprintf(".s.PGSQL.%d", port)))
	}
	return net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
}
