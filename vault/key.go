package vault

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// A KeyID is the immutable id of a key, a UUID: the same for all its versions,
// and never used again.
type KeyID string

// A KeyName is a key's name in its vault. Case does not matter; it is shown as it
// was created.
type KeyName string

// Key returns the canonical form, for comparing.
func (n KeyName) Key() string { return strings.ToLower(string(n)) }

// A Version names one generation of a key: 32 lower-case hexadecimal digits.
type Version string

// A KeyType is what a key is, in JSON Web Key's words.
type KeyType string

// The key types that kluis makes.
const RSA KeyType = "RSA"

// An Operation is a use of a key, as key_ops names it.
type Operation string

// The operations that the validity matrix knows.
const (
	Encrypt   Operation = "encrypt"
	Decrypt   Operation = "decrypt"
	Sign      Operation = "sign"
	Verify    Operation = "verify"
	WrapKey   Operation = "wrapKey"
	UnwrapKey Operation = "unwrapKey"
)

// An Algorithm names how a key is used (RFC 7518 §4.1, with Key Vault's names).
type Algorithm string

// The algorithms of RSA keys.
const (
	RSAOAEP256 Algorithm = "RSA-OAEP-256" // SHA-256, MGF1 with SHA-256
	RSAOAEP    Algorithm = "RSA-OAEP"     // SHA-1, for old clients
	RSA15      Algorithm = "RSA1_5"       // refused: its unwrap is a padding oracle
)

// A Key is a name with its versions, which share a scope for roles and a fate.
type Key struct {
	ID      KeyID
	Vault   ID
	Name    KeyName
	Current Version
	Created time.Time
	Deleted time.Time // zero unless soft-deleted
	PurgeAt time.Time // zero unless soft-deleted
}

// A KeyVersion is one generation of a key, without its private part.
type KeyVersion struct {
	Key        KeyID
	Version    Version
	Ordinal    int // from 1, in the order of creation
	Type       KeyType
	Bits       int
	Public     []byte // PKIX, DER
	Operations []Operation
	Enabled    bool
	NotBefore  time.Time // zero if unset
	Expires    time.Time // zero if unset
	Created    time.Time
	Updated    time.Time
	Tags       map[string]string
}

// Permits reports whether the version does op at a time, as a fault if not. This
// is Azure's matrix: a disabled key still does what its public part can do, and
// an expired one still opens what was made with it.
func (k KeyVersion) Permits(op Operation, at time.Time) error {
	if !slices.Contains(k.Operations, op) {
		return fault.New(fault.KeyOperationForbidden, "Operation "+string(op)+" is not permitted on this key.")
	}
	switch op { // needs the private part
	case Decrypt, Sign, UnwrapKey:
		if !k.Enabled {
			return fault.New(fault.KeyDisabled, "Operation "+string(op)+" is not allowed on a disabled key.")
		}
	}
	switch op { // makes something new
	case Encrypt, Sign, WrapKey:
		if !k.NotBefore.IsZero() && at.Before(k.NotBefore) {
			return fault.New(fault.KeyNotYetValid, "Operation "+string(op)+" is not allowed on a key that is not yet valid.")
		}
		if !k.Expires.IsZero() && !at.Before(k.Expires) {
			return fault.New(fault.KeyExpired, "Operation "+string(op)+" is not allowed on an expired key.")
		}
	}
	return nil
}

// A Bundle is a key version with all that the protocol tells about it.
type Bundle struct {
	Vault   Vault
	Key     Key
	Version KeyVersion
}

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
	Public []byte // PKIX, DER
	Sealed []byte
}

// Keys is where private keys live. Its methods are called outside transactions
// and may be slow; they shed load with [fault.Throttled]. None of them decides
// who may use a key.
type Keys interface {
	// Generate makes a key. What it returns is not kept anywhere else.
	Generate(ctx context.Context, ref Ref, typ KeyType, bits int) (Material, error)
	// Encrypt wraps or encrypts value; [fault.InvalidArgument] if it does not fit.
	Encrypt(ctx context.Context, ref Ref, m Material, alg Algorithm, value []byte) ([]byte, error)
	// Decrypt unwraps or decrypts value; [fault.InvalidArgument] if the key did
	// not make it, and [fault.Integrity] if the private key itself does not open.
	Decrypt(ctx context.Context, ref Ref, m Material, alg Algorithm, value []byte) ([]byte, error)
	// Forget drops what is kept in memory of all the key's versions.
	Forget(key KeyID)
}

var (
	keyNamePattern = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	versionPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// ParseKeyName checks a key's name: 1 to 127 letters, digits and hyphens.
func ParseKeyName(s string) (KeyName, error) {
	if !keyNamePattern.MatchString(s) {
		return "", fault.New(fault.InvalidArgument, "A key's name has 1 to 127 letters, digits and hyphens.")
	}
	return KeyName(s), nil
}

// ParseVersion checks a version; "" stands for the current one.
func ParseVersion(s string) (Version, error) {
	v := strings.ToLower(s)
	if v != "" && !versionPattern.MatchString(v) {
		return "", fault.New(fault.InvalidArgument, "A key's version has 32 hexadecimal digits.")
	}
	return Version(v), nil
}

func newVersion() Version {
	var b [16]byte
	rand.Read(b[:])
	return Version(hex.EncodeToString(b[:]))
}

// newUUID returns a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
