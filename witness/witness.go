// Package witness remembers, outside a party's database, how far the database had
// come, so that an older one put back in its place is refused.
//
// Every check that a database can make of itself passes on an old copy of it: what
// was revoked, removed or re-sealed since is back. So a [Witness] keeps small
// records elsewhere: one head a party, which holds the audit log's newest signed
// checkpoint and so covers every act that was audited, and one mark a scope, which
// holds its sealing generation and its epoch and so covers single rows. Each carries
// an HMAC under a key of the party's root.
//
// A record is written second, after the commit that it tells of. A crash between
// the two leaves a database that is newer than its witness, which is accepted and
// told at once; a database that is older than its witness never comes of a crash,
// and is refused until somebody declares a restore. Every record says in which
// declared restore's time it was written, so that the marks of an earlier time bind
// nobody.
//
// Any number of processes may write to one witness: whether a record takes another's
// place is decided in one step with its taking it, so that none ever goes back.
//
// Who can write both the database and the witness can put both back: keep the
// witness where the database's keeper and its backups do not reach. Package root
// keeps the root; what a checkpoint covers is package audit's business.
package witness

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/hex"
	"fmt"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
)

// A Store keeps records by name: lower-case letters, digits, hyphens, dots and slashes.
// A folder does, and a bucket that knows conditional writes. It is trusted with nothing
// but to give back what it was given.
type Store interface {
	// Read returns a record, or nil if there is none of that name.
	Read(ctx context.Context, name string) ([]byte, error)
	// Replace gives decide the record of that name, or nil if there is none, and puts
	// the one that it returns in its place, whole or not at all, and durably; nil leaves
	// it as it is. Nobody else's Replace comes between the two. It may ask decide more
	// than once, and returns its error.
	Replace(ctx context.Context, name string, decide func(old []byte) ([]byte, error)) error
}

// A Root is a party's root key, as far as this package needs it.
type Root interface {
	ID() string
	Instance() string
	Generation() int
	Derive(purpose string) *envelope.Key
}

// A Witness keeps one party's records. It is safe for concurrent use.
type Witness struct {
	store Store
	key   *envelope.Key
	base  record // what every record of the party begins with
	fresh bool   // it begins the time of a restore: whatever head is there goes
}

// The kinds of records, and the name of the head's.
const (
	headKind = "head"
	markKind = "mark"
	headName = "head.json"
)

// markName is the name of a scope's mark.
func markName(scope string) string { return "scopes/" + scope + ".json" }

// Open opens a party's witness, and reads its head if there is one. It fails with
// [fault.Integrity] if the head is not one that this party's root has written.
func Open(ctx context.Context, s Store, r Root, party string) (*Witness, error) {
	w := &Witness{store: s, key: r.Derive("kluis/v1/witness")}
	w.base = record{Version: recordVersion, Instance: r.Instance(), Party: party, RootID: r.ID(), RootGeneration: r.Generation()}
	head, err := w.read(ctx, headName, headKind, "")
	if err != nil {
		w.Close()
		return nil, err
	}
	if head != nil {
		w.base.Restore = head.Restore
	}
	return w, nil
}

// Begin returns a witness that knows nothing yet and begins the time of a declared
// restore: what was remembered before it binds nobody any more. Nothing is written
// before the first checkpoint is stored, which takes any other's place.
func Begin(s Store, r Root, party string) *Witness {
	id := make([]byte, 16)
	rand.Read(id)
	w := &Witness{store: s, key: r.Derive("kluis/v1/witness"), fresh: true}
	w.base = record{
		Version: recordVersion, Instance: r.Instance(), Party: party, RootID: r.ID(), RootGeneration: r.Generation(),
		Restore: hex.EncodeToString(id),
	}
	return w
}

// Restore names the declared restore in whose time the witness writes; it is empty
// if none was ever declared.
func (w *Witness) Restore() string { return w.base.Restore }

// Close overwrites the key. Nothing can be done with the witness any more.
func (w *Witness) Close() { w.key.Clear() }

// Load returns the note of the checkpoint that the head holds, or nil if there is
// none.
func (w *Witness) Load(ctx context.Context) ([]byte, error) {
	head, err := w.read(ctx, headName, headKind, "")
	if err != nil || head == nil {
		return nil, err
	}
	return []byte(head.Checkpoint), w.sameTime(head)
}

// sameTime fails if somebody has declared a restore since the witness was opened: this
// process has the database open that it was declared of, or one from before.
func (w *Witness) sameTime(head *record) error {
	if head.Restore == w.base.Restore {
		return nil
	}
	return fault.New(fault.Integrity, "A restore was declared while this process was running.").WithMend("Restart it.")
}

// Store makes a checkpoint the head's if replaces says so of the one that is there,
// which is nil if there is none. It is called after the checkpoint, and what it covers,
// is durable in the database.
func (w *Witness) Store(ctx context.Context, note []byte, replaces func(old []byte) (bool, error)) error {
	next := w.base
	next.Kind, next.Checkpoint = headKind, string(note)
	return w.replace(ctx, headName, func(old []byte) (*record, error) {
		if old == nil || w.fresh {
			return &next, nil
		}
		head, err := w.believe(old, headKind, "")
		if err == nil {
			err = w.sameTime(head)
		}
		if err != nil {
			return nil, err
		}
		if ok, err := replaces([]byte(head.Checkpoint)); err != nil || !ok {
			return nil, err
		}
		return &next, nil
	})
}

// Advance holds what a database says of a scope, its sealing generation and its
// epoch, against the scope's mark, and moves the mark on if it is behind. It fails
// with [fault.Integrity] if the database is behind instead, and with
// [fault.Unavailable] if the witness cannot be asked or told.
//
// A scope gets its mark when it is first opened, in epoch 1: a later one without a
// mark has lost it. In the time of a declared restore a scope without a mark of that
// time is taken as it is.
func (w *Witness) Advance(ctx context.Context, scope string, generation, epoch int64) error {
	next := w.base
	next.Kind, next.Scope, next.Generation, next.Epoch = markKind, scope, generation, epoch
	mark, err := w.read(ctx, markName(scope), markKind, scope)
	if err != nil {
		return err
	}
	if behind, err := w.behind(mark, &next); err != nil || !behind {
		return err
	}
	return w.replace(ctx, markName(scope), func(old []byte) (*record, error) {
		mark, err := w.believe(old, markKind, scope)
		if err != nil {
			return nil, err
		}
		if behind, err := w.behind(mark, &next); err != nil || !behind {
			return nil, err
		}
		return &next, nil
	})
}

// behind reports whether a scope's mark, nil if it has none, is to move on to the next.
func (w *Witness) behind(mark, next *record) (bool, error) {
	switch {
	case mark != nil && mark.Restore != w.base.Restore:
	case mark != nil && (mark.Epoch > next.Epoch || mark.Generation > next.Generation || mark.Epoch == next.Epoch && mark.Generation != next.Generation):
		return false, fault.New(fault.Integrity, fmt.Sprintf("The scope's keys are older than the witness outside the database has seen them: epoch %d of generation %d, and it has seen epoch %d of generation %d.",
			next.Epoch, next.Generation, mark.Epoch, mark.Generation)).About(next.Scope).WithMend(declareMend)
	case mark != nil && mark.Epoch == next.Epoch:
		return false, nil
	case mark == nil && next.Epoch > 1 && w.base.Restore == "":
		return false, fault.New(fault.Integrity, "The scope's keys have changed, and the witness outside the database knows nothing of it: its record is gone.").
			About(next.Scope).WithMend(declareMend)
	}
	return true, nil
}

// declareMend tells what to do about a database that does not match its witness.
const declareMend = "If somebody restored the database on purpose, or the witness is lost, declare it: kluis restore --declare. " +
	"Otherwise keep the database and the witness as they are: an old copy was put back."

// replace puts the record that decide returns in the place of the one that is there.
func (w *Witness) replace(ctx context.Context, name string, decide func(old []byte) (*record, error)) error {
	var refused error
	err := w.store.Replace(ctx, name, func(old []byte) ([]byte, error) {
		var next *record
		if next, refused = decide(old); refused != nil || next == nil {
			return nil, refused
		}
		next.MAC = next.mac(w.key)
		return next.encode(), nil
	})
	switch {
	case refused != nil:
		return refused
	case err != nil:
		return fault.Wrap(fault.Unavailable, err, "The witness outside the database could not be told.")
	}
	return nil
}

// read returns a record of this party's, or nil if there is none.
func (w *Witness) read(ctx context.Context, name, kind, scope string) (*record, error) {
	text, err := w.store.Read(ctx, name)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "The witness outside the database could not be asked.")
	}
	return w.believe(text, kind, scope)
}

// believe reads what the store gave for a record of this party's; nil is none.
func (w *Witness) believe(text []byte, kind, scope string) (*record, error) {
	if text == nil {
		return nil, nil
	}
	r, err := parse(text)
	if err != nil {
		return nil, fault.Wrap(fault.Integrity, err, "A record of the witness outside the database is damaged.").WithMend(declareMend)
	}
	same := r.Instance == w.base.Instance && r.Party == w.base.Party && r.RootID == w.base.RootID
	if !same {
		return nil, fault.New(fault.Integrity, "A record of the witness outside the database is of another installation, party or root.").
			WithMend("Name the folder that belongs to this installation. " + declareMend)
	}
	if !hmac.Equal(r.MAC, r.mac(w.key)) || r.Kind != kind || r.Scope != scope {
		return nil, fault.New(fault.Integrity, "A record of the witness outside the database was changed.").WithMend(declareMend)
	}
	if r.RootGeneration > w.base.RootGeneration {
		return nil, fault.New(fault.Integrity, fmt.Sprintf("The root is of generation %d, and the witness outside the database has seen generation %d.",
			w.base.RootGeneration, r.RootGeneration)).WithMend("An old root file was put back: find the newest.")
	}
	return &r, nil
}
