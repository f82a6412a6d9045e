// Package softkey keeps a vault's private keys in software: PKCS #8 or an oct
// key's bytes, sealed under the vault's root.
//
// A sealed key is bound to the instance, the vault, the key and the version that
// it belongs to, so that a row moved elsewhere does not open. Opened keys stay in
// memory, a bounded number of them, until they are dropped. Operations with an RSA
// or EC private key run on as many cores as the process has and no more; who waits
// too long for one is turned away with [fault.Throttled].
//
// It decides nothing: package vault does, before each call. Where it stands in for
// an HSM, its platform says so.
package softkey

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"runtime"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
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
	making   *semaphore.Weighted // RSA key generations: one at a time, each takes seconds
	opened   *cache
}

var _ vault.Keys = (*Keys)(nil)

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

// Platform implements [vault.Keys].
func (k *Keys) Platform() string { return vault.Software }

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

// Place implements [vault.Keys]: a key lies in its Material.
func (k *Keys) Place(context.Context, vault.Ref) ([]byte, error) { return nil, nil }

// Generate implements [vault.Keys].
func (k *Keys) Generate(ctx context.Context, ref vault.Ref, s vault.Shape, _ []byte) (vault.Material, error) {
	var key crypto.PrivateKey
	var err error
	switch s.Type.Family() {
	case vault.RSA:
		if err := turn(ctx, k.making, keyWait); err != nil {
			return vault.Material{}, err
		}
		defer k.making.Release(1)
		key, err = rsa.GenerateKey(rand.Reader, s.Bits)
	case vault.EC:
		key, err = generateEC(s.Curve)
	case vault.Oct:
		octets := make([]byte, s.Bits/8)
		rand.Read(octets)
		defer clear(octets)
		key = octets
	default:
		err = fault.New(fault.NotSupported, fmt.Sprintf("Keys of type %s are not supported.", s.Type))
	}
	if err != nil {
		return vault.Material{}, err
	}
	return k.Seal(ref, s.Type, key)
}

func generateEC(c vault.Curve) (crypto.PrivateKey, error) {
	switch c {
	case vault.P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case vault.P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case vault.P521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case vault.P256K:
		if err := checkCurve(c); err != nil {
			return nil, err
		}
		return secp256k1.GeneratePrivateKey()
	}
	return nil, fault.New(fault.NotSupported, fmt.Sprintf("Curve %q is not supported.", c))
}

// checkCurve refuses the curve that no certified module has.
func checkCurve(c vault.Curve) error {
	if c == vault.P256K && fips140.Enabled() {
		return fault.New(fault.NotSupported, "P-256K is not there in FIPS mode.")
	}
	return nil
}

// Import implements [vault.Keys].
func (k *Keys) Import(ctx context.Context, ref vault.Ref, typ vault.KeyType, private []byte) (vault.Material, error) {
	if typ.Family() == vault.Oct {
		return k.Seal(ref, typ, private)
	}
	key, err := vault.ParsePrivate(private)
	if err != nil {
		return vault.Material{}, err
	}
	if r, ok := key.(*rsa.PrivateKey); ok {
		if err := turn(ctx, k.making, keyWait); err != nil { // testing primes takes as long as a few decryptions
			return vault.Material{}, err
		}
		defer k.making.Release(1)
		if err := vault.CheckRSA(r); err != nil {
			return vault.Material{}, err
		}
	}
	return k.Seal(ref, typ, key)
}

// Seal returns what a store keeps of a private key: an RSA or EC key, or the bytes
// of an oct key.
func (k *Keys) Seal(ref vault.Ref, typ vault.KeyType, key crypto.PrivateKey) (vault.Material, error) {
	m := vault.Material{Type: typ}
	octets, ok := key.([]byte)
	if ok {
		if n := len(octets); typ.Family() != vault.Oct || n != 16 && n != 24 && n != 32 {
			return m, fault.New(fault.InvalidArgument, "An oct key has 16, 24 or 32 bytes.")
		}
		m.Bits = 8 * len(octets)
	} else {
		public := vault.PublicOf(key)
		if public == nil {
			return m, fault.New(fault.InvalidArgument, "The private key is of no type that is supported.")
		}
		shape, err := vault.ShapeOf(typ, public)
		if err == nil {
			err = checkCurve(shape.Curve)
		}
		if err != nil {
			return m, err
		}
		m.Bits, m.Curve = shape.Bits, shape.Curve
		if m.Public, err = vault.MarshalPublic(public); err != nil {
			return m, err
		}
		if octets, err = vault.MarshalPrivate(key); err != nil {
			return m, err
		}
		defer clear(octets)
	}
	m.Sealed = envelope.Seal(k.root, k.context(ref), octets)
	return m, nil
}

// exported binds what was sealed under another key than the root to its name, and to
// no instance.
func exported(ref vault.Ref) envelope.Context {
	return envelope.NewContext("kluis/v1/vault-key-export", string(ref.Vault), string(ref.Key), string(ref.Version))
}

// Export implements [vault.Keys].
func (k *Keys) Export(_ context.Context, ref vault.Ref, m vault.Material, under *envelope.Key) ([]byte, error) {
	private, err := k.unseal(ref, m)
	if err != nil {
		return nil, err
	}
	defer clear(private)
	return envelope.Seal(under, exported(ref), private), nil
}

// Move implements [vault.Keys].
func (k *Keys) Move(_ context.Context, from, to vault.Ref, m vault.Material, under *envelope.Key, _ []byte) (vault.Material, error) {
	var private []byte
	var err error
	if under == nil {
		private, err = k.unseal(from, m)
	} else if private, err = envelope.Open(under, exported(from), m.Sealed); err != nil {
		err = fault.Wrap(fault.Integrity, err, "The backup's private key does not open.")
	}
	if err != nil {
		return m, err
	}
	defer clear(private)
	m.Sealed = envelope.Seal(k.root, k.context(to), private)
	return m, nil
}

// Random implements [vault.Keys].
func (k *Keys) Random(_ context.Context, n int) ([]byte, error) {
	b := make([]byte, n)
	rand.Read(b)
	return b, nil
}

// Destroy implements [vault.Keys]: the store holds all there is.
func (k *Keys) Destroy(context.Context, vault.Ref, vault.Material) error { return nil }

// Forget implements [vault.Keys].
func (k *Keys) Forget(key vault.KeyID) { k.opened.drop(key) }

func (k *Keys) unseal(ref vault.Ref, m vault.Material) ([]byte, error) {
	private, err := envelope.Open(k.root, k.context(ref), m.Sealed)
	if err != nil {
		return nil, fault.Wrap(fault.Integrity, err, "The private key does not open.")
	}
	return private, nil
}

// open returns the private key that m holds, from memory if it was opened before.
func (k *Keys) open(ref vault.Ref, m vault.Material) (crypto.PrivateKey, error) {
	cached, drops := k.opened.get(ref)
	if cached != nil {
		return cached, nil
	}
	private, err := k.unseal(ref, m)
	if err != nil {
		return nil, err
	}
	if m.Type.Family() == vault.Oct {
		k.opened.put(ref, private, drops)
		return private, nil
	}
	defer clear(private)
	key, err := vault.ParsePrivate(private)
	if err != nil {
		return nil, fault.Wrap(fault.Integrity, err, "The private key is damaged.")
	}
	k.opened.put(ref, key, drops)
	return key, nil
}

// opened opens a key of one type.
func opened[K crypto.PrivateKey](k *Keys, ref vault.Ref, m vault.Material) (K, error) {
	var none K
	key, err := k.open(ref, m)
	if err != nil {
		return none, err
	}
	typed, ok := key.(K)
	if !ok {
		return none, fault.New(fault.Integrity, "The private key is of another type.")
	}
	return typed, nil
}
