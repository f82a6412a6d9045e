package vault

import (
	"context"
	"slices"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// An ImportSpec is a key that was made elsewhere, either in the open or wrapped for
// a key of this vault.
type ImportSpec struct {
	Type    KeyType
	Private []byte       // PKCS #8, DER, or an oct key's bytes; the caller clears it
	Wrapped *WrappedSpec // instead of Private; for types that end in -HSM
	KeyUpdate
}

// A WrappedSpec is a key wrapped for another that does nothing else: whose only
// operation is import.
type WrappedSpec struct {
	Algorithm  WrapAlgorithm
	KEK        KeyName
	KEKVersion Version // "" for the current one
	Value      []byte
}

// ImportKey takes a key in, or a new version of it if the name is in use.
func (v *Vaults) ImportKey(ctx context.Context, c identity.Caller, vaultName Name, name KeyName, spec ImportSpec) (Bundle, error) {
	a := begin(c, "KeyImport", "")
	var wrapped Wrapped
	return v.make(ctx, a, name, making{
		enter: func(tx Tx) (Vault, error) { return v.enter(tx, a, vaultName, name, actionKeyImport) },
		plan: func(tx Tx, vault Vault, _ *Key) (KeySpec, error) {
			out := KeySpec{Type: spec.Type, KeyUpdate: spec.KeyUpdate}
			if err := out.check(vault.Flavour); err != nil {
				return out, err
			}
			if slices.Contains(*out.Operations, Import) {
				return out, fault.New(fault.InvalidArgument, "A key for imports is made in the vault, and not imported.")
			}
			if spec.Wrapped == nil {
				return out, nil
			}
			if !out.Type.HSM() {
				return out, fault.New(fault.InvalidArgument, "A wrapped key's kty ends in -HSM.")
			}
			var err error
			wrapped, err = v.kek(tx, a, vault, *spec.Wrapped)
			return out, err
		},
		key: func(ctx context.Context, keys Keys, ref Ref, s KeySpec, _ []byte) (Material, error) {
			if spec.Wrapped != nil {
				return keys.ImportWrapped(ctx, ref, s.Type, wrapped)
			}
			return keys.Import(ctx, ref, s.Type, spec.Private)
		},
	})
}

// kek finds the key for which a key was wrapped.
func (v *Vaults) kek(tx Tx, a *act, vault Vault, w WrappedSpec) (Wrapped, error) {
	k, err := liveKey(tx, vault, w.KEK)
	if err != nil {
		return Wrapped{}, err
	}
	if w.KEKVersion == "" {
		w.KEKVersion = k.Current
	}
	kv, err := tx.VaultKeyVersion(k.ID, w.KEKVersion)
	if fault.ReasonOf(err) == fault.KeyNotFound {
		err = keyNotFound(w.KEK, w.KEKVersion)
	}
	if err == nil {
		err = kv.Permits(Import, v.clock())
	}
	if err != nil {
		return Wrapped{}, err
	}
	if keys, err := v.maker(kv.Type); err != nil || keys.Platform() != kv.Platform {
		return Wrapped{}, fault.New(fault.NotSupported, "The key that the blob was wrapped for does not live where keys are made now.")
	}
	a.note("kek", string(k.ID))
	a.note("kekVersion", string(kv.Version))
	m := kv.material()
	m.Sealed, err = tx.VaultKeySealed(k.ID, kv.Version)
	return Wrapped{Algorithm: w.Algorithm, KEK: Ref{Vault: vault.ID, Key: k.ID, Version: kv.Version}, Material: m, Value: w.Value}, err
}
