package vault_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/softkey"
)

// RFC 4231's vectors, whose keys are filled up with zeros to a size that oct keys
// have: HMAC does the same (RFC 2104 §2).
func TestHMAC(t *testing.T) {
	keys := softkey.New("instance", envelope.NewKey())
	for i, c := range []struct {
		key, message string
		size         int
		macs         map[vault.Algorithm]string
	}{
		{strings.Repeat("\x0b", 20), "Hi There", 24, map[vault.Algorithm]string{
			vault.HS256: "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
			vault.HS384: "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
			vault.HS512: "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
		}},
		{"Jefe", "what do ya want for nothing?", 16, map[vault.Algorithm]string{
			vault.HS256: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
			vault.HS384: "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
			vault.HS512: "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
		}},
		{strings.Repeat("\xaa", 20), strings.Repeat("\xdd", 50), 32, map[vault.Algorithm]string{
			vault.HS256: "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
			vault.HS384: "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b2a5ab39dc13814b94e3ab6e101a34f27",
			vault.HS512: "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb",
		}},
	} {
		r := vault.Ref{Vault: "v", Key: vault.KeyID(fmt.Sprint(i)), Version: "1"}
		m := sealed(t, keys, r, vault.Oct, append([]byte(c.key), make([]byte, c.size-len(c.key))...))
		for alg, want := range c.macs {
			in := vault.Input{Algorithm: alg, Value: []byte(c.message)}
			out, err := vault.Do(t.Context(), keys, r, m, vault.Sign, in)
			if err != nil || hex.EncodeToString(out.Value) != want {
				t.Errorf("%d, %s: %x, %v", i+1, alg, out.Value, err)
			}
			for _, flip := range []byte{0, 1} {
				in.Signature = append([]byte{out.Value[0] ^ flip}, out.Value[1:]...)
				out, err := vault.Do(t.Context(), keys, r, m, vault.Verify, in)
				if err != nil || out.Valid != (flip == 0) {
					t.Errorf("%d, %s: valid %t, %v", i+1, alg, out.Valid, err)
				}
			}
		}
	}
}
