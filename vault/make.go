package vault

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/failpoint"
)

var afterMake = failpoint.New("vault/make/after-key")

// A KeySpec is what a new key, or a new version of one, is to be.
type KeySpec struct {
	Type  KeyType
	Bits  int   // of RSA 2048, 3072 or 4096, of oct 128, 192 or 256; 0 stands for 2048 and 256
	Curve Curve // of EC; "" stands for P-256
	KeyUpdate
}

// check checks what the key is to be, and fills in what was left out. In a managed
// HSM all keys live in the HSM, and only there are there oct keys.
func (s *KeySpec) check(f Flavour) error {
	if f == ManagedHSM {
		s.Type = s.Type.InHSM()
	}
	shape := Shape{s.Type, s.Bits, s.Curve}
	if err := shape.complete(); err != nil {
		return err
	}
	if s.Type.Family() == Oct && f != ManagedHSM {
		return fault.New(fault.NotSupported, "Only managed HSMs hold keys of type oct.")
	}
	s.Bits, s.Curve = shape.Bits, shape.Curve
	if s.Operations == nil {
		can := operations[s.Type.Family()]
		s.Operations = new(slices.Clone(can.all[:can.defaults]))
	}
	return nil
}

// CreateKey makes a key, or a new version of it if the name is in use.
func (v *Vaults) CreateKey(ctx context.Context, c identity.Caller, vaultName Name, name KeyName, spec KeySpec) (Bundle, error) {
	a := begin(c, "KeyCreate", "")
	return v.make(ctx, a, name, making{
		enter: func(tx Tx) (Vault, error) { return v.enter(tx, a, vaultName, name, actionKeyCreate) },
		plan: func(_ Tx, vault Vault, _ *Key) (KeySpec, error) {
			spec := spec
			err := spec.check(vault.Flavour)
			return spec, err
		},
		key: generate,
	})
}

// RotateKey makes a new version with the current one's type, size, operations and
// tags. It expires when the key's rotation policy says.
func (v *Vaults) RotateKey(ctx context.Context, c identity.Caller, vaultName Name, name KeyName) (Bundle, error) {
	a := begin(c, "KeyRotate", "")
	return v.make(ctx, a, name, making{
		enter: func(tx Tx) (Vault, error) { return v.enter(tx, a, vaultName, name, actionKeyRotate) },
		plan:  v.next(name),
		key:   generate,
	})
}

// next plans the version that follows on the current one.
func (v *Vaults) next(name KeyName) func(Tx, Vault, *Key) (KeySpec, error) {
	return func(tx Tx, vault Vault, k *Key) (KeySpec, error) {
		if k == nil {
			return KeySpec{}, keyNotFound(name, "")
		}
		cur, err := tx.VaultKeyVersion(k.ID, k.Current)
		if err != nil {
			return KeySpec{}, err
		}
		cur.Tags = cloneTags(cur.Tags)
		delete(cur.Tags, TagDrill) // the new version is not away
		spec := KeySpec{Type: cur.Type, Bits: cur.Bits, Curve: cur.Curve, KeyUpdate: KeyUpdate{Operations: &cur.Operations, Tags: &cur.Tags}}
		p, err := policyOf(tx, vault, k.ID)
		if p.Expiry != "" {
			spec.Expires = new(p.Expiry.After(v.clock()).Truncate(time.Second))
		}
		return spec, err
	}
}

// A making is how a new version of a key comes about. enter finds the vault and
// authorises; plan says what to make of the existing key, nil if the name is free;
// key makes it. A new key gets the policy, if there is one.
type making struct {
	enter  func(Tx) (Vault, error)
	plan   func(Tx, Vault, *Key) (KeySpec, error)
	key    func(ctx context.Context, keys Keys, ref Ref, s KeySpec, place []byte) (Material, error)
	policy *RotationPolicy
}

func generate(ctx context.Context, keys Keys, ref Ref, s KeySpec, place []byte) (Material, error) {
	return keys.Generate(ctx, ref, Shape{s.Type, s.Bits, s.Curve}, place)
}

// make authorises, makes the key outside any transaction, and authorises and plans
// again in the one that keeps it.
func (v *Vaults) make(ctx context.Context, a *act, name KeyName, how making) (Bundle, error) {
	var (
		vault    Vault
		existing *Key
		spec     KeySpec
	)
	prepare := func(tx Tx) (err error) {
		if vault, err = how.enter(tx); err != nil {
			return err
		}
		if _, err := ParseKeyName(string(name)); err != nil {
			return err
		}
		existing = nil
		k, err := tx.VaultKey(vault.ID, name)
		switch {
		case err == nil && !k.Deleted.IsZero():
			return keyDeleted(name)
		case err == nil:
			existing = &k
		case fault.ReasonOf(err) != fault.KeyNotFound:
			return err
		}
		if spec, err = how.plan(tx, vault, existing); err != nil {
			return err
		}
		return spec.apply(&KeyVersion{Type: spec.Type}) // refuse before the work
	}
	if err := v.store.View(ctx, prepare); err != nil {
		return Bundle{}, v.refused(ctx, a, err)
	}
	ref := Ref{Vault: vault.ID, Key: KeyID(uuid.NewString()), Version: newVersion()}
	isNew := existing == nil
	if !isNew {
		ref.Key = existing.ID
	}
	a.note("version", string(ref.Version))
	keys, err := v.maker(spec.Type)
	if err != nil {
		return Bundle{}, v.refused(ctx, a, err)
	}
	var m Material
	var place []byte
	err = v.load.make(ctx, vault, spec.Type, func() (err error) {
		if place, err = v.reserve(ctx, keys, ref, Material{Type: spec.Type, Bits: spec.Bits, Curve: spec.Curve}); err != nil {
			return err
		}
		m, err = how.key(ctx, keys, ref, spec, place)
		return err
	})
	if err == nil {
		err = afterMake.Hit()
	}
	if err != nil {
		return Bundle{}, v.refused(ctx, a, err)
	}
	var b Bundle
	err = v.write(ctx, a, func(tx Tx) error {
		if err := prepare(tx); err != nil {
			return err
		}
		if vault.ID != ref.Vault || isNew != (existing == nil) || !isNew && existing.ID != ref.Key {
			return fault.New(fault.Conflict, "Another request made or removed the key at the same time.").WithMend("Try again.")
		}
		if err := take(tx, ref, place); err != nil {
			return err
		}
		now := v.clock()
		k := Key{ID: ref.Key, Vault: ref.Vault, Name: name, Created: now}
		ordinal, kind := 1, KeyCreated
		if !isNew {
			k, kind = *existing, KeyRotated
			cur, err := tx.VaultKeyVersion(k.ID, k.Current)
			if err != nil {
				return err
			}
			ordinal = cur.Ordinal + 1
		}
		k.Current = ref.Version
		kv := KeyVersion{
			Key: k.ID, Version: ref.Version, Ordinal: ordinal, Type: m.Type, Bits: m.Bits, Curve: m.Curve, Public: m.Public,
			Platform: keys.Platform(), Enabled: true, Created: now, Updated: now,
		}
		if err := spec.apply(&kv); err != nil {
			return err
		}
		if err := tx.PutVaultKey(k); err != nil {
			return err
		}
		if how.policy != nil && isNew {
			if err := tx.PutVaultRotation(k.ID, *how.policy, how.policy.Rotate.at(kv)); err != nil {
				return err
			}
		}
		if err := schedule(tx, vault, &kv, true); err != nil {
			return err
		}
		if err := tx.AddVaultKeyVersion(kv, m.Sealed); err != nil {
			return err
		}
		b = Bundle{Vault: vault, Key: k, Version: kv}
		return v.changed(tx, a, Change{Vault: vault.ID, Key: k.Name, Version: kv.Version, Kind: kind})
	})
	// Whether a failed commit has happened is not known here, and destroying is for ever:
	// the place that is still reserved will tell, see [Vaults.Sweep].
	return b, err
}
