package token

import (
	"embed"
	"html/template"
	"net/http"

	"github.com/kluis-io/kluis/api"
)

//go:embed page
var pageFiles embed.FS

var (
	pages = template.Must(template.ParseFS(pageFiles, "page/*.html"))
	style = must(pageFiles.ReadFile("page/style.css"))
)

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err) // it is embedded
	}
	return b
}

// A page is what the issuer shows a person.
type page struct {
	Style   string // address of the style sheet
	Title   string
	Problem string // what went wrong

	// Of the form to sign in.
	Application string
	Action      string
	Hidden      []field
	UserName    string

	// Of a message.
	Text    string
	Request string
}

type field struct{ Name, Value string }

// show writes a page that loads nothing but its style sheet, runs nothing, and cannot
// be framed. After the form, the browser may go on to the client's address alone.
func show(w http.ResponseWriter, status int, name string, p page, goesTo string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'"+goesTo+"; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer") // the address holds state and nonce
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	w.WriteHeader(status)
	pages.ExecuteTemplate(w, name, p)
}

// message shows a person why there is nothing to go on to.
func (a *authority) message(w http.ResponseWriter, r *http.Request, segment string, err error) {
	s := shapeOf(err)
	show(w, s.status, "message", page{
		Style: stylePath(segment), Title: "You cannot be signed in", Problem: s.code,
		Text: api.Failing(w, r, "token", err, s.status), Request: api.RequestID(r.Context()),
	}, "")
}

func stylePath(segment string) string { return "/" + segment + "/signin/style.css" }

// writeStyle answers with the style sheet, which anybody may keep.
func writeStyle(w http.ResponseWriter) {
	w.Header().Del("Pragma")
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(style)
}
