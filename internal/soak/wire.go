package main

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
)

// wire stands between the program and the server, so that it can be cut.
type wire struct {
	dir    string // a host, for the program
	server string // the server's socket

	listener net.Listener
	mu       sync.Mutex
	open     map[net.Conn]bool // of both sides
}

func newWire(dir, serverDir string) (*wire, error) {
	w := &wire{dir: dir, server: filepath.Join(serverDir, ".s.PGSQL.5432"), open: make(map[net.Conn]bool)}
	var err error
	if w.listener, err = net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432")); err != nil {
		return nil, fmt.Errorf("stand between program and server: %w", err)
	}
	go func() {
		for {
			client, err := w.listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", w.server)
			if err != nil { // it is down, and so is the wire
				_ = client.Close()
				continue
			}
			go w.carry(client, server)
			go w.carry(server, client)
		}
	}()
	return w, nil
}

func (w *wire) close() {
	_ = w.listener.Close()
	w.cut()
}

// carry brings what one side says to the other, until one of them has enough.
func (w *wire) carry(from, to net.Conn) {
	w.mu.Lock()
	w.open[from] = true
	w.mu.Unlock()
	_, _ = io.Copy(to, from)
	_ = from.Close()
	_ = to.Close()
	w.mu.Lock()
	delete(w.open, from)
	w.mu.Unlock()
}

// cut ends all connections in the middle of whatever is said.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for conn := range w.open {
		_ = conn.Close()
	}
}
