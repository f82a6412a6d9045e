package jwks_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/jwks"
)

// An issuer is one that can be made to misbehave.
type issuer struct {
	*httptest.Server
	fetches atomic.Int64

	mu     sync.Mutex
	kid    string
	status int
	body   string // instead of the keys
	named  string // instead of its own name
}

func (i *issuer) set(fn func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	fn()
}

func newIssuer(t *testing.T) *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{kid: "one"}
	i.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		switch {
		case r.URL.Path == "/realm/.well-known/openid-configuration":
			name := i.URL + "/realm"
			if i.named != "" {
				name = i.named
			}
			json.NewEncoder(w).Encode(map[string]string{"issuer": name, "jwks_uri": i.URL + "/keys"})
		case r.URL.Path != "/keys":
			http.NotFound(w, r)
		case i.status != 0:
			i.fetches.Add(1)
			w.Header().Set("Location", i.URL+"/elsewhere")
			w.WriteHeader(i.status)
		case i.body != "":
			i.fetches.Add(1)
			w.Write([]byte(i.body))
		default:
			i.fetches.Add(1)
			json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: i.kid, Use: "sig"}}})
		}
	}))
	t.Cleanup(i.Close)
	return i
}

// source returns the issuer's keys, under a clock that the test moves.
func (i *issuer) source(t *testing.T) (s *jwks.Source, ahead *atomic.Int64) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(i.Certificate())
	ahead = new(atomic.Int64)
	start := time.Now()
	s, err := jwks.New(jwks.Config{Issuer: i.URL + "/realm", Roots: roots, Now: func() time.Time { return start.Add(time.Duration(ahead.Load())) }})
	if err != nil {
		t.Fatal(err)
	}
	return s, ahead
}

func TestCaching(t *testing.T) {
	i := newIssuer(t)
	s, ahead := i.source(t)
	var wg sync.WaitGroup
	for range 20 { // one fetch serves all who wait
		wg.Go(func() {
			if keys, err := s.Keys(t.Context(), "one"); err != nil || len(keys) != 1 {
				t.Errorf("%d keys, %v", len(keys), err)
			}
		})
	}
	wg.Wait()
	for range 100 { // unknown ids do not hammer the issuer
		if _, err := s.Keys(t.Context(), "two"); err != nil {
			t.Fatal(err)
		}
	}
	if n := i.fetches.Load(); n != 1 {
		t.Fatalf("%d fetches", n)
	}
	i.set(func() { i.kid = "two" })
	ahead.Add(int64(jwks.Interval))
	if keys, err := s.Keys(t.Context(), "two"); err != nil || keys[0].ID != "two" || i.fetches.Load() != 2 {
		t.Fatalf("a new key: %+v, %v, %d fetches", keys, err, i.fetches.Load())
	}

	// The issuer is gone: the old keys do for a day.
	i.set(func() { i.status = 503 })
	ahead.Add(int64(jwks.MaxAge))
	if _, err := s.Keys(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	ahead.Add(int64(jwks.MaxStale))
	if _, err := s.Keys(t.Context(), "two"); fault.ReasonOf(err) != fault.Unavailable {
		t.Fatalf("after a day: %v", err)
	}
	i.set(func() { i.status = 0 })
	ahead.Add(int64(jwks.Interval))
	if _, err := s.Keys(t.Context(), "two"); err != nil {
		t.Fatalf("after the outage: %v", err)
	}
}

func TestRefused(t *testing.T) {
	for name, bad := range map[string]func(*issuer){
		"another issuer": func(i *issuer) { i.named = "https://else.example" },
		"a redirect":     func(i *issuer) { i.status = http.StatusFound },
		"an error":       func(i *issuer) { i.status = http.StatusInternalServerError },
		"no JSON":        func(i *issuer) { i.body = "<html>" },
		"no keys":        func(i *issuer) { i.body = `{"keys":[]}` },
		"too much":       func(i *issuer) { i.body = `{"keys":[]}` + strings.Repeat(" ", 1<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			bad(i)
			s, _ := i.source(t)
			if _, err := s.Keys(t.Context(), "one"); fault.ReasonOf(err) != fault.Unavailable {
				t.Errorf("%v", err)
			}
		})
	}
	i := newIssuer(t)
	s, err := jwks.New(jwks.Config{Issuer: i.URL + "/realm"}) // whose certificate nobody vouches for
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Keys(t.Context(), "one"); fault.ReasonOf(err) != fault.Unavailable {
		t.Errorf("an unknown certificate: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Keys(ctx, "one"); fault.ReasonOf(err) != fault.Unavailable {
		t.Errorf("nobody waits: %v", err)
	}
	for _, u := range []string{"", "http://issuer.example", "https://", "https://u:p@issuer.example", "https://issuer.example?x", "::"} {
		if _, err := jwks.New(jwks.Config{Issuer: u}); err == nil {
			t.Errorf("issuer %q is accepted", u)
		}
	}
	if _, err := jwks.New(jwks.Config{Issuer: "https://issuer.example", Keys: "http://issuer.example/keys"}); err == nil {
		t.Error("keys over http are accepted")
	}
}
