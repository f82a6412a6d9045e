package kektest

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/kluis-io/kluis/kek"
)

// A Step is a point of the protocol at which a [Server] can be told to lie.
type Step string

const (
	Challenge Step = "challenge" // a request without a token
	Get       Step = "get"       // with a token, as the rest of the vault's
	Wrap      Step = "wrap"
	Unwrap    Step = "unwrap"
	Changes   Step = "changes"
	Discovery Step = "discovery" // the directory's discovery document
	Token     Step = "token"     // the directory's token endpoint
)

// An Issued token.
type Issued struct {
	Tenant, Scope string
	Claims        string // what the client demanded of the token
}

// Secret is the platform's secret at the server's directory.
const Secret = "correct-horse-battery"

// A Server is a [Vault] on loopback behind TLS, at https://acme.vault.localhost:PORT
// with its directory at https://login.localhost:PORT. It is honest unless
// scripted.
type Server struct {
	*Vault
	ca      authority
	http    *httptest.Server
	done    chan struct{} // closed when the test ends: lies that hang give up
	expired atomic.Bool

	mu      sync.Mutex
	scripts map[Step][]Lie
	always  map[Step]Lie
	steps   map[Step]int
	issued  []Issued
	valid   map[string]Issued
}

// New starts a server and stops it when the test ends.
func New(t testing.TB) *Server {
	s := &Server{ca: testAuthority(), done: make(chan struct{}), scripts: make(map[Step][]Lie),
		always: make(map[Step]Lie), steps: make(map[Step]int), valid: make(map[string]Issued)}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.http.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if s.expired.Load() {
			return &s.ca.expired, nil
		}
		return &s.ca.valid, nil
	}}
	s.http.StartTLS()
	s.Vault = newVault(t, "acme"+suffix+":"+s.port())
	t.Cleanup(func() {
		close(s.done)
		s.http.CloseClientConnections()
		s.http.Close()
	})
	return s
}

func (s *Server) port() string {
	_, port, _ := net.SplitHostPort(s.http.Listener.Addr().String())
	return port
}

// Audience returns the resource for which the vault takes tokens.
func (s *Server) Audience() string { return "https://vault.localhost:" + s.port() }

// Authority returns the directory's address.
func (s *Server) Authority() string { return "https://login.localhost:" + s.port() + "/" + s.tenant }

// Config returns the configuration of a client of this vault and directory.
func (s *Server) Config() kek.Config {
	return kek.Config{
		Policy:       s.Policy(),
		Roots:        s.ca.roots,
		AllowPrivate: func(host string) bool { return strings.HasSuffix(host, suffix) },
		Credential:   s.Credential,
	}
}

// Client returns a client of this vault and directory.
func (s *Server) Client() *kek.Client {
	c := kek.NewClient(s.Config())
	s.t.Cleanup(c.Close)
	return c
}

// Credential returns the platform's credential in a tenant of the server's
// directory: an unmodified azidentity one.
func (s *Server) Credential(tenant string) (azcore.TokenCredential, error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.ca.roots}}
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.http.Listener.Addr().String())
	}
	s.t.Cleanup(transport.CloseIdleConnections)
	options := azidentity.ClientSecretCredentialOptions{DisableInstanceDiscovery: true}
	options.Cloud = cloud.Configuration{ActiveDirectoryAuthorityHost: "https://login.localhost:" + s.port() + "/"}
	options.Retry.MaxRetries = -1
	options.Transport = &http.Client{Transport: transport}
	return azidentity.NewClientSecretCredential(tenant, "platform", Secret, &options)
}

// Script has the next occurrences of a step answered by the given lies, one each;
// nil stands for an honest answer.
func (s *Server) Script(at Step, lies ...Lie) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scripts[at] = append(s.scripts[at], lies...)
}

// Always has every occurrence of a step that no script covers answered by the lie;
// nil makes it honest again.
func (s *Server) Always(at Step, lie Lie) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.always[at] = lie
}

// Steps returns how often a step occurred.
func (s *Server) Steps(at Step) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.steps[at]
}

// Issued returns the tokens that the directory gave out.
func (s *Server) Issued() []Issued {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Issued(nil), s.issued...)
}

// ForgetTokens makes every token given out so far invalid at the vault, as when the
// directory changes its keys.
func (s *Server) ForgetTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.valid)
}

// ExpireCertificate shows an expired certificate to every connection from now on,
// or the valid one again.
func (s *Server) ExpireCertificate(expired bool) {
	s.expired.Store(expired)
	s.http.CloseClientConnections()
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.Vault.mu.Lock()
	cut := s.disconnected
	s.Vault.mu.Unlock()
	if cut {
		panic(http.ErrAbortHandler)
	}
	step, honest := s.route(r)
	s.mu.Lock()
	s.steps[step]++
	lie := s.always[step]
	if q := s.scripts[step]; len(q) > 0 {
		lie, s.scripts[step] = q[0], q[1:]
	}
	s.mu.Unlock()
	x := &Exchange{W: w, R: r, honest: honest, server: s}
	if lie != nil {
		lie(x)
		return
	}
	x.reply(honest())
}

// A reply is a status and a JSON body.
type reply struct {
	status int
	header http.Header
	body   map[string]any
}

func (s *Server) route(r *http.Request) (Step, func() reply) {
	if strings.HasPrefix(r.Host, "login.") {
		tenant, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if rest == "oauth2/v2.0/token" {
			return Token, func() reply { return s.token(tenant, r) }
		}
		return Discovery, func() reply { return s.discovery(tenant) }
	}
	if !s.authorised(r) {
		return Challenge, s.challenge
	}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/changes":
		return Changes, func() reply { return s.changes(r) }
	case len(parts) == 3 && parts[0] == "keys" && r.Method == http.MethodGet:
		return Get, func() reply { return s.get(r, parts[1], parts[2]) }
	case len(parts) == 4 && parts[3] == "wrapkey":
		return Wrap, func() reply { return s.operate(r, kek.OpWrap, parts[1], parts[2]) }
	case len(parts) == 4 && parts[3] == "unwrapkey":
		return Unwrap, func() reply { return s.operate(r, kek.OpUnwrap, parts[1], parts[2]) }
	}
	return "", func() reply { return refusal(&kek.Answer{Status: 400, Code: "BadParameter"}) }
}

func (s *Server) authorised(r *http.Request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.valid[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	return ok && t.Tenant == s.tenant && strings.HasPrefix(t.Scope, s.Audience()+"/.default")
}

func (s *Server) challenge() reply {
	return reply{status: 401, header: http.Header{"Www-Authenticate": {
		fmt.Sprintf(`Bearer authorization="%s", resource="%s"`, s.Authority(), s.Audience())}},
		body: map[string]any{"error": map[string]any{"code": "Unauthorized", "message": "AKV10000: no token"}}}
}

func (s *Server) discovery(tenant string) reply {
	base := "https://login.localhost:" + s.port() + "/" + tenant
	return reply{status: 200, body: map[string]any{
		"issuer":                 base + "/v2.0",
		"authorization_endpoint": base + "/oauth2/v2.0/authorize",
		"token_endpoint":         base + "/oauth2/v2.0/token",
	}}
}

func (s *Server) token(tenant string, r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := Issued{Tenant: tenant, Scope: r.PostFormValue("scope"), Claims: r.PostFormValue("claims")}
	s.issued = append(s.issued, i)
	token := "token-" + strconv.Itoa(len(s.issued))
	s.valid[token] = i
	return reply{status: 200, body: map[string]any{"token_type": "Bearer", "expires_in": 3600, "access_token": token}}
}

func (s *Server) get(r *http.Request, name, ver string) reply {
	x, a := s.ask(r.Context(), s.tenant, s.host, kek.OpGet, name, ver)
	if a != nil {
		return refusal(a)
	}
	k := x.info
	attributes := map[string]any{"enabled": k.Enabled, "created": 1, "updated": 1,
		"recoveryLevel": k.RecoveryLevel, "recoverableDays": k.RecoverableDays}
	for name, at := range map[string]time.Time{"nbf": k.NotBefore, "exp": k.Expires} {
		if !at.IsZero() {
			attributes[name] = at.Unix()
		}
	}
	return reply{status: 200, body: map[string]any{
		"key": map[string]any{"kid": string(k.KID), "kty": k.Type, "key_ops": k.Ops,
			"n": b64(x.private.N.Bytes()), "e": b64(big.NewInt(int64(x.private.E)).Bytes())},
		"attributes": attributes,
		"tags":       k.Tags,
	}}
}

func (s *Server) operate(r *http.Request, op kek.Op, name, ver string) reply {
	x, a := s.ask(r.Context(), s.tenant, s.host, op, name, ver)
	if a != nil {
		return refusal(a)
	}
	var in struct{ Alg, Value string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Alg != string(kek.RSAOAEP256) {
		return refusal(&kek.Answer{Status: 400, Code: "BadParameter"})
	}
	value, err := base64.RawURLEncoding.DecodeString(in.Value)
	if err != nil {
		return refusal(&kek.Answer{Status: 400, Code: "BadParameter"})
	}
	out, a := x.operate(op, value)
	if a != nil {
		return refusal(a)
	}
	return reply{status: 200, body: map[string]any{"kid": string(x.info.KID), "value": b64(out)}}
}

func (s *Server) changes(r *http.Request) reply {
	s.Vault.mu.Lock()
	noFeed := s.noFeed || s.gone
	s.Vault.mu.Unlock()
	if noFeed {
		return refusal(&kek.Answer{Status: 404, Code: "NotFound"})
	}
	wait, _ := strconv.Atoi(r.FormValue("wait"))
	got, err := s.poll(r.Context(), r.FormValue("since"), time.Duration(wait)*time.Second)
	if err != nil {
		return refusal(&kek.Answer{Status: 503})
	}
	return reply{status: 200, body: map[string]any{"cursor": got.Cursor, "reset": got.Reset, "changes": got.Changes}}
}

// refusal gives an answer the shape that vaults give it: the inner code is where
// the outer one says only "Forbidden".
func refusal(a *kek.Answer) reply {
	e := map[string]any{"code": a.Code, "message": a.Code}
	if a.Status == 403 {
		e["code"], e["innererror"] = "Forbidden", map[string]any{"code": a.Code}
	}
	return reply{status: a.Status, body: map[string]any{"error": e}}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
