package portaltest

import (
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// A Visitor is somebody at a portal without a browser: he follows links and sends forms,
// and looks at what comes as text.
type Visitor struct {
	testing.TB
	client *http.Client
	base   string
}

// A Reply is what a visitor was answered in the end, after all redirects.
type Reply struct {
	Status int
	URL    *url.URL
	Header http.Header
	Body   string
}

// NewVisitor comes to a portal. The transport trusts its certificate.
func NewVisitor(t testing.TB, via http.RoundTripper, base string) *Visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &Visitor{TB: t, client: &http.Client{Transport: via, Jar: jar}, base: strings.TrimSuffix(base, "/")}
}

// Be makes a principal the one who has signed in, at a portal that [Open] serves.
func (v *Visitor) Be(name string) {
	v.Helper()
	u, err := url.Parse(v.base)
	if err != nil {
		v.Fatal(err)
	}
	v.client.Jar.SetCookies(u, []*http.Cookie{{Name: As, Value: name, Path: "/", Secure: true}})
}

// Send sends a form, which an answer may not come to.
func (v *Visitor) Send(method, path string, form url.Values) (r Reply, err error) {
	v.Helper()
	address := path
	if strings.HasPrefix(path, "/") {
		address = v.base + path
	}
	req, err := http.NewRequestWithContext(v.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		v.Fatal(err)
	}
	if method != http.MethodGet {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return Reply{resp.StatusCode, resp.Request.URL, resp.Header, string(body)}, err
}

// Get opens a page.
func (v *Visitor) Get(path string) Reply {
	v.Helper()
	return v.must(v.Send(http.MethodGet, path, nil))
}

// Post sends a form.
func (v *Visitor) Post(path string, form url.Values) Reply {
	v.Helper()
	return v.must(v.Send(http.MethodPost, path, form))
}

func (v *Visitor) must(r Reply, err error) Reply {
	v.Helper()
	if err != nil {
		v.Fatal(err)
	}
	return r
}

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// SignIn signs a person in on the embedded issuer's own page, and returns what that leads
// to: the portal's first page if the password is right.
func (v *Visitor) SignIn(name, password string) Reply {
	v.Helper()
	at := v.Get("/")
	form := url.Values{"username": {name}, "password": {password}}
	for _, field := range hidden.FindAllStringSubmatch(at.Body, -1) {
		form.Set(html.UnescapeString(field[1]), html.UnescapeString(field[2]))
	}
	if !strings.Contains(at.Body, `name="password"`) {
		v.Fatalf("%s asks for no password:\n%s", at.URL, at.Body)
	}
	at.URL.RawQuery = ""
	return v.Post(at.URL.String(), form)
}
