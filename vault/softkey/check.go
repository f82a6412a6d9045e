package softkey

import (
	"bytes"
	"crypto/x509"

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
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if m.Type != vault.RSA || m.Bits != key.N.BitLen() || !bytes.Equal(public, m.Public) {
		return fault.New(fault.Integrity, "The private key is not that of the public one.")
	}
	return nil
}
