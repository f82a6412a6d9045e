package hsm_test

import (
	"testing"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/hsm"
)

// A check opens a key's place under the instance's root, and no other key's.
func TestProve(t *testing.T) {
	keys, _, _ := open(t)
	m := vault.Material{Sealed: place(t, keys, ref)}
	if err := hsm.New("instance", envelope.NewKey(), nil).Prove(ref, m); fault.ReasonOf(err) != fault.Integrity {
		t.Errorf("under another root: %v", err)
	}
	if err := keys.Prove(ref, m); err != nil {
		t.Error(err)
	}
	other := ref
	other.Version = "another"
	if err := keys.Prove(other, m); fault.ReasonOf(err) != fault.Integrity {
		t.Errorf("as another version: %v", err)
	}
}
