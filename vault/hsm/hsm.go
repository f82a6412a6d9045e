// Package hsm keeps a vault's private keys on a PKCS#11 token, which they never
// leave. It speaks to the helper process kluis-hsm, through internal/cryptoki.
//
// A store keeps of a key its public part and a handle: the token's serial number,
// and the key's id there. The handle is sealed under the vault's root, bound to
// instance, vault, key and version as software keys are, so that a row moved or
// altered names no other key; who lacks the root cannot make the token use one.
//
// What needs the public part alone is done here, with Go's library: encrypting
// with RSA, and verifying, but for P-256K, which the token verifies. An AES key
// wraps as RFC 3394 says: the token does the cipher, key material never leaves it.
//
// No answer from the helper or the token is [fault.Unavailable]. A key that its
// token does not hold is [fault.Integrity]: neither is a refusal. A token that
// forbids the operation for the key is [fault.KeyOperationForbidden].
//
// It decides nothing: package vault does, before each call. It imports no cgo.
package hsm

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"hash"
	"strings"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/cryptoki"
	"github.com/kluis-io/kluis/vault"
)

const purpose = "kluis/v1/vault-hsm-key"

// The key types of this package, in JSON Web Key's words. What is asked for
// without "-HSM" is made in the same way, and keeps its name.
const (
	RSA vault.KeyType = "RSA-HSM"
	EC  vault.KeyType = "EC-HSM"
	Oct vault.KeyType = "oct-HSM"
)

// A Spec says which key to make. An EC key takes Curve (P-256, P-256K, P-384 or
// P-521), the others Bits: RSA 2048, 3072 or 4096, oct 128, 192 or 256.
type Spec struct {
	Type  vault.KeyType
	Bits  int
	Curve string
}

func (s Spec) token() (cryptoki.Spec, error) {
	t := cryptoki.Spec{Kind: kind(s.Type), Bits: s.Bits, Curve: s.Curve}
	if t.Kind == "" {
		return t, fault.New(fault.NotSupported, "An HSM keeps keys of type RSA, EC and oct.")
	}
	if err := t.Check(); err != nil {
		return t, fault.Wrap(fault.InvalidArgument, err, "There is no key of that type and size or curve.").
			WithMend("RSA keys have 2048, 3072 or 4096 bits, oct keys 128, 192 or 256; curves are P-256, P-256K, P-384 and P-521.")
	}
	return t, nil
}

func kind(t vault.KeyType) cryptoki.Kind {
	switch strings.TrimSuffix(string(t), "-HSM") {
	case "RSA":
		return cryptoki.RSA
	case "EC":
		return cryptoki.EC
	case "oct":
		return cryptoki.AES
	}
	return ""
}

// Keys implements [vault.Keys]. It is safe for concurrent use; the client bounds
// what is under way.
type Keys struct {
	instance string
	root     *envelope.Key
	token    *cryptoki.Client
}

// New returns the keys of an instance under its vault root, which it keeps using,
// on the token that the client reaches.
func New(instance string, root *envelope.Key, token *cryptoki.Client) *Keys {
	return &Keys{instance: instance, root: root, token: token}
}

func (k *Keys) context(ref vault.Ref) envelope.Context {
	return envelope.NewContext(purpose, k.instance, string(ref.Vault), string(ref.Key), string(ref.Version))
}

// Generate implements [vault.Keys]. An EC key of 256 bits is a P-256; for P-256K
// there is [Keys.Make].
func (k *Keys) Generate(ctx context.Context, ref vault.Ref, typ vault.KeyType, bits int) (vault.Material, error) {
	s := Spec{Type: typ, Bits: bits}
	if kind(typ) == cryptoki.EC {
		s.Bits, s.Curve = 0, fmt.Sprintf("P-%d", bits)
	}
	return k.Make(ctx, ref, s)
}

// curveBits are the sizes that [vault.Material] tells of elliptic curves.
var curveBits = map[string]int{cryptoki.P256: 256, cryptoki.P256K: 256, cryptoki.P384: 384, cryptoki.P521: 521}

// Make makes a key on the token, labelled with the key's id and version. A caller
// that cannot keep the result gives it to [Keys.Delete], or the token keeps a key
// that nobody uses.
func (k *Keys) Make(ctx context.Context, ref vault.Ref, s Spec) (vault.Material, error) {
	t, err := s.token()
	if err != nil {
		return vault.Material{}, err
	}
	handle, public, err := k.token.Generate(ctx, t, fmt.Sprintf("kluis %s %s", ref.Key, ref.Version))
	if err != nil {
		return vault.Material{}, err
	}
	m := vault.Material{Type: s.Type, Bits: s.Bits, Public: public}
	if t.Kind == cryptoki.EC {
		m.Bits = curveBits[s.Curve]
	}
	m.Sealed, err = k.seal(ref, handle)
	return m, err
}

func (k *Keys) seal(ref vault.Ref, h cryptoki.Handle) ([]byte, error) {
	plain, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return envelope.Seal(k.root, k.context(ref), plain), nil
}

// Handle opens what a store keeps of a key: on which token it is, and where. A
// backup of the token, which is its vendor's to make, must hold that.
func (k *Keys) Handle(ref vault.Ref, m vault.Material) (cryptoki.Handle, error) {
	plain, err := envelope.Open(k.root, k.context(ref), m.Sealed)
	if err != nil {
		return cryptoki.Handle{}, fault.Wrap(fault.Integrity, err, "The key's place on the HSM does not open.")
	}
	var h cryptoki.Handle
	if err := json.Unmarshal(plain, &h); err != nil {
		return cryptoki.Handle{}, fault.Wrap(fault.Integrity, err, "The key's place on the HSM is damaged.")
	}
	return h, nil
}

// Rebind returns m for another ref: of a key restored from a backup, which is still
// the same key on the token.
func (k *Keys) Rebind(from vault.Ref, m vault.Material, to vault.Ref) (vault.Material, error) {
	h, err := k.Handle(from, m)
	if err != nil {
		return vault.Material{}, err
	}
	m.Sealed, err = k.seal(to, h)
	return m, err
}

// Encrypt implements [vault.Keys]. For an oct key it needs m.Sealed as well: the
// token has the only copy, and value has 16 bytes or more, a multiple of 8.
func (k *Keys) Encrypt(ctx context.Context, ref vault.Ref, m vault.Material, alg vault.Algorithm, value []byte) ([]byte, error) {
	if kind(m.Type) == cryptoki.AES {
		if err := checkWrap(m, alg, value, 16); err != nil {
			return nil, err
		}
		h, err := k.Handle(ref, m)
		if err != nil {
			return nil, err
		}
		return k.token.Encrypt(ctx, h, cryptoki.Algorithm(alg), value)
	}
	d, err := oaep(m, alg)
	if err != nil {
		return nil, err
	}
	public, err := publicKey[*rsa.PublicKey](m)
	if err != nil {
		return nil, err
	}
	if room := public.Size() - 2*d.Size() - 2; len(value) > room {
		return nil, fault.New(fault.InvalidArgument, fmt.Sprintf("The value is too long: this key takes at most %d bytes with %s.", room, alg))
	}
	return rsa.EncryptOAEP(d, rand.Reader, public, value, nil)
}

// Decrypt implements [vault.Keys].
func (k *Keys) Decrypt(ctx context.Context, ref vault.Ref, m vault.Material, alg vault.Algorithm, value []byte) ([]byte, error) {
	var err error
	if kind(m.Type) == cryptoki.AES {
		err = checkWrap(m, alg, value, 24)
	} else {
		_, err = oaep(m, alg)
	}
	if err != nil {
		return nil, err
	}
	h, err := k.Handle(ref, m)
	if err != nil {
		return nil, err
	}
	return k.token.Decrypt(ctx, h, cryptoki.Algorithm(alg), value)
}

// checkWrap checks what is given to an AES key: RFC 3394 §2.
func checkWrap(m vault.Material, alg vault.Algorithm, value []byte, least int) error {
	if string(alg) != fmt.Sprintf("A%dKW", m.Bits) {
		return fault.New(fault.InvalidArgument, "The algorithm does not fit the key.").WithMend(fmt.Sprintf("Use A%dKW.", m.Bits))
	}
	if len(value) < least || len(value)%8 != 0 {
		return fault.New(fault.InvalidArgument, fmt.Sprintf("The value has to have %d bytes or more, a multiple of 8.", least))
	}
	return nil
}

func oaep(m vault.Material, alg vault.Algorithm) (hash.Hash, error) {
	if kind(m.Type) == cryptoki.RSA {
		switch alg {
		case vault.RSAOAEP256:
			return sha256.New(), nil
		case vault.RSAOAEP:
			return sha1.New(), nil
		}
	}
	return nil, fault.New(fault.NotSupported, "The algorithm is not supported with this type of key.")
}

func publicKey[K any](m vault.Material) (K, error) {
	parsed, err := x509.ParsePKIXPublicKey(m.Public)
	key, ok := parsed.(K)
	if err != nil || !ok {
		return key, fault.Wrap(fault.Integrity, err, "The stored public key is damaged, or of another type.")
	}
	return key, nil
}

// Forget implements [vault.Keys]: nothing is kept in memory, so that what a store
// has dropped is out of use.
func (k *Keys) Forget(vault.KeyID) {}

// Delete destroys the key on its token, for good. It is no error if it is gone.
func (k *Keys) Delete(ctx context.Context, ref vault.Ref, m vault.Material) error {
	h, err := k.Handle(ref, m)
	if err != nil {
		return err
	}
	return k.token.Destroy(ctx, h)
}

// Random returns n bytes, 1 to 128, of the token's random source.
func (k *Keys) Random(ctx context.Context, n int) ([]byte, error) { return k.token.Random(ctx, n) }

// Info tells of the token: what it is, and what it can do.
func (k *Keys) Info(ctx context.Context) (cryptoki.Info, error) { return k.token.Info(ctx) }
