package vault

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A Kind is what happened to a key, a vault or a principal's rights.
type Kind string

// The kinds of changes.
const (
	KeyCreated   Kind = "keyCreated"
	KeyRotated   Kind = "keyRotated" // it has a new version
	KeyUpdated   Kind = "keyUpdated"
	KeyDisabled  Kind = "keyDisabled" // of one version
	KeyEnabled   Kind = "keyEnabled"  // of one version
	KeyDeleted   Kind = "keyDeleted"
	KeyRecovered Kind = "keyRecovered"
	KeyPurged    Kind = "keyPurged"

	KeyNearExpiry Kind = "keyNearExpiry" // of the current version
	KeyExpired    Kind = "keyExpired"    // of the current version

	VaultUpdated   Kind = "vaultUpdated"
	VaultDeleted   Kind = "vaultDeleted"
	VaultRecovered Kind = "vaultRecovered"

	AccessPolicyChanged Kind = "accessPolicyChanged" // or the vault's permission model; beside VaultUpdated
	NetworkRulesChanged Kind = "networkRulesChanged" // beside VaultUpdated

	RoleAssigned Kind = "roleAssigned"
	RoleRemoved  Kind = "roleRemoved"
)

// A Change is one entry of a vault's feed.
type Change struct {
	Seq       int64 // per vault, from 1
	Vault     ID
	Key       KeyName              // "" if the whole vault is meant
	Version   Version              // the one that changed; "" if all did, or it is not about a key
	Principal identity.PrincipalID // whose rights changed; "" if it is not about rights
	Kind      Kind
	Time      time.Time
}

// A Cursor says how far a reader of a feed has come. It is opaque, holds for one
// caller at one vault, and says nothing about changes that are not the caller's.
type Cursor string

// A Feed is an answer of [Vaults.Changes].
type Feed struct {
	Cursor  Cursor
	Reset   bool // the cursor given is not known: anything may have happened before Cursor
	Changes []Change
}

// The bounds of the feed. A reader that falls further behind starts over.
const (
	feedLength  = 10_000 // changes kept per vault
	feedAge     = 24 * time.Hour
	feedScan    = 500              // changes looked at per transaction
	feedPoll    = time.Second      // for changes that another process made
	maxFeedWait = 60 * time.Second // of one call
	maxPolls    = 64               // that one principal may hold open at one vault
)

// Changes waits until something changes that is the caller's business, at most
// for wait, and returns it: changes of keys that the caller can read now, changes
// of the vault if the caller can read any of its keys, and changes of the
// caller's own rights or its groups'. It needs only a token of the vault's tenant,
// so that a principal whose last role was taken away still hears of it. It answers
// for a soft-deleted vault too, since such a vault may be recovered.
//
// A feed is a hint to ask again, never a decision. What it returns is recorded;
// a call that returns nothing is not.
func (v *Vaults) Changes(ctx context.Context, c identity.Caller, name Name, since Cursor, wait time.Duration) (Feed, error) {
	a := begin(c, "VaultChangesRead", "")
	var vault Vault
	var newest, dropped int64
	err := v.store.View(ctx, func(tx Tx) (err error) {
		if vault, err = tx.Vault(name); err != nil {
			return err
		}
		a.entry.Resource = string(vault.Scope())
		a.note("vault", string(vault.ID))
		if !of(c, vault.Tenant) {
			return denied(c, vault.Tenant, "", "")
		}
		newest, dropped, err = tx.VaultRevision(vault.ID)
		return err
	})
	if err != nil {
		return Feed{}, v.refused(ctx, a, err)
	}
	bind := string(vault.ID) + "/" + string(c.Principal)
	at, ok := v.feed.open(since, bind)
	if !ok || at < dropped || at > newest {
		return Feed{Cursor: v.feed.seal(newest, bind), Reset: true}, nil
	}
	if !v.feed.enter(bind) {
		return Feed{}, v.refused(ctx, a, fault.New(fault.Throttled, "Too many requests wait for this vault's changes."))
	}
	defer v.feed.leave(bind)

	deadline := time.NewTimer(min(wait, maxFeedWait))
	defer deadline.Stop()
	poll := time.NewTicker(feedPoll)
	defer poll.Stop()
	for {
		woken := v.feed.waiter(vault.ID) // before looking, so that nothing falls between
		f := Feed{}
		err := v.store.View(ctx, func(tx Tx) (err error) {
			if vault, err = tx.VaultByID(vault.ID); err != nil { // its settings say who may read
				return err
			}
			if newest, dropped, err = tx.VaultRevision(vault.ID); err != nil {
				return err
			}
			if f.Reset = at < dropped; f.Reset {
				at = newest
			}
			f.Changes, at, err = v.business(tx, c, vault, at)
			return err
		})
		if fault.ReasonOf(err) == fault.VaultNotFound { // purged meanwhile
			return Feed{Cursor: since, Reset: true}, nil
		}
		if ctx.Err() != nil { // nobody is there to be told
			return Feed{}, ctx.Err()
		}
		if err != nil {
			return Feed{}, v.refused(ctx, a, err)
		}
		f.Cursor = v.feed.seal(at, bind)
		if len(f.Changes) > 0 {
			return f, v.record(ctx, a.done())
		}
		if f.Reset {
			return f, nil
		}
		select {
		case <-woken:
		case <-poll.C:
		case <-deadline.C:
			return f, nil
		case <-v.feed.closing:
			return f, nil
		case <-ctx.Done():
			return Feed{}, ctx.Err()
		}
	}
}

// business returns the caller's among the next changes after a number, and the
// number up to which it has looked.
func (v *Vaults) business(tx Tx, c identity.Caller, vault Vault, after int64) ([]Change, int64, error) {
	var mine []Change
	readable := map[string]bool{} // by canonical key name; "" is the vault
	admitted := v.admits(vault, c) == nil
	for {
		next, err := tx.VaultChanges(vault.ID, after, feedScan)
		if err != nil || len(next) == 0 {
			return mine, after, err
		}
		for _, ch := range next {
			after = ch.Seq
			if ch.Principal != "" {
				if slices.Contains(c.Subjects(), ch.Principal) {
					mine = append(mine, ch)
				}
				continue
			}
			can, known := readable[ch.Key.Key()]
			if !known {
				if can, err = v.reads(tx, c, vault, ch.Key); err != nil {
					return nil, 0, err
				}
				readable[ch.Key.Key()] = can
			}
			if can && (admitted || ch.Key == "") { // who was shut out hears that, and of no key
				mine = append(mine, ch)
			}
		}
		if len(mine) > 0 {
			return mine, after, nil
		}
	}
}

// reads reports whether the caller can read a key, or any key of the vault if
// the name is "", wherever it calls from.
func (v *Vaults) reads(tx Tx, c identity.Caller, vault Vault, name KeyName) (bool, error) {
	if name != "" {
		return v.mayRead(tx, c, vault, vault.KeyScope(name))
	}
	ok, err := v.mayRead(tx, c, vault, vault.Scope())
	if ok || err != nil || vault.byPolicy() {
		return ok, err
	}
	roles, action := v.roles, actionKeyRead
	if vault.Flavour == ManagedHSM {
		roles, action = rbac.HSMRoles, localAction(actionKeyRead)
	}
	all, err := tx.RoleAssignmentsAt(vault.Scope(), true)
	if err != nil {
		return false, err
	}
	for _, a := range all {
		if a.Tenant != vault.Tenant || !slices.Contains(c.Subjects(), a.Principal) || !vault.Scope().Contains(a.Scope) {
			continue
		}
		if _, ok := rbac.Allowed(roles, []rbac.Assignment{a}, action, true, a.Scope); ok {
			return true, nil
		}
	}
	return false, nil
}

// A feed wakes those who wait in this process, and seals cursors.
type feed struct {
	aead    cipher.AEAD
	closing chan struct{}
	once    sync.Once

	mu      sync.Mutex
	waiting map[ID]chan struct{} // closed at the vault's next change
	polls   map[string]int
}

// newFeed returns a feed under a key that all processes of the vault have, or under one
// that lives as long as this process: then a restart makes every reader start over.
func newFeed(key *envelope.Key) *feed {
	if key == nil {
		key = envelope.NewKey()
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return &feed{aead: aead, closing: make(chan struct{}), waiting: map[ID]chan struct{}{}, polls: map[string]int{}}
}

func (f *feed) close() { f.once.Do(func() { close(f.closing) }) }

func (f *feed) seal(at int64, bind string) Cursor {
	return Cursor(base64.RawURLEncoding.EncodeToString(
		f.aead.Seal(nil, nil, binary.BigEndian.AppendUint64(nil, uint64(at)), []byte(bind))))
}

func (f *feed) open(c Cursor, bind string) (int64, bool) {
	b, err := base64.RawURLEncoding.DecodeString(string(c))
	if err != nil {
		return 0, false
	}
	b, err = f.aead.Open(nil, nil, b, []byte(bind))
	if err != nil || len(b) != 8 {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(b)), true
}

func (f *feed) enter(bind string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.polls[bind] >= maxPolls {
		return false
	}
	f.polls[bind]++
	return true
}

func (f *feed) leave(bind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.polls[bind]--; f.polls[bind] == 0 {
		delete(f.polls, bind)
	}
}

// Hear says that another process has changed a vault, or that it may have: who waits for
// the vault's feed looks at once.
func (v *Vaults) Hear(id ID) { v.feed.wake(id) }

// waiter returns a channel that is closed at the vault's next change.
func (f *feed) waiter(id ID) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch := f.waiting[id]
	if ch == nil {
		ch = make(chan struct{})
		f.waiting[id] = ch
	}
	return ch
}

func (f *feed) wake(ids ...ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		if ch := f.waiting[id]; ch != nil {
			close(ch)
			delete(f.waiting, id)
		}
	}
}
