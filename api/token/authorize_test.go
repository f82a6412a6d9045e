package token_test

import (
	"crypto/sha256"
	"encoding/base64"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/identity"
)

const (
	callback = "https://portal.example/signin/callback"
	user     = "alice@example.com"
	password = "correct horse battery staple"
	verifier = "dBjftJeZ4CVP-mBypeKxzVZ1pWaV3LVZmNzTz8bPvnQ0123456789"
)

// A browser keeps cookies, and follows nothing that leads elsewhere.
func (w *world) browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := *w.server.Client()
	c.Jar = jar
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

func (w *world) addUser(t *testing.T) identity.Principal {
	t.Helper()
	by := identity.Caller{Tenant: tenant, Principal: w.admin.ID, Type: identity.ServicePrincipal}
	p, err := w.directory.CreateUser(t.Context(), by, user, "Alice", password)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func challenge() string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func authorization(changes ...string) url.Values {
	v := url.Values{
		"client_id": {"portal"}, "redirect_uri": {callback}, "response_type": {"code"}, "scope": {"openid offline_access " + audience + "/.default"},
		"state": {`s&"<1>`}, "nonce": {"n1"}, "code_challenge": {challenge()}, "code_challenge_method": {"S256"},
	}
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == "" {
			v.Del(changes[i])
		} else {
			v.Set(changes[i], changes[i+1])
		}
	}
	return v
}

type answer struct {
	*http.Response
	body string
}

func send(t *testing.T, c *http.Client, method, address string, form url.Values, headers ...string) answer {
	t.Helper()
	body := io.Reader(http.NoBody)
	if method == http.MethodPost {
		body = strings.NewReader(form.Encode())
	} else if len(form) > 0 {
		address += "?" + form.Encode()
	}
	req, err := http.NewRequestWithContext(t.Context(), method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res, string(b)}
}

var inputs = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// fill returns the form of a page, filled in.
func (a answer) fill(name, password string) url.Values {
	v := url.Values{"username": {name}, "password": {password}}
	for _, m := range inputs.FindAllStringSubmatch(a.body, -1) {
		v.Set(m[1], html.UnescapeString(m[2]))
	}
	return v
}

func (a answer) returns(t *testing.T) url.Values {
	t.Helper()
	location := a.Header.Get("Location")
	if a.StatusCode != http.StatusSeeOther || !strings.HasPrefix(location, callback+"?") {
		t.Fatalf("%d to %q: %s", a.StatusCode, location, a.body)
	}
	u, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

func TestAuthorizationCode(t *testing.T) {
	w := newWorld(t)
	p := w.addUser(t)
	for _, path := range []string{"/" + string(tenant) + "/oauth2/v2.0/", "/adfs/oauth2/"} {
		c := w.browser(t)
		form := send(t, c, "GET", w.server.URL+path+"authorize", authorization())
		if form.StatusCode != 200 {
			t.Fatalf("%d %s", form.StatusCode, form.body)
		}
		wrong := send(t, c, "POST", w.server.URL+path+"authorize", form.fill(user, "wrong"))
		if wrong.StatusCode != 401 || !strings.Contains(wrong.body, `role="alert"`) || strings.Contains(wrong.body, `value="wrong"`) || wrong.Header.Get("Location") != "" {
			t.Errorf("a wrong password: %d %s", wrong.StatusCode, wrong.body)
		}
		got := send(t, c, "POST", w.server.URL+path+"authorize", wrong.fill(user, password)).returns(t)
		if got.Get("state") != `s&"<1>` || got.Get("code") == "" || got.Get("iss") != w.issuer.Name(tenant) || got.Has("error") {
			t.Fatalf("%s sends back %v", path, got)
		}
		exchange := url.Values{"grant_type": {"authorization_code"}, "client_id": {"portal"}, "code": {got.Get("code")}, "redirect_uri": {callback}, "code_verifier": {verifier}}
		req, err := http.NewRequest("POST", w.server.URL+path+"token", strings.NewReader(exchange.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		status, tokens := do(t, w.server.Client(), req)
		if status != 200 || tokens["id_token"] == nil || tokens["refresh_token"] == nil {
			t.Fatalf("the token endpoint answers %d %v", status, tokens)
		}
		caller, err := w.verifier.Verify(t.Context(), tokens["access_token"].(string), audience)
		if err != nil || caller.Principal != p.ID || caller.Type != identity.User {
			t.Errorf("the caller is %+v, %v", caller, err)
		}
		again := send(t, w.server.Client(), "POST", w.server.URL+path+"token", url.Values{
			"grant_type": {"refresh_token"}, "client_id": {"portal"}, "refresh_token": {tokens["refresh_token"].(string)}, "scope": {audience + "/.default"},
		})
		if again.StatusCode != 200 || !strings.Contains(again.body, `"refresh_token"`) {
			t.Errorf("a refresh: %d %s", again.StatusCode, again.body)
		}
		out := send(t, c, "GET", w.server.URL+path+"logout", url.Values{
			"id_token_hint": {tokens["id_token"].(string)}, "post_logout_redirect_uri": {"https://portal.example/"}, "state": {"x"},
		})
		if out.StatusCode != 303 || out.Header.Get("Location") != "https://portal.example/?state=x" {
			t.Errorf("signed out: %d to %q", out.StatusCode, out.Header.Get("Location"))
		}
		ended := send(t, w.server.Client(), "POST", w.server.URL+path+"token", url.Values{
			"grant_type": {"refresh_token"}, "client_id": {"portal"}, "refresh_token": {tokens["refresh_token"].(string)},
		})
		if ended.StatusCode != 400 || !strings.Contains(ended.body, "invalid_grant") {
			t.Errorf("a refresh after signing out: %d %s", ended.StatusCode, ended.body)
		}
	}
}

// Nobody is sent to an address that is not the client's, and a client is told what it
// asks for wrongly.
func TestAuthorizationRefuses(t *testing.T) {
	w := newWorld(t)
	address := w.server.URL + "/" + string(tenant) + "/oauth2/v2.0/authorize"
	for name, v := range map[string]url.Values{
		"an unknown client": authorization("client_id", "other"), "no client": authorization("client_id", ""),
		"another address": authorization("redirect_uri", "https://evil.example/"), "no address": authorization("redirect_uri", ""),
		"a longer address": authorization("redirect_uri", callback+"/x"), "twice": {"client_id": {"portal", "portal"}, "redirect_uri": {callback}},
	} {
		got := send(t, w.browser(t), "GET", address, v)
		if got.StatusCode != 400 || got.Header.Get("Location") != "" || !strings.Contains(got.body, "cannot be signed in") {
			t.Errorf("%s: %d to %q: %s", name, got.StatusCode, got.Header.Get("Location"), got.body)
		}
	}
	for name, c := range map[string]struct {
		form url.Values
		want string
	}{
		"the implicit flow": {authorization("response_type", "token"), "unsupported_response_type"},
		"another mode":      {authorization("response_mode", "fragment"), "invalid_request"},
		"no challenge":      {authorization("code_challenge", ""), "invalid_request"},
		"a plain challenge": {authorization("code_challenge_method", "plain"), "invalid_request"},
		"a strange scope":   {authorization("scope", "openid https://evil.example/.default"), "invalid_scope"},
		"silently":          {authorization("prompt", "none"), "login_required"},
	} {
		if got := send(t, w.browser(t), "GET", address, c.form).returns(t); got.Get("error") != c.want || got.Get("state") == "" || got.Has("code") {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := send(t, w.browser(t), "GET", w.server.URL+"/"+stranger+"/oauth2/v2.0/authorize", authorization()); got.StatusCode != 400 || got.Header.Get("Location") != "" {
		t.Errorf("an unknown tenant: %d", got.StatusCode)
	}
}

// A form is taken only from the browser to which it was shown, and not from other sites.
func TestFormForgery(t *testing.T) {
	w := newWorld(t)
	w.addUser(t)
	address := w.server.URL + "/" + string(tenant) + "/oauth2/v2.0/authorize"
	for name, c := range map[string]struct {
		cookies bool
		change  func(url.Values)
		header  []string
	}{
		"no cookie":        {false, func(url.Values) {}, nil},
		"no token":         {true, func(v url.Values) { v.Del("form") }, nil},
		"another token":    {true, func(v url.Values) { v.Set("form", strings.Repeat("A", 43)) }, nil},
		"from another one": {true, func(url.Values) {}, []string{"Sec-Fetch-Site", "cross-site"}},
		"another origin":   {true, func(url.Values) {}, []string{"Origin", "https://evil.example"}},
	} {
		b := w.browser(t)
		form := send(t, b, "GET", address, authorization()).fill(user, password)
		c.change(form)
		if !c.cookies {
			b.Jar = nil
		}
		got := send(t, b, "POST", address, form, c.header...)
		if got.StatusCode != 403 || got.Header.Get("Location") != "" {
			t.Errorf("%s: %d to %q", name, got.StatusCode, got.Header.Get("Location"))
		}
	}
	// What a page says is the person's to read, and runs nothing.
	b := w.browser(t)
	page := send(t, b, "GET", address, authorization("login_hint", `"><script>alert(1)</script>`))
	if strings.Contains(page.body, "<script") || strings.Contains(page.body, "style=") {
		t.Errorf("the page runs something: %s", page.body)
	}
	policy := page.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") ||
		!strings.Contains(policy, "form-action 'self' https://portal.example;") || page.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", page.Header)
	}
	for _, c := range page.Cookies() {
		if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || !strings.HasPrefix(c.Name, "__Host-") {
			t.Errorf("the cookie %v", c)
		}
	}
	css := send(t, b, "GET", w.server.URL+"/adfs/signin/style.css", nil)
	if css.StatusCode != 200 || !strings.HasPrefix(css.Header.Get("Content-Type"), "text/css") {
		t.Errorf("the style sheet: %d %v", css.StatusCode, css.Header)
	}
}

func TestSignedOutGoesNowhereElse(t *testing.T) {
	w := newWorld(t)
	got := send(t, w.browser(t), "GET", w.server.URL+"/adfs/oauth2/logout", url.Values{"post_logout_redirect_uri": {"https://evil.example/"}})
	if got.StatusCode != 200 || got.Header.Get("Location") != "" || !strings.Contains(got.body, "You are signed out") {
		t.Errorf("%d to %q", got.StatusCode, got.Header.Get("Location"))
	}
}
