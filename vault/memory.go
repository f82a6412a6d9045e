package vault

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/kluis-io/kluis/identity"
)

// A question is who asks to use which key how: all that [Vaults.Use] decides on, but
// for what the vault says, the input and the time.
type question struct {
	vault     Name
	key       KeyName
	version   Version // "" for the current one
	operation Operation

	tenant      identity.TenantID
	principal   identity.PrincipalID
	groups      string
	application string
	caller      identity.PrincipalType
	address     netip.Addr
	certificate string
}

func ask(c identity.Caller, vault Name, key KeyName, version Version, op Operation) question {
	q := question{
		vault: vault, key: key, version: version, operation: op,
		tenant: c.Tenant, principal: c.Principal, application: c.Application, caller: c.Type, address: c.Address,
		certificate: c.Certificate,
	}
	if len(c.Groups) > 0 {
		var b strings.Builder
		for _, g := range c.Groups {
			b.WriteString(string(g))
			b.WriteByte(',')
		}
		q.groups = b.String()
	}
	return q
}

// A decision is a yes to a question, and what it was based on.
type decision struct {
	bundle   Bundle
	material Material
	revision int64             // of the vault, when all this was read
	until    time.Time         // when the right ends by itself; zero if never
	resource string            // for the audit entry
	notes    map[string]string // for the audit entry
}

func (d *decision) ref() Ref {
	return Ref{Vault: d.bundle.Vault.ID, Key: d.bundle.Key.ID, Version: d.bundle.Version.Version}
}

// decisionNotes are what deciding notes for the audit entry.
var decisionNotes = []string{"vault", "version", "assignment", "policy"}

// note keeps what deciding has noted in an act.
func (d *decision) note(a *act) {
	d.until, d.resource, d.notes = a.until, a.entry.Resource, map[string]string{}
	for _, name := range decisionNotes {
		if value, ok := a.entry.Detail[name]; ok {
			d.notes[name] = value
		}
	}
}

// recall notes it in another.
func (d *decision) recall(a *act) {
	a.entry.Resource = d.resource
	for name, value := range d.notes {
		a.note(name, value)
	}
}

// A memory keeps decisions, so that a key in steady use costs no reads. Never a
// refusal, and none of them is the last word: what is remembered holds only for as
// long as the vault's revision is the one that it was read at, and [Vaults.Use]
// compares the two in the transaction that records the use, before anything of the
// result leaves. That is what it relies upon: each commit that can take a right away
// raises the revision of every vault concerned ([Vaults.changed]), whichever replica
// makes it, and a revision read in a writing transaction holds until that commits.
//
// This process's own changes are forgotten before the call that makes them returns:
// that only saves the work of a key whose result would be thrown away.
type memory struct {
	mu        sync.Mutex
	decisions map[question]*decision
	places    map[Name]place
	drops     int // how often something was forgotten; what was read across that is not kept
}

// A place is what [Vaults.Find] tells of a vault. It decides nothing: it says where
// to get a token. So it may be a little old, when another replica has purged a vault
// and made one of its name in another tenant.
type place struct {
	id      ID
	tenant  identity.TenantID
	flavour Flavour
	read    time.Time
}

const (
	maxDecisions = 4096
	maxPlaces    = 4096
	placeTime    = 500 * time.Millisecond
)

func newMemory() *memory {
	return &memory{decisions: map[question]*decision{}, places: map[Name]place{}}
}

// decision returns the answer to a question, nil if it is not remembered, and what
// keep wants to be told.
func (m *memory) decision(q question) (d *decision, drops int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d = m.decisions[q]
	if d != nil && !d.until.IsZero() && !time.Now().Before(d.until) {
		delete(m.decisions, q)
		d = nil
	}
	return d, m.drops
}

func (m *memory) keep(q question, d *decision, drops int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.drops == drops {
		makeRoom(m.decisions, maxDecisions)
		m.decisions[q] = d
	}
}

func (m *memory) place(name Name, now time.Time) (p place, ok bool, drops int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok = m.places[name]
	age := now.Sub(p.read)
	return p, ok && age >= 0 && age < placeTime, m.drops
}

func (m *memory) keepPlace(name Name, p place, drops int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.drops == drops {
		makeRoom(m.places, maxPlaces)
		m.places[name] = p
	}
}

// forget drops all that is known of some vaults.
func (m *memory) forget(vaults ...ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drops++
	for _, id := range vaults {
		for q, d := range m.decisions {
			if d.bundle.Vault.ID == id {
				delete(m.decisions, q)
			}
		}
		for name, p := range m.places {
			if p.id == id {
				delete(m.places, name)
			}
		}
	}
}

// makeRoom drops an eighth of a full map, at random: nobody can aim at what stays.
func makeRoom[K comparable, V any](m map[K]V, limit int) {
	if len(m) < limit {
		return
	}
	excess := limit / 8
	for k := range m {
		delete(m, k)
		if excess--; excess == 0 {
			return
		}
	}
}
