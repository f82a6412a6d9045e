package softhsmtest

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/kluis-io/kluis/internal/cryptoki"
)

// A Running helper serves a token, and is started again when it dies, until the
// test ends.
type Running struct {
	Socket string
	pid    atomic.Int64
	mu     sync.Mutex
	log    bytes.Buffer
}

// Start runs the helper over t.
func Start(tb testing.TB, t Token, flags ...string) *Running {
	tb.Helper()
	r := &Running{Socket: filepath.Join(tb.TempDir(), "hsm.sock")}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	p := cryptoki.Process{
		Path: Helper(tb), Env: t.Env(), Log: slog.New(slog.DiscardHandler), Output: r,
		Args:    append([]string{"--module", t.Module, "--token-label", t.Label, "--pin-file", t.PINFile, "--socket", r.Socket}, flags...),
		Started: func(pid int) { r.pid.Store(int64(pid)) },
	}
	go func() {
		defer close(done)
		if err := p.Run(ctx); err != nil {
			tb.Error(err)
		}
	}()
	tb.Cleanup(func() {
		stop()
		<-done
		if tb.Failed() {
			tb.Logf("the helper's log:\n%s", r.Log())
		}
	})
	return r
}

// Client returns a client of the helper, which ends with the test.
func (r *Running) Client(tb testing.TB) *cryptoki.Client {
	c := cryptoki.New(cryptoki.Config{Socket: r.Socket})
	tb.Cleanup(c.Close)
	return c
}

// PID returns the process id of the helper that was started last.
func (r *Running) PID() int { return int(r.pid.Load()) }

// Signal sends a signal to it.
func (r *Running) Signal(tb testing.TB, s syscall.Signal) {
	tb.Helper()
	if pid := r.PID(); pid > 0 {
		if err := syscall.Kill(pid, s); err != nil {
			tb.Logf("signal: %v", err) // it died by itself
		}
	}
}

// Write takes the helper's log.
func (r *Running) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(b)
}

// Log returns what the helper has logged.
func (r *Running) Log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}
