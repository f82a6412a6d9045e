package token

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// formCookie binds a form to the browser that it was shown in. By its prefix nobody
// but this very host can have set it (RFC 6265bis §4.1.3.2).
const formCookie = "__Host-kluis-signin"

// deviceCookie says that somebody has signed in in this browser before: nobody else's
// failures keep him out of it. It lives for three months from the last time.
const (
	deviceCookie = "__Host-kluis-device"
	deviceLife   = 90 * 24 * 60 * 60 // seconds
)

// The fields of the form.
const (
	formToken    = "form"
	formUser     = "username"
	formPassword = "password"
)

const formTokenSize = 32 // bytes

// carried are the parameters of a request to sign in that its form repeats.
var carried = []string{"client_id", "redirect_uri", "response_type", "response_mode", "scope", "state", "nonce", "code_challenge", "code_challenge_method", "login_hint"}

// authorize is the authorization endpoint (RFC 6749 §3.1): it shows the form, and
// takes it. Nobody stays signed in with the issuer itself, so that each request asks
// for the password.
func (a *authority) authorize(w http.ResponseWriter, r *http.Request, segment string, tenant identity.TenantID) {
	if err := a.issuer.HasTenant(r.Context(), tenant); err != nil {
		a.message(w, r, segment, err)
		return
	}
	form, err := parameters(w, r)
	if err != nil {
		a.message(w, r, segment, err)
		return
	}
	client, err := a.issuer.Registered(form.Get("client_id"), form.Get("redirect_uri"))
	if err != nil {
		a.message(w, r, segment, err)
		return
	}
	answer := func(values url.Values) {
		values.Set("iss", a.issuer.Name(tenant)) // RFC 9207
		if state := form.Get("state"); state != "" {
			values.Set("state", state)
		}
		w.Header().Set("Referrer-Policy", "no-referrer")
		http.Redirect(w, r, withQuery(form.Get("redirect_uri"), values), http.StatusSeeOther)
	}
	req := identity.SignInRequest{
		Tenant: tenant, Client: client.ID, Redirect: form.Get("redirect_uri"), Scope: form.Get("scope"),
		Challenge: form.Get("code_challenge"), Method: form.Get("code_challenge_method"), Nonce: form.Get("nonce"),
		From: api.Describe(r, identity.Caller{}),
	}
	if code, text := a.unanswerable(form, req); code != "" {
		answer(url.Values{"error": {code}, "error_description": {text}})
		return
	}
	p := page{
		Style: stylePath(segment), Title: "Sign in", Application: client.Name, Action: r.URL.Path,
		UserName: api.Clip(form.Get("login_hint"), 130),
	}
	goesTo := " " + originOf(req.Redirect)
	if r.Method != http.MethodPost || !form.Has(formPassword) {
		a.form(w, r, http.StatusOK, p, form, goesTo)
		return
	}
	if !sameBrowser(r, form) {
		p.Problem = "The form was open for too long, or your browser keeps no cookies. Try again."
		a.form(w, r, http.StatusForbidden, p, form, goesTo)
		return
	}
	if c, err := r.Cookie(deviceCookie); err == nil {
		req.Device = c.Value
	}
	code, err := a.issuer.SignIn(r.Context(), req, form.Get(formUser), form.Get(formPassword))
	if err != nil {
		status := shapeOf(err).status
		p.UserName = api.Clip(form.Get(formUser), 130)
		p.Problem = api.Failing(w, r, "token", err, status)
		a.form(w, r, status, p, form, goesTo)
		return
	}
	http.SetCookie(w, cookie(formCookie, "", -1))
	http.SetCookie(w, cookie(deviceCookie, a.issuer.Device(tenant, form.Get(formUser)), deviceLife))
	answer(url.Values{"code": {code}})
}

// parameters are a request's, of its address or its form, each at most once.
func parameters(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	form := r.URL.Query()
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := r.ParseForm(); err != nil {
			return nil, fault.Wrap(fault.InvalidArgument, err, "The request body is not a form of at most 64 KiB.")
		}
		form = r.PostForm
	}
	for _, values := range form {
		if len(values) > 1 { // RFC 6749 §3.1
			return nil, fault.New(fault.InvalidArgument, "A parameter appears more than once.")
		}
	}
	return form, nil
}

// unanswerable says why a client that is registered does not get what it asks for, in
// OAuth's words (RFC 6749 §4.1.2.1), "" if it may.
func (a *authority) unanswerable(form url.Values, req identity.SignInRequest) (code, text string) {
	switch mode := form.Get("response_mode"); {
	case form.Get("response_type") != "code":
		return "unsupported_response_type", "This issuer offers the response type code."
	case mode != "" && mode != "query":
		return "invalid_request", "This issuer offers the response mode query."
	case form.Get("prompt") == "none":
		return "login_required", "Nobody stays signed in with this issuer."
	}
	if err := a.issuer.CheckSignIn(req); err != nil {
		return shapeOf(err).code, fault.As(err).Detail
	}
	return "", ""
}

// form shows the form to sign in, with a token that its cookie repeats. Forms in
// several tabs share it.
func (a *authority) form(w http.ResponseWriter, r *http.Request, status int, p page, form url.Values, goesTo string) {
	token := ""
	if c, err := r.Cookie(formCookie); err == nil && len(c.Value) == base64.RawURLEncoding.EncodedLen(formTokenSize) {
		token = c.Value
	} else {
		b := make([]byte, formTokenSize)
		rand.Read(b)
		token = base64.RawURLEncoding.EncodeToString(b)
	}
	http.SetCookie(w, cookie(formCookie, token, 15*60))
	p.Hidden = append(p.Hidden, field{formToken, token})
	for _, name := range carried {
		if form.Has(name) {
			p.Hidden = append(p.Hidden, field{name, form.Get(name)})
		}
	}
	show(w, status, "signin", p, goesTo)
}

func cookie(name, value string, age int) *http.Cookie {
	return &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: age, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// crossOrigin refuses what browsers say that another site has sent.
var crossOrigin = http.NewCrossOriginProtection()

// sameBrowser reports whether the form was shown in the browser that sends it, and by
// us.
func sameBrowser(r *http.Request, form url.Values) bool {
	c, err := r.Cookie(formCookie)
	return err == nil && c.Value != "" && crossOrigin.Check(r) == nil &&
		subtle.ConstantTimeCompare([]byte(c.Value), []byte(form.Get(formToken))) == 1
}

// logout ends the sign-in that the ID token in id_token_hint tells of, and sends the
// person where its client has registered
// (https://openid.net/specs/openid-connect-rpinitiated-1_0.html).
func (a *authority) logout(w http.ResponseWriter, r *http.Request, segment string, tenant identity.TenantID) {
	form, err := parameters(w, r)
	if err != nil {
		a.message(w, r, segment, err)
		return
	}
	var client identity.Client
	if hint := form.Get("id_token_hint"); hint != "" {
		if client, err = a.issuer.SignOut(r.Context(), tenant, hint, api.Describe(r, identity.Caller{})); err != nil {
			a.message(w, r, segment, err)
			return
		}
	}
	for _, address := range client.SignedOut {
		if address == form.Get("post_logout_redirect_uri") {
			values := url.Values{}
			if state := form.Get("state"); state != "" {
				values.Set("state", state)
			}
			http.Redirect(w, r, withQuery(address, values), http.StatusSeeOther)
			return
		}
	}
	show(w, http.StatusOK, "message", page{
		Style: stylePath(segment), Title: "You are signed out", Text: "This issuer remembers no sign-in of yours. You can close the window.",
	}, "")
}

// withQuery adds parameters to an address that is registered.
func withQuery(address string, values url.Values) string {
	if len(values) == 0 {
		return address
	}
	if strings.Contains(address, "?") {
		return address + "&" + values.Encode()
	}
	return address + "?" + values.Encode()
}

// originOf returns the origin of an address that is registered.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
}
