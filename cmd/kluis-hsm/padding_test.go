package main

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"

	"github.com/kluis-io/kluis/internal/effort"
)

func readVectors(t *testing.T, file string, into any) {
	t.Helper()
	dir := os.Getenv("KLUIS_TESTDATA")
	if dir == "" {
		effort.Missing(t, "KLUIS_TESTDATA", "Wycheproof's vectors")
	}
	raw, err := os.ReadFile(filepath.Join(dir, "wycheproof", file))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
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

// Wycheproof's OAEP vectors, the raw operation done in software. Keys have no label
// here, so vectors with one have to fail, whatever they say.
func TestOAEPWycheproof(t *testing.T) {
	labelled := 0
	for file, want := range map[string]struct {
		hash  crypto.Hash
		valid bool // false: another hash in MGF1, so that none may open
		ran   int
	}{
		"rsa_oaep_2048_sha1_mgf1sha1_test.json":     {crypto.SHA1, true, 36},
		"rsa_oaep_2048_sha256_mgf1sha256_test.json": {crypto.SHA256, true, 37},
		"rsa_oaep_3072_sha256_mgf1sha256_test.json": {crypto.SHA256, true, 37},
		"rsa_oaep_4096_sha256_mgf1sha256_test.json": {crypto.SHA256, true, 37},
		"rsa_oaep_2048_sha256_mgf1sha1_test.json":   {crypto.SHA256, false, 31},
	} {
		t.Run(file, func(t *testing.T) {
			var vectors struct {
				Groups []struct {
					PKCS8 string `json:"privateKeyPkcs8"`
					Tests []struct {
						ID                     int `json:"tcId"`
						Msg, CT, Label, Result string
					} `json:"tests"`
				} `json:"testGroups"`
			}
			readVectors(t, file, &vectors)
			ran := 0
			for _, g := range vectors.Groups {
				parsed, err := x509.ParsePKCS8PrivateKey(unhex(t, g.PKCS8))
				if err != nil {
					t.Fatal(err)
				}
				key := parsed.(*rsa.PrivateKey)
				for _, v := range g.Tests {
					ran++
					c := new(big.Int).SetBytes(unhex(t, v.CT))
					var got []byte
					ok := len(v.CT) == 2*key.Size() && c.Cmp(key.N) < 0
					if ok {
						em := new(big.Int).Exp(c, key.D, key.N).FillBytes(make([]byte, key.Size()))
						got, ok = openOAEP(want.hash, em)
						if !bytes.Equal(em, make([]byte, len(em))) {
							t.Errorf("%d: the padded message stays in memory", v.ID)
						}
					}
					if v.Label != "" {
						labelled++
						v.Result = "invalid"
					}
					if good := want.valid && v.Result == "valid"; ok != good || good && hex.EncodeToString(got) != v.Msg {
						t.Errorf("%d, %s: %v, %x", v.ID, v.Result, ok, got)
					}
				}
			}
			if ran != want.ran {
				t.Errorf("%d vectors ran, not %d", ran, want.ran)
			}
		})
	}
	t.Logf("%d vectors with a label had to fail", labelled)
}

// Each part of the padding is checked, and messages of every length that fits come
// back: against Go's own.
func TestOAEP(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		most := key.Size() - 2*h.Size() - 2
		for _, n := range []int{0, 1, 32, most - 1, most} {
			m := bytes.Repeat([]byte{1}, n) // as the mark that ends the padding
			c, err := rsa.EncryptOAEP(h.New(), rand.Reader, &key.PublicKey, m, nil)
			if err != nil {
				t.Fatal(err)
			}
			em := new(big.Int).Exp(new(big.Int).SetBytes(c), key.D, key.N).FillBytes(make([]byte, key.Size()))
			for i := range em {
				bad := bytes.Clone(em)
				bad[i] ^= 0x80
				if got, ok := openOAEP(h, bad); ok && (i < 1+h.Size() || bytes.Equal(got, m)) {
					t.Fatalf("%v, %d bytes: byte %d altered, and it opens", h, n, i)
				}
			}
			if got, ok := openOAEP(h, em); !ok || !bytes.Equal(got, m) {
				t.Errorf("%v, %d bytes: %v, %x", h, n, ok, got)
			}
		}
		for _, short := range []int{0, 1, 2*h.Size() + 1} {
			if _, ok := openOAEP(h, make([]byte, short)); ok {
				t.Errorf("%d bytes open", short)
			}
		}
	}
}

func software(t *testing.T, key []byte) tokenBlock {
	t.Helper()
	b, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	use := func(f func(dst, src []byte)) func([]byte) ([]byte, error) {
		return func(src []byte) ([]byte, error) {
			dst := make([]byte, 16)
			f(dst, src)
			return dst, nil
		}
	}
	return tokenBlock{encrypt: use(b.Encrypt), decrypt: use(b.Decrypt)}
}

func TestKeyWrapWycheproof(t *testing.T) {
	var vectors struct {
		Groups []struct {
			Tests []struct {
				ID                   int `json:"tcId"`
				Key, Msg, CT, Result string
			} `json:"tests"`
		} `json:"testGroups"`
	}
	readVectors(t, "aes_wrap_test.json", &vectors)
	ran := map[string]int{}
	for _, g := range vectors.Groups {
		for _, v := range g.Tests {
			ran[v.Result]++
			b := software(t, unhex(t, v.Key))
			msg, err := keyUnwrap(b, unhex(t, v.CT))
			switch v.Result {
			case "valid":
				if err != nil || hex.EncodeToString(msg) != v.Msg {
					t.Errorf("%d: %v", v.ID, err)
				}
				if ct, err := keyWrap(b, unhex(t, v.Msg)); err != nil || hex.EncodeToString(ct) != v.CT {
					t.Errorf("%d: wrapped %x, %v", v.ID, ct, err)
				}
			case "invalid":
				if !errors.Is(err, errWrapped) {
					t.Errorf("%d: %v", v.ID, err)
				}
			case "acceptable": // shorter than RFC 3394 allows
				if err == nil && hex.EncodeToString(msg) != v.Msg {
					t.Errorf("%d: %x", v.ID, msg)
				}
			}
		}
	}
	if ran["valid"] != 36 || ran["invalid"] != 126 || ran["acceptable"] != 3 {
		t.Errorf("ran %v", ran)
	}
}

// An error of the token in the middle comes out as it is.
func TestKeyWrapError(t *testing.T) {
	broken := errors.New("device gone")
	n := 0
	fail := func(b []byte) ([]byte, error) {
		if n++; n > 5 {
			return nil, broken
		}
		return bytes.Clone(b), nil
	}
	if _, err := keyWrap(tokenBlock{encrypt: fail}, make([]byte, 32)); !errors.Is(err, broken) {
		t.Error(err)
	}
	n = 0
	if _, err := keyUnwrap(tokenBlock{decrypt: fail}, make([]byte, 40)); !errors.Is(err, broken) {
		t.Error(err)
	}
	part := func(b []byte) ([]byte, error) { return b[:8], nil }
	if _, err := keyWrap(tokenBlock{encrypt: part}, make([]byte, 32)); err == nil {
		t.Error("part of a block was taken for one")
	}
}

func TestPadding(t *testing.T) {
	for n := range 40 {
		padded := addPadding(make([]byte, n))
		if got, ok := padding(padded); !ok || len(padded)%block != 0 || len(padded)-got != n {
			t.Errorf("%d bytes: %d, %v of %d", n, got, ok, len(padded))
		}
	}
	for name, end := range map[string][]byte{
		"none":     {},
		"zero":     {0},
		"too much": bytes.Repeat([]byte{17}, 17),
		"unequal":  {3, 2, 3},
		"short":    {2},
	} {
		plain := append(make([]byte, 32-len(end)), end...)
		if n, ok := padding(plain); ok {
			t.Errorf("%s: %d", name, n)
		}
	}
	if _, ok := padding(nil); ok {
		t.Error("nothing is padded")
	}
}
