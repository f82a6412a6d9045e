package portal

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/kluis-io/kluis/portal/client"
)

// A Call is one request of somebody who has signed in.
type Call struct {
	W http.ResponseWriter
	R *http.Request

	User    User
	Parties *client.Clients // that act as the user

	portal *Portal
	ended  atomic.Bool // the session, while the request was served
}

// Context is the request's.
func (c *Call) Context() context.Context { return c.R.Context() }

// Partial reports whether only a part of the page is wanted: htmx asks for it.
func (c *Call) Partial() bool { return c.R.Header.Get("HX-Request") == "true" }

// A Crumb is a step of the way from the section to the page. The last has no path.
type Crumb struct{ Title, Path string }

// A View is a page to render.
type View struct {
	Title    string // of the page, and of its heading
	Subtitle string
	Crumbs   []Crumb // between the section and the page
	Template string  // SECTION/NAME
	Data     any     // what its template is given
	Status   int     // 200 if 0
}

// Render answers with a page. If the session has ended meanwhile it fails with [ErrSignIn]:
// a page that lacks what the parties would have told is worth less than signing in again.
func (c *Call) Render(v View) error {
	if c.ended.Load() {
		return ErrSignIn
	}
	t, ok := c.portal.templates[v.Template]
	if !ok {
		return fmt.Errorf("there is no template %q", v.Template)
	}
	section, _, _ := strings.Cut(v.Template, "/")
	page := c.page(v, section)
	var body bytes.Buffer
	if err := t.ExecuteTemplate(&body, "layout", page); err != nil {
		return err
	}
	if v.Status == 0 {
		v.Status = http.StatusOK
	}
	c.write(v.Status, body.Bytes())
	return nil
}

// Fragment answers with a part of a page, which its template defines by a name.
func (c *Call) Fragment(template, name string, data any) error {
	text, err := c.portal.fragment(template, name, data)
	if err != nil {
		return err
	}
	c.write(http.StatusOK, text)
	return nil
}

func (p *Portal) fragment(template, name string, data any) ([]byte, error) {
	t, ok := p.templates[template]
	if !ok {
		return nil, fmt.Errorf("there is no template %q", template)
	}
	var body bytes.Buffer
	err := t.ExecuteTemplate(&body, name, data)
	return body.Bytes(), err
}

// Redirect sends the browser on to a local path, after something was done.
func (c *Call) Redirect(path string) error {
	if c.Partial() {
		c.W.Header().Set("HX-Redirect", local(path))
		c.W.WriteHeader(http.StatusNoContent)
		return nil
	}
	http.Redirect(c.W, c.R, local(path), http.StatusSeeOther)
	return nil
}

const noticeCookie = "kluis-notice"

// Done says on the next page that something was done, and sends the browser there.
func (c *Call) Done(path, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	http.SetCookie(c.W, &http.Cookie{
		Name: noticeCookie, Value: encodeNotice(text), Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: 60,
	})
	return c.Redirect(path)
}

// notice takes what the request before wanted said.
func (c *Call) notice() string {
	k, err := c.R.Cookie(noticeCookie)
	if err != nil {
		return ""
	}
	http.SetCookie(c.W, &http.Cookie{Name: noticeCookie, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: -1})
	return decodeNotice(k.Value)
}

// write answers with HTML, compressed. Nothing secret stands on a page beside what a
// stranger could choose, and so its compressed length tells nothing.
func (c *Call) write(status int, body []byte) {
	h := c.W.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Add("Vary", "Accept-Encoding")
	h.Add("Vary", "HX-Request")
	if !acceptsGzip(c.R) || len(body) < 1<<10 {
		c.W.WriteHeader(status)
		c.W.Write(body)
		return
	}
	h.Set("Content-Encoding", "gzip")
	c.W.WriteHeader(status)
	z := gzip.NewWriter(c.W)
	z.Write(body)
	z.Close()
}
