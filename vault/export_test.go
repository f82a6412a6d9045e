package vault

import (
	"context"
	"maps"
	"slices"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// Do checks an input and works on it, as [Vaults.Use] does once it has authorised.
// RSA1_5 is switched on.
func Do(ctx context.Context, keys Keys, ref Ref, m Material, op Operation, in Input) (Output, error) {
	kv := KeyVersion{
		Type: m.Type, Bits: m.Bits, Curve: m.Curve, Public: m.Public, Platform: keys.Platform(), Tags: map[string]string{TagRSA15: "allowed"},
	}
	if err := in.check(kv, op); err != nil {
		return Output{}, err
	}
	return (&Vaults{keys: keys}).work(ctx, ref, kv, m, op, in)
}

// Enter authorises a data action at a vault's key, as each method does.
func Enter(v *Vaults, tx Tx, c identity.Caller, vault Name, key KeyName, action rbac.Action) error {
	_, err := v.enter(tx, begin(c, "KeyGet", ""), vault, key, action)
	return err
}

// Algorithms returns all that are offered.
func Algorithms() []Algorithm { return slices.Sorted(maps.Keys(methods)) }

// Waiter returns what is closed at the next change of a vault that this process knows of.
func (v *Vaults) Waiter(id ID) <-chan struct{} { return v.feed.waiter(id) }
