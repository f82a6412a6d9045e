package softkey

import (
	"bytes"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

var _ vault.Prover = (*Keys)(nil)

// Prove implements [vault.Prover].
func (k *Keys) Prove(ref vault.Ref, m vault.Material) error {
	key, err := k.open(ref, m)
	if err != nil {
		return err
	}
	defer k.Forget(ref.Key)
	again, err := k.Seal(ref, m.Type, key)
	if err != nil || m.Bits != again.Bits || m.Curve != again.Curve || !bytes.Equal(m.Public, again.Public) {
		return fault.New(fault.Integrity, "The private key is not that of the public one.")
	}
	return nil
}
