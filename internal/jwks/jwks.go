// Package jwks fetches the signing keys of an OpenID Connect issuer over HTTPS, and
// keeps them for a while.
//
// Where the keys are is the configuration's to say, or the issuer's own discovery
// document at its own address; a token says nothing about it. Redirects are not
// followed, answers are bounded, and a flood of tokens with unknown key ids asks the
// issuer no more often than [Interval]. While an issuer does not answer, the keys
// that it gave last stay in use for [MaxStale].
package jwks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/loopback"
)

// How long keys are kept, and how often an issuer is asked.
const (
	MaxAge   = time.Hour        // then they are fetched anew
	MaxStale = 24 * time.Hour   // for which they outlast an issuer that does not answer
	Interval = 30 * time.Second // between two fetches, at least
	timeout  = 10 * time.Second // of a fetch
	maxBody  = 1 << 20          // bytes
)

// A Config says which issuer, and where its keys are.
type Config struct {
	Issuer string         // https URL, as iss states it
	Keys   string         // https URL of the key set; "" asks the discovery document
	Roots  *x509.CertPool // the system's if nil
	Now    func() time.Time
}

// A Source is one issuer's keys. It implements [identity.KeySource], and is safe for
// concurrent use.
type Source struct {
	config Config
	client *http.Client

	mu      sync.Mutex
	keys    []identity.PublicKey
	fetched time.Time     // of keys
	tried   time.Time     // the last start of a fetch
	running chan struct{} // closed at the end of the fetch under way; nil if there is none
	failure error         // of the last fetch
}

// New returns the keys of an issuer, none of them fetched yet.
func New(c Config) (*Source, error) {
	for _, u := range []string{c.Issuer, c.Keys} {
		if err := checkURL(u); err != nil && (u != "" || u == c.Issuer) {
			return nil, err
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Source{config: c, client: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            loopback.Dialer(),
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.Roots},
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           2,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("a redirect is not followed") },
	}}, nil
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q is not an https URL of an issuer or of its keys", s)
	}
	return nil
}

// Keys implements [identity.KeySource].
func (s *Source) Keys(ctx context.Context, kid string) ([]identity.PublicKey, error) {
	s.mu.Lock()
	now := s.config.Now()
	known := kid == "" || slices.ContainsFunc(s.keys, func(k identity.PublicKey) bool { return k.ID == kid })
	age := now.Sub(s.fetched)
	usable := s.keys != nil && age >= 0 && age < MaxStale
	if usable && age < MaxAge && known {
		defer s.mu.Unlock()
		return s.keys, nil
	}
	if wait := now.Sub(s.tried); s.running == nil && (wait >= Interval || wait < 0) {
		s.tried, s.running = now, make(chan struct{})
		go s.refresh(context.WithoutCancel(ctx))
	}
	running := s.running
	s.mu.Unlock()
	if running != nil && !(usable && known) { // who can do with the old keys does not wait
		select {
		case <-running:
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Unavailable, ctx.Err(), "The issuer's keys were not had in time.")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if age := s.config.Now().Sub(s.fetched); s.keys != nil && age >= 0 && age < MaxStale {
		return s.keys, nil
	}
	return nil, fault.Wrap(fault.Unavailable, s.failure, "The issuer's keys cannot be had.").About(s.config.Issuer)
}

// refresh fetches the keys. Many wait for it, so no one request's end stops it.
func (s *Source) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	keys, err := s.fetch(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure = err; err == nil {
		s.keys, s.fetched = keys, s.config.Now()
	}
	close(s.running)
	s.running = nil
}

func (s *Source) fetch(ctx context.Context) ([]identity.PublicKey, error) {
	at := s.config.Keys
	if at == "" {
		body, err := s.get(ctx, strings.TrimSuffix(s.config.Issuer, "/")+"/.well-known/openid-configuration")
		if err != nil {
			return nil, err
		}
		var doc struct {
			Issuer string `json:"issuer"`
			Keys   string `json:"jwks_uri"`
		}
		if err := json.Unmarshal(body, &doc); err != nil {
			return nil, fmt.Errorf("the discovery document: %w", err)
		}
		if doc.Issuer != s.config.Issuer { // OpenID Connect Discovery §4.3
			return nil, fmt.Errorf("the discovery document is one of issuer %q", doc.Issuer)
		}
		if err := checkURL(doc.Keys); err != nil {
			return nil, err
		}
		at = doc.Keys
	}
	body, err := s.get(ctx, at)
	if err != nil {
		return nil, err
	}
	keys, err := identity.ParseKeySet(body)
	if err == nil && len(keys) == 0 {
		err = errors.New("the issuer's key set holds no key that can be used")
	}
	return keys, err
}

func (s *Source) get(ctx context.Context, at string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", at, res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err == nil && len(body) > maxBody {
		err = fmt.Errorf("%s answered with more than %d bytes", at, maxBody)
	}
	return body, err
}
