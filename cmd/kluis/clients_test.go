package main

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/deploytest"
	"github.com/kluis-io/kluis/internal/localca"
)

// certified makes an authority and a certificate of it for a client.
func certified(t *testing.T, name string) (authority, pair string) {
	t.Helper()
	authority, pair, err := deploytest.ClientCertificate(t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	return authority, pair
}

// A vault's host takes certificates of the authorities that it was told, is no less open to
// who has none, and no other host asks.
func TestVaultAsksForCertificates(t *testing.T) {
	authority, pair := certified(t, "platform.example")
	_, foreign := certified(t, "platform.example")
	ca, err := localca.Open(t.TempDir(), "localhost")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := ca.Issue()
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("served " + api.Describe(r, identity.Caller{}).Certificate))
	}))
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*certificate}, NextProtos: []string{"h2", "http/1.1"}}
	if err := (&clientsConfig{Authorities: []string{authority}}).ask(s.TLS, "localhost"); err != nil {
		t.Fatal(err)
	}
	s.StartTLS()
	defer s.Close()
	port := s.Listener.Addr().String()[len("127.0.0.1:"):]
	for name, tc := range map[string]struct {
		host, pair string
		want       string
	}{
		"at a vault":                   {"custody.vault.localhost", pair, "served platform.example"},
		"at a managed HSM":             {"h.managedhsm.localhost", pair, "served platform.example"},
		"none at a vault":              {"custody.vault.localhost", "", "served "},
		"of another authority":         {"custody.vault.localhost", foreign, ""},
		"at the login, which asks not": {"login.localhost", pair, "served "},
	} {
		t.Run(name, func(t *testing.T) {
			transport := localca.Transport(ca.Pool(), "localhost")
			defer transport.CloseIdleConnections()
			if tc.pair != "" {
				own, err := tls.LoadX509KeyPair(tc.pair, tc.pair)
				if err != nil {
					t.Fatal(err)
				}
				transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
			}
			target := url.URL{Scheme: "https", Host: tc.host + ":" + port, Path: "/"}
			r, err := (&http.Client{Transport: transport}).Get(target.String())
			if tc.want == "" {
				if err == nil {
					r.Body.Close()
					t.Fatal("it is served")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			body := make([]byte, 100)
			n, _ := r.Body.Read(body)
			if got := string(body[:n]); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// What cannot be used is said at the start.
func TestClientsConfig(t *testing.T) {
	_, pair := certified(t, "platform.example")
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*clientsConfig{
		"no authority": {}, "no file": {Authorities: []string{"/nowhere"}}, "no certificate": {Authorities: []string{empty}},
	} {
		if err := c.ask(&tls.Config{}, "localhost"); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
	if _, err := (Config{ClientCertificate: empty}).ownCertificate(); err == nil {
		t.Error("an empty file is taken for a certificate")
	}
	if _, err := (Config{ClientCertificate: pair}).ownCertificate(); err != nil {
		t.Errorf("a certificate with its key: %v", err)
	}
}
