package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"time"
)

const (
	dialTime = 5 * time.Second
	// silence is how long a connection may stay without a byte in either direction
	// while a request is under way.
	silence = 30 * time.Second
	// idleTime is how long a connection is kept for the next request: shorter than
	// silence, which would end it.
	idleTime = 20 * time.Second
	// idleConnections are kept at most.
	idleConnections = 64
)

// HTTPClient returns the client for a store: it trusts the authorities, or the
// system's if they are nil, gives up a connection on which nothing moves, and
// follows no redirect, which could lead the data elsewhere.
func HTTPClient(roots *x509.CertPool) *http.Client {
	d := net.Dialer{Timeout: dialTime}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := d.DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				return watched{c}, nil
			},
			TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout:   dialTime,
			ResponseHeaderTimeout: silence,
			IdleConnTimeout:       idleTime,
			MaxIdleConns:          idleConnections,
			MaxIdleConnsPerHost:   idleConnections,
			DisableCompression:    true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// watched is a connection that fails if nothing moves on it.
type watched struct{ net.Conn }

func (c watched) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write extends a read that waits for the answer too.
func (c watched) Write(p []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(silence)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
