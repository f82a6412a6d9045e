package vaulttest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// A Server serves a handler over TLS for every host below localhost.
type Server struct {
	Port   string
	Client *http.Client // trusts the server, and finds every host at it
}

// Serve starts a server on loopback; handler learns the port that it is at.
func Serve(t testing.TB, handler func(port string) http.Handler) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	_, port, err := net.SplitHostPort(l.Addr().String())
	check(t, err)
	cert, pool := certificate(t)
	s := httptest.NewUnstartedServer(api.WithRequestID(handler(port)))
	s.Listener.Close()
	s.Listener = l
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	return &Server{Port: port, Client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, l.Addr().String())
		},
	}}}
}

func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost", "*.localhost", "*.vault.localhost", "*.managedhsm.localhost"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(t, err)
	leaf, err := x509.ParseCertificate(der)
	check(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// Tokens stand in for an issuer: a token is its caller and audience in the open.
type Tokens struct{}

type token struct {
	Caller   identity.Caller
	Audience string
}

// Token returns a token for a caller.
func (Tokens) Token(c identity.Caller, audience string) string {
	b, err := json.Marshal(token{c, audience})
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// Verify implements [api.Tokens].
func (Tokens) Verify(_ context.Context, s string, audiences ...string) (identity.Caller, error) {
	var t token
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || json.Unmarshal(b, &t) != nil || !slices.Contains(audiences, t.Audience) {
		return identity.Caller{}, fault.New(fault.Unauthenticated, "The token does not hold.")
	}
	return t.Caller, nil
}

// A Credential gives a caller's tokens to the SDKs, in the caller's own tenant.
type Credential struct{ Caller identity.Caller }

// GetToken implements [azcore.TokenCredential].
func (c Credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	audience := o.Scopes[0][:len(o.Scopes[0])-len("/.default")]
	return azcore.AccessToken{Token: Tokens{}.Token(c.Caller, audience), ExpiresOn: time.Now().Add(time.Hour)}, nil
}
