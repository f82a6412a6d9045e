package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"time"
)

// pprofVariable names the address on which a developer may profile the process.
// It is no setting: nothing mentions it but docs/benchmarks.md, and it is off
// unless it is set.
const pprofVariable = "KLUIS_PPROF"

// serveProfiles serves net/http/pprof until ctx ends, if the environment asks for
// it. A heap profile tells of what is in memory, so only loopback is listened on.
func serveProfiles(ctx context.Context) error {
	address := os.Getenv(pprofVariable)
	if address == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return usageError{fmt.Errorf("%s: %w", pprofVariable, err)}
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return usageError{fmt.Errorf("%s: %q is no loopback address, such as 127.0.0.1: profiles are for this machine only", pprofVariable, host)}
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	slog.Warn("profiles are served", "address", l.Addr().String())
	go func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("the profiles' listener has failed", "error", err)
		}
	}()
	context.AfterFunc(ctx, func() { srv.Close() })
	return nil
}
