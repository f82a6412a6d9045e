package cryptoki_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/cryptoki"
	"github.com/kluis-io/kluis/internal/trace"
)

func request() *cryptoki.Request {
	return &cryptoki.Request{
		ID: 7, Op: cryptoki.OpDecrypt, Timeout: 1000, Token: "0123456789abcdef", Key: cryptoki.NewKeyID(),
		Algorithm: cryptoki.RSAOAEP256, Value: bytes.Repeat([]byte{1}, 256),
	}
}

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	sent := request()
	if err := cryptoki.Write(&b, sent); err != nil {
		t.Fatal(err)
	}
	got, err := cryptoki.ReadRequest(&b)
	if err != nil || !reflect.DeepEqual(got, sent) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := cryptoki.ReadRequest(&b); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// What breaks the limits is neither sent nor taken.
func TestLimits(t *testing.T) {
	for name, spoil := range map[string]func(*cryptoki.Request){
		"no id":             func(r *cryptoki.Request) { r.ID = 0 },
		"no timeout":        func(r *cryptoki.Request) { r.Timeout = 0 },
		"a day":             func(r *cryptoki.Request) { r.Timeout = 24 * 3600 * 1000 },
		"unknown operation": func(r *cryptoki.Request) { r.Op = "export" },
		"no token":          func(r *cryptoki.Request) { r.Token = "" },
		"long value":        func(r *cryptoki.Request) { r.Value = make([]byte, 64<<10) },
		"no algorithm":      func(r *cryptoki.Request) { r.Algorithm = "" },
		"long iv":           func(r *cryptoki.Request) { r.IV = make([]byte, 17) },
		"no key":            func(r *cryptoki.Request) { r.Key = "" },
		"short key":         func(r *cryptoki.Request) { r.Key = "00" },
		"upper-case key":    func(r *cryptoki.Request) { r.Key = cryptoki.KeyID(strings.Repeat("A", 32)) },
		"key not spelt out": func(r *cryptoki.Request) { r.Key = r.Key[:31] + "\n" },
		"no spec":           func(r *cryptoki.Request) { r.Op = cryptoki.OpGenerate },
		"odd spec": func(r *cryptoki.Request) {
			r.Op, r.Spec = cryptoki.OpGenerate, &cryptoki.Spec{Kind: cryptoki.RSA, Bits: 1024}
		},
		"too much random": func(r *cryptoki.Request) { r.Op, r.Count = cryptoki.OpRandom, cryptoki.MaxRandom+1 },
	} {
		r := request()
		spoil(r)
		var b bytes.Buffer
		if err := cryptoki.Write(&b, r); !errors.Is(err, cryptoki.ErrFrame) || b.Len() > 0 {
			t.Errorf("%s: %d bytes, %v", name, b.Len(), err)
		}
	}
}

// FuzzReadRequest is what the helper does with bytes from the socket.
func FuzzReadRequest(f *testing.F) {
	var b bytes.Buffer
	if err := cryptoki.Write(&b, request()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := cryptoki.ReadRequest(bytes.NewReader(raw))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := cryptoki.Write(&again, r); err != nil {
			t.Fatalf("taken, and refused on the way back: %v", err)
		}
		if r2, err := cryptoki.ReadRequest(&again); err != nil || r2.Op != r.Op || r2.Key != r.Key || !bytes.Equal(r2.Value, r.Value) {
			t.Fatalf("%+v became %+v, %v", r, r2, err)
		}
	})
}

// FuzzReadResponse is what kluis does with them.
func FuzzReadResponse(f *testing.F) {
	var b bytes.Buffer
	if err := cryptoki.Write(&b, &cryptoki.Response{ID: 7, Code: cryptoki.OK, Value: []byte{1, 2}}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("\x00\x00\x00\x1b{\"id\":1,\"code\":\"ok\",\"x\":1}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := cryptoki.ReadResponse(bytes.NewReader(raw))
		if err != nil {
			return
		}
		if r.Code != cryptoki.OK && (r.Value != nil || r.Public != nil || r.Info != nil) {
			t.Fatalf("a failure with a result: %+v", r)
		}
		var again bytes.Buffer
		if err := cryptoki.Write(&again, r); err != nil {
			t.Fatalf("taken, and refused on the way back: %v", err)
		}
	})
}

// rogue answers every connection with f.
func rogue(t *testing.T, f func(c net.Conn)) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return socket
}

// A helper that answers nonsense, nothing, or for another release is no answer: in
// time, and without a result.
func TestRogueHelper(t *testing.T) {
	hello := func(c net.Conn, version int) bool {
		r, err := cryptoki.ReadRequest(c)
		return err == nil && cryptoki.Write(c, &cryptoki.Response{ID: r.ID, Code: cryptoki.OK, Info: &cryptoki.Info{Version: version, Serial: "1"}}) == nil
	}
	for name, f := range map[string]func(net.Conn){
		"closes":        func(net.Conn) {},
		"nonsense":      func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n") },
		"huge":          func(c net.Conn) { c.Write([]byte{0x7f, 0, 0, 0}); io.Copy(io.Discard, c) },
		"silent":        func(c net.Conn) { io.Copy(io.Discard, c) },
		"other release": func(c net.Conn) { hello(c, cryptoki.Version+1); io.Copy(io.Discard, c) },
		"other ids": func(c net.Conn) {
			if hello(c, cryptoki.Version) {
				for {
					r, err := cryptoki.ReadRequest(c)
					if err != nil {
						return
					}
					cryptoki.Write(c, &cryptoki.Response{ID: r.ID + 1000, Code: cryptoki.OK, Value: []byte("wrong")})
				}
			}
		},
		"dies": func(c net.Conn) {
			if hello(c, cryptoki.Version) {
				cryptoki.ReadRequest(c)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cryptoki.New(cryptoki.Config{Socket: rogue(t, f), Patience: 200 * time.Millisecond})
			defer c.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			b, err := c.Decrypt(ctx, cryptoki.Handle{Token: "1", Key: cryptoki.NewKeyID()}, cryptoki.A256KW, make([]byte, 40))
			if b != nil || fault.ReasonOf(err) != fault.Unavailable {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

// A key whose making was not answered is destroyed as soon as the helper is back,
// and not made a second time.
func TestLostKeyIsDestroyed(t *testing.T) {
	var made atomic.Int64
	destroyed := make(chan cryptoki.KeyID, 1)
	var id atomic.Value
	socket := rogue(t, func(c net.Conn) {
		for {
			r, err := cryptoki.ReadRequest(c)
			if err != nil {
				return
			}
			switch r.Op {
			case cryptoki.OpGenerate:
				made.Add(1)
				id.Store(r.Key)
				return // dies
			case cryptoki.OpDestroy:
				destroyed <- r.Key
			}
			cryptoki.Write(c, &cryptoki.Response{ID: r.ID, Code: cryptoki.OK, Info: &cryptoki.Info{Version: cryptoki.Version, Serial: "1"}})
		}
	})
	c := cryptoki.New(cryptoki.Config{Socket: socket})
	defer c.Close()
	if _, err := c.NewWrappingKey(t.Context(), "root"); fault.ReasonOf(err) != fault.Unavailable {
		t.Error(err)
	}
	if k := <-destroyed; k != id.Load() || made.Load() != 1 {
		t.Errorf("%s, made %d times", k, made.Load())
	}
}

func TestClosed(t *testing.T) {
	c := cryptoki.New(cryptoki.Config{Socket: rogue(t, func(c net.Conn) { io.Copy(io.Discard, c) })})
	c.Close()
	if _, err := c.Info(t.Context()); fault.ReasonOf(err) != fault.Unavailable || !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// An operation is a step of the trace that it belongs to, and tells no more than which.
func TestTraced(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	ctx, span := trace.Job(trace.With(t.Context(), sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept))), "job")
	c := cryptoki.New(cryptoki.Config{Socket: rogue(t, func(c net.Conn) { io.Copy(io.Discard, c) })})
	c.Close()
	if _, err := c.Info(ctx); err == nil {
		t.Error("a closed client answers")
	}
	span.End(nil)
	all := kept.GetSpans()
	if len(all) != 2 || all[0].Name != "ask HSM" || all[0].Parent.SpanID() != all[1].SpanContext.SpanID() {
		t.Fatalf("spans %+v", all)
	}
	said := map[string]string{}
	for _, a := range all[0].Attributes {
		said[string(a.Key)] = a.Value.AsString()
	}
	if want := (map[string]string{"kluis.operation": "info", "error.type": "Unavailable"}); !maps.Equal(said, want) {
		t.Errorf("it says %v; want %v", said, want)
	}
}

// A child is started again until its flags are wrong, and ends with the context.
func TestProcess(t *testing.T) {
	shell := func(script string) string {
		file := filepath.Join(t.TempDir(), "helper")
		if err := os.WriteFile(file, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
		return file
	}
	var started atomic.Int64
	p := cryptoki.Process{Log: slog.New(slog.DiscardHandler), Started: func(int) { started.Add(1) }}
	p.Path = shell("exit 2")
	if err := p.Run(t.Context()); err == nil || started.Load() != 1 {
		t.Errorf("wrong usage: %v after %d starts", err, started.Load())
	}
	started.Store(0)
	p.Path = shell("exit 1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p.Started = func(int) {
		if started.Add(1) == 3 {
			cancel()
		}
	}
	if err := p.Run(ctx); err != nil || started.Load() != 3 {
		t.Errorf("%v after %d starts", err, started.Load())
	}
	// It learns of the end from its standard input.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	p.Path, p.Started = shell("read line; exit 0"), func(int) { time.AfterFunc(10*time.Millisecond, cancel) }
	began := time.Now()
	if err := p.Run(ctx); err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}
