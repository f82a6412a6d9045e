package vault_test

import (
	"bytes"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/softkey"
)

// A vector is one of Wycheproof's, of any of its files.
type vector struct {
	ID     int    `json:"tcId"`
	Key    octet  `json:"key"`
	Msg    octet  `json:"msg"`
	CT     octet  `json:"ct"`
	IV     octet  `json:"iv"`
	AAD    octet  `json:"aad"`
	Tag    octet  `json:"tag"`
	Sig    octet  `json:"sig"`
	Label  string `json:"label"`
	Result string `json:"result"`
}

type vectors struct {
	Number int `json:"numberOfTests"`
	Groups []struct {
		PKCS8  octet    `json:"privateKeyPkcs8"`
		Public octet    `json:"publicKeyDer"`
		Tests  []vector `json:"tests"`
	} `json:"testGroups"`
}

type octet []byte

func (o *octet) UnmarshalText(b []byte) (err error) {
	*o, err = hex.DecodeString(string(b))
	return err
}

// The reasons for which vectors are left out, each of them counted below.
const (
	withLabel = "OAEP labels: Key Vault has none"
	kwp192    = "CKM_AES_KEY_WRAP_PAD with 192 bits: refused"
	kwpShort  = "CKM_AES_KEY_WRAP_PAD of less than 16 bytes: refused"
	kwShort   = "AES key wrap of less than 16 bytes: refused"
	gcmIV     = "GCM with an iv of other than 12 bytes: refused"
)

// noWycheproof are the algorithms offered that none of Wycheproof's files at hand is
// about, and where they are tried instead.
var noWycheproof = map[vault.Algorithm]string{
	vault.HS256: "TestHMAC", vault.HS384: "TestHMAC", vault.HS512: "TestHMAC",
}

// Wycheproof's vectors of every algorithm that is offered.
func TestWycheproof(t *testing.T) {
	dir := os.Getenv("KLUIS_TESTDATA")
	if dir == "" {
		effort.Missing(t, "KLUIS_TESTDATA", "Wycheproof's vectors")
	}
	keys := softkey.New("instance", envelope.NewKey())
	tried := map[vault.Algorithm]int{}
	try := func(r vault.Ref, m vault.Material, op vault.Operation, in vault.Input) (vault.Output, error) {
		tried[in.Algorithm]++
		return vault.Do(t.Context(), keys, r, m, op, in)
	}
	n := 0
	ref := func() vault.Ref {
		n++
		return vault.Ref{Vault: "v", Key: vault.KeyID(fmt.Sprint(n)), Version: "1"}
	}
	// check compares one outcome with what the vector says.
	check := func(t *testing.T, v vector, got []byte, err error) {
		t.Helper()
		switch {
		case v.Result == "valid" && (err != nil || !bytes.Equal(got, v.Msg)):
			t.Errorf("%d: %v", v.ID, err)
		case v.Result == "invalid" && fault.ReasonOf(err) != fault.InvalidArgument:
			t.Errorf("%d: accepted, or refused for another reason: %v", v.ID, err)
		}
	}
	run := func(file string, skipped map[string]int, total int, each func(t *testing.T, vs vectors, skip func(string))) {
		t.Run(file, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(dir, "wycheproof", file+"_test.json"))
			if err != nil {
				t.Fatal(err)
			}
			var vs vectors
			if err := json.Unmarshal(raw, &vs); err != nil {
				t.Fatal(err)
			}
			left := map[string]int{}
			each(t, vs, func(why string) { left[why]++ })
			if !maps.Equal(left, skipped) {
				t.Errorf("left out %v, want %v", left, skipped)
			}
			if total != 0 && vs.Number != total {
				t.Errorf("the file holds %d vectors, want %d", vs.Number, total)
			}
			t.Logf("%d vectors, left out: %v", vs.Number, left)
			missed := 0
			for _, n := range left {
				missed += n
			}
			effort.Proof(t, "vectors", vs.Number, "left-out-for-a-stated-reason", missed)
		})
	}

	for file, c := range map[string]struct {
		alg   vault.Algorithm
		label int
	}{
		"rsa_oaep_2048_sha1_mgf1sha1":     {vault.RSAOAEP, 7},
		"rsa_oaep_2048_sha256_mgf1sha256": {vault.RSAOAEP256, 8},
		"rsa_oaep_3072_sha256_mgf1sha256": {vault.RSAOAEP256, 8},
		"rsa_oaep_4096_sha256_mgf1sha256": {vault.RSAOAEP256, 8},
	} {
		run(file, map[string]int{withLabel: c.label}, 0, func(t *testing.T, vs vectors, skip func(string)) {
			for _, g := range vs.Groups {
				r := ref()
				m := sealed(t, keys, r, vault.RSA, g.PKCS8)
				for _, v := range g.Tests {
					if v.Label != "" {
						skip(withLabel)
						continue
					}
					out, err := try(r, m, vault.UnwrapKey, vault.Input{Algorithm: c.alg, Value: v.CT})
					check(t, v, out.Value, err)
				}
			}
		})
	}

	// What was made with other parameters does not open, valid or not.
	others, err := filepath.Glob(filepath.Join(dir, "wycheproof", "rsa_oaep_*_test.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range others {
		file = strings.TrimSuffix(filepath.Base(file), "_test.json")
		if ours := strings.HasSuffix(file, "_sha1_mgf1sha1") || strings.HasSuffix(file, "_sha256_mgf1sha256"); ours {
			continue
		}
		run(file, map[string]int{}, 0, func(t *testing.T, vs vectors, _ func(string)) {
			for _, g := range vs.Groups {
				r := ref()
				m := sealed(t, keys, r, vault.RSA, g.PKCS8)
				for _, v := range g.Tests {
					for _, alg := range []vault.Algorithm{vault.RSAOAEP, vault.RSAOAEP256} {
						if _, err := try(r, m, vault.UnwrapKey, vault.Input{Algorithm: alg, Value: v.CT}); fault.ReasonOf(err) != fault.InvalidArgument {
							t.Errorf("%d, %s: %v", v.ID, alg, err)
						}
					}
				}
			}
		})
	}

	// RSA1_5 rejects implicitly: what is not valid decrypts to something else, the same
	// each time, unless anybody can see that it is not.
	for _, file := range []string{"rsa_pkcs1_2048", "rsa_pkcs1_3072", "rsa_pkcs1_4096"} {
		run(file, map[string]int{}, 67, func(t *testing.T, vs vectors, _ func(string)) {
			for _, g := range vs.Groups {
				r := ref()
				m := sealed(t, keys, r, vault.RSA, g.PKCS8)
				pub, err := vault.ParsePublic(m.Public)
				if err != nil {
					t.Fatal(err)
				}
				modulus := pub.(*rsa.PublicKey).N
				for _, v := range g.Tests {
					in := vault.Input{Algorithm: vault.RSA15, Value: v.CT}
					out, err := try(r, m, vault.Decrypt, in)
					if v.Result == "valid" {
						check(t, v, out.Value, err)
						continue
					}
					again, aerr := try(r, m, vault.Decrypt, in)
					if fault.ReasonOf(err) != fault.ReasonOf(aerr) || !bytes.Equal(out.Value, again.Value) {
						t.Errorf("%d: two answers to one question", v.ID)
					}
					public := len(v.CT) != m.Bits/8 || new(big.Int).SetBytes(v.CT).Cmp(modulus) >= 0
					if public != (err != nil) {
						t.Errorf("%d: %v, though its length is %d", v.ID, err, len(v.CT))
					}
					if err == nil && len(v.Msg) > 0 && bytes.Equal(out.Value, v.Msg) {
						t.Errorf("%d: accepted", v.ID)
					}
				}
			}
		})
	}

	for file, alg := range map[string]vault.Algorithm{
		"rsa_signature_2048_sha256": vault.RS256, "rsa_signature_3072_sha256": vault.RS256, "rsa_signature_4096_sha256": vault.RS256,
		"rsa_signature_2048_sha384": vault.RS384, "rsa_signature_3072_sha384": vault.RS384, "rsa_signature_4096_sha384": vault.RS384,
		"rsa_signature_2048_sha512": vault.RS512, "rsa_signature_3072_sha512": vault.RS512, "rsa_signature_4096_sha512": vault.RS512,
		"rsa_pss_2048_sha256_mgf1_32": vault.PS256, "rsa_pss_3072_sha256_mgf1_32": vault.PS256, "rsa_pss_4096_sha256_mgf1_32": vault.PS256,
		"rsa_pss_2048_sha384_mgf1_48": vault.PS384, "rsa_pss_4096_sha384_mgf1_48": vault.PS384, "rsa_pss_4096_sha512_mgf1_64": vault.PS512,
		"ecdsa_secp256r1_sha256_p1363": vault.ES256, "ecdsa_secp256k1_sha256_p1363": vault.ES256K,
		"ecdsa_secp384r1_sha384_p1363": vault.ES384, "ecdsa_secp521r1_sha512_p1363": vault.ES512,
	} {
		run(file, map[string]int{}, 0, func(t *testing.T, vs vectors, _ func(string)) {
			method, _ := alg.Method()
			for _, g := range vs.Groups {
				m := public(t, alg, g.Public)
				for _, v := range g.Tests {
					h := method.Hash.New()
					h.Write(v.Msg)
					out, err := try(vault.Ref{}, m, vault.Verify,
						vault.Input{Algorithm: alg, Value: h.Sum(nil), Signature: v.Sig})
					if v.Result == "valid" && !out.Valid || v.Result == "invalid" && out.Valid {
						t.Errorf("%d is %s: %v, %v", v.ID, v.Result, out.Valid, err)
					}
				}
			}
		})
	}

	wraps := map[int]vault.Algorithm{128: vault.A128KW, 192: vault.A192KW, 256: vault.A256KW}
	run("aes_wrap", map[string]int{kwShort: 3}, 165, func(t *testing.T, vs vectors, skip func(string)) {
		for _, g := range vs.Groups {
			for _, v := range g.Tests {
				if v.Result == "acceptable" {
					skip(kwShort)
					continue
				}
				wrapping(t, keys, try, ref(), v, wraps[8*len(v.Key)], check)
				wrapping(t, keys, try, ref(), v, vault.AESKeyWrap, check)
			}
		}
	})
	run("aes_kwp", map[string]int{kwp192: 85, kwpShort: 30}, 254, func(t *testing.T, vs vectors, skip func(string)) {
		for _, g := range vs.Groups {
			for _, v := range g.Tests {
				switch {
				case len(v.Key) == 24:
					skip(kwp192)
				case len(v.Msg) < 16 && v.Result == "valid":
					skip(kwpShort)
				default:
					wrapping(t, keys, try, ref(), v, vault.AESKeyWrapPad, check)
				}
			}
		}
	})

	gcms := map[int]vault.Algorithm{128: vault.A128GCM, 192: vault.A192GCM, 256: vault.A256GCM}
	run("aes_gcm", map[string]int{gcmIV: 119}, 316, func(t *testing.T, vs vectors, skip func(string)) {
		for _, g := range vs.Groups {
			for _, v := range g.Tests {
				r := ref()
				m := sealed(t, keys, r, vault.Oct, v.Key)
				out, err := try(r, m, vault.Decrypt,
					vault.Input{Algorithm: gcms[m.Bits], Value: v.CT, IV: v.IV, AAD: v.AAD, Tag: v.Tag})
				if len(v.IV) != 12 {
					skip(gcmIV)
					v.Result = "invalid"
				}
				check(t, v, out.Value, err)
			}
		}
	})
	cbcs := map[int]vault.Algorithm{128: vault.A128CBCPAD, 192: vault.A192CBCPAD, 256: vault.A256CBCPAD}
	plains := map[int]vault.Algorithm{128: vault.A128CBC, 192: vault.A192CBC, 256: vault.A256CBC} // the same without the padding
	run("aes_cbc_pkcs5", map[string]int{}, 216, func(t *testing.T, vs vectors, _ func(string)) {
		for _, g := range vs.Groups {
			for _, v := range g.Tests {
				r := ref()
				m := sealed(t, keys, r, vault.Oct, v.Key)
				out, err := try(r, m, vault.Decrypt, vault.Input{Algorithm: cbcs[m.Bits], Value: v.CT, IV: v.IV})
				check(t, v, out.Value, err)
				if v.Result != "valid" {
					continue
				}
				out, err = try(r, m, vault.Encrypt, vault.Input{Algorithm: cbcs[m.Bits], Value: v.Msg, IV: v.IV})
				if err != nil || !bytes.Equal(out.Value, v.CT) {
					t.Errorf("%d, encrypt: %v", v.ID, err)
				}
				pad := 16 - len(v.Msg)%16
				v.Msg = append(v.Msg, bytes.Repeat([]byte{byte(pad)}, pad)...)
				out, err = try(r, m, vault.Decrypt, vault.Input{Algorithm: plains[m.Bits], Value: v.CT, IV: v.IV})
				check(t, v, out.Value, err)
				out, err = try(r, m, vault.Encrypt, vault.Input{Algorithm: plains[m.Bits], Value: v.Msg, IV: v.IV})
				if err != nil || !bytes.Equal(out.Value, v.CT) {
					t.Errorf("%d, encrypt without padding: %v", v.ID, err)
				}
			}
		}
	})

	for _, alg := range vault.Algorithms() {
		if (tried[alg] > 0) == (noWycheproof[alg] != "") {
			t.Errorf("%s was tried with %d vectors, and else: %q", alg, tried[alg], noWycheproof[alg])
		}
	}
	t.Logf("tried: %v; elsewhere: %v", tried, noWycheproof)
}

// wrapping unwraps a vector's ciphertext and, if it is valid, wraps its message.
func wrapping(t *testing.T, keys *softkey.Keys, try func(vault.Ref, vault.Material, vault.Operation, vault.Input) (vault.Output, error), r vault.Ref, v vector, alg vault.Algorithm, check func(*testing.T, vector, []byte, error)) {
	t.Helper()
	m := sealed(t, keys, r, vault.Oct, v.Key)
	out, err := try(r, m, vault.UnwrapKey, vault.Input{Algorithm: alg, Value: v.CT})
	check(t, v, out.Value, err)
	if v.Result != "valid" {
		return
	}
	if out, err = try(r, m, vault.WrapKey, vault.Input{Algorithm: alg, Value: v.Msg}); err != nil || !bytes.Equal(out.Value, v.CT) {
		t.Errorf("%d, wrap: %v", v.ID, err)
	}
}

func sealed(t *testing.T, keys *softkey.Keys, r vault.Ref, typ vault.KeyType, private []byte) vault.Material {
	t.Helper()
	var key any = private
	if typ != vault.Oct { // [vault.Keys.Import] would test the primes, which takes its time
		var err error
		if key, err = vault.ParsePrivate(private); err != nil {
			t.Fatal(err)
		}
	}
	m, err := keys.Seal(r, typ, key)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// public returns what a vault keeps of a key that only verifies.
func public(t *testing.T, alg vault.Algorithm, der []byte) vault.Material {
	t.Helper()
	m := vault.Material{Type: vault.RSA, Public: der}
	if c, ok := map[vault.Algorithm]vault.Curve{vault.ES256: vault.P256, vault.ES256K: vault.P256K, vault.ES384: vault.P384, vault.ES512: vault.P521}[alg]; ok {
		m.Type, m.Curve = vault.EC, c
	}
	return m
}
