package encryption

import (
	"context"
	"errors"

	"github.com/kluis-io/kluis/fault"
)

// A Use is the right to use one scope's keys, for one request. It is cheap.
//
// Whoever streams calls [Use.Check] before each chunk that leaves or is stored,
// and whoever publishes calls [Use.Confirm] in the transaction that does: a Use
// that began before a revocation does not outlive it.
type Use struct {
	entry *entry
	scope ScopeID
}

// Scope returns the scope whose keys these are.
func (u *Use) Scope() ScopeID { return u.scope }

// Check reports whether the keys may still be used: nil, or the reason why not. It
// also says that they are in use, so that the lease is renewed.
func (u *Use) Check() error {
	u.entry.touch(u.entry.ring.now())
	return u.entry.check()
}

// Current returns the key that seals what is written to the item now.
func (u *Use) Current(ctx context.Context, item ItemID, p Purpose) (*Key, error) {
	return caughtUp(ctx, u, func() (*Key, error) { return u.entry.current(ctx, item, p) })
}

// Key returns one of the item's keys by its id. It fails with [fault.Integrity]
// if the item has no such key, and with [fault.ItemNotFound] if it is shredded.
func (u *Use) Key(ctx context.Context, item ItemID, id KeyID) (*Key, error) {
	return caughtUp(ctx, u, func() (*Key, error) { return u.entry.open(ctx, item, id) })
}

// caughtUp asks for a key, and once more if another process has changed the scope's key
// since it was opened here.
func caughtUp(ctx context.Context, u *Use, key func() (*Key, error)) (*Key, error) {
	k, err := key()
	if !errors.Is(err, errBehind) {
		return k, err
	}
	ring := u.entry.ring
	ring.mu.RLock()
	s := ring.slots[u.scope]
	ring.mu.RUnlock()
	if s == nil || ring.catchUp(ctx, s, u.entry) != nil {
		return k, err
	}
	return key()
}

// Confirm checks, in the transaction that publishes what was sealed, that the
// scope still serves and that the keys it was sealed under are alive.
func (u *Use) Confirm(tx KeyTx, keys ...KeyID) error {
	if err := u.Check(); err != nil {
		return err
	}
	s, err := tx.Scope(u.scope)
	if err != nil {
		return err
	}
	if s.Serving == Revoked {
		return refused(s)
	}
	for _, id := range keys {
		alive, err := tx.KeyAlive(id)
		if err != nil {
			return err
		}
		if !alive {
			return fault.New(fault.EncryptionChanged, "The item's keys have changed while this was written.").
				WithMend("Try again.")
		}
	}
	return nil
}

// NewItem makes the keys of a new item, for the transaction that creates it.
func (u *Use) NewItem(item ItemID, itemType string) (*ItemKeys, error) {
	return u.entry.newItem(item, itemType)
}

// ItemKeys are the rows of a new item's keys.
type ItemKeys struct {
	Row  Item
	Keys []KeyRow
}

// Insert adds the rows. It fails with [fault.EncryptionChanged] if the scope's key
// was changed since they were made: nobody would bring them under the new one.
func (k *ItemKeys) Insert(tx KeyTx) error {
	sc, err := tx.Scope(k.Row.Scope)
	if err != nil {
		return err
	}
	if sc.Sealing != k.Row.Generation {
		return keysChanged()
	}
	if err := tx.InsertItem(k.Row); err != nil {
		return err
	}
	for _, r := range k.Keys {
		if err := tx.InsertKey(r); err != nil {
			return err
		}
	}
	return nil
}

// Content is implemented by the domains that keep data under items' keys.
type Content interface {
	// Reencrypt brings all that the domain keeps of the job's item from retiring
	// keys to the current ones: committed, staged and soft-deleted alike. It
	// returns nil once nothing of the domain's names a retiring key. It is called
	// again after any failure or crash, and may meet its own work half done.
	//
	// It checks [Job.Check] before each piece and [Job.Confirm] in each
	// transaction.
	Reencrypt(ctx context.Context, job *Job) error
}

// A Job is one item's re-encryption, held by one worker under a fencing token.
type Job struct {
	Use  *Use
	Item ItemID

	fence  int64
	report func(Progress) error
}

// Check reports whether the work may go on.
func (j *Job) Check() error { return j.Use.Check() }

// Confirm checks, in a transaction of the work, that the scope still serves, that
// the keys are alive and that nobody else has taken the work over.
func (j *Job) Confirm(tx KeyTx, keys ...KeyID) error {
	if err := j.Use.Confirm(tx, keys...); err != nil {
		return err
	}
	i, err := tx.Item(j.Item)
	if err != nil {
		return err
	}
	if i.Fence != j.fence {
		return fault.New(fault.EncryptionChanged, "Another worker has taken this item over.")
	}
	return nil
}

// Report tells the progress. Several times a second it is stored, which extends the
// worker's lease and fails with [fault.EncryptionChanged] if that was lost. Call it
// as often as there is progress, and at least every ten seconds.
func (j *Job) Report(p Progress) error { return j.report(p) }
