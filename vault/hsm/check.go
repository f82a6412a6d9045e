package hsm

import "github.com/kluis-io/kluis/vault"

var _ vault.Prover = (*Keys)(nil)

// Prove implements [vault.Prover]: what a store keeps of the key opens. What lies at its
// place, only the token could say, and it is not asked.
func (k *Keys) Prove(ref vault.Ref, m vault.Material) error {
	_, err := k.Handle(ref, m)
	return err
}
