package softkey

import (
	"context"
	"crypto"
	"crypto/rsa"

	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

var wrapHashes = map[vault.WrapAlgorithm]crypto.Hash{
	vault.RSAAESKeyWrapSHA1: crypto.SHA1, vault.RSAAESKeyWrapSHA256: crypto.SHA256, vault.RSAAESKeyWrapSHA384: crypto.SHA384,
}

// ImportWrapped implements [vault.Keys].
func (k *Keys) ImportWrapped(ctx context.Context, ref vault.Ref, typ vault.KeyType, w vault.Wrapped) (vault.Material, error) {
	private, err := k.unwrap(ctx, w)
	if err != nil {
		return vault.Material{}, err
	}
	defer clear(private)
	return k.Import(ctx, ref, typ, private)
}

// unwrap opens PKCS #11's CKM_RSA_AES_KEY_WRAP: an AES-256 key under RSA-OAEP, and
// the key under that with RFC 5649.
func (k *Keys) unwrap(ctx context.Context, w vault.Wrapped) ([]byte, error) {
	hash, ok := wrapHashes[w.Algorithm]
	if !ok {
		return nil, fault.New(fault.NotSupported, "The blob's enc is not supported.").WithMend("Use CKM_RSA_AES_KEY_WRAP.")
	}
	if err := turn(ctx, k.cores, patience); err != nil {
		return nil, err
	}
	defer k.cores.Release(1)
	kek, err := opened[*rsa.PrivateKey](k, w.KEK, w.Material)
	if err != nil {
		return nil, err
	}
	broken := fault.New(fault.InvalidArgument, "The wrapped key does not open with the key that its header names.")
	if len(w.Value) <= kek.Size() {
		return nil, broken
	}
	aes, err := rsa.DecryptOAEP(hash.New(), nil, kek, w.Value[:kek.Size()], nil)
	if err != nil || len(aes) != 32 {
		return nil, broken
	}
	defer clear(aes)
	unwrap, err := kwp.NewKWP(aes)
	if err != nil {
		return nil, err
	}
	private, err := unwrap.Unwrap(w.Value[kek.Size():])
	if err != nil {
		return nil, broken
	}
	return private, nil
}
