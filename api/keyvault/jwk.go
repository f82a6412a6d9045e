package keyvault

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/url"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

// A webKey is a JSON Web Key (RFC 7517) as Key Vault shows one.
type webKey struct {
	KID        string            `json:"kid"`
	Type       vault.KeyType     `json:"kty"`
	Operations []vault.Operation `json:"key_ops"`
	N          octets            `json:"n,omitempty"`
	E          octets            `json:"e,omitempty"`
	Curve      vault.Curve       `json:"crv,omitempty"`
	X          octets            `json:"x,omitempty"`
	Y          octets            `json:"y,omitempty"`
}

// show fills in the public part; an oct key has none.
func (w *webKey) show(k vault.KeyVersion) error {
	if k.Type.Family() == vault.Oct {
		return nil
	}
	public, err := vault.ParsePublic(k.Public)
	if err == nil {
		if p, ok := public.(*rsa.PublicKey); ok {
			w.N, w.E = p.N.Bytes(), big.NewInt(int64(p.E)).Bytes()
			return nil
		}
		w.Curve = k.Curve
		w.X, w.Y, err = vault.Point(public)
	}
	if err != nil {
		return fault.Wrap(fault.Integrity, err, "The stored public key is damaged.")
	}
	return nil
}

// A privateWebKey is one that a client hands in.
type privateWebKey struct {
	Type       vault.KeyType      `json:"kty"`
	Operations *[]vault.Operation `json:"key_ops"`
	N          octets             `json:"n"`
	E          octets             `json:"e"`
	D          octets             `json:"d"`
	P          octets             `json:"p"`
	Q          octets             `json:"q"`
	Curve      vault.Curve        `json:"crv"`
	X          octets             `json:"x"`
	Y          octets             `json:"y"`
	K          octets             `json:"k"`
	Wrapped    string             `json:"key_hsm"` // base64 of a transfer blob
}

// private returns the key as PKCS #8, or an oct key's bytes.
func (w privateWebKey) private() ([]byte, error) {
	switch w.Type.Family() {
	case vault.RSA:
		return w.rsa()
	case vault.EC:
		return w.ec()
	}
	return w.K, nil // the vault checks it
}

func (w privateWebKey) clear() {
	for _, b := range []octets{w.D, w.P, w.Q, w.K} {
		clear(b)
	}
}

var errPrivate = fault.New(fault.InvalidArgument, "The JSON Web Key is no private key of its type, or its parts do not fit together.")

func (w privateWebKey) rsa() ([]byte, error) {
	const longest = 4096 / 8
	for _, b := range []octets{w.N, w.D, w.P, w.Q} {
		if len(b) == 0 || len(b) > longest+1 {
			return nil, errPrivate
		}
	}
	number := func(b octets) *big.Int { return new(big.Int).SetBytes(b) }
	e := number(w.E)
	if !e.IsInt64() || e.Int64() != 65537 {
		return nil, fault.New(fault.InvalidArgument, "The public exponent must be 65537.")
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: number(w.N), E: 65537}, D: number(w.D), Primes: []*big.Int{number(w.P), number(w.Q)},
	}
	if err := key.Validate(); err != nil {
		return nil, fault.Wrap(fault.InvalidArgument, err, errPrivate.Detail)
	}
	key.Precompute()
	return vault.MarshalPrivate(key)
}

func (w privateWebKey) ec() ([]byte, error) {
	if w.Curve == vault.P256K {
		key, err := vault.K1Private(padded(w.D, 32))
		if err != nil {
			return nil, err
		}
		return w.matching(key)
	}
	curves := map[vault.Curve]struct {
		elliptic.Curve
		size int
	}{
		vault.P256: {elliptic.P256(), 32}, vault.P384: {elliptic.P384(), 48}, vault.P521: {elliptic.P521(), 66},
	}
	c, ok := curves[w.Curve]
	if !ok {
		return nil, fault.New(fault.InvalidArgument, "crv must be P-256, P-256K, P-384 or P-521.")
	}
	key, err := ecdsa.ParseRawPrivateKey(c.Curve, padded(w.D, c.size))
	if err != nil {
		return nil, fault.Wrap(fault.InvalidArgument, err, errPrivate.Detail)
	}
	return w.matching(key)
}

// matching returns an EC key as PKCS #8 if the public part given is its own.
func (w privateWebKey) matching(key any) ([]byte, error) {
	x, y, err := vault.Point(vault.PublicOf(key))
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(padded(w.X, len(x)), x) || !bytes.Equal(padded(w.Y, len(y)), y) {
		return nil, errPrivate
	}
	return vault.MarshalPrivate(key)
}

// padded returns a number's bytes with zeros in front, as it is if it is longer.
func padded(b []byte, n int) []byte {
	if len(b) >= n {
		return b
	}
	return append(make([]byte, n-len(b)), b...)
}

// A transferBlob is a key wrapped for an import
// (learn.microsoft.com/azure/key-vault/keys/byok-specification).
type transferBlob struct {
	Schema string `json:"schema_version"`
	Header struct {
		KID       string              `json:"kid"`
		Algorithm string              `json:"alg"`
		Wrap      vault.WrapAlgorithm `json:"enc"`
	} `json:"header"`
	Ciphertext octets `json:"ciphertext"`
}

// wrapped reads the transfer blob that a client hands in. base is the vault's URI:
// the blob names its key by kid.
func (w privateWebKey) wrapped(base string) (*vault.WrappedSpec, error) {
	bad := fault.New(fault.InvalidArgument, "key_hsm is not a transfer blob in base64.").WithMend("It is the .byok file of the HSM's vendor.")
	text := strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(w.Wrapped, "="))
	raw, err := base64.RawURLEncoding.DecodeString(text)
	var blob transferBlob
	if err != nil || json.Unmarshal(raw, &blob) != nil || blob.Schema != "1.0.0" || blob.Header.Algorithm != "dir" {
		return nil, bad
	}
	u, err := url.Parse(blob.Header.KID)
	if err != nil || !strings.EqualFold(u.Scheme+"://"+u.Host, base) {
		return nil, fault.New(fault.InvalidArgument, "The transfer blob's kid is not of this vault.")
	}
	r, ok := parse(u.EscapedPath())
	if !ok || r.kind != key && r.kind != keyVersion {
		return nil, bad
	}
	name, err := vault.ParseKeyName(r.name)
	if err != nil {
		return nil, err
	}
	version, err := vault.ParseVersion(r.version)
	return &vault.WrappedSpec{Algorithm: blob.Header.Wrap, KEK: name, KEKVersion: version, Value: blob.Ciphertext}, err
}
