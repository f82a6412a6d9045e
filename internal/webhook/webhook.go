// Package webhook posts signed messages, as Standard Webhooks 1.0.0 says
// (github.com/standard-webhooks/standard-webhooks), so that receivers can verify
// them with a library that they have already.
//
// A message carries its id, the time of the attempt and an HMAC-SHA256 over id,
// time and body. A receiver takes none older than a few minutes, and none whose id
// it has taken before.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// The headers of a message.
const (
	IDHeader        = "Webhook-Id"
	TimestampHeader = "Webhook-Timestamp" // Unix seconds
	SignatureHeader = "Webhook-Signature" // v1,BASE64, several apart by spaces
)

// Bounds of one attempt, and of a secret.
const (
	timeout    = 10 * time.Second
	answerSize = 4 << 10 // bytes read of an answer, for the sake of the connection
	minSecret  = 24      // bytes
	tolerance  = 5 * time.Minute
)

// Config is what [New] needs.
type Config struct {
	URL         string         // https
	Secret      string         // whsec_BASE64, or any text of at least 24 bytes
	Roots       *x509.CertPool // nil for the system's
	ContentType string
}

// A Sender posts to one receiver. It follows no redirect.
type Sender struct {
	url    string
	secret []byte
	kind   string
	client *http.Client
}

// New returns a sender.
func New(c Config) (*Sender, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fault.New(fault.InvalidArgument, "A webhook needs an https URL without user and password.")
	}
	secret, err := ParseSecret(c.Secret)
	if err != nil {
		return nil, err
	}
	return &Sender{url: c.URL, secret: secret, kind: c.ContentType, client: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			TLSClientConfig:     &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
			MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute,
			MaxResponseHeaderBytes: 16 << 10, ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// ParseSecret returns the key in a secret.
func ParseSecret(s string) ([]byte, error) {
	s = strings.TrimSpace(s)
	key := []byte(s)
	if b, ok := strings.CutPrefix(s, "whsec_"); ok {
		var err error
		if key, err = base64.StdEncoding.DecodeString(b); err != nil {
			return nil, fault.New(fault.InvalidArgument, "The webhook's secret is not base64 behind whsec_.")
		}
	}
	if len(key) < minSecret {
		return nil, fault.New(fault.InvalidArgument, fmt.Sprintf("A webhook's secret has at least %d bytes.", minSecret)).
			WithMend(`Make one with: echo "whsec_$(openssl rand -base64 32)"`)
	}
	return key, nil
}

// Send posts a message once. It returns nil for an answer of 2xx; [fault.NotFound]
// for 410, by which a receiver says that it will not be back; [fault.Unavailable]
// otherwise, with the pause that the receiver asks for, zero if it does not.
func (s *Sender) Send(ctx context.Context, id string, body []byte) (retryAfter time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	r.Header.Set("Content-Type", s.kind)
	r.Header.Set("User-Agent", "kluis")
	r.Header.Set(IDHeader, id)
	r.Header.Set(TimestampHeader, at)
	r.Header.Set(SignatureHeader, sign(s.secret, id, at, body))
	answer, err := s.client.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the URL, which may hold a receiver's token
		}
		return 0, fault.Wrap(fault.Unavailable, err, "The receiver did not answer.")
	}
	defer answer.Body.Close()
	io.CopyN(io.Discard, answer.Body, answerSize)
	switch {
	case answer.StatusCode/100 == 2:
		return 0, nil
	case answer.StatusCode == http.StatusGone:
		return 0, fault.New(fault.NotFound, "The receiver answered 410: it is gone for good.")
	}
	return pause(answer.Header.Get("Retry-After"), time.Now()),
		fault.New(fault.Unavailable, fmt.Sprintf("The receiver answered %d.", answer.StatusCode))
}

// pause reads a Retry-After header (RFC 9110 §10.2.3).
func pause(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

func sign(secret []byte, id, at string, body []byte) string {
	m := hmac.New(sha256.New, secret)
	fmt.Fprintf(m, "%s.%s.", id, at)
	m.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// Verify checks a message as its receiver: signed with the secret, and sent within
// five minutes of now.
func Verify(secret []byte, h http.Header, body []byte, now time.Time) error {
	at := h.Get(TimestampHeader)
	n, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return fault.New(fault.Unauthenticated, "The message has no timestamp.")
	}
	if d := now.Sub(time.Unix(n, 0)); d > tolerance || d < -tolerance {
		return fault.New(fault.Unauthenticated, "The message is too old, or of the future.")
	}
	want := sign(secret, h.Get(IDHeader), at, body)
	for got := range strings.FieldsSeq(h.Get(SignatureHeader)) {
		if hmac.Equal([]byte(got), []byte(want)) {
			return nil
		}
	}
	return fault.New(fault.Unauthenticated, "The message's signature does not hold.")
}
