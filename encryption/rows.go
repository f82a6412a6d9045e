package encryption

import (
	"crypto/sha256"
	"crypto/subtle"
	"strconv"
	"time"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// The purposes of the contexts that this package seals under. docs/format.md
// lists the fields of each.
const (
	purposeScopeKey   = "kluis/v1/scope-key"
	purposeGeneration = "kluis/v1/scope-generation"
	purposeLink       = "kluis/v1/scope-link"
	purposeItemKey    = "kluis/v1/item-key"
)

// A Root is the platform's root, as far as this package needs it.
type Root interface {
	// ID names the root's generation.
	ID() string
	// Instance names the installation.
	Instance() string
	// Derive returns a key of the root's for one purpose. The caller clears it.
	Derive(purpose string) *envelope.Key
}

// shares are what a generation's sealed row holds.
type shares struct {
	platform   *envelope.Key
	customer   *envelope.Key // nil if the customer's vault guards it
	commitment envelope.Commitment
}

func (s *shares) clear() {
	s.platform.Clear()
	if s.customer != nil {
		s.customer.Clear()
	}
}

// generationContext binds a generation's row: nothing of it can be changed, or
// moved to another row, without the seal failing.
func generationContext(instance string, tenant identity.TenantID, g Generation) envelope.Context {
	wrapped := sha256.Sum256(g.Wrapped)
	reSealOnly := uint64(0)
	if g.ReSealOnly {
		reSealOnly = 1
	}
	return scopeContext(purposeGeneration, instance, tenant, g.Scope, g.Number).
		With(g.RootID, string(g.Mode), string(g.Algorithm), g.KeyIdentifier, string(g.KID), string(g.State)).
		WithUint64(reSealOnly).WithUint64(uint64(g.Epoch)).WithBytes(wrapped[:])
}

// sealGeneration seals the shares into the row, under the root.
func sealGeneration(root Root, tenant identity.TenantID, g *Generation, s *shares) {
	g.RootID = root.ID()
	plain := make([]byte, 0, 3*envelope.KeySize)
	plain = append(plain, s.platform[:]...)
	plain = append(plain, s.commitment[:]...)
	if g.Mode == PlatformManaged {
		plain = append(plain, s.customer[:]...)
	}
	defer clear(plain)
	key := root.Derive(purposeGeneration)
	defer key.Clear()
	g.Sealed = envelope.Seal(key, generationContext(root.Instance(), tenant, *g), plain)
}

// openGeneration opens what the root sealed into the row. It fails with
// [fault.Integrity] if the row is not as it was sealed.
func openGeneration(root Root, tenant identity.TenantID, g Generation) (*shares, error) {
	if g.RootID != root.ID() {
		return nil, fault.New(fault.Integrity, "The workspace's key is sealed under another root of the platform.").
			About(string(g.Scope))
	}
	key := root.Derive(purposeGeneration)
	defer key.Clear()
	plain, err := envelope.Open(key, generationContext(root.Instance(), tenant, g), g.Sealed)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	want := 2 * envelope.KeySize
	if g.Mode == PlatformManaged {
		want += envelope.KeySize
	}
	if len(plain) != want {
		return nil, fault.New(fault.Integrity, "The workspace's key row has the wrong length.").About(string(g.Scope))
	}
	s := &shares{platform: new(envelope.Key)}
	copy(s.platform[:], plain)
	copy(s.commitment[:], plain[envelope.KeySize:])
	if g.Mode == PlatformManaged {
		s.customer = new(envelope.Key)
		copy(s.customer[:], plain[2*envelope.KeySize:])
	}
	return s, nil
}

func scopeKeyContext(instance string, tenant identity.TenantID, scope ScopeID, generation int64) envelope.Context {
	return scopeContext(purposeScopeKey, instance, tenant, scope, generation)
}

// scopeContext begins the contexts of what belongs to one generation of a scope.
func scopeContext(purpose, instance string, tenant identity.TenantID, scope ScopeID, generation int64) envelope.Context {
	return envelope.NewContext(purpose, instance, string(tenant), string(scope)).WithUint64(uint64(generation))
}

// sealLink seals an older generation's scope key under a newer one's.
func sealLink(instance string, tenant identity.TenantID, l *Link, older, newer *envelope.Key) {
	l.Sealed = envelope.Seal(newer, linkContext(instance, tenant, *l), older[:])
}

func openLink(instance string, tenant identity.TenantID, l Link, newer *envelope.Key) (*envelope.Key, error) {
	return openKey(newer, linkContext(instance, tenant, l), l.Sealed)
}

func linkContext(instance string, tenant identity.TenantID, l Link) envelope.Context {
	return scopeContext(purposeLink, instance, tenant, l.Scope, l.Under).WithUint64(uint64(l.Generation))
}

func sealItemKey(instance string, tenant identity.TenantID, row *KeyRow, scopeKey, key *envelope.Key) {
	row.Sealed = envelope.Seal(scopeKey, itemKeyContext(instance, tenant, *row), key[:])
}

func openItemKey(instance string, tenant identity.TenantID, row KeyRow, scopeKey *envelope.Key) (*envelope.Key, error) {
	return openKey(scopeKey, itemKeyContext(instance, tenant, row), row.Sealed)
}

func itemKeyContext(instance string, tenant identity.TenantID, row KeyRow) envelope.Context {
	return scopeContext(purposeItemKey, instance, tenant, row.Scope, row.Generation).
		With(string(row.Item), string(row.ID), string(row.Purpose))
}

func openKey(under *envelope.Key, ctx envelope.Context, sealed []byte) (*envelope.Key, error) {
	plain, err := envelope.Open(under, ctx, sealed)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	if len(plain) != envelope.KeySize {
		return nil, fault.New(fault.Integrity, "A sealed key has the wrong length.")
	}
	k := new(envelope.Key)
	copy(k[:], plain)
	return k, nil
}

// equal compares two shares in constant time.
func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

func number(n int64) string { return strconv.FormatInt(n, 10) }

// newItemKeys makes the two keys of an item under a scope key.
func newItemKeys(instance string, s Scope, generation int64, scopeKey *envelope.Key, item ItemID, now time.Time) []KeyRow {
	var rows []KeyRow
	for _, p := range []Purpose{ContentKey, NamesKey} {
		row := KeyRow{
			ID: NewKeyID(), Scope: s.ID, Item: item, Purpose: p, Generation: generation, State: Current, Created: now,
		}
		k := envelope.NewKey()
		sealItemKey(instance, s.Tenant, &row, scopeKey, k)
		k.Clear()
		rows = append(rows, row)
	}
	return rows
}

// ScopeKeys are the rows of a new scope.
type ScopeKeys struct {
	scope      Scope
	generation Generation
	names      ItemKeys
}

// newScope makes a platform-managed scope.
func newScope(root Root, id ScopeID, tenant identity.TenantID, now time.Time) *ScopeKeys {
	s := &ScopeKeys{
		scope: Scope{ID: id, Tenant: tenant, Sealing: 1, Epoch: 1},
		generation: Generation{
			Scope: id, Number: 1, Mode: PlatformManaged, State: Disabled, Epoch: 1, Created: now,
		},
	}
	sh := &shares{platform: envelope.NewKey(), customer: envelope.NewKey()}
	defer sh.clear()
	key, commitment := envelope.DeriveScopeKey(sh.customer, sh.platform, scopeKeyContext(root.Instance(), tenant, id, 1))
	defer key.Clear()
	sh.commitment = commitment
	sealGeneration(root, tenant, &s.generation, sh)
	s.names = ItemKeys{
		Row:  Item{ID: ScopeItem(id), Scope: id, Generation: 1},
		Keys: newItemKeys(root.Instance(), s.scope, 1, key, ScopeItem(id), now),
	}
	return s
}

// At gives the scope another path than a workspace's.
func (s *ScopeKeys) At(path rbac.Scope) *ScopeKeys {
	s.scope.Path = path
	return s
}

// Insert adds the rows.
func (s *ScopeKeys) Insert(tx KeyTx) error {
	if err := tx.InsertScope(s.scope); err != nil {
		return err
	}
	if err := tx.InsertGeneration(s.generation); err != nil {
		return err
	}
	return s.names.Insert(tx)
}
