package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/cryptoki"
)

// A double answers in place of a token.
type double func(context.Context, *cryptoki.Request) cryptoki.Response

func (d double) do(ctx context.Context, r *cryptoki.Request) cryptoki.Response {
	if r.Op == cryptoki.OpInfo {
		return cryptoki.Response{Code: cryptoki.OK, Info: &cryptoki.Info{Version: cryptoki.Version, Serial: "1"}}
	}
	return d(ctx, r)
}

// run serves d until the test ends, or stop is called, which waits for the end.
func start(tb testing.TB, d device, log *slog.Logger) (socket string, stop func()) {
	tb.Helper()
	socket = filepath.Join(tb.TempDir(), "s")
	l, err := listen(socket)
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := newServer(d, log, func() { panic("stuck") }).serve(ctx, l); err != nil {
			tb.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	tb.Cleanup(stop)
	return socket, stop
}

var quiet = slog.New(slog.DiscardHandler)

func TestSocket(t *testing.T) {
	socket, stop := start(t, double(nil), quiet)
	about, err := os.Stat(socket)
	if err != nil || about.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", about.Mode(), err)
	}
	if _, err := listen(socket); err == nil {
		t.Error("a second helper listens on the same socket")
	}
	stop()
	// One that a killed helper left behind is no hindrance.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	again, err := listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// Malformed frames end their own connection and no other.
func TestMalformed(t *testing.T) {
	socket, _ := start(t, double(func(context.Context, *cryptoki.Request) cryptoki.Response {
		return cryptoki.Response{Code: cryptoki.OK, Value: make([]byte, 8)}
	}), quiet)
	c := cryptoki.New(cryptoki.Config{Socket: socket})
	defer c.Close()
	frame := func(n uint32, body string) string { return string(binary.BigEndian.AppendUint32(nil, n)) + body }
	for name, sent := range map[string]string{
		"zero":     frame(0, ""),
		"huge":     frame(1<<31, "x"),
		"not JSON": frame(4, "abcd"),
		"unknown":  frame(9, `{"pin":1}`),
		"no id":    frame(27, `{"op":"info","timeout":100}`),
		"two":      frame(58, `{"id":1,"op":"info","timeout":100}{"id":2,"op":"info"}     `),
		"cut":      frame(100, `{"id":1`),
	} {
		t.Run(name, func(t *testing.T) {
			nc, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			io.WriteString(nc, sent)
			nc.(*net.UnixConn).CloseWrite()
			nc.SetReadDeadline(time.Now().Add(5 * time.Second))
			got, err := io.ReadAll(nc)
			if err != nil || bytes.Contains(got, []byte(`"ok"`)) {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := c.Random(t.Context(), 8); err != nil {
				t.Errorf("another connection: %v", err)
			}
		})
	}
}

// Answers overtake each other, and what has begun is finished by a drain.
func TestMultiplexed(t *testing.T) {
	release := make(chan struct{})
	var waiting atomic.Int64
	socket, stop := start(t, double(func(_ context.Context, r *cryptoki.Request) cryptoki.Response {
		if r.Count == 1 {
			waiting.Add(1)
			<-release
		}
		return cryptoki.Response{Code: cryptoki.OK, Value: make([]byte, r.Count)}
	}), quiet)
	c := cryptoki.New(cryptoki.Config{Socket: socket})
	defer c.Close()
	var slow sync.WaitGroup
	for range 20 {
		slow.Go(func() {
			if b, err := c.Random(t.Context(), 1); err != nil || len(b) != 1 {
				t.Errorf("slow: %d, %v", len(b), err)
			}
		})
	}
	for waiting.Load() < 20 {
		time.Sleep(time.Millisecond)
	}
	if b, err := c.Random(t.Context(), 2); err != nil || len(b) != 2 {
		t.Errorf("fast: %d, %v", len(b), err)
	}
	stopped := make(chan struct{})
	go func() {
		stop()
		close(stopped)
	}()
	select {
	case <-stopped:
		t.Error("the drain waited for nothing")
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	<-stopped
	slow.Wait()
}

// Beyond the queue, and beyond the client's own places, there is Throttled.
func TestBusy(t *testing.T) {
	release := make(chan struct{})
	var waiting atomic.Int64
	socket, _ := start(t, double(func(context.Context, *cryptoki.Request) cryptoki.Response {
		waiting.Add(1)
		<-release
		return cryptoki.Response{Code: cryptoki.OK, Value: []byte{1}}
	}), quiet)
	many := cryptoki.New(cryptoki.Config{Socket: socket, Concurrent: queue + 1})
	defer many.Close()
	few := cryptoki.New(cryptoki.Config{Socket: socket, Concurrent: 1, Patience: 20 * time.Millisecond})
	defer few.Close()
	var work sync.WaitGroup
	defer work.Wait()
	defer close(release)
	work.Go(func() { few.Random(t.Context(), 1) })
	for range queue - 1 {
		work.Go(func() {
			if _, err := many.Random(t.Context(), 1); err != nil {
				t.Error(err)
			}
		})
	}
	for waiting.Load() < queue {
		time.Sleep(time.Millisecond)
	}
	if _, err := few.Random(t.Context(), 1); fault.ReasonOf(err) != fault.Throttled {
		t.Errorf("no place: %v", err)
	}
	h := cryptoki.Handle{Token: "1", Key: cryptoki.NewKeyID()}
	if _, err := many.Sign(t.Context(), h, cryptoki.ES256, make([]byte, 32)); fault.ReasonOf(err) != fault.Throttled {
		t.Errorf("the queue is full: %v", err)
	}
}

// Every code has its reason, and none of them reads as a revoked key but a token's
// own refusal.
func TestReasons(t *testing.T) {
	code := cryptoki.OK
	socket, _ := start(t, double(func(context.Context, *cryptoki.Request) cryptoki.Response {
		return cryptoki.Response{Code: code, Detail: "C_Sign: CKR"}
	}), quiet)
	c := cryptoki.New(cryptoki.Config{Socket: socket})
	defer c.Close()
	for _, x := range []struct {
		code cryptoki.Code
		want fault.Reason
	}{
		{cryptoki.Invalid, fault.InvalidArgument}, {cryptoki.Missing, fault.Integrity}, {cryptoki.Refused, fault.KeyOperationForbidden},
		{cryptoki.Unsupported, fault.NotSupported}, {cryptoki.OtherToken, fault.Unavailable}, {cryptoki.Busy, fault.Throttled},
		{cryptoki.Unavailable, fault.Unavailable}, {cryptoki.Exists, fault.Conflict}, {cryptoki.Malformed, fault.Internal}, {cryptoki.Failed, fault.Internal},
	} {
		code = x.code
		_, err := c.Sign(t.Context(), cryptoki.Handle{Token: "1", Key: cryptoki.NewKeyID()}, cryptoki.ES256, make([]byte, 32))
		if fault.ReasonOf(err) != x.want || strings.Contains(fault.As(err).Public(), "CKR") {
			t.Errorf("%s: %v, %v", x.code, fault.ReasonOf(err), err)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{}, {"--module", "m", "--socket", "s", "--pin-file", "p"}, {"--nonsense"},
		{"--module", "m", "--socket", "s", "--pin-file", "p", "--token-label", "l", "--sessions", "0"},
		{"--module", "m", "--socket", "s", "--pin-file", "p", "--token-label", "l", "more"},
		{"--pin", "1234"},
	} {
		var out bytes.Buffer
		if code := run(args, &out); code != 2 || out.Len() == 0 {
			t.Errorf("%q: %d, %s", args, code, out.String())
		}
	}
	socket := filepath.Join(t.TempDir(), "s")
	var out bytes.Buffer
	if code := run([]string{"--module", "/none.so", "--socket", socket, "--pin-file", "p", "--token-label", "l"}, &out); code != 1 {
		t.Errorf("a library that is not there: %d, %s", code, out.String())
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
}
