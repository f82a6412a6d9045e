package session

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/kluis-io/kluis/portal"
)

// An access token is asked for anew when so little of its life is left: enough for a
// request, and before a page opens a stream, for the stream.
const (
	leastLeft      = 30 * time.Second
	leastForStream = 12 * time.Minute
)

// held is a session in the hands of one request. It implements [portal.Session].
type held struct {
	sessions *Sessions
	kept     *kept
	w        http.ResponseWriter
	streams  bool // its headers are written

	mu    sync.Mutex
	state state
}

// User implements [portal.Session].
func (h *held) User() portal.User { return h.state.User }

// adopt takes the newest refresh token of cookie and memory, and reports whether the
// cookie had an older one.
func (h *held) adopt() bool {
	h.kept.mu.Lock()
	defer h.kept.mu.Unlock()
	return h.adoptLocked()
}

func (h *held) adoptLocked() bool {
	switch k := h.kept; {
	case k.exchange > h.state.Exchange:
		h.state.Refresh, h.state.Exchange = k.refresh, k.exchange
		return true
	default:
		k.refresh, k.exchange = h.state.Refresh, h.state.Exchange
		return false
	}
}

// Token implements [portal.Session].
func (h *held) Token(ctx context.Context, audience string) (string, error) {
	s := h.sessions
	scope := s.config.Scope(audience)
	left := leastForStream
	if h.streams {
		left = leastLeft
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return "", portal.ErrSignIn
	}
	newer := h.adoptLocked()
	now := s.config.Now()
	if a, ok := k.access[scope]; ok && now.Before(a.expires.Add(-left)) {
		if newer && !h.streams {
			s.write(h.w, h.state)
		}
		return a.token, nil
	}
	if h.state.Refresh == "" {
		if a, ok := k.access[scope]; ok && now.Before(a.expires.Add(-leastLeft)) {
			return a.token, nil
		}
		return "", portal.ErrSignIn
	}
	p, err := s.issuer(ctx)
	if err != nil {
		return "", err
	}
	// A token that is exchanged is used up: the answer is waited for, whoever hangs up.
	got, err := s.refresh(context.WithoutCancel(ctx), p, h.state.Refresh, scope)
	if err != nil {
		return "", err
	}
	k.access[scope] = access{got.Access, now.Add(got.life())}
	if got.Refresh != "" && got.Refresh != h.state.Refresh {
		h.state.Refresh = got.Refresh
		h.state.Exchange++
		k.refresh, k.exchange = h.state.Refresh, h.state.Exchange
		newer = true
	}
	if newer && !h.streams {
		s.write(h.w, h.state)
	}
	return got.Access, nil
}

// Refused implements [portal.Session]. Without a way to another token the one that was
// refused stays: signing in again would not mend what the party has against it.
func (h *held) Refused(audience, token string) {
	scope := h.sessions.config.Scope(audience)
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	if h.state.Refresh != "" && k.access[scope].token == token {
		delete(k.access, scope)
	}
}
