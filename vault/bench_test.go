package vault_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"testing"

	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// BenchmarkUnwrap sets a whole unwrap, its record on the disk included, beside the
// bare RSA operation, its ceiling.
func BenchmarkUnwrap(b *testing.B) {
	b.Run("vault", func(b *testing.B) {
		f := vaulttest.New(b)
		f.Vault(b, "kv1")
		f.Key(b, "kv1", "k")
		_, wrapped, err := f.Vaults.Use(b.Context(), f.Officer, "kv1", "k", "", vault.WrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: share})
		if err != nil {
			b.Fatal(err)
		}
		b.SetParallelism(16)
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, _, err := f.Vaults.Use(b.Context(), f.Officer, "kv1", "k", "", vault.UnwrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: wrapped.Value}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("bare", func(b *testing.B) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			b.Fatal(err)
		}
		wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, share, nil)
		if err != nil {
			b.Fatal(err)
		}
		b.SetParallelism(16)
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := rsa.DecryptOAEP(sha256.New(), nil, key, wrapped, nil); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
