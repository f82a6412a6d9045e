package vault

import (
	"context"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/failpoint"
)

var beforeRecord = failpoint.New("vault/use/before-record")

// maxValue bounds what is given to a key, in bytes: the largest RSA modulus.
const maxValue = 512

// Use encrypts, decrypts, wraps or unwraps value with a version of a key; with
// the current one if version is "". It returns the version used beside the result.
//
// The caller's rights and the key's state are read after the call begins. If
// anything about the vault has changed when the record is written, they are read
// again in the same transaction, and a refusal then discards the result. Whoever
// begins after a revocation returned is therefore refused.
func (v *Vaults) Use(ctx context.Context, c identity.Caller, vaultName Name, name KeyName, version Version, op Operation, alg Algorithm, value []byte) (Bundle, []byte, error) {
	u, ok := use[op]
	if !ok {
		return Bundle{}, nil, fault.New(fault.NotSupported, "Operation "+string(op)+" is not supported.")
	}
	a := begin(c, u.audit, "")
	a.note("algorithm", clip(string(alg)))
	var b Bundle
	decide := func(tx Tx) error {
		vault, err := v.enter(tx, a, vaultName, name, u.action)
		if err != nil {
			return err
		}
		if b, err = find(tx, a, vault, name, version); err != nil {
			return err
		}
		return b.Version.Permits(op, v.clock())
	}
	m := Material{}
	var seen int64
	err := v.store.View(ctx, func(tx Tx) error {
		if err := decide(tx); err != nil {
			return err
		}
		if err := checkUse(alg, value); err != nil {
			return err
		}
		m = Material{Type: b.Version.Type, Bits: b.Version.Bits, Public: b.Version.Public}
		var err error
		if seen, _, err = tx.VaultRevision(b.Vault.ID); err != nil {
			return err
		}
		if op == Decrypt || op == UnwrapKey {
			m.Sealed, err = tx.VaultKeySealed(b.Key.ID, b.Version.Version)
		}
		return err
	})
	if err != nil {
		return Bundle{}, nil, v.refused(ctx, a, err)
	}
	version = b.Version.Version // a rotation meanwhile does not change what was used
	ref := Ref{Vault: b.Vault.ID, Key: b.Key.ID, Version: version}
	var result []byte
	switch op {
	case Encrypt, WrapKey:
		result, err = v.keys.Encrypt(ctx, ref, m, alg, value)
	default:
		result, err = v.keys.Decrypt(ctx, ref, m, alg, value)
	}
	if err == nil {
		err = beforeRecord.Hit()
	}
	if err != nil {
		return Bundle{}, nil, v.refused(ctx, a, err)
	}
	used := b
	err = v.write(ctx, a, func(tx Tx) error {
		newest, _, err := tx.VaultRevision(ref.Vault)
		if err == nil && newest == seen {
			return nil
		}
		if err := decide(tx); err != nil {
			return err
		}
		if b.Key.ID != ref.Key {
			return keyNotFound(name, version)
		}
		return nil
	})
	if err != nil {
		clear(result)
		v.keys.Forget(ref.Key) // it may have been opened after it was deleted
		return Bundle{}, nil, err
	}
	return used, result, nil
}

func checkUse(alg Algorithm, value []byte) error {
	switch alg {
	case RSAOAEP256, RSAOAEP:
	case RSA15:
		return fault.New(fault.NotSupported, "Algorithm RSA1_5 is switched off: its decryption leaks the plaintext to who can ask often enough.").
			WithMend("Use RSA-OAEP-256.")
	default:
		return fault.New(fault.InvalidArgument, "The algorithm does not fit the key's type.").WithMend("Use RSA-OAEP-256.")
	}
	if len(value) == 0 || len(value) > maxValue {
		return fault.New(fault.InvalidArgument, "The value is empty or too long for the key.")
	}
	return nil
}

// clip keeps a caller's own word short before it is recorded.
func clip(s string) string { return s[:min(len(s), 32)] }
