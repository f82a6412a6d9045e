package vault

import (
	"context"
	"crypto/hmac"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/rbac"
)

var beforeRecord = failpoint.New("vault/use/before-record")

// Use encrypts, decrypts, signs, verifies, wraps or unwraps with a version of a
// key; with the current one if version is "". It returns the version used beside
// the result. Verifying says in the result whether the signature holds.
//
// It is decided on the caller's rights and the key's state as they are read after
// the call begins, or as they are remembered: see [memory]. If anything about the
// vault has changed since then when the use is recorded, they are read again in the
// same transaction, and a refusal discards the result. Whoever begins after a
// revocation returned is therefore refused.
func (v *Vaults) Use(ctx context.Context, c identity.Caller, vaultName Name, name KeyName, version Version, op Operation, in Input) (Bundle, Output, error) {
	of, ok := use[op]
	if !ok {
		return Bundle{}, Output{}, fault.New(fault.NotSupported, "Operation "+string(op)+" is not supported.")
	}
	a := begin(c, of.audit, "")
	a.note("algorithm", clip(string(in.Algorithm)))
	u := &using{Vaults: v, act: a, question: ask(c, vaultName, name, version, op), action: of.action, input: in}
	d, remembered, err := u.decision(ctx)
	if err != nil {
		return Bundle{}, Output{}, v.refused(ctx, a, err)
	}
	turn, err := v.load.use(ctx, d.bundle.Vault, d.bundle.Version)
	if err != nil {
		return Bundle{}, Output{}, v.refused(ctx, a, err)
	}
	defer turn.end()
	result, err := v.work(ctx, d.ref(), d.bundle.Version, d.material, op, in)
	turn.worked()
	if err == nil {
		err = beforeRecord.Hit()
	}
	if err != nil {
		if remembered { // what a key says of a value is for those who may use it now
			if _, refusal := u.read(ctx); refusal != nil {
				err = refusal
			}
		}
		return Bundle{}, Output{}, v.refused(ctx, a, err)
	}
	if err := u.record(ctx, d); err != nil {
		clear(result.Value)
		v.forget(d.bundle.Key.ID) // it may have been opened after it was deleted
		return Bundle{}, Output{}, err
	}
	return d.bundle, result, nil
}

// A using is one call of [Vaults.Use].
type using struct {
	*Vaults
	act      *act
	question question
	action   rbac.Action
	input    Input
}

// decision returns the remembered answer to the question, or a fresh one.
func (u *using) decision(ctx context.Context) (d *decision, remembered bool, err error) {
	d, drops := u.memory.decision(u.question)
	if d != nil && u.fits(d.bundle.Version) == nil {
		d.recall(u.act)
		return d, true, nil
	}
	if d, err = u.read(ctx); err == nil {
		u.memory.keep(u.question, d, drops)
	}
	return d, false, err
}

// read decides on what the store says.
func (u *using) read(ctx context.Context) (*decision, error) {
	d := &decision{}
	err := u.store.View(ctx, func(tx Tx) (err error) {
		if d.bundle, err = u.decide(tx); err != nil {
			return err
		}
		if d.revision, _, err = tx.VaultRevision(d.bundle.Vault.ID); err != nil {
			return err
		}
		d.material = d.bundle.Version.material()
		if d.bundle.Version.private(u.question.operation) {
			d.material.Sealed, err = tx.VaultKeySealed(d.bundle.Key.ID, d.bundle.Version.Version)
		}
		return err
	})
	d.note(u.act)
	return d, err
}

// decide finds the version, and checks that the caller may use it so.
func (u *using) decide(tx Tx) (b Bundle, err error) {
	if b.Vault, err = u.enter(tx, u.act, u.question.vault, u.question.key, u.action); err != nil {
		return b, err
	}
	if b, err = find(tx, u.act, b.Vault, u.question.key, u.question.version); err != nil {
		return b, err
	}
	return b, u.fits(b.Version)
}

// fits checks that the version can be used so now.
func (u *using) fits(k KeyVersion) error {
	if err := k.Permits(u.question.operation, u.clock()); err != nil {
		return err
	}
	return u.input.check(k, u.question.operation)
}

// record writes the use down, unless it has been revoked since it was decided on.
func (u *using) record(ctx context.Context, d *decision) error {
	ref := d.ref()
	usage := Usage{Version: ref.Version, Principal: u.question.principal, Operation: u.question.operation, Count: 1, Last: u.clock()}
	if u.register.write(ctx, &record{act: u.act, ref: ref, revision: d.revision, usage: usage}) {
		return nil
	}
	u.memory.forget(ref.Vault)
	u.question.version = ref.Version // a rotation meanwhile does not change what was used
	return u.write(ctx, u.act, func(tx Tx) error {
		newest, _, err := tx.VaultRevision(ref.Vault)
		if err != nil || newest != d.revision {
			b, err := u.decide(tx)
			if err == nil && b.Key.ID != ref.Key {
				err = keyNotFound(u.question.key, ref.Version)
			}
			if err != nil {
				return err
			}
		}
		return tx.CountVaultUse(ref.Key, usage)
	})
}

// material returns what [Keys] is told of a version, without the private part.
func (k KeyVersion) material() Material {
	return Material{Type: k.Type, Bits: k.Bits, Curve: k.Curve, Public: k.Public}
}

// private reports whether an operation takes the private part: all of an oct key's
// do.
func (k KeyVersion) private(op Operation) bool {
	return k.Type.Family() == Oct || op == Decrypt || op == Sign || op == UnwrapKey
}

// work does the operation.
func (v *Vaults) work(ctx context.Context, ref Ref, k KeyVersion, m Material, op Operation, in Input) (Output, error) {
	if !k.private(op) {
		return k.publicly(op, in)
	}
	keys, err := v.keeper(k)
	if err != nil {
		return Output{}, err
	}
	switch op {
	case Encrypt, WrapKey:
		return keys.Encrypt(ctx, ref, m, in)
	case Decrypt, UnwrapKey:
		return keys.Decrypt(ctx, ref, m, in)
	}
	signature, err := keys.Sign(ctx, ref, m, in)
	if op == Verify { // of a MAC, which only who can make it can verify
		return Output{Valid: hmac.Equal(signature, in.Signature)}, err
	}
	return Output{Value: signature}, err
}

// clip keeps a caller's own word short before it is recorded.
func clip(s string) string { return s[:min(len(s), 32)] }
