package pgtest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Message is one message of PostgreSQL's protocol on its way through a Wire. The connection, the round, the index and
// the direction name it: in another run that says the same, the same message has the same name.
type Message struct {
	Conn       int // which connection, counted from 1
	Round      int // 0: the start of the connection; then which request, up to its Sync or as one simple query, and its answer
	FromServer bool
	Index      int // which message of its direction and round, counted from 0

	Type byte   // as the protocol has it; 0: the client's first, which has none
	SQL  string // of a Parse or a simple query
}

// Place is m without what it says, to be compared.
func (m Message) Place() Message {
	m.Type, m.SQL = 0, ""
	return m
}

func (m Message) String() string {
	side := "client"
	if m.FromServer {
		side = "server"
	}
	return fmt.Sprintf("message %d (%q) of the %s in round %d of connection %d", m.Index, m.Type, side, m.Round, m.Conn)
}

// Wire stands between a client and the server of url, which must not ask for TLS. It asks cut about each message
// before it passes it on. If cut returns true, the message is lost, and the connection with it, at both ends: what the
// client had sent before reaches the server. It returns the address to connect to.
func Wire(t testing.TB, url string, cut func(Message) bool) string {
	t.Helper()
	to, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{cut: cut}
	t.Cleanup(func() {
		_ = listener.Close()
		w.ends.Wait()
	})
	w.ends.Add(1)
	go func() {
		defer w.ends.Done()
		for n := 1; ; n++ {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := dial(to.Host, to.Port)
			if err != nil {
				_ = client.Close()
				continue
			}
			w.ends.Add(2)
			go w.pass(client, server, Message{Conn: n})
			go w.pass(server, client, Message{Conn: n, FromServer: true})
		}
	}()
	return fmt.Sprintf("host=%s user=%s password='%s' dbname=%s sslmode=disable", dir, to.User, to.Password, to.Database)
}

func dial(host string, port uint16) (net.Conn, error) {
	if filepath.IsAbs(host) {
		return net.Dial("unix", filepath.Join(host, fmt.Sprintf(".s.PGSQL.%d", port)))
	}
	return net.Dial("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
}

type wire struct {
	ends sync.WaitGroup
	mu   sync.Mutex // cut is asked by one at a time
	cut  func(Message) bool
}

// pass passes messages on, until one end is closed or the wire is cut.
func (w *wire) pass(from, to net.Conn, m Message) {
	defer w.ends.Done()
	defer from.Close()
	defer to.Close()
	reader := bufio.NewReader(from)
	for started := m.FromServer; ; started = true {
		message, err := readMessage(reader, started)
		if err != nil {
			return
		}
		m.Type, m.SQL = 0, ""
		if started {
			m.Type, m.SQL = message[0], sqlOf(message)
		}
		// What a client says of itself, or to be let in, belongs to the start.
		if started && !m.FromServer && m.Round == 0 && m.Type != 'p' {
			m.Round, m.Index = 1, 0
		}
		w.mu.Lock()
		lost := w.cut(m)
		w.mu.Unlock()
		if lost {
			return
		}
		if _, err := to.Write(message); err != nil {
			return
		}
		m.Index++
		if m.FromServer && m.Type == 'Z' || !m.FromServer && (m.Type == 'S' || m.Type == 'Q') {
			m.Round, m.Index = m.Round+1, 0
		}
	}
}

// readMessage reads a type, unless it is a client's first message, a length that counts itself, and the rest.
func readMessage(r *bufio.Reader, typed bool) ([]byte, error) {
	header := make([]byte, 4, 5)
	if typed {
		header = header[:5]
	}
	if _, err := io.ReadFull(r, header); err != nil {
		return nil, err
	}
	body := make([]byte, max(4, binary.BigEndian.Uint32(header[len(header)-4:]))-4)
	_, err := io.ReadFull(r, body)
	return append(header, body...), err
}

// sqlOf returns the text of a Parse, behind the statement's name, or of a simple query.
func sqlOf(message []byte) string {
	body := message[5:]
	if message[0] == 'P' {
		_, body, _ = bytes.Cut(body, []byte{0})
	} else if message[0] != 'Q' {
		return ""
	}
	sql, _, _ := bytes.Cut(body, []byte{0})
	return string(sql)
}
