package softkey_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
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
	m, err := keys.Generate(t.Context(), ref, vault.RSA, 2048)
	if err != nil || m.Bits != 2048 || m.Type != vault.RSA {
		t.Fatalf("%+v, %v", m, err)
	}
	for _, alg := range []vault.Algorithm{vault.RSAOAEP256, vault.RSAOAEP} {
		c, err := keys.Encrypt(t.Context(), ref, m, alg, []byte("share"))
		if err != nil {
			t.Fatal(err)
		}
		p, err := keys.Decrypt(t.Context(), ref, m, alg, c)
		if err != nil || string(p) != "share" {
			t.Errorf("%s: %q, %v", alg, p, err)
		}
		c[9] ^= 1
		if _, err := keys.Decrypt(t.Context(), ref, m, alg, c); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%s, altered: %v", alg, err)
		}
	}
	if _, err := keys.Generate(t.Context(), ref, "EC", 256); fault.ReasonOf(err) != fault.NotSupported {
		t.Errorf("EC: %v", err)
	}
	if _, err := keys.Decrypt(t.Context(), ref, m, vault.RSA15, nil); fault.ReasonOf(err) != fault.NotSupported {
		t.Errorf("RSA1_5: %v", err)
	}
}

// A sealed key opens for its own instance, vault, key, version and root only, and
// its bytes do not show in what is stored.
func TestSealedKeyIsBound(t *testing.T) {
	root := envelope.NewKey()
	keys := softkey.New("instance", root)
	m, err := keys.Seal(ref, testKey())
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(testKey())
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+16 <= len(der); i += 16 {
		if !bytes.Contains(m.Public, der[i:i+16]) && bytes.Contains(m.Sealed, der[i:i+16]) {
			t.Fatal("the private key lies open")
		}
	}
	c, err := keys.Encrypt(t.Context(), ref, m, vault.RSAOAEP256, []byte("share"))
	if err != nil {
		t.Fatal(err)
	}
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
		if _, err := try.keys.Decrypt(t.Context(), try.ref, m, vault.RSAOAEP256, c); fault.ReasonOf(err) != fault.Integrity {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if _, err := keys.Decrypt(t.Context(), ref, m, vault.RSAOAEP256, c); err != nil {
		t.Errorf("its own: %v", err)
	}
}

// An opened key serves from memory until it is forgotten.
func TestForget(t *testing.T) {
	keys := softkey.New("instance", envelope.NewKey())
	m, err := keys.Seal(ref, testKey())
	if err != nil {
		t.Fatal(err)
	}
	c, err := keys.Encrypt(t.Context(), ref, m, vault.RSAOAEP256, []byte("share"))
	if err != nil {
		t.Fatal(err)
	}
	use := func(m vault.Material) error {
		_, err := keys.Decrypt(t.Context(), ref, m, vault.RSAOAEP256, c)
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

// Wycheproof's vectors of the algorithms that we offer. Ours have no label, so
// vectors with one are left out, and counted.
func TestWycheproof(t *testing.T) {
	dir := os.Getenv("KLUIS_TESTDATA")
	if dir == "" {
		t.Skip("KLUIS_TESTDATA IS NOT SET: Wycheproof's OAEP vectors are not checked")
	}
	for file, alg := range map[string]vault.Algorithm{
		"rsa_oaep_2048_sha1_mgf1sha1_test.json":     vault.RSAOAEP,
		"rsa_oaep_2048_sha256_mgf1sha256_test.json": vault.RSAOAEP256,
		"rsa_oaep_3072_sha256_mgf1sha256_test.json": vault.RSAOAEP256,
		"rsa_oaep_4096_sha256_mgf1sha256_test.json": vault.RSAOAEP256,
	} {
		t.Run(file, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(dir, "wycheproof", file))
			if err != nil {
				t.Fatal(err)
			}
			var vectors struct {
				Groups []struct {
					PKCS8 string `json:"privateKeyPkcs8"`
					Tests []struct {
						ID     int    `json:"tcId"`
						Msg    string `json:"msg"`
						CT     string `json:"ct"`
						Label  string `json:"label"`
						Result string `json:"result"`
					} `json:"tests"`
				} `json:"testGroups"`
			}
			if err := json.Unmarshal(raw, &vectors); err != nil {
				t.Fatal(err)
			}
			keys := softkey.New("instance", envelope.NewKey())
			ran, labelled := 0, 0
			for _, g := range vectors.Groups {
				parsed, err := x509.ParsePKCS8PrivateKey(unhex(t, g.PKCS8))
				if err != nil {
					t.Fatal(err)
				}
				r := vault.Ref{Vault: "v", Key: vault.KeyID(g.PKCS8[:64]), Version: vault.Version(file)}
				m, err := keys.Seal(r, parsed.(*rsa.PrivateKey))
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range g.Tests {
					if v.Label != "" {
						labelled++
						continue
					}
					ran++
					p, err := keys.Decrypt(t.Context(), r, m, alg, unhex(t, v.CT))
					if v.Result == "valid" && (err != nil || hex.EncodeToString(p) != v.Msg) {
						t.Errorf("%d: %v", v.ID, err)
					}
					if v.Result == "invalid" && fault.ReasonOf(err) != fault.InvalidArgument {
						t.Errorf("%d: accepted, or refused for another reason: %v", v.ID, err)
					}
				}
			}
			if ran == 0 {
				t.Error("no vector ran")
			}
			t.Logf("%d vectors, %d with a label left out", ran, labelled)
		})
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
