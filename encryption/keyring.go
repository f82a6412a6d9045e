package encryption

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption/pace"
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
	Witness  Witness    // nil if nobody remembers, outside the database, what it held
	Shared   bool       // other processes use the same database

	Lease time.Duration // a key lease's length; 0 means 30 s. At most Bound.
	Bound time.Duration // the kill-switch bound; 0 means 60 s
	Poll  time.Duration // how often a scope without access is tried again; 0 means 15 s

	// Budget is how many operations with RSA-2048 keys one vault is asked for in a
	// second, by all replicas together; 0 means [pace.DefaultRate]. Replicas is how many
	// processes use the same database; 0 means one. Affinity is how many of them serve
	// one tenant, where a load balancer keeps it together; 0 means all.
	Budget             float64
	Replicas, Affinity int
	// Watch is told of every question to a vault and how long it took; nil if nobody
	// is. It must not block.
	Watch func(kek.Op, Outcome, time.Duration)

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
	witness  Witness
	shared   bool
	renewals *envelope.Key // under which renewals of leases are shared
	drift    drift
	lease    time.Duration
	bound    time.Duration
	poll     time.Duration
	dropped  []func(ScopeID)
	now      func() time.Time
	log      *slog.Logger

	mu     sync.RWMutex
	slots  map[ScopeID]*slot
	closed atomic.Bool     // Run has ended: nothing is opened any more. Set under mu
	stop   context.Context // ends with Run

	feeds   feeds
	budgets budgets
	watch   func(kek.Op, Outcome, time.Duration)
	busy    sync.WaitGroup // work in the background
}

// A slot is a scope's place in the ring: the entry in use, and one opening at a
// time.
type slot struct {
	id    ScopeID
	sem   chan struct{} // held while the scope is opened or its key changed
	entry atomic.Pointer[entry]

	hinted atomic.Bool // the vault's feed says: ask again
	asking sync.Mutex  // one poll at a time; whoever starts it holds it

	mu       sync.Mutex
	gone     bool              // no longer in the ring
	epoch    int64             // the newest that was seen: keys read before it are not put in use
	serial   int64             // the same for revocations
	key      kek.KeyIdentifier // of the sealing generation, as last seen
	tenant   identity.TenantID
	cost     float64   // of a question to its vault
	looked   time.Time // when its key's newest version was last looked for
	lastAsk  time.Time // when the vault was last asked without success
	nextPoll time.Time
	firstYes time.Time // of a foreign vault, after a no
	yesAfter int64     // the revocation that firstYes came after
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
		store: c.Store, root: c.Root, recorder: c.Recorder, policy: c.Policy,
		witness: c.Witness, shared: c.Shared, renewals: c.Root.Derive(purposeRenewal), watch: c.Watch, lease: c.Lease, bound: c.Bound, poll: c.Poll, now: c.Now, log: c.Log,
		slots:   map[ScopeID]*slot{},
		stop:    context.Background(),
		budgets: budgets{rate: c.Budget, replicas: max(1, c.Replicas), affinity: c.Affinity, of: map[feedKey]*budget{}},
	}
	k.budgets.sharing = 1
	if c.Shared {
		k.budgets.sharing = float64(min(k.budgets.replicas, cmp.Or(k.budgets.affinity, k.budgets.replicas)))
	}
	k.vault = asked{c.Vault, k}
	if k.budgets.rate == 0 {
		k.budgets.rate = pace.DefaultRate
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

// OnDrop has fn called whenever a scope's keys have been dropped from memory, so
// that what was derived from them elsewhere goes too. It is for setting up, before
// the keyring is used.
func (k *Keyring) OnDrop(fn func(ScopeID)) { k.dropped = append(k.dropped, fn) }

// Forget drops an item's keys from memory. Call it after they were shredded: it
// needs no key.
func (k *Keyring) Forget(scope ScopeID, item ItemID) {
	k.mu.RLock()
	s := k.slots[scope]
	k.mu.RUnlock()
	if s == nil {
		return
	}
	if e := s.entry.Load(); e != nil {
		e.forgetItem(item)
	}
}

// Bound returns the kill-switch bound: no plaintext leaves later than this after
// a vault first says no.
func (k *Keyring) Bound() time.Duration { return k.bound }

// boundOf returns a scope's kill-switch bound: the lowest of the installation's, its
// tenant's, its admin's and its key's.
func (k *Keyring) boundOf(s Scope) time.Duration {
	b := k.bound
	for _, own := range []time.Duration{s.TenantBound, s.Bound, s.KeyBound} {
		if own > 0 {
			b = min(b, own)
		}
	}
	return b
}

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
	if !k.shared {
		return k.use(ctx, id)
	}
	var row Scope
	if err := k.store.View(ctx, func(tx Tx) (err error) {
		row, err = tx.Scope(id)
		return err
	}); err != nil {
		return nil, err
	}
	return k.UseAsOf(ctx, row)
}

func (k *Keyring) use(ctx context.Context, id ScopeID) (*Use, error) {
	k.mu.RLock()
	s := k.slots[id]
	k.mu.RUnlock()
	if s != nil {
		if e := s.entry.Load(); e != nil && e.check() == nil {
			e.touch(k.now())
			return &Use{entry: e, scope: id}, nil
		}
	}
	e, err := k.open(ctx, id, false)
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

// hold returns the scope's slot for the caller alone, until he calls release.
func (k *Keyring) hold(ctx context.Context, id ScopeID) (s *slot, release func(), err error) {
	for {
		s = k.slot(id)
		select {
		case s.sem <- struct{}{}:
		case <-ctx.Done():
			return nil, nil, fault.Wrap(fault.Unavailable, ctx.Err(), "The workspace's key was not opened in time.")
		}
		s.mu.Lock()
		gone := s.gone
		s.mu.Unlock()
		if !gone {
			return s, func() { <-s.sem }, nil
		}
		<-s.sem
	}
}

// forgetSlot lets go of a slot that holds nothing, and reports whether it does.
func (k *Keyring) forgetSlot(s *slot) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entry.Load() == nil && len(s.sem) == 0 {
		s.gone = true
		delete(k.slots, s.id)
	}
	return s.gone
}

// saw notes which change of the scope's key and which revocation is the newest,
// so that keys which were read before are not put in use after it.
func (s *slot) saw(sc Scope) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch, s.serial = max(s.epoch, sc.Epoch), max(s.serial, sc.Serial)
}

// put puts opened keys in use: into the entry that serves the scope, or a new
// one. Keys that are older than the newest change or revocation that was seen are
// refused with [fault.EncryptionChanged].
func (k *Keyring) put(s *slot, m *material) (*entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case k.closed.Load():
		m.clear()
		return nil, stopping()
	case s.gone || m.scope.Epoch < s.epoch || m.scope.Serial < s.serial:
		m.clear()
		return nil, keysChanged()
	}
	s.epoch, s.serial = m.scope.Epoch, m.scope.Serial
	if e := s.entry.Load(); e != nil {
		if e.adopt(m) {
			return e, nil
		}
		e.drop(leaseOver(s.id))
	}
	e := newEntry(k, m)
	s.entry.Store(e)
	return e, nil
}

func keysChanged() *fault.Error {
	return fault.New(fault.EncryptionChanged, "The workspace's keys have changed meanwhile.").WithMend("Try again.")
}

func stopping() *fault.Error {
	return fault.New(fault.Unavailable, "The platform is stopping.").WithMend("Try again shortly.")
}

// A view is what the database says of a scope's keys at one moment.
type view struct {
	scope       Scope
	generations []Generation
	links       []Link

	// Of a view that [Keyring.view] has read where processes share the database:
	renewal Renewal
	at      moment // when it was read
}

func (k *Keyring) view(ctx context.Context, id ScopeID) (v view, err error) {
	before := k.now()
	err = k.store.View(ctx, func(tx Tx) error {
		if v, err = readView(tx, id); err != nil || !k.shared {
			return err
		}
		if v.at, err = k.moment(tx, before); err != nil {
			return err
		}
		v.renewal, _, err = tx.Renewal(id)
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
		if g.Number == v.scope.Sealing && g.Epoch == v.scope.Epoch {
			return g, nil
		}
	}
	return Generation{}, fault.New(fault.Integrity, "The workspace's sealing key row is missing or out of step.").
		About(string(v.scope.ID))
}
