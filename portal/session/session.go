// Package session signs people in to the portal, with any OpenID Connect issuer: the
// embedded one, Entra ID, or another. It is a relying party of the authorization code
// flow with PKCE, state and nonce.
//
// A session lies in the browser: a cookie that is sealed under a key which the portal's
// replicas share, and that holds the issuer's refresh token. No replica keeps what
// another lacks but for access tokens, in memory, which it can ask for anew. So ending a
// session is the issuer's business: signing out ends the refresh token there.
//
// An issuer that exchanges refresh tokens is followed: the newest goes into the cookie
// with the next answer. A page whose answer is lost on the way, or an event stream of
// hours, can leave the browser with an older one, and the issuer may then want the
// person to sign in again.
package session

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/kluis-io/kluis/portal"
)

// Callback is the path of the portal's redirect address.
const Callback = portal.SessionPath + "callback"

// The lives of sessions, where the configuration says nothing: after Idle without a
// request of the person's, and at the latest after Life, he signs in again.
const (
	Idle = 30 * time.Minute
	Life = 8 * time.Hour
)

// A Config says who signs people in.
type Config struct {
	Issuer       string // as its discovery document states it
	Client       string // client_id
	ClientSecret string // "" of a public client
	Origin       string // the portal's: "https://portal.example.com"
	Key          []byte // 32 bytes that the portal's replicas share, for this only
	HTTP         *http.Client

	// Scope returns the scope by which an access token for an audience is asked for, ""
	// where every access token serves. Nil means the audience followed by "/.default", as
	// the embedded issuer and Entra ID have it.
	Scope func(audience string) string
	// First is the audience of the access token that comes with the sign-in.
	First string

	// Tenant is the directory of people whose tokens name none, and Subject makes the
	// object id of those whose tokens have none from their issuer and subject.
	Tenant  string
	Subject func(issuer, subject string) string

	Idle, Life time.Duration    // Idle and Life if 0
	Now        func() time.Time // time.Now if nil
}

// Sessions implements [portal.Sessions]. It starts no goroutine.
type Sessions struct {
	config Config
	seal   *sealer
	memory *memory

	mu       sync.Mutex
	provider *provider
}

// New returns the sessions of a portal. The issuer is not asked before somebody signs in.
func New(c Config) (*Sessions, error) {
	if len(c.Key) != 32 || c.Issuer == "" || c.Client == "" || !strings.HasPrefix(c.Origin, "https://") {
		return nil, errors.New("session: sessions need an issuer, a client id, the portal's https origin and a key of 32 bytes")
	}
	if c.HTTP == nil {
		c.HTTP = http.DefaultClient
	}
	if c.Idle == 0 {
		c.Idle = Idle
	}
	if c.Life == 0 {
		c.Life = Life
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Scope == nil {
		c.Scope = func(audience string) string { return audience + "/.default" }
	}
	if c.Subject == nil {
		c.Subject = func(_, subject string) string { return subject }
	}
	seal, err := newSealer(c.Key)
	if err != nil {
		return nil, err
	}
	return &Sessions{config: c, seal: seal, memory: newMemory(maxSessions)}, nil
}

// A state is what a session's cookie holds.
type state struct {
	ID       string      `json:"i"` // random; the session's name in memory
	User     portal.User `json:"u"`
	IDToken  string      `json:"t"` // by which the issuer is told to sign out
	Refresh  string      `json:"r"` // "" if the issuer gives none
	Exchange int         `json:"x"` // how often Refresh was exchanged
	Begun    time.Time   `json:"b"`
	Seen     time.Time   `json:"s"`
}

// live reports whether a session has neither idled out nor reached its end.
func (s *Sessions) live(st state, now time.Time) bool {
	return !now.Before(st.Seen.Add(-time.Minute)) && now.Before(st.Seen.Add(s.config.Idle)) && now.Before(st.Begun.Add(s.config.Life))
}

// Session implements [portal.Sessions].
func (s *Sessions) Session(w http.ResponseWriter, r *http.Request) portal.Session {
	st, ok := s.read(r)
	now := s.config.Now()
	if !ok || !s.live(st, now) {
		return nil
	}
	kept := s.memory.session(st.ID, now, s.config.Life)
	if kept.hasEnded() {
		return nil
	}
	h := &held{sessions: s, kept: kept, w: w, streams: r.Header.Get("Accept") == "text/event-stream", state: st}
	renew := h.adopt()
	// A stream that opens itself again is nobody's being there.
	if !h.streams && now.Sub(st.Seen) > s.config.Idle/10 {
		h.state.Seen, renew = now, true
	}
	if renew && !h.streams {
		s.write(w, h.state)
	}
	return h
}

// random returns 32 random bytes as text.
func random() string {
	var b [32]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// user reads who somebody is from the claims of his ID token.
func (s *Sessions) user(t *oidc.IDToken) (portal.User, error) {
	var c struct {
		Object   string `json:"oid"`
		Tenant   string `json:"tid"`
		Name     string `json:"name"`
		UserName string `json:"preferred_username"`
		Mail     string `json:"email"`
	}
	if err := t.Claims(&c); err != nil {
		return portal.User{}, err
	}
	u := portal.User{Name: c.Name, ID: c.Object, Tenant: c.Tenant}
	for _, name := range []string{c.UserName, c.Mail, t.Subject} {
		if u.Name == "" {
			u.Name = name
		}
	}
	if u.ID == "" {
		u.ID = s.config.Subject(t.Issuer, t.Subject)
	}
	if u.Tenant == "" {
		u.Tenant = s.config.Tenant
	}
	return u, nil
}
