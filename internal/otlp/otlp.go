// Package otlp posts log records and spans to a collector: OTLP/HTTP 1
// (opentelemetry.io/docs/specs/otlp). Of its JSON encoding it speaks the little that logs
// take; spans go as protobuf, which every receiver has to understand. The official
// exporters bring gRPC and some eighty modules.
package otlp

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// Bounds of one request.
const (
	timeout    = 30 * time.Second
	answerSize = 64 << 10 // bytes read of an answer
)

// Config is what [New] needs.
type Config struct {
	URL      string            // https; http is for this machine alone
	Token    string            // sent as a bearer token; none if it is ""
	Headers  map[string]string // sent too
	Roots    *x509.CertPool
	Resource []Attribute // who sends: service.name and so on
	Scope    string      // what in it
	Version  string      // of that
}

// A Client posts to one collector. It follows no redirect.
type Client struct {
	config Config
	http   *http.Client
}

// New returns a client.
func New(c Config) (*Client, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return nil, fault.New(fault.InvalidArgument, "An OTLP collector needs an https URL without user and password, such as https://collector.example.com:4318; http is for this machine alone.")
	}
	return &Client{config: c, http: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
			IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// post posts a body, and returns the collector's answer to it.
func (c *Client) post(ctx context.Context, contentType string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.config.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range c.config.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "kluis")
	if c.config.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.config.Token)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, answerSize))
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the collector answered %s", res.Status)
	}
	return text, err
}

// Close gives up idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }
