// Package hsm keeps a vault's private keys on a PKCS#11 token, which they never
// leave. It speaks to the helper process kluis-hsm, through internal/cryptoki.
//
// A store keeps of a key its public part and a handle: the token's serial number,
// and the key's id there. The handle is sealed under the vault's root, bound to
// instance, vault, key and version as software keys are, so that a row moved or
// altered names no other key; who lacks the root cannot make the token use one.
// Backups hold the handle too: the key itself is its vendor's tools' to save.
//
// An AES key wraps as RFC 3394 says: the token does the cipher, and its key never
// leaves it.
//
// No answer from the helper or the token is [fault.Unavailable]. A key that its
// token does not hold is [fault.Integrity]: neither is a refusal. A token that
// forbids the operation for the key is [fault.KeyOperationForbidden].
//
// It decides nothing: package vault does, before each call. It imports no cgo.
package hsm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/cryptoki"
	"github.com/kluis-io/kluis/vault"
)

const purpose = "kluis/v1/vault-hsm-key"

// Platform is the platform of keys on a PKCS#11 token.
const Platform = "pkcs11"

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

var _ vault.Keys = (*Keys)(nil)

// Platform implements [vault.Keys].
func (k *Keys) Platform() string { return Platform }

func (k *Keys) context(ref vault.Ref) envelope.Context {
	return envelope.NewContext(purpose, k.instance, string(ref.Vault), string(ref.Key), string(ref.Version))
}

func specOf(s vault.Shape) cryptoki.Spec {
	switch s.Type.Family() {
	case vault.RSA:
		return cryptoki.Spec{Kind: cryptoki.RSA, Bits: s.Bits}
	case vault.EC:
		return cryptoki.Spec{Kind: cryptoki.EC, Curve: string(s.Curve)}
	}
	return cryptoki.Spec{Kind: cryptoki.AES, Bits: s.Bits}
}

// Place implements [vault.Keys].
func (k *Keys) Place(ctx context.Context, ref vault.Ref) ([]byte, error) {
	h, err := k.token.Place(ctx)
	if err != nil {
		return nil, err
	}
	return k.seal(ref, h)
}

// Generate implements [vault.Keys].
func (k *Keys) Generate(ctx context.Context, ref vault.Ref, s vault.Shape, place []byte) (vault.Material, error) {
	m := vault.Material{Type: s.Type, Bits: s.Bits, Curve: s.Curve, Sealed: place}
	handle, err := k.Handle(ref, m)
	if err != nil {
		return vault.Material{}, err
	}
	m.Public, err = k.token.GenerateAt(ctx, handle, specOf(s), label(ref))
	return m, err
}

func (k *Keys) seal(ref vault.Ref, h cryptoki.Handle) ([]byte, error) {
	plain, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return envelope.Seal(k.root, k.context(ref), plain), nil
}

// Handle opens what a store keeps of a key: on which token it is, and where.
func (k *Keys) Handle(ref vault.Ref, m vault.Material) (cryptoki.Handle, error) {
	return openHandle(k.root, k.context(ref), m.Sealed)
}

func openHandle(root *envelope.Key, context envelope.Context, sealed []byte) (cryptoki.Handle, error) {
	plain, err := envelope.Open(root, context, sealed)
	if err != nil {
		return cryptoki.Handle{}, fault.Wrap(fault.Integrity, err, "The key's place on the HSM does not open.")
	}
	var h cryptoki.Handle
	if err := json.Unmarshal(plain, &h); err != nil {
		return cryptoki.Handle{}, fault.Wrap(fault.Integrity, err, "The key's place on the HSM is damaged.")
	}
	return h, nil
}

// Export implements [vault.Keys]: a backup tells where the key lies, and does not hold
// it. Only the token that has it, or its clone, can take it in.
func (k *Keys) Export(_ context.Context, ref vault.Ref, m vault.Material, under *envelope.Key) ([]byte, error) {
	h, err := k.Handle(ref, m)
	if err != nil {
		return nil, err
	}
	plain, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return envelope.Seal(under, exported(ref), plain), nil
}

// exported binds a handle that was sealed under another key than the root to its
// name, and to no instance.
func exported(ref vault.Ref) envelope.Context {
	return envelope.NewContext("kluis/v1/vault-hsm-key-export", string(ref.Vault), string(ref.Key), string(ref.Version))
}

// Move implements [vault.Keys] with a copy on the token, so that each name's key is
// destroyed with that name and no other. A key whose last copy was destroyed does
// not come back from a backup of the vault.
func (k *Keys) Move(ctx context.Context, from, to vault.Ref, m vault.Material, under *envelope.Key, place []byte) (vault.Material, error) {
	root, context := k.root, k.context(from)
	if under != nil {
		root, context = under, exported(from)
	}
	h, err := openHandle(root, context, m.Sealed)
	if err != nil {
		return vault.Material{}, err
	}
	target, err := openHandle(k.root, k.context(to), place)
	if err != nil {
		return vault.Material{}, err
	}
	if h, err = k.token.Copy(ctx, h, target.Key, label(to)); err != nil {
		return vault.Material{}, err
	}
	m.Sealed, err = k.seal(to, h)
	return m, err
}

// label is what the token's own tools show of a key.
func label(ref vault.Ref) string { return fmt.Sprintf("kluis %s %s", ref.Key, ref.Version) }

// ImportWrapped implements [vault.Keys], and refuses.
func (k *Keys) ImportWrapped(context.Context, vault.Ref, vault.KeyType, vault.Wrapped) (vault.Material, error) {
	return vault.Material{}, fault.New(fault.NotSupported, "Keys wrapped for another are not taken into this HSM.").
		WithMend("Make the key in the HSM.")
}

// Import implements [vault.Keys], and refuses: a key that has been outside an HSM
// does not become one of its own.
func (k *Keys) Import(context.Context, vault.Ref, vault.KeyType, []byte) (vault.Material, error) {
	return vault.Material{}, fault.New(fault.NotSupported, "Keys are not imported into this HSM in the clear.").
		WithMend("Make the key in the HSM, or import it as a software key.")
}

// Encrypt implements [vault.Keys].
func (k *Keys) Encrypt(ctx context.Context, ref vault.Ref, m vault.Material, in vault.Input) (vault.Output, error) {
	method, alg, err := methodOf(m, in)
	if err != nil {
		return vault.Output{}, err
	}
	h, err := k.Handle(ref, m)
	if err != nil {
		return vault.Output{}, err
	}
	out, err := k.token.EncryptWith(ctx, h, alg, in.IV, in.AAD, in.Value)
	switch {
	case err != nil:
		return vault.Output{}, err
	case method.Mode != vault.ModeGCM:
		return vault.Output{Value: out, IV: in.IV}, nil
	case len(out) < cryptoki.GCMNonce+cryptoki.GCMTag:
		return vault.Output{}, fault.New(fault.Internal, "The HSM's answer is too short.")
	}
	begin, end := cryptoki.GCMNonce, len(out)-cryptoki.GCMTag
	return vault.Output{IV: out[:begin:begin], Value: out[begin:end:end], Tag: out[end:], AAD: in.AAD}, nil
}

// Decrypt implements [vault.Keys]. It refuses RSA1_5, whose padding a token checks
// where all can see.
func (k *Keys) Decrypt(ctx context.Context, ref vault.Ref, m vault.Material, in vault.Input) (vault.Output, error) {
	method, alg, err := methodOf(m, in)
	if err != nil {
		return vault.Output{}, err
	}
	h, err := k.Handle(ref, m)
	if err != nil {
		return vault.Output{}, err
	}
	value := in.Value
	if method.Mode == vault.ModeGCM {
		value = slices.Concat(in.Value, in.Tag)
	}
	out, err := k.token.DecryptWith(ctx, h, alg, in.IV, in.AAD, value)
	if err != nil {
		return vault.Output{}, err
	}
	return vault.Output{Value: out, IV: in.IV}, nil
}

// Sign implements [vault.Keys]. It refuses HS*: a token's AES keys make no MACs.
func (k *Keys) Sign(ctx context.Context, ref vault.Ref, m vault.Material, in vault.Input) ([]byte, error) {
	_, alg, err := methodOf(m, in)
	if err != nil {
		return nil, err
	}
	h, err := k.Handle(ref, m)
	if err != nil {
		return nil, err
	}
	return k.token.Sign(ctx, h, alg, in.Value)
}

// methodOf returns how the algorithm works and the token's name for it.
func methodOf(m vault.Material, in vault.Input) (vault.Method, cryptoki.Algorithm, error) {
	method, ok := in.Algorithm.Method()
	switch {
	case !ok, method.Mode == vault.ModePKCS1Encryption, method.Mode == vault.ModeHMAC, method.Mode == vault.ModeKeyWrapPad:
		return method, "", fault.New(fault.NotSupported, fmt.Sprintf("Algorithm %s is not supported with keys in this HSM.", in.Algorithm))
	case in.Algorithm == vault.AESKeyWrap: // of whatever size the key is
		return method, cryptoki.Algorithm(fmt.Sprintf("A%dKW", m.Bits)), nil
	}
	return method, cryptoki.Algorithm(in.Algorithm), nil
}

// Forget implements [vault.Keys]: nothing is kept in memory.
func (k *Keys) Forget(vault.KeyID) {}

// Destroy implements [vault.Keys].
func (k *Keys) Destroy(ctx context.Context, ref vault.Ref, m vault.Material) error {
	h, err := k.Handle(ref, m)
	if err != nil {
		return err
	}
	return k.token.Destroy(ctx, h)
}

// Random implements [vault.Keys], with the token's own random source; n is 1 to 128.
func (k *Keys) Random(ctx context.Context, n int) ([]byte, error) { return k.token.Random(ctx, n) }

// Info tells of the token: what it is, and what it can do.
func (k *Keys) Info(ctx context.Context) (cryptoki.Info, error) { return k.token.Info(ctx) }
