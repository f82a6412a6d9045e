package vault

import (
	"context"
	"fmt"
	"time"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
)

// A Ref names one private key for [Keys]: what is sealed for it is bound to all
// three.
type Ref struct {
	Vault   ID
	Key     KeyID
	Version Version
}

// A Material is what a store keeps of a key version: its public part, and
// whatever [Keys] needs to find or open the private one.
type Material struct {
	Type   KeyType
	Bits   int
	Curve  Curve  // of EC keys
	Public []byte // PKIX, DER; nil of oct keys
	Sealed []byte
}

// Software is the platform of keys that lie in the store, sealed under the
// vault's root.
const Software = "software"

// Keys is where private keys live. Its methods are called outside transactions
// and may be slow; they shed load with [fault.Throttled]. None of them decides
// who may use a key: package vault has, and has checked type, size, algorithm and
// the lengths of the input as well. What the public part can do is done without
// them.
type Keys interface {
	// Platform names where the keys live: [Software], or an HSM. It is kept with
	// each version, and shown.
	Platform() string
	// Place chooses where the next key of a name is to lie, and returns it sealed as a
	// [Material] holds it: so that it can be destroyed if it is made and never kept. It
	// is nil if a key lies in its Material.
	Place(ctx context.Context, ref Ref) ([]byte, error)
	// Generate makes a key, at the place that was chosen. What it returns is not kept
	// anywhere else.
	Generate(ctx context.Context, ref Ref, s Shape, place []byte) (Material, error)
	// Import takes a key in: PKCS #8 in DER, or an oct key's bytes. The type says
	// which; the shape's size and curve are the key's own.
	Import(ctx context.Context, ref Ref, typ KeyType, private []byte) (Material, error)
	// ImportWrapped is Import of a key that was wrapped for another, which lives in
	// the same place; [fault.InvalidArgument] if it does not open.
	ImportWrapped(ctx context.Context, ref Ref, typ KeyType, w Wrapped) (Material, error)
	// Encrypt wraps or encrypts with an oct key; [fault.InvalidArgument] if the
	// value does not fit.
	Encrypt(ctx context.Context, ref Ref, m Material, in Input) (Output, error)
	// Decrypt unwraps or decrypts; [fault.InvalidArgument] if the key did not make
	// the value, and [fault.Integrity] if the private key itself does not open.
	// With RSA1_5 a value that the key did not make gives random-looking bytes.
	Decrypt(ctx context.Context, ref Ref, m Material, in Input) (Output, error)
	// Sign signs a digest, or makes the MAC of a message. ES* gives r ‖ s.
	Sign(ctx context.Context, ref Ref, m Material, in Input) ([]byte, error)
	// Export returns the private part, or where it lies, sealed under another key than
	// its own and bound to its name; [Keys.Move] takes it in, here or elsewhere.
	Export(ctx context.Context, ref Ref, m Material, under *envelope.Key) ([]byte, error)
	// Move gives what was kept for one name to another: a restored backup is a new
	// key. What m holds is as it was kept here, or as Export sealed it if under is not
	// nil. It goes to the place that was chosen for the new name.
	Move(ctx context.Context, from, to Ref, m Material, under *envelope.Key, place []byte) (Material, error)
	// Random returns n random bytes.
	Random(ctx context.Context, n int) ([]byte, error)
	// Destroy removes for ever what does not lie in the Material. It may be
	// repeated.
	Destroy(ctx context.Context, ref Ref, m Material) error
	// Forget drops what is kept in memory of all the key's versions.
	Forget(key KeyID)
}

// Remains are a private part that does not lie in the store and is to be destroyed: a
// purged key's, or one that is being made. That one's are dropped by the transaction
// that keeps the key; if there is none, they are due some time later.
type Remains struct {
	Ref
	Platform string
	Material Material
	Due      time.Time // zero: at once, and no key takes it any more
}

// A Wrapped is a key that was wrapped for an import: an AES-256 key under the
// KEK's RSA-OAEP, and the key under that with RFC 5649
// (learn.microsoft.com/azure/key-vault/keys/byok-specification).
type Wrapped struct {
	Algorithm WrapAlgorithm
	KEK       Ref
	Material  Material // the KEK's
	Value     []byte
}

// A WrapAlgorithm names how a key was wrapped for an import.
type WrapAlgorithm string

// The algorithms, which differ in the hash of RSA-OAEP.
const (
	RSAAESKeyWrapSHA1   WrapAlgorithm = "CKM_RSA_AES_KEY_WRAP"
	RSAAESKeyWrapSHA256 WrapAlgorithm = "RSA_AES_KEY_WRAP_256"
	RSAAESKeyWrapSHA384 WrapAlgorithm = "RSA_AES_KEY_WRAP_384"
)

// maker returns where keys of the type are made.
func (v *Vaults) maker(t KeyType) (Keys, error) {
	if !t.HSM() {
		return v.keys, nil
	}
	if v.hsm == nil {
		return nil, fault.New(fault.NotSupported, fmt.Sprintf("This vault has no HSM, so it makes no keys of type %s.", t)).
			WithMend(fmt.Sprintf("Make one of type %s, or have an HSM configured.", t.Family()))
	}
	return v.hsm, nil
}

// keeper returns where a version's private part lives.
func (v *Vaults) keeper(k KeyVersion) (Keys, error) {
	for _, keys := range []Keys{v.keys, v.hsm} {
		if keys != nil && keys.Platform() == k.Platform {
			return keys, nil
		}
	}
	return nil, fault.New(fault.Unavailable, fmt.Sprintf("The key lives in %q, which is not configured.", k.Platform))
}

func (v *Vaults) forget(keys ...KeyID) {
	for _, k := range keys {
		v.keys.Forget(k)
		if v.hsm != nil {
			v.hsm.Forget(k)
		}
	}
}
