package portal_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// ann is somebody who has signed in if the request has the cookie "in".
type ann struct{}

func (ann) User() portal.User      { return portal.User{Name: "Ann", ID: "a", Tenant: "t"} }
func (ann) Refused(string, string) {}

func (ann) Token(context.Context, string) (string, error) { return "token", nil }

type sessions struct{}

func (sessions) Session(_ http.ResponseWriter, r *http.Request) portal.Session {
	if _, err := r.Cookie("in"); err != nil {
		return nil
	}
	return ann{}
}

func (sessions) Begin(w http.ResponseWriter, r *http.Request, to string) {
	http.Redirect(w, r, "/session/signin?"+url.Values{"return": {to}}.Encode(), http.StatusSeeOther)
}

func (sessions) ServeHTTP(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "sign in") }

// world is a portal with one section.
func world(t *testing.T, parties client.Parties, routes map[string]portal.Handler) *httptest.Server {
	t.Helper()
	p, err := portal.New(portal.Config{Parties: parties, Sessions: sessions{}, Version: "test"}, portal.Section{
		Name: "things", Title: "Things", Icon: "grid", Routes: routes,
		Templates: fstest.MapFS{"list.html": {Data: []byte(`{{define "content"}}<p>{{.}}</p>{{end}}`)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewTLSServer(p)
	t.Cleanup(s.Close)
	s.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s
}

func ask(t *testing.T, s *httptest.Server, method, path string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(&http.Cookie{Name: "in", Value: "1"})
	if change != nil {
		change(r)
	}
	resp, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func things(text string) map[string]portal.Handler {
	return map[string]portal.Handler{
		"GET /things": func(c *portal.Call) error {
			return c.Render(portal.View{Title: "Things", Template: "things/list", Data: text})
		},
		"POST /things": func(c *portal.Call) error { return c.Done("/things", "Made.") },
	}
}

// TestPageIsSafe checks what keeps a page from being turned against its reader.
func TestPageIsSafe(t *testing.T) {
	s := world(t, client.Parties{}, things("<script>alert(1)</script>"))
	resp, body := ask(t, s, "GET", "/things", nil)
	if resp.StatusCode != 200 || !strings.Contains(body, "&lt;script&gt;alert") {
		t.Fatalf("%s %s", resp.Status, body)
	}
	policy := resp.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy lacks %s: %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("the policy is loose: %s", policy)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store", "X-Frame-Options": "DENY"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	for _, bad := range []string{"<style", " style=", " onclick=", "javascript:", "http://", "https://"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
}

// TestOtherSitesCannotAct checks that a form of another site is refused, and one of
// the portal's own is not.
func TestOtherSitesCannotAct(t *testing.T) {
	s := world(t, client.Parties{}, things(""))
	for name, c := range map[string]struct {
		change func(*http.Request)
		want   int
	}{
		"own page":            {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }, 303},
		"typed by the reader": {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "none") }, 303},
		"other site":          {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"other host of ours":  {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, 403},
		"old browser, other":  {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
		"old browser, own":    {func(r *http.Request) { r.Header.Set("Origin", s.URL) }, 303},
	} {
		if resp, body := ask(t, s, "POST", "/things", c.change); resp.StatusCode != c.want {
			t.Errorf("%s: %s %s", name, resp.Status, body)
		}
	}
}

// TestNobodyReadsUnseen checks that who has not signed in is sent to do so, and back.
func TestNobodyReadsUnseen(t *testing.T) {
	s := world(t, client.Parties{}, things("secret"))
	out := func(r *http.Request) { r.Header.Del("Cookie") }
	resp, body := ask(t, s, "GET", "/things?a=1", out)
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "/session/signin?return=%2Fthings%3Fa%3D1" || strings.Contains(body, "secret") {
		t.Errorf("%s %s %s", resp.Status, resp.Header.Get("Location"), body)
	}
	resp, _ = ask(t, s, "GET", "/things", func(r *http.Request) { out(r); r.Header.Set("HX-Request", "true") })
	if resp.StatusCode != 204 || resp.Header.Get("HX-Refresh") != "true" {
		t.Errorf("a part of a page: %s", resp.Status)
	}
	if resp, _ := ask(t, s, "GET", "/nothing", nil); resp.StatusCode != 404 {
		t.Errorf("no page: %s", resp.Status)
	}
}

// TestPartiesFailApart checks that a party that is absent, one that is silent and one
// that refuses are three pages.
func TestPartiesFailApart(t *testing.T) {
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("x-ms-request-id", "r-1")
		w.WriteHeader(403)
		io.WriteString(w, `{"errorCode":"InsufficientPrivileges","message":"This needs the right X. Ask."}`)
	}))
	defer refuses.Close()
	for name, c := range map[string]struct {
		address string
		status  int
		want    []string
	}{
		"absent":  {"", 404, []string{"Not connected to the platform"}},
		"silent":  {"http://127.0.0.1:1", 502, []string{"did not answer", "Nothing was decided"}},
		"refuses": {refuses.URL, 403, []string{"refused", "Ask.", "InsufficientPrivileges", "r-1"}},
	} {
		s := world(t, client.Parties{Fabric: client.Party{Name: "platform", Address: c.address}}, map[string]portal.Handler{
			"GET /things": func(c *portal.Call) error { _, err := c.Parties.Settings(c.Context()); return err },
		})
		resp, body := ask(t, s, "GET", "/things", nil)
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s", name, resp.Status)
		}
		for _, want := range c.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s: the page lacks %q:\n%s", name, want, body)
			}
		}
	}
}

// TestTheme checks that the reader's colours are kept, and that the way back leads
// nowhere else.
func TestTheme(t *testing.T) {
	s := world(t, client.Parties{}, things(""))
	for path, want := range map[string]string{"/things?a=b": "/things?a=b", "//evil.example": "/", "https://evil.example": "/", "/\\evil.example": "/"} {
		resp, _ := ask(t, s, "POST", "/theme", func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(url.Values{"theme": {"dark"}, "return": {path}}.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		})
		if got := resp.Header.Get("Location"); got != want || len(resp.Cookies()) != 1 || resp.Cookies()[0].Value != "dark" {
			t.Errorf("%s: %s, %v", path, got, resp.Cookies())
		}
	}
	_, body := ask(t, s, "GET", "/things", func(r *http.Request) { r.AddCookie(&http.Cookie{Name: "kluis-theme", Value: "dark"}) })
	if !strings.Contains(body, `data-theme="dark"`) {
		t.Error("the page is not dark")
	}
}

// TestAssets checks that what a page names is there, for good and compressed.
func TestAssets(t *testing.T) {
	s := world(t, client.Parties{}, things(""))
	_, body := ask(t, s, "GET", "/things", nil)
	n := 0
	for _, part := range strings.Split(body, `"`) {
		if !strings.HasPrefix(part, "/assets/") {
			continue
		}
		n++
		resp, _ := ask(t, s, "GET", part, func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip") })
		if resp.StatusCode != 200 || !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") || resp.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: %s %v", part, resp.Status, resp.Header)
		}
	}
	if n != 5 {
		t.Errorf("the page names %d assets", n)
	}
}

// TestStream checks what an open page is told: only what has changed, and nothing more
// once the portal closes.
func TestStream(t *testing.T) {
	told := make(chan struct{})
	p, err := portal.New(portal.Config{Sessions: sessions{}}, portal.Section{
		Name:      "things",
		Templates: fstest.MapFS{"list.html": {Data: []byte("{{define `content`}}{{end}}{{define `part`}}<p>\n{{.}}</p>{{end}}")}},
		Routes: map[string]portal.Handler{"GET /things": func(c *portal.Call) error {
			return c.Stream(func(ctx context.Context, s *portal.Stream) error {
				for _, text := range []string{"one", "one", "two<"} {
					if err := s.Fragment("things/list", "part", text); err != nil {
						return err
					}
				}
				close(told)
				<-ctx.Done()
				return ctx.Err()
			})
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewTLSServer(p)
	defer s.Close()
	go func() { <-told; p.Close(); p.Close() }()
	resp, body := ask(t, s, "GET", "/things", nil)
	if want := "data: <p>\ndata: one</p>\n\ndata: <p>\ndata: two&lt;</p>\n\n"; body != want {
		t.Errorf("%q", body)
	}
	if resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", resp.Header)
	}
}
