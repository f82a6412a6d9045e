package main

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/kluis-io/kluis/api"
)

// bind takes the port. Nothing is served on it yet.
func (s *server) bind() (net.Listener, error) {
	l, err := net.Listen("tcp", s.config.Listen)
	if err != nil {
		return nil, err
	}
	if _, s.port, _ = net.SplitHostPort(l.Addr().String()); s.config.PublicPort != "" {
		s.port = s.config.PublicPort
	}
	return l, nil
}

// listen serves the router over HTTPS.
func (s *server) listen(l net.Listener, rt *router) error {
	certificate, err := s.ca.Issue()
	if err != nil {
		return err
	}
	config := &tls.Config{MinVersion: tlsVersions[s.config.TLS], Certificates: []tls.Certificate{*certificate}, NextProtos: []string{"h2", "http/1.1"}}
	if err := s.config.Clients.ask(config, s.config.Domain); err != nil {
		return err
	}
	srv := &http.Server{
		Handler:           api.WithRequestID(rt),
		TLSConfig:         config,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	s.http = append(s.http, srv)
	s.workers.Go(func() {
		if err := srv.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("the listener has failed", "error", err)
		}
	})
	return nil
}
