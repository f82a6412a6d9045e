package portal

import (
	"net/http"
	"strings"
)

// protect answers a request with what keeps a browser safe: it sets the headers, and
// refuses what another site has had the browser send.
//
// A request that changes something has to come from a page of the portal's own: by
// Sec-Fetch-Site, which browsers set and scripts cannot, or else by its Origin
// ([http.CrossOriginProtection]). So forms need no token.
func (p *Portal) protect(w http.ResponseWriter, r *http.Request, next http.Handler) {
	h := w.Header()
	h.Set("Content-Security-Policy", p.policy())
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY") // for browsers that do not know frame-ancestors
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()")
	if !strings.Contains(r.Host, "localhost") { // where other servers of the developer's live too
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &Call{W: w, R: r, portal: p}
		c.fail(&Problem{Status: http.StatusForbidden, Title: "This did not come from the portal",
			Detail: "Another site has had your browser send it. Nothing was done.", Mend: "Do it on the portal's own page."})
	}))
	guard.Handler(next).ServeHTTP(w, r)
}

func (p *Portal) policy() string {
	forms := strings.Join(append([]string{"'self'"}, p.config.SignInHosts...), " ")
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"form-action " + forms + "; base-uri 'none'; frame-ancestors 'none'"
}

// local returns a path on this host that a form has named, "/" for anything else: who
// follows it must not be led elsewhere.
func local(path string) string {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n") {
		return "/"
	}
	return path
}

const themeCookie = "kluis-theme"

// theme keeps which colours the reader wants: his system's, unless he says otherwise.
func (p *Portal) theme(w http.ResponseWriter, r *http.Request) {
	c := &http.Cookie{Name: themeCookie, Value: r.PostFormValue("theme"), Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: 365 * 24 * 3600}
	if c.Value != "light" && c.Value != "dark" {
		c.Value, c.MaxAge = "", -1
	}
	http.SetCookie(w, c)
	http.Redirect(w, r, local(r.PostFormValue("return")), http.StatusSeeOther)
}

func themeOf(r *http.Request) string {
	if c, err := r.Cookie(themeCookie); err == nil && (c.Value == "light" || c.Value == "dark") {
		return c.Value
	}
	return ""
}
