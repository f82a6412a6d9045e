package session_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/session"
)

// A realm is an issuer of another make: its one access token serves everywhere, its
// refresh tokens are long and stay the same, its people have no oid and no tid, the
// client has a secret, and people stay signed in there.
type realm struct {
	*httptest.Server
	t       *testing.T
	key     *rsa.PrivateKey
	asked   url.Values // the request to sign in
	refresh string
	asks    int // how often it was asked for tokens
	claims  map[string]any
}

func newRealm(t *testing.T) *realm {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	r := &realm{t: t, key: key, refresh: strings.Repeat("r", 5000), claims: map[string]any{}}
	mux := http.NewServeMux()
	r.Server = httptest.NewTLSServer(mux)
	t.Cleanup(r.Close)
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{
			"issuer": r.URL, "authorization_endpoint": r.URL + "/auth?realm=1", "token_endpoint": r.URL + "/token", "jwks_uri": r.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("GET /auth", func(w http.ResponseWriter, req *http.Request) {
		r.asked = req.URL.Query()
		http.Redirect(w, req, r.asked.Get("redirect_uri")+"?code=c&state="+url.QueryEscape(r.asked.Get("state")), http.StatusFound)
	})
	mux.HandleFunc("POST /token", r.token)
	return r
}

func (r *realm) token(w http.ResponseWriter, req *http.Request) {
	r.asks++
	sum := sha256.Sum256([]byte(req.PostFormValue("code_verifier")))
	ok := req.PostFormValue("client_secret") == "s3cret" && req.PostFormValue("scope") == ""
	switch req.PostFormValue("grant_type") {
	case "authorization_code":
		ok = ok && req.PostFormValue("code") == "c" && base64.RawURLEncoding.EncodeToString(sum[:]) == r.asked.Get("code_challenge")
	case "refresh_token":
		ok = ok && req.PostFormValue("refresh_token") == r.refresh
	}
	w.Header().Set("Content-Type", "application/json")
	if !ok {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant"}`)
		return
	}
	claims := map[string]any{
		"iss": r.URL, "aud": "portal", "sub": "bob", "email": "bob@example.com", "nonce": r.asked.Get("nonce"),
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	}
	for name, value := range r.claims {
		claims[name] = value
	}
	payload, _ := json.Marshal(claims)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: r.key, KeyID: "k"}}, nil)
	if err != nil {
		r.t.Error(err)
		return
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		r.t.Error(err)
		return
	}
	id, _ := jws.CompactSerialize()
	json.NewEncoder(w).Encode(map[string]any{"access_token": fmt.Sprintf("access-%d", r.asks), "token_type": "bearer", "expires_in": 1800, "refresh_token": r.refresh, "id_token": id})
}

func TestAnotherIssuer(t *testing.T) {
	r := newRealm(t)
	site := httptest.NewUnstartedServer(nil)
	site.StartTLS()
	t.Cleanup(site.Close)
	now := time.Now()
	c := session.Config{
		Issuer: r.URL, Client: "portal", ClientSecret: "s3cret", Origin: site.URL, Key: make([]byte, 32), HTTP: r.Client(), First: graph,
		Scope: func(string) string { return "" }, Tenant: string(tenant), Now: func() time.Time { return now },
		Subject: func(issuer, subject string) string { return "made of " + issuer + " " + subject },
	}
	start := func() {
		sessions, err := session.New(c)
		if err != nil {
			t.Fatal(err)
		}
		mux := http.NewServeMux()
		mux.Handle(portal.SessionPath, sessions)
		mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
			s := sessions.Session(w, req)
			if s == nil {
				sessions.Begin(w, req, "/")
				return
			}
			one, err1 := s.Token(req.Context(), vault)
			two, err2 := s.Token(req.Context(), graph)
			fmt.Fprintln(w, s.User(), one, two, err1, err2)
		})
		site.Config.Handler = mux
	}
	start()
	b := (&world{}).browser(t)
	want := fmt.Sprintf("{bob@example.com made of %s bob %s}", r.URL, tenant)
	if got := b.get(site.URL + "/"); got.body != want+" access-1 access-1 <nil> <nil>\n" {
		t.Fatalf("%d %s", got.status, got.body)
	}
	if r.asked.Get("scope") != "openid profile offline_access" || r.asked.Get("code_challenge_method") != "S256" {
		t.Errorf("asked for %v", r.asked)
	}
	if n := len(b.cookies(t, site.URL)); n != 3 {
		t.Errorf("%d cookies hold the long session", n)
	}
	start() // elsewhere
	if got := b.get(site.URL + "/"); got.body != want+" access-2 access-2 <nil> <nil>\n" {
		t.Errorf("from a replica that knows nothing: %s", got.body)
	}
	now = now.Add(25 * time.Minute)
	if got := b.get(site.URL + "/"); got.body != want+" access-3 access-3 <nil> <nil>\n" {
		t.Errorf("when the token is about to end: %s", got.body)
	}

	// ID tokens that are somebody else's, or not meant for this.
	for name, claims := range map[string]map[string]any{
		"another audience": {"aud": "other"}, "another issuer": {"iss": "https://evil.example"}, "an expired one": {"exp": now.Add(-time.Hour).Unix()},
		"another nonce": {"nonce": "x"}, "no nonce": {"nonce": ""},
	} {
		r.claims = claims
		if got := (&world{}).browser(t).get(site.URL + "/"); got.status == 200 || strings.Contains(got.body, "bob") {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
}
