package softkey_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"sync"
	"testing"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/softkey"
)

var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

var ref = vault.Ref{Vault: "v", Key: "k", Version: "1"}

func TestGenerate(t *testing.T) {
	keys := softkey.New("instance", envelope.NewKey())
	m, err := keys.Generate(t.Context(), ref, vault.Shape{Type: vault.RSA, Bits: 2048}, nil)
	if err != nil || m.Bits != 2048 || m.Type != vault.RSA {
		t.Fatalf("%+v, %v", m, err)
	}
	for _, alg := range []vault.Algorithm{vault.RSAOAEP256, vault.RSAOAEP} {
		c := wrap(t, &testKey().PublicKey, alg)
		m := seal(t, keys, ref, testKey())
		p, err := decrypt(t, keys, ref, m, alg, c)
		if err != nil || string(p) != "share" {
			t.Errorf("%s: %q, %v", alg, p, err)
		}
		c[9] ^= 1
		if _, err := decrypt(t, keys, ref, m, alg, c); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%s, altered: %v", alg, err)
		}
		keys.Forget(ref.Key)
	}
}

func seal(t *testing.T, keys *softkey.Keys, ref vault.Ref, key *rsa.PrivateKey) vault.Material {
	t.Helper()
	m, err := keys.Seal(ref, vault.RSA, key)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// wrap wraps "share".
func wrap(t *testing.T, pub *rsa.PublicKey, alg vault.Algorithm) []byte {
	t.Helper()
	method, _ := alg.Method()
	c, err := rsa.EncryptOAEP(method.Hash.New(), rand.Reader, pub, []byte("share"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func decrypt(t *testing.T, keys *softkey.Keys, ref vault.Ref, m vault.Material, alg vault.Algorithm, value []byte) ([]byte, error) {
	t.Helper()
	out, err := keys.Decrypt(t.Context(), ref, m, vault.Input{Algorithm: alg, Value: value})
	return out.Value, err
}

// A sealed key opens for its own instance, vault, key, version and root only, and
// its bytes do not show in what is stored.
func TestSealedKeyIsBound(t *testing.T) {
	root := envelope.NewKey()
	keys := softkey.New("instance", root)
	m := seal(t, keys, ref, testKey())
	der, err := x509.MarshalPKCS8PrivateKey(testKey())
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+16 <= len(der); i += 16 {
		if !bytes.Contains(m.Public, der[i:i+16]) && bytes.Contains(m.Sealed, der[i:i+16]) {
			t.Fatal("the private key lies open")
		}
	}
	c := wrap(t, &testKey().PublicKey, vault.RSAOAEP256)
	for name, try := range map[string]struct {
		keys *softkey.Keys
		ref  vault.Ref
	}{
		"instance": {softkey.New("other", root), ref},
		"root":     {softkey.New("instance", envelope.NewKey()), ref},
		"vault":    {keys, vault.Ref{Vault: "w", Key: "k", Version: "1"}},
		"key":      {keys, vault.Ref{Vault: "v", Key: "l", Version: "1"}},
		"version":  {keys, vault.Ref{Vault: "v", Key: "k", Version: "2"}},
	} {
		if _, err := decrypt(t, try.keys, try.ref, m, vault.RSAOAEP256, c); fault.ReasonOf(err) != fault.Integrity {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if _, err := decrypt(t, keys, ref, m, vault.RSAOAEP256, c); err != nil {
		t.Errorf("its own: %v", err)
	}
}

// An opened key serves from memory until it is forgotten.
func TestForget(t *testing.T) {
	keys := softkey.New("instance", envelope.NewKey())
	m := seal(t, keys, ref, testKey())
	c := wrap(t, &testKey().PublicKey, vault.RSAOAEP256)
	use := func(m vault.Material) error {
		_, err := decrypt(t, keys, ref, m, vault.RSAOAEP256, c)
		return err
	}
	gone := vault.Material{Public: m.Public, Sealed: []byte("shredded")}
	if err := use(gone); fault.ReasonOf(err) != fault.Integrity {
		t.Errorf("not opened yet: %v", err)
	}
	if err := use(m); err != nil {
		t.Fatal(err)
	}
	if err := use(gone); err != nil {
		t.Errorf("opened before: %v", err)
	}
	keys.Forget("another")
	if err := use(gone); err != nil {
		t.Errorf("another was forgotten: %v", err)
	}
	keys.Forget(ref.Key)
	if err := use(gone); fault.ReasonOf(err) != fault.Integrity {
		t.Errorf("forgotten: %v", err)
	}
}
