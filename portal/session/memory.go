package session

import (
	"crypto/sha256"
	"sync"
	"time"
)

// maxSessions bounds of how many sessions access tokens are kept.
const maxSessions = 10_000

// A memory keeps the access tokens of sessions, by a hash of the session's name, and the
// names of those that have been signed out of here.
type memory struct {
	limit int

	mu       sync.Mutex
	sessions map[[sha256.Size]byte]*kept
}

// A kept is what a replica keeps of a session.
type kept struct {
	mu       sync.Mutex // held while the issuer is asked, so that one asks for all
	access   map[string]access
	refresh  string
	exchange int
	ended    bool

	until time.Time // guarded by the memory's lock
}

type access struct {
	token   string
	expires time.Time
}

func newMemory(limit int) *memory {
	return &memory{limit: limit, sessions: map[[sha256.Size]byte]*kept{}}
}

// session returns what is kept of one. A full memory forgets what has ended, and if that
// is nothing, something: it can be asked for again.
func (m *memory) session(id string, now time.Time, life time.Duration) *kept {
	sum := sha256.Sum256([]byte(id))
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.sessions[sum]
	if k == nil {
		if len(m.sessions) >= m.limit {
			m.forget(now)
		}
		k = &kept{access: map[string]access{}, until: now.Add(life)}
		m.sessions[sum] = k
	}
	return k
}

func (m *memory) forget(now time.Time) {
	for sum, k := range m.sessions {
		if now.After(k.until) {
			delete(m.sessions, sum)
		}
	}
	for sum := range m.sessions { // in random order
		if len(m.sessions) < m.limit {
			return
		}
		delete(m.sessions, sum)
	}
}

func (k *kept) hasEnded() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ended
}

// end forgets the tokens of a session, and that it can have more.
func (k *kept) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended, k.access, k.refresh = true, map[string]access{}, ""
}
