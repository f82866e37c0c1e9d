package postgres_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
)

// onEvent is a log that does something at an event, in place of writing it.
type onEvent struct {
	event string
	do    func()
}

func (h onEvent) Enabled(context.Context, slog.Level) bool { return true }
func (h onEvent) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h onEvent) WithGroup(string) slog.Handler            { return h }
func (h onEvent) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.event {
		h.do()
	}
	return nil
}

// lockedBuffer can be read while others write.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
