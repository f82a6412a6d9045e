package encryption

import (
	"context"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/failpoint"
)

// changeUnwitnessed: a scope's new epoch is in the database, and the witness does not
// know.
var changeUnwitnessed = failpoint.New("encryption/change/unwitnessed")

// A Witness remembers outside the database how far each scope's keys have come.
type Witness interface {
	// Advance compares what the database says with what is remembered, and remembers
	// what is newer. It fails with [fault.Integrity] if the database is older.
	Advance(ctx context.Context, scope string, generation, epoch int64) error
}

// witnessed holds a scope's row against the witness, each time before its key is
// opened or its lease renewed: a row of an earlier epoch is sealed as well as the
// newest, and somebody may have put it back. The root has vouched for the row before,
// or its writer could make the witness remember an epoch that never was.
//
// The witness is told after the commit, never before: a change that the database then
// did not take would leave it older than its witness, with nobody to blame. What a
// crash leaves untold, the next opening tells.
func (k *Keyring) witnessed(ctx context.Context, s Scope) error {
	if k.witness == nil {
		return nil
	}
	err := k.witness.Advance(ctx, string(s.ID), s.Sealing, s.Epoch)
	if fault.ReasonOf(err) != fault.Integrity {
		return err
	}
	// The row may have been read before a change that the witness knows already.
	now, viewErr := k.view(ctx, s.ID)
	if viewErr == nil && (now.scope.Epoch != s.Epoch || now.scope.Sealing != s.Sealing) {
		return keysChanged()
	}
	k.log.ErrorContext(ctx, "integrity alert: a scope's keys are older than its witness", "workspace", string(s.ID), "error", err)
	return err
}

// witnessedNow holds a scope's row as it is now against the witness: before a change
// that builds upon it and asks no vault.
func (k *Keyring) witnessedNow(ctx context.Context, id ScopeID) error {
	v, err := k.view(ctx, id)
	if err != nil {
		return err
	}
	g, err := v.sealing()
	if err != nil {
		return err
	}
	sh, err := openGeneration(k.root, v.scope.Tenant, g)
	if err != nil {
		return err
	}
	sh.clear()
	return k.witnessed(ctx, v.scope)
}

// bearWitness tells the witness of a change that has been committed. The change
// stands if it cannot be told, and the next opening tells it.
func (k *Keyring) bearWitness(ctx context.Context, s Scope) error {
	if err := changeUnwitnessed.Hit(); err != nil {
		return err
	}
	if err := k.witnessed(context.WithoutCancel(ctx), s); err != nil {
		k.log.WarnContext(ctx, "telling the witness of a change of keys", "workspace", string(s.ID), "error", err)
	}
	return nil
}
