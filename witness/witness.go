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
	"sync"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
)

// A Store keeps records by name: lower-case letters, digits, hyphens and slashes. A
// folder does, and so could a bucket or somebody else's service. It is trusted with
// nothing but to give back what it was given.
type Store interface {
	// Read returns a record, or nil if there is none of that name.
	Read(ctx context.Context, name string) ([]byte, error)
	// Write replaces a record, whole or not at all, and returns once that is durable.
	Write(ctx context.Context, name string, record []byte) error
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

	mu   sync.Mutex // one writer at a time, so that a mark never goes back
	head *record    // nil if there is none
}

// The kinds of records, and the name of the head's.
const (
	headKind = "head"
	markKind = "mark"
	headName = "head"
	markName = "scopes/"
)

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
	w.head = head
	if head != nil {
		w.base.Restore = head.Restore
	}
	return w, nil
}

// Begin returns a witness that knows nothing yet and begins the time of a declared
// restore: what was remembered before it binds nobody any more. Nothing is written
// before the first checkpoint is stored.
func Begin(s Store, r Root, party string) *Witness {
	id := make([]byte, 16)
	rand.Read(id)
	w := &Witness{store: s, key: r.Derive("kluis/v1/witness")}
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
func (w *Witness) Load(context.Context) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.head == nil {
		return nil, nil
	}
	return []byte(w.head.Checkpoint), nil
}

// Store makes a checkpoint the head's. It is called after the checkpoint, and what
// it covers, is durable in the database.
func (w *Witness) Store(ctx context.Context, note []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	head := w.base
	head.Kind, head.Checkpoint = headKind, string(note)
	if err := w.write(ctx, headName, &head); err != nil {
		return err
	}
	w.head = &head
	return nil
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
	w.mu.Lock()
	defer w.mu.Unlock()
	mark, err := w.read(ctx, markName+scope, markKind, scope)
	if err != nil {
		return err
	}
	switch {
	case mark != nil && mark.Restore != w.base.Restore:
	case mark != nil && (mark.Epoch > epoch || mark.Generation > generation || mark.Epoch == epoch && mark.Generation != generation):
		return fault.New(fault.Integrity, fmt.Sprintf("The scope's keys are older than the witness outside the database has seen them: epoch %d of generation %d, and it has seen epoch %d of generation %d.",
			epoch, generation, mark.Epoch, mark.Generation)).About(scope).WithMend(declareMend)
	case mark != nil && mark.Epoch == epoch:
		return nil
	case mark == nil && epoch > 1 && w.base.Restore == "":
		return fault.New(fault.Integrity, "The scope's keys have changed, and the witness outside the database knows nothing of it: its record is gone.").
			About(scope).WithMend(declareMend)
	}
	next := w.base
	next.Kind, next.Scope, next.Generation, next.Epoch = markKind, scope, generation, epoch
	return w.write(ctx, markName+scope, &next)
}

// declareMend tells what to do about a database that does not match its witness.
const declareMend = "If somebody restored the database on purpose, or the witness is lost, declare it: kluis restore --declare. " +
	"Otherwise keep the database and the witness as they are: an old copy was put back."

func (w *Witness) write(ctx context.Context, name string, r *record) error {
	r.MAC = r.mac(w.key)
	if err := w.store.Write(ctx, name, r.encode()); err != nil {
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
