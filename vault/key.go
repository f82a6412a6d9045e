package vault

import (
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
	Curve      Curve  // of EC keys
	Public     []byte // PKIX, DER; nil of oct keys
	Platform   string // where the private part lives; see [Keys]
	Operations []Operation
	Enabled    bool
	NotBefore  time.Time // zero if unset
	Expires    time.Time // zero if unset
	Created    time.Time
	Updated    time.Time
	Tags       map[string]string
	Notice     time.Time // when to tell next that it nears its expiry or has expired; zero if never
}

// Permits reports whether the version does op at a time, as a fault if not. This
// is Azure's matrix: a disabled key still does what its public part can do, and
// an expired one still opens what was made with it.
func (k KeyVersion) Permits(op Operation, at time.Time) error {
	if !slices.Contains(k.Operations, op) {
		return fault.New(fault.KeyOperationForbidden, "Operation "+string(op)+" is not permitted on this key.")
	}
	switch op { // needs the private part
	case Decrypt, Sign, UnwrapKey, Import:
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
