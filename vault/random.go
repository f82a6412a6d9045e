package vault

import (
	"context"
	"fmt"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// maxRandom is the most random bytes of one call.
const maxRandom = 128

// RandomBytes returns bytes of a managed HSM's generator, at most 128.
func (v *Vaults) RandomBytes(ctx context.Context, c identity.Caller, vaultName Name, n int) (out []byte, err error) {
	a := begin(c, "RandomNumbersGet", "")
	err = v.store.View(ctx, func(tx Tx) error {
		vault, err := v.enter(tx, a, vaultName, "", actionRandom)
		switch {
		case err != nil:
			return err
		case vault.Flavour != ManagedHSM:
			return fault.New(fault.NotSupported, "Only managed HSMs give random bytes.")
		case v.hsm == nil:
			return fault.New(fault.Unavailable, "No HSM is configured.")
		case n < 1 || n > maxRandom:
			return fault.New(fault.InvalidArgument, fmt.Sprintf("count must lie between 1 and %d.", maxRandom))
		}
		return nil
	})
	if err == nil {
		out, err = v.hsm.Random(ctx, n)
	}
	if err != nil {
		return nil, v.refused(ctx, a, err)
	}
	return out, v.record(ctx, a.done())
}
