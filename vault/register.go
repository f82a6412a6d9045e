package vault

import (
	"context"
	"sync"

	"github.com/kluis-io/kluis/identity"
)

// A register writes uses of keys down. Those that come while one transaction is
// under way share the next, with one look at each vault's revision and one count of
// the uses that are alike.
type register struct {
	store Store

	mu      sync.Mutex
	writing bool
	waiting []*record
}

// A record is a use to be written down if its vault is still at the revision at
// which the use was decided on.
type record struct {
	act      *act
	ref      Ref
	revision int64
	usage    Usage

	written bool
	turn    chan bool // whether it is to write what waits; else it was its turn
}

// maxRecords is the most that one transaction writes.
const maxRecords = 128

// write reports whether the use is on record, durably. If not, nothing of it was
// written: the vault has changed meanwhile, or the transaction failed; it may have
// failed for another's sake.
func (r *register) write(ctx context.Context, rec *record) bool {
	rec.turn = make(chan bool, 1)
	r.mu.Lock()
	r.waiting = append(r.waiting, rec)
	leads := !r.writing
	r.writing = true
	r.mu.Unlock()
	if leads || <-rec.turn {
		r.lead(ctx)
	}
	return rec.written
}

// lead writes what waits, tells the others, and has one of those who came meanwhile
// go on.
func (r *register) lead(ctx context.Context) {
	r.mu.Lock()
	n := min(len(r.waiting), maxRecords)
	all := r.waiting[:n:n]
	r.waiting = r.waiting[n:]
	r.mu.Unlock()

	err := r.store.Update(context.WithoutCancel(ctx), func(tx Tx) error { return writeAll(tx, all) })
	if err != nil {
		for _, rec := range all {
			rec.written = false
		}
	}

	r.mu.Lock()
	if r.writing = len(r.waiting) > 0; r.writing {
		r.waiting[0].turn <- true
	}
	r.mu.Unlock()
	for _, rec := range all[1:] {
		rec.turn <- false
	}
}

func writeAll(tx Tx, all []*record) error {
	type alike struct {
		key       KeyID
		version   Version
		principal identity.PrincipalID
		operation Operation
	}
	counts := map[alike]Usage{}
	revisions := map[ID]int64{}
	for _, rec := range all {
		newest, known := revisions[rec.ref.Vault]
		if !known {
			var err error
			if newest, _, err = tx.VaultRevision(rec.ref.Vault); err != nil {
				newest = -1 // of no vault: who decides again learns what is wrong
			}
			revisions[rec.ref.Vault] = newest
		}
		if newest != rec.revision {
			continue
		}
		if err := appendEntry(tx, rec.act.done()); err != nil {
			return err
		}
		rec.written = true
		u := rec.usage
		of := alike{rec.ref.Key, u.Version, u.Principal, u.Operation}
		u.Count += counts[of].Count
		if last := counts[of].Last; last.After(u.Last) {
			u.Last = last
		}
		counts[of] = u
	}
	for of, u := range counts {
		if err := tx.CountVaultUse(of.key, u); err != nil {
			return err
		}
	}
	return nil
}
