// Package softkey keeps a vault's private keys in software: PKCS #8, sealed under
// the vault's root.
//
// A sealed key is bound to the instance, the vault, the key and the version that
// it belongs to, so that a row moved elsewhere does not open. Opened keys stay in
// memory, a bounded number of them, until they are dropped. RSA with a private key
// runs on as many cores as the process has and no more; who waits too long for one
// is turned away with [fault.Throttled].
//
// It decides nothing: package vault does, before each call.
package softkey

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"hash"
	"runtime"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

const (
	purpose   = "kluis/v1/vault-private-key"
	cacheSize = 1024             // opened keys
	patience  = 5 * time.Second  // for a core, of an operation
	keyWait   = 30 * time.Second // for a turn, of a key generation
)

// Keys implements [vault.Keys].
type Keys struct {
	instance string
	root     *envelope.Key
	cores    *semaphore.Weighted // private operations
	making   *semaphore.Weighted // key generations: one at a time, each takes seconds
	opened   *cache
}

// New returns the keys of an instance under its vault root, which it keeps using.
func New(instance string, root *envelope.Key) *Keys {
	return &Keys{
		instance: instance,
		root:     root,
		cores:    semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0))),
		making:   semaphore.NewWeighted(1),
		opened:   newCache(cacheSize),
	}
}

func (k *Keys) context(ref vault.Ref) envelope.Context {
	return envelope.NewContext(purpose, k.instance, string(ref.Vault), string(ref.Key), string(ref.Version))
}

// turn waits for one of sem's places.
func turn(ctx context.Context, sem *semaphore.Weighted, wait time.Duration) error {
	if sem.TryAcquire(1) {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := sem.Acquire(waiting, 1); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fault.New(fault.Throttled, "The vault has more key operations to do than it can.").WithMend("Try again later.")
	}
	return nil
}

// Generate implements [vault.Keys].
func (k *Keys) Generate(ctx context.Context, ref vault.Ref, typ vault.KeyType, bits int) (vault.Material, error) {
	if typ != vault.RSA {
		return vault.Material{}, fault.New(fault.NotSupported, "Only keys of type RSA are supported.")
	}
	if err := turn(ctx, k.making, keyWait); err != nil {
		return vault.Material{}, err
	}
	defer k.making.Release(1)
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return vault.Material{}, err
	}
	return k.Seal(ref, key)
}

// Seal returns what a store keeps of a private key.
func (k *Keys) Seal(ref vault.Ref, key *rsa.PrivateKey) (vault.Material, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return vault.Material{}, err
	}
	defer clear(der)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return vault.Material{}, err
	}
	return vault.Material{
		Type: vault.RSA, Bits: key.N.BitLen(), Public: public, Sealed: envelope.Seal(k.root, k.context(ref), der),
	}, nil
}

// Encrypt implements [vault.Keys], with the public part only.
func (k *Keys) Encrypt(_ context.Context, _ vault.Ref, m vault.Material, alg vault.Algorithm, value []byte) ([]byte, error) {
	h, err := oaep(alg)
	if err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(m.Public)
	if err != nil {
		return nil, fault.Wrap(fault.Integrity, err, "The stored public key is damaged.")
	}
	pub, ok := public.(*rsa.PublicKey)
	if !ok {
		return nil, fault.New(fault.Integrity, "The stored public key is of another type.")
	}
	if room := pub.Size() - 2*h.Size() - 2; len(value) > room {
		return nil, fault.New(fault.InvalidArgument, fmt.Sprintf("The value is too long: this key takes at most %d bytes with %s.", room, alg))
	}
	return rsa.EncryptOAEP(h, rand.Reader, pub, value, nil)
}

// Decrypt implements [vault.Keys].
func (k *Keys) Decrypt(ctx context.Context, ref vault.Ref, m vault.Material, alg vault.Algorithm, value []byte) ([]byte, error) {
	h, err := oaep(alg)
	if err != nil {
		return nil, err
	}
	if err := turn(ctx, k.cores, patience); err != nil {
		return nil, err
	}
	defer k.cores.Release(1)
	key, err := k.open(ref, m)
	if err != nil {
		return nil, err
	}
	// Go answers every defect of the ciphertext in the same way and time.
	plain, err := rsa.DecryptOAEP(h, nil, key, value, nil)
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "The value was not made with this key and algorithm.")
	}
	return plain, nil
}

// Forget implements [vault.Keys].
func (k *Keys) Forget(key vault.KeyID) { k.opened.drop(key) }

// open returns the private key that m holds, from memory if it was opened before.
func (k *Keys) open(ref vault.Ref, m vault.Material) (*rsa.PrivateKey, error) {
	cached, drops := k.opened.get(ref)
	if cached != nil {
		return cached, nil
	}
	der, err := envelope.Open(k.root, k.context(ref), m.Sealed)
	if err != nil {
		return nil, fault.Wrap(fault.Integrity, err, "The private key does not open.")
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fault.Wrap(fault.Integrity, err, "The private key is damaged.")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fault.New(fault.Integrity, "The private key is of another type.")
	}
	k.opened.put(ref, key, drops)
	return key, nil
}

func oaep(alg vault.Algorithm) (hash.Hash, error) {
	switch alg {
	case vault.RSAOAEP256:
		return sha256.New(), nil
	case vault.RSAOAEP:
		return sha1.New(), nil
	}
	return nil, fault.New(fault.NotSupported, "The algorithm is not supported.")
}
