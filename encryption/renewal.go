package encryption

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
)

// Several processes on one database share the renewals of key leases: one asks the
// vault, and leaves a row that says so; the others renew theirs from it. The row gives
// no key: a process that has none open asks the vault itself.

// A Renewal is what the vault's last yes for a scope gives the other processes.
type Renewal struct {
	Scope      ScopeID
	Generation int64
	KID        kek.KID
	Epoch      int64
	Serial     int64     // of the revocations before it: a later one voids it
	Ends       time.Time // when the lease does, by the database's clock; zero if there was no yes yet
	MAC        []byte    // under a key of the root's

	Asking time.Time // until when somebody is asking, and nobody else need; a hint, and not under the MAC
}

const (
	purposeRenewal = "kluis/v1/renewal"

	askTime    = 3 * time.Second        // for which who asks a vault is waited for
	askRecheck = 500 * time.Millisecond // how often the others look whether he is done
)

func (k *Keyring) renewalMAC(tenant string, r Renewal) []byte {
	h := hmac.New(sha256.New, k.renewals[:])
	h.Write(envelope.NewContext(purposeRenewal, k.root.Instance(), tenant, string(r.Scope)).
		WithUint64(uint64(r.Generation)).With(string(r.KID)).WithUint64(uint64(r.Epoch)).WithUint64(uint64(r.Serial)).
		WithUint64(uint64(r.Ends.UnixMicro())).Bytes())
	return h.Sum(nil)
}

// A moment is one instant by two clocks: the process's own, read before the database's.
type moment struct {
	own, database time.Time
}

// moment reads the database's clock in a transaction that was begun after our own said
// before.
func (k *Keyring) moment(tx Tx, before time.Time) (m moment, err error) {
	m.own = before
	if m.database, err = tx.Now(); err == nil {
		k.drift.begin(m)
	}
	return m, err
}

// maxDrift is the furthest that the database's clock may run away from ours before
// nothing is believed that goes by it.
const maxDrift = 5 * time.Second

// A drift watches the database's clock. Whoever keeps the database could otherwise
// turn it back, and have one row renew a lease for ever.
type drift struct {
	mu    sync.Mutex
	base  moment
	until time.Time // nothing is believed before
}

// distrust is for how long nothing is believed once the clocks have gone apart. Each
// process then asks the vault for itself.
const distrust = 10 * time.Minute

// begin notes how the clocks stand to each other when the database is first read: were it
// when a lease is first renewed from a row, the clock could stand still until then.
func (d *drift) begin(m moment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.base.own.IsZero() {
		d.base = m
	}
}

// steady reports whether the database's clock goes as ours does.
func (d *drift) steady(m moment) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if gone := m.database.Sub(d.base.database) - m.own.Sub(d.base.own); gone.Abs() > maxDrift {
		d.base, d.until = m, m.own.Add(distrust)
	}
	return !m.own.Before(d.until)
}

// renewed returns the lease that another process's yes gives an entry, or false: the
// yes is of the very keys that the entry holds, nobody was told no since, and it is
// younger than the one that the entry lives by.
func (k *Keyring) renewed(e *entry, v view) (kek.Lease, bool) {
	r, at := v.renewal, v.at
	g, err := v.sealing()
	e.mu.RLock()
	same := e.ended.Load() == nil && e.row.Epoch == v.scope.Epoch && e.row.Serial == v.scope.Serial && e.sealing.Number == g.Number
	e.mu.RUnlock()
	length := k.leaseOf(v.scope, g)
	l := kek.NewLease(at.own.Add(min(r.Ends.Sub(at.database), length)-length), length)
	younger := l.Expires().Sub(e.lease.Load().Expires()) > length/8
	if err != nil || !same || v.scope.Serving != Serves || r.Ends.IsZero() || !younger || !k.drift.steady(at) {
		return kek.Lease{}, false
	}
	of := Renewal{Scope: v.scope.ID, Generation: g.Number, KID: g.KID, Epoch: v.scope.Epoch, Serial: v.scope.Serial, Ends: r.Ends}
	if !hmac.Equal(r.MAC, k.renewalMAC(string(v.scope.Tenant), of)) {
		return kek.Lease{}, false
	}
	return l, true
}

// extend gives an entry a lease, unless the one it has lasts longer.
func (e *entry) extend(l kek.Lease) {
	e.mu.Lock()
	defer e.mu.Unlock()
	old := e.lease.Load()
	if e.ended.Load() != nil || !old.Valid(e.ring.now()) {
		return
	}
	if l.Expires().After(old.Expires()) {
		e.lease.Store(&l)
	}
	e.renewLater()
}

// borrow renews an entry's lease from what another process was told, or waits for one
// that is just asking. It reports false if the caller is to ask the vault, and has
// told the others so.
func (k *Keyring) borrow(ctx context.Context, e *entry, v view) (done bool, err error) {
	if l, ok := k.renewed(e, v); ok {
		if err := k.witnessed(ctx, v.scope); err != nil {
			return true, err
		}
		e.extend(l)
		return true, nil
	}
	busy, err := k.claimed(ctx, v.renewal, v.scope.ID, min(askTime, e.lease.Load().Length()/4))
	if busy {
		e.next.Store(k.now().Add(askRecheck).UnixNano())
	}
	return busy, err
}

// guarded reports whether a vault guards the entry's key.
func (e *entry) guarded() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.sealing.Mode == CustomerManaged
}

// claimed has the caller be the only one who asks a scope's vault for a time, or
// reports that somebody else is, or has since the caller read the row.
func (k *Keyring) claimed(ctx context.Context, read Renewal, id ScopeID, span time.Duration) (byOther bool, err error) {
	err = k.store.Update(ctx, func(tx Tx) error {
		now, err := tx.Now()
		if err != nil {
			return err
		}
		r, _, err := tx.Renewal(id)
		if err != nil {
			return err
		}
		if byOther = r.Asking.After(now) && !r.Asking.After(now.Add(span)) || !r.Ends.Equal(read.Ends); byOther {
			return nil
		}
		r.Scope, r.Asking = id, now.Add(span)
		return tx.PutRenewal(r)
	})
	return byOther, err
}

// lend leaves what the vault's yes gives for the other processes. The view was read
// before the vault was asked, and is still what the database says: the caller's
// transaction has looked.
func (k *Keyring) lend(tx Tx, v view) error {
	g, err := v.sealing()
	if err != nil || g.Mode != CustomerManaged {
		return err
	}
	r := Renewal{
		Scope: v.scope.ID, Generation: g.Number, KID: g.KID, Epoch: v.scope.Epoch, Serial: v.scope.Serial,
		Ends: v.at.database.Add(k.leaseOf(v.scope, g)).Truncate(time.Microsecond),
	}
	r.MAC = k.renewalMAC(string(v.scope.Tenant), r)
	return tx.PutRenewal(r)
}

// UseAsOf is [Keyring.Use] for who has just read the scope's row in the database: keys
// that another process has changed or revoked since they were opened here are not
// used. So what begins after a change or a revocation, by whatever process, goes by it.
func (k *Keyring) UseAsOf(ctx context.Context, row Scope) (*Use, error) {
	k.mu.RLock()
	s := k.slots[row.ID]
	k.mu.RUnlock()
	if s != nil {
		if e := s.entry.Load(); e != nil && e.behindOf(row) {
			k.catchUp(ctx, s, e)
		}
	}
	return k.use(ctx, row.ID)
}

// behindOf reports whether the scope has changed since its keys were opened.
func (e *entry) behindOf(row Scope) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return row.Epoch > e.row.Epoch || row.Serial > e.row.Serial || row.Sealing > e.sealing.Number
}

// catchUp brings an entry up to what the database says, or ends it: if the scope was
// revoked, or its key is another one, which is then opened when it is needed.
func (k *Keyring) catchUp(ctx context.Context, s *slot, e *entry) error {
	v, err := k.view(ctx, s.id)
	switch {
	case fault.ReasonOf(err) == fault.WorkspaceNotFound:
		s.drop(e, fault.As(err))
		return err
	case err != nil:
		return err // whoever publishes looks again
	case v.scope.Serving == Revoked:
		s.saw(v.scope)
		s.drop(e, refused(v.scope))
		return refused(v.scope)
	}
	if e.follow(v) {
		return nil
	}
	_, release, err := k.hold(ctx, s.id)
	if err != nil {
		return err
	}
	defer release()
	if e.follow(v) { // somebody else has caught up meanwhile
		return nil
	}
	s.saw(v.scope)
	_, err = k.tryOpen(ctx, s, false)
	return err
}

// follow takes over what has changed in the rows of an entry's scope without changing
// the key: another wrap of the same share, a state, or older keys that are gone. It
// reports false if the entry cannot go on with what it has.
func (e *entry) follow(v view) bool {
	g, err := v.sealing()
	if err != nil {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended.Load() != nil || e.sealing.Number != g.Number || v.scope.Serial != e.row.Serial || e.sealing.Mode != g.Mode {
		return false
	}
	for _, l := range v.links {
		if e.scopeKeys[l.Generation] == nil {
			return false
		}
	}
	if v.scope.Epoch > e.row.Epoch {
		e.row, e.sealing = v.scope, g
		e.keepGenerations(v)
	}
	return true
}

// keepGenerations drops the older scope keys that are no longer linked, and the items'
// keys below them. It is called with e.mu held.
func (e *entry) keepGenerations(v view) {
	linked := map[int64]bool{e.sealing.Number: true}
	for _, l := range v.links {
		linked[l.Generation] = true
	}
	for n, key := range e.scopeKeys {
		if !linked[n] {
			key.Clear()
			delete(e.scopeKeys, n)
		}
	}
	e.dropUnlinked()
}

// dropUnlinked lets go of the items' keys of generations that are gone: another process
// has brought everything under newer ones.
func (e *entry) dropUnlinked() {
	for id, key := range e.keys {
		if e.scopeKeys[key.generation] == nil {
			e.letGo(id)
		}
	}
}

// Hear says that another process has changed a scope's row, or that it may have, be it
// any scope's if id is "". What is open is held against the database at once.
func (k *Keyring) Hear(id ScopeID) {
	for _, s := range k.all() {
		e := s.entry.Load()
		if e == nil || id != "" && s.id != id {
			continue
		}
		k.background("", func(ctx context.Context) {
			v, err := k.view(ctx, s.id)
			if err == nil && (v.scope.Serving == Revoked || e.behindOf(v.scope)) {
				k.catchUp(ctx, s, e)
			}
		})
	}
}
