package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestProfiles checks that profiles are served on loopback, to whoever asks for
// them by the environment, and nowhere else.
func TestProfiles(t *testing.T) {
	for _, address := range []string{":6060", "0.0.0.0:6060", "[::]:6060", "192.0.2.1:6060", "localhost:6060", "6060"} {
		t.Setenv(pprofVariable, address)
		var usage usageError
		if err := serveProfiles(t.Context()); !errors.As(err, &usage) {
			t.Errorf("%q: %v, want wrong usage", address, err)
		}
	}

	t.Setenv(pprofVariable, "")
	if err := serveProfiles(t.Context()); err != nil {
		t.Errorf("unset: %v", err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	t.Setenv(pprofVariable, address)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if err := serveProfiles(ctx); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get("http://" + address + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasPrefix(string(body), "goroutine profile:") {
		t.Errorf("%s, %v: %.60q", resp.Status, err, body)
	}
}
