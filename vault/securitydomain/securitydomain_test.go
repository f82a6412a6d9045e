package securitydomain_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault/securitydomain"
)

func officer(t testing.TB, n int) securitydomain.Officer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(int64(n)), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return securitydomain.Officer{Certificate: c, Key: key}
}

func certificates(all []securitydomain.Officer) (out []*x509.Certificate) {
	for _, o := range all {
		out = append(out, o.Certificate)
	}
	return out
}

func refused(t *testing.T, what string, err error) {
	t.Helper()
	if fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("%s: %v", what, err)
	}
}

// Any quorum opens, and fewer do not; nor does a file that was altered.
func TestQuorum(t *testing.T) {
	secret := []byte("a secret of any length, \x00\xff")
	var all []securitydomain.Officer
	for n := range 4 {
		all = append(all, officer(t, n+1))
	}
	text, err := securitydomain.Make(secret, certificates(all), 3)
	if err != nil {
		t.Fatal(err)
	}
	if i, err := securitydomain.Describe(text); err != nil || i.Quorum != 3 || len(i.Officers) != 4 {
		t.Fatalf("%+v, %v", i, err)
	}
	for leftOut := range all {
		some := append(append([]securitydomain.Officer{}, all[:leftOut]...), all[leftOut+1:]...)
		got, err := securitydomain.Open(text, some)
		if err != nil || !bytes.Equal(got, secret) {
			t.Errorf("without officer %d: %q, %v", leftOut, got, err)
		}
		_, err = securitydomain.Open(text, some[:2])
		refused(t, "two of three", err)
		_, err = securitydomain.Open(text, []securitydomain.Officer{some[0], some[0], some[1]})
		refused(t, "one twice", err)
	}
	wrong := all[0]
	wrong.Key = all[1].Key
	_, err = securitydomain.Open(text, []securitydomain.Officer{wrong, all[2], all[3]})
	refused(t, "another's private key", err)

	var f map[string]map[string]any
	if err := json.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	shares := f["SharedKeys"]["enc_shares"].([]any)
	shares[0].(map[string]any)["enc_key"], shares[1].(map[string]any)["enc_key"] = shares[1].(map[string]any)["enc_key"], shares[0].(map[string]any)["enc_key"]
	swapped, _ := json.Marshal(f)
	_, err = securitydomain.Open(swapped, all)
	refused(t, "shares exchanged", err)
	tampered := bytes.Replace(text, []byte(`"tag":"kluis/`), []byte(`"tag":"kluiz/`), 1)
	_, err = securitydomain.Open(tampered, all)
	refused(t, "another tag", err)
}

func TestTransfer(t *testing.T) {
	secret, hsm, other := []byte("secret"), officer(t, 1), officer(t, 2)
	text, err := securitydomain.Wrap(secret, hsm.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := securitydomain.Unwrap(text, hsm.Certificate, hsm.Key); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("%q, %v", got, err)
	}
	_, err = securitydomain.Unwrap(text, other.Certificate, other.Key)
	refused(t, "another transfer key", err)
	_, err = securitydomain.Unwrap(text, hsm.Certificate, other.Key)
	refused(t, "another private key", err)
	out, err := securitydomain.Make(secret, certificates([]securitydomain.Officer{hsm, other, officer(t, 3)}), 2)
	if err != nil {
		t.Fatal(err)
	}
	_, err = securitydomain.Unwrap(out, hsm.Certificate, hsm.Key)
	refused(t, "as it was taken out", err)
}

func TestCheck(t *testing.T) {
	var all []*x509.Certificate
	for n := range 4 {
		all = append(all, officer(t, n+1).Certificate)
	}
	for _, c := range []struct {
		officers []*x509.Certificate
		quorum   int
		ok       bool
	}{
		{all[:3], 2, true}, {all[:3], 3, true}, {all[:3], 1, false}, {all[:3], 4, false}, {all[:2], 2, false},
		{[]*x509.Certificate{all[0], all[1], all[0]}, 2, false},
	} {
		if err := securitydomain.Check(c.officers, c.quorum); (err == nil) != c.ok {
			t.Errorf("%d of %d: %v", c.quorum, len(c.officers), err)
		}
	}
}

// Shares give the secret back, whatever it is and whoever is among the quorum.
func TestShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "secret")
		n := rapid.IntRange(2, 10).Draw(t, "n")
		m := rapid.IntRange(2, n).Draw(t, "m")
		shares := securitydomain.Split(secret, n, m)
		who := rapid.Permutation(shares).Draw(t, "who")[:m]
		if got, err := securitydomain.Combine(who); err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("%d of %d: %x, %v, want %x", m, n, got, err, secret)
		}
	})
}

// The field's arithmetic is that of whole numbers modulo 257.
func TestField(t *testing.T) {
	for a := range int32(257) {
		for b := range int32(257) {
			if securitydomain.Mul(a, b) != a*b%257 {
				t.Fatalf("%d * %d", a, b)
			}
		}
		if a > 0 && securitydomain.Mul(a, securitydomain.Inverse(a)) != 1 {
			t.Fatalf("inverse of %d", a)
		}
	}
}

// As Azure's own client derives: its answer for this key and label.
func TestDerivation(t *testing.T) {
	const want = "9c41b4a9a405e391404337ffa1ec581d08ace0e44397c9c16c8bfa1e7f6f1dfdc31ecf9b7e3101f9d071c215fcea52cc2b6d771c539f29c6971eb13a5862605d"
	if got := fmt.Sprintf("%x", securitydomain.Derive(bytes.Repeat([]byte{0x41}, 32), "label")); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzFiles(f *testing.F) {
	o := officer(f, 1)
	secret := []byte("secret")
	in, err := securitydomain.Wrap(secret, o.Certificate)
	if err != nil {
		f.Fatal(err)
	}
	out, err := securitydomain.Make(secret, certificates([]securitydomain.Officer{o, officer(f, 2), officer(f, 3)}), 2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(in)
	f.Add(out)
	f.Add([]byte(`{"EncData":{"data":[{}],"kdf":"sp108_kdf"},"SharedKeys":{"enc_shares":[{},{}],"key_algorithm":"shamir_share","required":2}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, err := range []error{
			second(securitydomain.Open(text, []securitydomain.Officer{o})),
			second(securitydomain.Unwrap(text, o.Certificate, o.Key)),
		} {
			if err != nil && (fault.ReasonOf(err) != fault.InvalidArgument || strings.Contains(err.Error(), "panic")) {
				t.Errorf("%v", err)
			}
		}
	})
}

func second(_ []byte, err error) error { return err }
