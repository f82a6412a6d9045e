package session_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/api/token"
	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/session"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
)

const tenant identity.TenantID = "11111111-1111-4111-8111-111111111111"

const (
	vault    = "https://vault.example"
	graph    = "https://graph.example"
	user     = "alice"
	password = "correct horse battery staple"
)

type discard struct{}

func (discard) Record(context.Context, audit.Entry) error { return nil }

// A world is the embedded issuer and a portal that signs in with it.
type world struct {
	login, portal *httptest.Server
	directory     *identity.Directory
	issuer        *identity.Issuer
	verifier      *identity.Verifier
	admin         identity.Caller
	alice         identity.Principal
	now           time.Time
	config        session.Config
	mangle        func(*http.Request) // of the portal's way to the issuer
}

// RoundTrip lets a test look at what the portal asks the issuer.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.mangle != nil {
		w.mangle(r)
	}
	return w.login.Client().Transport.RoundTrip(r)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := enginetest.Open(t.Context(), filepath.Join(t.TempDir(), "directory.db"), store.DirectorySchema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{now: time.Now(), login: httptest.NewUnstartedServer(nil), portal: httptest.NewUnstartedServer(nil)}
	clock := func() time.Time { return w.now }
	w.directory = identity.NewDirectory(db.Identity(), discard{}, identity.NoRoles{}, clock)
	admin, _, err := w.directory.Bootstrap(t.Context(), tenant, "Contoso", "admin")
	if err != nil {
		t.Fatal(err)
	}
	w.admin = identity.Caller{Tenant: tenant, Principal: admin.ID}
	if w.alice, err = w.directory.CreateUser(t.Context(), w.admin, user, "Alice", password); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*httptest.Server{w.login, w.portal} {
		s.StartTLS()
		t.Cleanup(s.Close)
	}
	w.issuer, err = identity.NewIssuer(t.Context(), w.directory, identity.IssuerConfig{
		Base: w.login.URL, Instance: "i", Root: envelope.NewKey(), Audiences: []string{vault, graph},
		Clients: []identity.Client{{ID: "portal", Name: "the portal", Redirects: []string{w.portal.URL + session.Callback}, SignedOut: []string{w.portal.URL + "/"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.login.Config.Handler = api.WithRequestID(token.New(w.issuer, tenant))
	if w.verifier, err = identity.NewVerifier(clock, w.issuer.Trust(tenant)); err != nil {
		t.Fatal(err)
	}
	w.config = session.Config{
		Issuer: w.issuer.Name(tenant), Client: "portal", Origin: w.portal.URL, Key: make([]byte, 32), First: graph,
		HTTP: &http.Client{Transport: w}, Now: clock,
	}
	w.portal.Config.Handler = w.replica(t)
	return w
}

// replica is a portal of one page, which tells who has signed in and whether tokens for
// two services hold.
func (w *world) replica(t *testing.T) http.Handler {
	t.Helper()
	sessions, err := session.New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(portal.SessionPath, sessions)
	mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) {
		s := sessions.Session(rw, r)
		if s == nil {
			sessions.Begin(rw, r, r.URL.RequestURI())
			return
		}
		for _, audience := range []string{vault, graph} {
			text, err := s.Token(r.Context(), audience)
			if errors.Is(err, portal.ErrSignIn) {
				sessions.Begin(rw, r, r.URL.RequestURI())
				return
			}
			if err != nil {
				http.Error(rw, err.Error(), http.StatusBadGateway)
				return
			}
			if c, err := w.verifier.Verify(r.Context(), text, audience); err != nil || string(c.Principal) != s.User().ID {
				http.Error(rw, fmt.Sprint(c, err), http.StatusInternalServerError)
				return
			}
		}
		fmt.Fprintf(rw, "hello %s of %s at %s", s.User().Name, s.User().Tenant, r.URL.RequestURI())
	})
	return mux
}

// A browser keeps cookies, and trusts the test's servers.
type browser struct {
	*http.Client
	t *testing.T
}

func (w *world) browser(t *testing.T) browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	trust := http.DefaultTransport.(*http.Transport).Clone()
	trust.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // two servers with a certificate each
	return browser{&http.Client{Jar: jar, Transport: trust}, t}
}

type answer struct {
	status int
	at     *url.URL
	body   string
}

func (b browser) send(req *http.Request) answer {
	b.t.Helper()
	res, err := b.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Request.URL, string(body)}
}

func (b browser) get(address string) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), "GET", address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.send(req)
}

func (b browser) post(address string, form url.Values) answer {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), "POST", address, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.send(req)
}

var inputs = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// fill sends the issuer's form.
func (b browser) fill(page answer, user, password string) answer {
	b.t.Helper()
	form := url.Values{"username": {user}, "password": {password}}
	for _, m := range inputs.FindAllStringSubmatch(page.body, -1) {
		form.Set(m[1], html.UnescapeString(m[2]))
	}
	return b.post((&url.URL{Scheme: page.at.Scheme, Host: page.at.Host, Path: page.at.Path}).String(), form)
}

func (w *world) signIn(t *testing.T, b browser, path string) answer {
	t.Helper()
	page := b.get(w.portal.URL + path)
	if !strings.Contains(page.body, "Sign in") || !strings.HasPrefix(page.at.String(), w.login.URL) {
		t.Fatalf("%d %s: %s", page.status, page.at, page.body)
	}
	return b.fill(page, user, password)
}

func (b browser) cookies(t *testing.T, base string) map[string]string {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, c := range b.Jar.Cookies(u) {
		out[c.Name] = c.Value
	}
	return out
}

const hello = "hello Alice of " + string(tenant) + " at "

func TestSignIn(t *testing.T) {
	w := newWorld(t)
	b := w.browser(t)
	if got := w.signIn(t, b, "/keys?page=2"); got.status != 200 || got.body != hello+"/keys?page=2" {
		t.Fatalf("%d %s", got.status, got.body)
	}
	kept := b.cookies(t, w.portal.URL)
	for name, value := range kept {
		if strings.HasPrefix(name, "__Host-kluis-begin") || strings.Contains(value, "kluis_refresh") {
			t.Errorf("the browser keeps %s %s", name, value)
		}
	}
	// Another replica knows nothing of it, and serves it all the same; so does this one
	// with fresh tokens after an hour, as long as the person is there.
	w.portal.Config.Handler = w.replica(t)
	for range 4 {
		if got := b.get(w.portal.URL + "/"); got.body != hello+"/" {
			t.Fatalf("%d %s", got.status, got.body)
		}
		w.now = w.now.Add(25 * time.Minute)
	}
	w.now = w.now.Add(31 * time.Minute)
	if got := b.get(w.portal.URL + "/"); !strings.Contains(got.body, "Sign in") {
		t.Errorf("after an idle half hour: %s", got.body)
	}
}

func TestSessionsEnd(t *testing.T) {
	w := newWorld(t)
	b := w.browser(t)
	w.signIn(t, b, "/")
	for n := range 17 {
		if got := b.get(w.portal.URL + "/"); got.body != hello+"/" {
			t.Fatalf("after %d half hours: %s", n, got.body)
		}
		w.now = w.now.Add(29 * time.Minute)
	}
	if got := b.get(w.portal.URL + "/"); !strings.Contains(got.body, "Sign in") {
		t.Errorf("after eight hours: %s", got.body)
	}

	// Who is disabled is out at once: his tokens hold no more, and he gets no others.
	b = w.browser(t)
	w.signIn(t, b, "/")
	if err := w.directory.ResetPassword(t.Context(), w.admin, w.alice.ID, password); err != nil {
		t.Fatal(err)
	}
	w.portal.Config.Handler = w.replica(t)
	if got := b.get(w.portal.URL + "/"); !strings.Contains(got.body, "Sign in") {
		t.Errorf("after a reset: %s", got.body)
	}
}

func TestSignOut(t *testing.T) {
	w := newWorld(t)
	b := w.browser(t)
	w.signIn(t, b, "/")
	stolen := b.cookies(t, w.portal.URL)
	out := b.post(w.portal.URL+portal.SessionPath+"signout", url.Values{})
	if !strings.Contains(out.body, "Sign in") { // by way of the issuer and the portal's first page
		t.Fatalf("%d %s %s", out.status, out.at, out.body)
	}
	for name := range b.cookies(t, w.portal.URL) {
		if strings.HasPrefix(name, "__Host-kluis-session") {
			t.Errorf("the browser keeps %s", name)
		}
	}
	for name, h := range map[string]http.Handler{"this replica": w.portal.Config.Handler, "another replica": w.replica(t)} {
		r := httptest.NewRequest("GET", w.portal.URL+"/", nil)
		for name, value := range stolen {
			r.AddCookie(&http.Cookie{Name: name, Value: value})
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if rec.Code != http.StatusSeeOther || strings.Contains(rec.Body.String(), "hello") {
			t.Errorf("%s takes a copy of the cookie: %d %s", name, rec.Code, rec.Body)
		}
	}
}

func TestCookies(t *testing.T) {
	w := newWorld(t)
	b := w.browser(t)
	rec := httptest.NewRecorder()
	w.portal.Config.Handler.ServeHTTP(rec, httptest.NewRequest("GET", w.portal.URL+"/", nil))
	w.signIn(t, b, "/")
	good := b.cookies(t, w.portal.URL)["__Host-kluis-session"]
	for _, c := range rec.Result().Cookies() {
		if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
			t.Errorf("%+v", c)
		}
	}
	send := func(value string) string {
		r := httptest.NewRequest("GET", w.portal.URL+"/", nil)
		r.AddCookie(&http.Cookie{Name: "__Host-kluis-session", Value: value})
		rec := httptest.NewRecorder()
		w.portal.Config.Handler.ServeHTTP(rec, r)
		return rec.Body.String()
	}
	if got := send(good); got != hello+"/" {
		t.Fatal(got)
	}
	begun := ""
	for _, c := range rec.Result().Cookies() {
		begun = c.Value
	}
	for name, value := range map[string]string{
		"nothing": "", "one character": "A" + good[1:], "the end": good[:len(good)-1] + "A", "shorter": good[:40], "another purpose's": begun, "twice": good + good,
	} {
		if value == good {
			continue
		}
		if got := send(value); strings.Contains(got, "hello") {
			t.Errorf("%s is taken", name)
		}
	}
	w.config.Key = []byte(strings.Repeat("k", 32))
	w.portal.Config.Handler = w.replica(t)
	if got := send(good); strings.Contains(got, "hello") {
		t.Error("a cookie of another installation's is taken")
	}
}

// A callback ends the sign-in that this browser has begun, and no other.
func TestCallback(t *testing.T) {
	w := newWorld(t)
	// stop signs in as far as the callback's address.
	stop := func(b browser) *url.URL {
		b.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
			if r.URL.Path == session.Callback {
				return http.ErrUseLastResponse
			}
			return nil
		}
		var back *url.URL
		record := b.Client.Transport
		b.Client.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			res, err := record.RoundTrip(r)
			if err == nil && strings.Contains(res.Header.Get("Location"), session.Callback) {
				back, _ = url.Parse(res.Header.Get("Location"))
			}
			return res, err
		})
		b.fill(b.get(w.portal.URL+"/x"), user, password)
		if back == nil {
			t.Fatal("nobody was sent back")
		}
		return back
	}
	for name, c := range map[string]struct {
		change func(q url.Values)
		other  bool // in a browser that has not begun it
		want   string
	}{
		"as it is":        {func(url.Values) {}, false, hello},
		"another state":   {func(q url.Values) { q.Set("state", strings.Repeat("A", 43)) }, false, "not begun in this browser"},
		"no state":        {func(q url.Values) { q.Del("state") }, false, "not begun in this browser"},
		"another browser": {func(url.Values) {}, true, "not begun in this browser"},
		"another issuer":  {func(q url.Values) { q.Set("iss", "https://evil.example") }, false, "Another issuer"},
		"a made-up code":  {func(q url.Values) { q.Set("code", "x") }, false, "did not take"},
		"a refusal":       {func(q url.Values) { q.Set("error", "access_denied") }, false, "access_denied"},
	} {
		b := w.browser(t)
		back := stop(b)
		q := back.Query()
		c.change(q)
		back.RawQuery = q.Encode()
		if c.other {
			b = w.browser(t)
		}
		b.CheckRedirect = nil
		got := b.get(back.String())
		if !strings.Contains(got.body, c.want) {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		if c.want == hello { // the same address again
			if again := b.get(back.String()); strings.Contains(again.body, "hello") {
				t.Errorf("a callback is taken twice: %s", again.body)
			}
		}
	}

	// A code that was stolen on its way back gives nothing without the verifier, and the
	// owner nothing any more either.
	b := w.browser(t)
	back := stop(b)
	_, err := w.issuer.Redeem(t.Context(), identity.GrantRequest{
		Tenant: tenant, Client: "portal", Text: back.Query().Get("code"), Redirect: w.portal.URL + session.Callback, Verifier: strings.Repeat("v", 43),
	})
	if err == nil {
		t.Error("a code is redeemed without its verifier")
	}
	b.CheckRedirect = nil
	if got := b.get(back.String()); strings.Contains(got.body, "hello") {
		t.Error("a code that somebody else has shown still signs in")
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A nonce binds the ID token to the browser: a code of another sign-in, with that one's
// verifier, does not do.
func TestNonce(t *testing.T) {
	w := newWorld(t)
	b := w.browser(t)
	b.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if q := r.URL.Query(); q.Has("nonce") { // what somebody in between could do
			q.Set("nonce", "another")
			r.URL.RawQuery = q.Encode()
		}
		return nil
	}
	if got := w.signIn(t, b, "/"); !strings.Contains(got.body, "not meant for this sign-in") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// Requests that were under way together do not end each other's session.
func TestConcurrentRefresh(t *testing.T) {
	w := newWorld(t)
	b := w.browser(t)
	w.signIn(t, b, "/")
	other := w.replica(t)
	old := b.cookies(t, w.portal.URL)
	for name, h := range map[string]http.Handler{"this": w.portal.Config.Handler, "other": other} {
		for range 3 {
			r := httptest.NewRequest("GET", w.portal.URL+"/", nil)
			for name, value := range old {
				r.AddCookie(&http.Cookie{Name: name, Value: value})
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			if d := cmp.Diff(hello+"/", rec.Body.String()); d != "" {
				t.Errorf("%s: %s", name, d)
			}
		}
	}
}

func TestIssuerSilent(t *testing.T) {
	w := newWorld(t)
	b := w.browser(t)
	w.signIn(t, b, "/")
	w.portal.Config.Handler = w.replica(t)
	w.login.Close()
	if got := b.get(w.portal.URL + "/"); got.status != http.StatusBadGateway {
		t.Errorf("an issuer that does not answer: %d %s", got.status, got.body)
	}
	if got := w.browser(t).get(w.portal.URL + "/"); got.status == 200 || strings.Contains(got.body, "hello") {
		t.Errorf("a new sign-in: %d %s", got.status, got.body)
	}
}
