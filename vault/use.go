package vault

import (
	"context"
	"crypto/hmac"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/failpoint"
)

var beforeRecord = failpoint.New("vault/use/before-record")

// Use encrypts, decrypts, signs, verifies, wraps or unwraps with a version of a
// key; with the current one if version is "". It returns the version used beside
// the result. Verifying says in the result whether the signature holds.
//
// The caller's rights and the key's state are read after the call begins. If
// anything about the vault has changed when the record is written, they are read
// again in the same transaction, and a refusal then discards the result. Whoever
// begins after a revocation returned is therefore refused.
func (v *Vaults) Use(ctx context.Context, c identity.Caller, vaultName Name, name KeyName, version Version, op Operation, in Input) (Bundle, Output, error) {
	u, ok := use[op]
	if !ok {
		return Bundle{}, Output{}, fault.New(fault.NotSupported, "Operation "+string(op)+" is not supported.")
	}
	a := begin(c, u.audit, "")
	a.note("algorithm", clip(string(in.Algorithm)))
	var b Bundle
	decide := func(tx Tx) error {
		vault, err := v.enter(tx, a, vaultName, name, u.action)
		if err != nil {
			return err
		}
		if b, err = find(tx, a, vault, name, version); err != nil {
			return err
		}
		if err := b.Version.Permits(op, v.clock()); err != nil {
			return err
		}
		return in.check(b.Version, op)
	}
	m := Material{}
	var seen int64
	err := v.store.View(ctx, func(tx Tx) error {
		if err := decide(tx); err != nil {
			return err
		}
		m = b.Version.material()
		var err error
		if seen, _, err = tx.VaultRevision(b.Vault.ID); err != nil {
			return err
		}
		if b.Version.private(op) {
			m.Sealed, err = tx.VaultKeySealed(b.Key.ID, b.Version.Version)
		}
		return err
	})
	if err != nil {
		return Bundle{}, Output{}, v.refused(ctx, a, err)
	}
	version = b.Version.Version // a rotation meanwhile does not change what was used
	ref := Ref{Vault: b.Vault.ID, Key: b.Key.ID, Version: version}
	turn, err := v.load.use(ctx, b.Vault, b.Version)
	if err != nil {
		return Bundle{}, Output{}, v.refused(ctx, a, err)
	}
	defer turn.end()
	result, err := v.work(ctx, ref, b.Version, m, op, in)
	turn.worked()
	if err == nil {
		err = beforeRecord.Hit()
	}
	if err != nil {
		return Bundle{}, Output{}, v.refused(ctx, a, err)
	}
	used := b
	err = v.write(ctx, a, func(tx Tx) error {
		newest, _, err := tx.VaultRevision(ref.Vault)
		if err != nil || newest != seen {
			if err := decide(tx); err != nil {
				return err
			}
			if b.Key.ID != ref.Key {
				return keyNotFound(name, version)
			}
		}
		return tx.CountVaultUse(ref.Key, Usage{Version: version, Principal: c.Principal, Operation: op, Last: v.clock()})
	})
	if err != nil {
		clear(result.Value)
		v.forget(ref.Key) // it may have been opened after it was deleted
		return Bundle{}, Output{}, err
	}
	return used, result, nil
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
