package encryption

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek"
)

// A Vault is the way to a customer's KEK: package kek's client. Every call is an
// authorisation decision of the vault's.
type Vault interface {
	Latest(ctx context.Context, tenant string, id kek.KeyIdentifier) (kek.KeyInfo, error)
	Wrap(ctx context.Context, tenant string, kid kek.KID, alg kek.Algorithm, share []byte) ([]byte, error)
	Unwrap(ctx context.Context, tenant string, kid kek.KID, alg kek.Algorithm, wrapped []byte) ([]byte, error)
	Changes(ctx context.Context, tenant string, id kek.KeyIdentifier, cursor string, wait time.Duration) (kek.Changes, error)
}

// Config is what a [Keyring] works with. Store, Root, Vault and Recorder must be
// set.
type Config struct {
	Store    Store
	Root     Root
	Vault    Vault
	Recorder audit.Recorder
	Policy   kek.Policy // at which hosts customers' keys may lie

	Lease time.Duration // a key lease's length; 0 means 30 s. At most Bound.
	Bound time.Duration // the kill-switch bound; 0 means 60 s
	Poll  time.Duration // how often a scope without access is tried again; 0 means 15 s

	Now func() time.Time // nil means time.Now
	Log *slog.Logger     // nil means slog.Default
}

// A Keyring opens scopes' keys under key leases. It is safe for concurrent use.
// [Keyring.Run] must run for leases to be renewed and for access to return.
type Keyring struct {
	store    Store
	root     Root
	vault    Vault
	recorder audit.Recorder
	policy   kek.Policy
	lease    time.Duration
	bound    time.Duration
	poll     time.Duration
	now      func() time.Time
	log      *slog.Logger

	mu    sync.RWMutex
	slots map[ScopeID]*slot

	feeds feeds
	busy  sync.WaitGroup // renewals under way
	stop  context.Context
}

// A slot is a scope's place in the ring: the entry in use, and one opening at a
// time.
type slot struct {
	id    ScopeID
	sem   chan struct{} // held while the scope is opened
	entry atomic.Pointer[entry]

	hinted atomic.Bool // the vault's feed says: ask again

	mu       sync.Mutex
	key      kek.KeyIdentifier // of the sealing generation, as last seen
	tenant   identity.TenantID
	lastAsk  time.Time // when the vault was last asked without success
	nextPoll time.Time
	firstYes time.Time // of a foreign vault, after a no
	warned   kek.KID   // a new version that cannot be used, reported once
}

// Defaults of [Config].
const (
	DefaultLease = 30 * time.Second
	DefaultBound = time.Minute
	DefaultPoll  = 15 * time.Second
	MaxBound     = time.Hour
)

// NewKeyring returns a keyring. Nothing is open in it yet.
func NewKeyring(c Config) *Keyring {
	k := &Keyring{
		store: c.Store, root: c.Root, vault: c.Vault, recorder: c.Recorder, policy: c.Policy,
		lease: c.Lease, bound: c.Bound, poll: c.Poll, now: c.Now, log: c.Log,
		slots: map[ScopeID]*slot{},
		stop:  context.Background(),
	}
	if k.bound == 0 {
		k.bound = DefaultBound
	}
	k.bound = min(k.bound, MaxBound)
	if k.lease == 0 {
		k.lease = DefaultLease
	}
	k.lease = min(k.lease, k.bound)
	if k.poll == 0 {
		k.poll = DefaultPoll
	}
	if k.now == nil {
		k.now = time.Now
	}
	if k.log == nil {
		k.log = slog.Default()
	}
	return k
}

// Bound returns the kill-switch bound: no plaintext leaves later than this after
// a vault first says no.
func (k *Keyring) Bound() time.Duration { return k.bound }

// NewScope makes the keys of a new, platform-managed scope, for the transaction
// that creates it.
func (k *Keyring) NewScope(id ScopeID, tenant identity.TenantID) (*ScopeKeys, error) {
	return newScope(k.root, id, tenant, k.now()), nil
}

// Use returns the right to use a scope's keys. It asks the vault if no lease
// runs. It fails with a reason of the vault's refusing ([fault.KEKRefused] and
// its siblings), with [fault.KEKUnreachable] if the vault does not answer, or
// with [fault.WorkspaceNotFound].
func (k *Keyring) Use(ctx context.Context, id ScopeID) (*Use, error) {
	k.mu.RLock()
	s := k.slots[id]
	k.mu.RUnlock()
	if s != nil {
		if e := s.entry.Load(); e != nil && e.check() == nil {
			e.touch(k.now())
			return &Use{entry: e, scope: id}, nil
		}
	}
	e, err := k.open(ctx, k.slot(id), false)
	if err != nil {
		return nil, err
	}
	return &Use{entry: e, scope: id}, nil
}

func (k *Keyring) slot(id ScopeID) *slot {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.slots[id]
	if s == nil {
		s = &slot{id: id, sem: make(chan struct{}, 1)}
		k.slots[id] = s
	}
	return s
}

// A view is what the database says of a scope's keys at one moment.
type view struct {
	scope       Scope
	generations []Generation
	links       []Link
}

func (k *Keyring) view(ctx context.Context, id ScopeID) (v view, err error) {
	err = k.store.View(ctx, func(tx Tx) error {
		v, err = readView(tx, id)
		return err
	})
	return v, err
}

func readView(tx KeyTx, id ScopeID) (v view, err error) {
	if v.scope, err = tx.Scope(id); err != nil {
		return v, err
	}
	if v.generations, err = tx.Generations(id); err != nil {
		return v, err
	}
	v.links, err = tx.Links(id)
	return v, err
}

// sealing returns the row of the generation that seals.
func (v view) sealing() (Generation, error) {
	for _, g := range v.generations {
		if g.Number == v.scope.Sealing && g.Epoch <= v.scope.Epoch {
			return g, nil
		}
	}
	return Generation{}, fault.New(fault.Integrity, "The workspace's sealing key row is missing or out of step.").
		About(string(v.scope.ID))
}

// quickRetry is how soon after an unanswered question the next request may ask
// again.
const quickRetry = 2 * time.Second

// open opens a scope whose lease does not run. With asking set it also asks for
// one that is latched as revoked: that is the poll's right alone.
func (k *Keyring) open(ctx context.Context, s *slot, asking bool) (*entry, error) {
	select {
	case s.sem <- struct{}{}:
		defer func() { <-s.sem }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if e := s.entry.Load(); e != nil && e.check() == nil {
		e.touch(k.now())
		return e, nil
	}
	for attempt := 0; ; attempt++ {
		e, err := k.tryOpen(ctx, s, asking)
		if errors.Is(err, fault.EncryptionChanged) && attempt < 3 {
			continue
		}
		return e, err
	}
}

func (k *Keyring) tryOpen(ctx context.Context, s *slot, asking bool) (*entry, error) {
	v, err := k.view(ctx, s.id)
	if err != nil {
		return nil, err
	}
	if !asking {
		if v.scope.Serving == Revoked {
			k.remember(s, v)
			return nil, refused(v.scope)
		}
		s.mu.Lock()
		tooSoon := k.now().Sub(s.lastAsk) < quickRetry
		s.mu.Unlock()
		if tooSoon {
			return nil, leaseOver(s.id)
		}
	}
	m, err := k.unlock(ctx, v)
	k.remember(s, v)
	if err != nil {
		return nil, k.notOpened(ctx, s, v, err)
	}
	if v.scope.Serving == Revoked && !k.trusted(s) {
		m.clear()
		return nil, refused(v.scope)
	}
	if err := k.confirm(ctx, v); err != nil {
		m.clear()
		return nil, err
	}
	v.scope.Serving = Serves
	m.scope = v.scope
	e := &entry{ring: k, scope: s.id, keys: map[KeyID]*Key{}}
	e.adopt(m)
	e.touch(k.now())
	s.entry.Store(e)
	if e.sealing.Mode == CustomerManaged {
		k.background(func(ctx context.Context) { k.followVersion(ctx, s, e) })
	}
	return e, nil
}

// remember notes which key the slot's scope is under, for the feed.
func (k *Keyring) remember(s *slot, v view) {
	g, err := v.sealing()
	if err != nil {
		return
	}
	id, _ := kek.ParseKeyIdentifier(g.KeyIdentifier, k.policy) // the zero identifier if there is none
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tenant, s.key = v.scope.Tenant, id
}

// confirm checks that the scope has not changed since it was read, and clears its
// latch if there is one.
func (k *Keyring) confirm(ctx context.Context, v view) error {
	same := func(tx Tx) error {
		now, err := tx.Scope(v.scope.ID)
		if err != nil {
			return err
		}
		if now.Epoch != v.scope.Epoch || now.Serial != v.scope.Serial || now.Serving != v.scope.Serving {
			return fault.New(fault.EncryptionChanged, "The workspace's keys have changed meanwhile.").WithMend("Try again.")
		}
		return nil
	}
	if v.scope.Serving == Serves {
		return k.store.View(ctx, same)
	}
	return k.store.Update(ctx, func(tx Tx) error {
		if err := same(tx); err != nil {
			return err
		}
		s := v.scope
		s.Serving, s.Reason, s.Detail, s.ServingSince = Serves, "", "", time.Time{}
		if err := tx.UpdateScope(s, s.Epoch); err != nil {
			return err
		}
		return tx.AppendAudit(k.entry("RestoreWorkspaceAccess", s))
	})
}

// material is an opened scope: what an entry holds.
type material struct {
	scope     Scope
	sealing   Generation
	share     *envelope.Key // nil if platform-managed
	scopeKeys map[int64]*envelope.Key
	lease     kek.Lease
}

func (m *material) clear() {
	if m.share != nil {
		m.share.Clear()
	}
	for _, key := range m.scopeKeys {
		key.Clear()
	}
}

// unlock opens the scope's keys from their rows, asking the vault for the
// customer share if it guards one. Asking is recorded before its answer is used.
func (k *Keyring) unlock(ctx context.Context, v view) (*material, error) {
	g, err := v.sealing()
	if err != nil {
		return nil, err
	}
	sh, err := openGeneration(k.root, v.scope.Tenant, g)
	if err != nil {
		return nil, err
	}
	defer sh.platform.Clear()
	sent := k.now()
	if g.Mode == CustomerManaged {
		if sh.customer, err = k.unwrap(ctx, v.scope, g); err != nil {
			return nil, err
		}
	}
	m := &material{scope: v.scope, sealing: g, lease: kek.NewLease(sent, k.lease), scopeKeys: map[int64]*envelope.Key{}}
	if err := m.derive(k.root.Instance(), v, sh); err != nil {
		sh.customer.Clear()
		m.clear()
		return nil, err
	}
	if g.Mode == CustomerManaged {
		m.share = sh.customer
	} else {
		sh.customer.Clear()
	}
	return m, nil
}

// derive joins the shares, checks the commitment, and opens the older scope keys
// that are linked below.
func (m *material) derive(instance string, v view, sh *shares) error {
	key, commitment := envelope.DeriveScopeKey(sh.customer, sh.platform,
		scopeKeyContext(instance, v.scope.Tenant, v.scope.ID, m.sealing.Number))
	m.scopeKeys[m.sealing.Number] = key
	if !commitment.Equal(sh.commitment) {
		if m.sealing.Mode == CustomerManaged {
			return fault.New(fault.KEKIntegrity, "The vault answered with another share than the one that was wrapped.").
				About(string(m.sealing.KID))
		}
		return fault.New(fault.Integrity, "The workspace's key does not match its commitment.").About(string(v.scope.ID))
	}
	for _, l := range v.links { // newest first: each lies under one that is open already
		under := m.scopeKeys[l.Under]
		if under == nil {
			return fault.New(fault.Integrity, "An older key of the workspace lies under one that is missing.").About(string(v.scope.ID))
		}
		older, err := openLink(instance, v.scope.Tenant, l, under)
		if err != nil {
			return err
		}
		m.scopeKeys[l.Generation] = older
	}
	return nil
}

// unwrap asks the vault for the customer share.
func (k *Keyring) unwrap(ctx context.Context, s Scope, g Generation) (*envelope.Key, error) {
	raw, err := k.vault.Unwrap(ctx, string(s.Tenant), g.KID, g.Algorithm, g.Wrapped)
	defer clear(raw)
	if err == nil && len(raw) != envelope.KeySize {
		err = fault.New(fault.KEKIntegrity, "The vault answered with a share of the wrong length.").About(string(g.KID))
	}
	if auditErr := k.recordKeyUse(ctx, "UnwrapScopeShare", s, g.KID, err); auditErr != nil {
		return nil, auditErr
	}
	if err != nil {
		return nil, err
	}
	share := new(envelope.Key)
	copy(share[:], raw)
	return share, nil
}

// adopt takes opened keys over, in place of those it had.
func (e *entry) adopt(m *material) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended.Load() != nil {
		m.clear()
		return
	}
	for _, old := range e.scopeKeys {
		old.Clear()
	}
	if e.share != nil {
		e.share.Clear()
	}
	changed := e.sealing.Number != m.sealing.Number
	e.row, e.sealing, e.share, e.scopeKeys = m.scope, m.sealing, m.share, m.scopeKeys
	if changed || e.currents == nil {
		e.currents = map[currentKey]KeyID{}
	}
	if old := e.lease.Swap(&m.lease); old != nil && old.Expires().After(m.lease.Expires()) {
		e.lease.Store(old) // a slow answer does not shorten what a quicker one gave
	}
	e.next.Store(e.lease.Load().HalfTime().UnixNano())
}

// refused is the error of a scope that is latched as revoked.
func refused(s Scope) *fault.Error {
	r := s.Reason
	if !r.RefusedByVault() {
		r = fault.KEKRefused
	}
	e := fault.New(r, "The customer's vault refuses the workspace's key.").About(string(s.ID))
	if s.Detail != "" {
		e.Mend = s.Detail
	}
	return e
}

// entry starts the audit entry of something that the platform does by itself.
func (k *Keyring) entry(operation string, s Scope) audit.Entry {
	return audit.Entry{
		Operation: operation, Outcome: audit.Allowed, Tenant: string(s.Tenant), Principal: systemPrincipal,
		Resource: "/workspaces/" + string(s.ID),
	}
}

// systemPrincipal stands in the audit for the platform acting by itself.
const systemPrincipal = "kluis-platform"

func (k *Keyring) recordKeyUse(ctx context.Context, operation string, s Scope, kid kek.KID, err error) error {
	e := k.entry(operation, s)
	e.Detail = map[string]string{"kid": string(kid)}
	if err != nil {
		e = identity.Failed(e, err)
	}
	return k.recorder.Record(context.WithoutCancel(ctx), e)
}
