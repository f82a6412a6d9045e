package session

import (
	"crypto/subtle"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/kluis-io/kluis/portal"
)

// A begun is a sign-in on its way, as its cookie holds it.
type begun struct {
	State    string    `json:"s"`
	Nonce    string    `json:"n"`
	Verifier string    `json:"v"`
	Return   string    `json:"r"` // the local path where it ends
	At       time.Time `json:"a"`
}

// beginLife is how long signing in may take; at most maxBegun can be on their way in one
// browser.
const (
	beginLife = 10 * time.Minute
	maxBegun  = 5
)

// name is that of the cookie: sign-ins in several tabs do not meet.
func (b begun) name() string { return beginName(b.State) }

func beginName(state string) string { return beginCookie + state[:min(len(state), 12)] }

// ServeHTTP implements [portal.Sessions].
func (s *Sessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case r.URL.Path == Callback && r.Method == http.MethodGet:
		s.callback(w, r)
	case r.URL.Path == portal.SessionPath+"signout" && r.Method == http.MethodPost:
		s.signOut(w, r)
	default:
		portal.Fail(w, r, &portal.Problem{Status: http.StatusNotFound, Title: "There is no such page"})
	}
}

// Begin implements [portal.Sessions].
func (s *Sessions) Begin(w http.ResponseWriter, r *http.Request, returnTo string) {
	p, err := s.issuer(r.Context())
	if err != nil {
		portal.Fail(w, r, silent(err))
		return
	}
	var others []string
	for _, c := range r.Cookies() {
		if strings.HasPrefix(c.Name, beginCookie) {
			others = append(others, c.Name)
		}
	}
	if len(others) >= maxBegun {
		for _, name := range others {
			http.SetCookie(w, cookie(name, "", -1))
		}
	}
	b := begun{State: random(), Nonce: random(), Verifier: oauth2.GenerateVerifier(), Return: returnTo, At: s.config.Now()}
	http.SetCookie(w, cookie(b.name(), s.seal.seal(beginCookie, b), int(beginLife.Seconds())))
	http.Redirect(w, r, p.oauth.AuthCodeURL(b.State, oidc.Nonce(b.Nonce), oauth2.S256ChallengeOption(b.Verifier)), http.StatusSeeOther)
}

// silent is what a person is told of an issuer that does not answer.
func silent(err error) error {
	return &portal.Problem{Status: http.StatusBadGateway, Title: "Nobody can sign in at the moment",
		Detail: "The issuer of your tokens did not answer, or not as an issuer does.", Mend: "Try again in a moment.", Cause: err}
}

// callback ends a sign-in: the issuer has sent the browser back with a code.
func (s *Sessions) callback(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	b, ok := s.begun(w, r, q.Get("state"))
	if !ok {
		portal.Fail(w, r, &portal.Problem{Status: http.StatusBadRequest, Title: "You were not signed in",
			Detail: "This sign-in was not begun in this browser, or too long ago.", Mend: "Open the portal's first page to begin again."})
		return
	}
	p, err := s.issuer(r.Context())
	if err != nil {
		portal.Fail(w, r, silent(err))
		return
	}
	if iss := q.Get("iss"); iss != "" && iss != s.config.Issuer { // RFC 9207
		portal.Fail(w, r, refused("Another issuer than the portal's has answered."))
		return
	}
	if code := q.Get("error"); code != "" {
		portal.Fail(w, r, refused("The issuer says: "+clip(code)+"."))
		return
	}
	ctx := oidc.ClientContext(r.Context(), s.config.HTTP)
	got, err := p.oauth.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(b.Verifier))
	if err != nil {
		problem := refused("The issuer did not take its own code back.")
		problem.Cause = err
		portal.Fail(w, r, problem)
		return
	}
	raw, _ := got.Extra("id_token").(string)
	token, err := p.verifier.Verify(ctx, raw)
	if err != nil || subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(b.Nonce)) != 1 {
		problem := refused("The issuer's answer is not meant for this sign-in.")
		problem.Cause = err
		portal.Fail(w, r, problem)
		return
	}
	user, err := s.user(token)
	if err != nil {
		portal.Fail(w, r, silent(err))
		return
	}
	now := s.config.Now()
	st := state{ID: random(), User: user, IDToken: raw, Refresh: got.RefreshToken, Begun: now, Seen: now}
	k := s.memory.session(st.ID, now, s.config.Life)
	k.mu.Lock()
	k.access[s.config.Scope(s.config.First)] = access{got.AccessToken, got.Expiry}
	k.mu.Unlock()
	s.write(w, st)
	http.Redirect(w, r, local(b.Return), http.StatusSeeOther)
}

func refused(detail string) *portal.Problem {
	return &portal.Problem{Status: http.StatusForbidden, Title: "You were not signed in", Detail: detail, Mend: "Open the portal's first page to begin again."}
}

// begun returns the sign-in that a state belongs to, and takes its cookie away: it
// answers once.
func (s *Sessions) begun(w http.ResponseWriter, r *http.Request, state string) (b begun, ok bool) {
	c, err := r.Cookie(beginName(state))
	if err != nil {
		return begun{}, false
	}
	http.SetCookie(w, cookie(c.Name, "", -1))
	now := s.config.Now()
	return b, s.seal.open(beginCookie, c.Value, &b) && now.Before(b.At.Add(beginLife)) &&
		subtle.ConstantTimeCompare([]byte(b.State), []byte(state)) == 1
}

// signOut ends the session here, and sends the browser to the issuer to end it there.
func (s *Sessions) signOut(w http.ResponseWriter, r *http.Request) {
	st, ok := s.read(r)
	s.clear(w)
	if ok {
		s.memory.session(st.ID, s.config.Now(), s.config.Life).end()
	}
	p, err := s.issuer(r.Context())
	if err != nil || p.endSession == "" || !ok {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	q := url.Values{"client_id": {s.config.Client}, "id_token_hint": {st.IDToken}, "post_logout_redirect_uri": {s.config.Origin + "/"}}
	separator := "?"
	if strings.Contains(p.endSession, "?") {
		separator = "&"
	}
	http.Redirect(w, r, p.endSession+separator+q.Encode(), http.StatusSeeOther)
}

// local returns a path on this host, "/" for anything else: also for what a browser makes an
// address elsewhere of, which takes a backslash for a slash and tabs away.
func local(path string) string {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.Contains(path, `\`) || strings.ContainsFunc(path, unicode.IsControl) {
		return "/"
	}
	return path
}

// clip keeps an issuer's error code short and plain.
func clip(code string) string {
	code = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r == '_' {
			return r
		}
		return -1
	}, code)
	return code[:min(len(code), 40)]
}
