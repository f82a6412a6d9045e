package kek

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/fault"
)

// An Algorithm is a way to wrap, by its name on the wire.
type Algorithm string

const (
	RSAOAEP256 Algorithm = "RSA-OAEP-256" // RSA-OAEP with SHA-256 in both places
	A256KW     Algorithm = "A256KW"       // RFC 3394 with a 256-bit key
)

// wraps reports whether n bytes may be a share wrapped with a.
func (a Algorithm) wraps(n int) bool {
	switch a {
	case RSAOAEP256:
		return n == 2048/8 || n == 3072/8 || n == 4096/8
	case A256KW:
		return n == ShareSize+8
	}
	return false
}

// A Fingerprint is the SHA-256 JWK thumbprint of an RSA public key (RFC 7638), and
// zero for a symmetric key, of which a vault shows nothing.
type Fingerprint [sha256.Size]byte

// String returns the fingerprint in lower-case hexadecimal digits.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// A KeyInfo is what a vault states about one version of a key. It is the vault's
// word: only a round trip shows that the key wraps and unwraps.
type KeyInfo struct {
	KID             KID
	Type            string            // "RSA", "RSA-HSM", "oct-HSM" or what else the vault says
	Size            int               // in bits; 0 where the vault does not say, as for oct-HSM
	Enabled         bool              // whether the version is switched on
	NotBefore       time.Time         // zero if not set
	Expires         time.Time         // zero if not set
	RecoveryLevel   string            // as the vault says, such as "Recoverable+Purgeable"
	RecoverableDays int               // days for which a deleted key can be recovered; 0 if not stated
	Tags            map[string]string // the owner's
	Ops             []string          // "wrapKey", "unwrapKey", …
	Algorithm       Algorithm         // how to wrap with this key; empty if it cannot
	Modulus         Fingerprint       // of an RSA key
}

// SoftDelete reports whether the vault states that a deleted key can be recovered.
func (k KeyInfo) SoftDelete() bool { return strings.Contains(k.RecoveryLevel, "Recoverable") }

// PurgeProtected reports whether the vault states that nobody can cut the time
// short for which a deleted key can be recovered. A level that Microsoft does not
// list (https://learn.microsoft.com/rest/api/keyvault/keys/get-key/get-key#deletionrecoverylevel)
// is not taken for protection.
func (k KeyInfo) PurgeProtected() bool {
	switch k.RecoveryLevel {
	case "Recoverable", "Recoverable+ProtectedSubscription", "CustomizedRecoverable", "CustomizedRecoverable+ProtectedSubscription":
		return true
	}
	return false
}

// Usable returns nil if shares may be wrapped with the key at the given time, or
// else [fault.KEKUnsuitable] with the closer reason as its cause. Unwrapping asks
// less: an expired version still unwraps.
func (k KeyInfo) Usable(now time.Time) error {
	unsuitable := func(because error, detail, mend string) error {
		return fault.Wrap(fault.KEKUnsuitable, because, detail).About(string(k.KID)).WithMend(mend)
	}
	switch {
	case k.Algorithm == "":
		return unsuitable(nil, fmt.Sprintf("A key of type %q with %d bits cannot protect a scope.", k.Type, k.Size),
			"Use an RSA or RSA-HSM key of 2048, 3072 or 4096 bits, or an oct-HSM key of 256 bits.")
	case !k.has("wrapKey") || !k.has("unwrapKey"):
		return unsuitable(fault.KeyOperationForbidden, "The key version does not permit both wrapKey and unwrapKey.",
			"Add both to the key version's permitted operations.")
	case !k.Enabled:
		return unsuitable(fault.KeyDisabled, "The key version is disabled.", "Enable it, or create a new version.")
	case !k.NotBefore.IsZero() && now.Before(k.NotBefore):
		return unsuitable(fault.KeyNotYetValid, "The key version is not valid before "+k.NotBefore.UTC().Format(time.RFC3339)+".",
			"Wait, or change its activation date.")
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return unsuitable(fault.KeyExpired, "The key version expired at "+k.Expires.UTC().Format(time.RFC3339)+".",
			"Rotate the key, or change its expiry date.")
	}
	return nil
}

func (k KeyInfo) has(op string) bool {
	return slices.ContainsFunc(k.Ops, func(o string) bool { return strings.EqualFold(o, op) })
}

// keyInfo reads the vault's answer; its kid is checked by the caller.
func keyInfo(b azkeys.KeyBundle) KeyInfo {
	var k KeyInfo
	if j := b.Key; j != nil {
		k.KID = KID(value(j.KID))
		k.Type = string(value(j.Kty))
		for _, op := range j.KeyOps {
			k.Ops = append(k.Ops, string(value(op)))
		}
		k.Size, k.Algorithm, k.Modulus = wrapping(j)
	}
	if a := b.Attributes; a != nil {
		k.Enabled = value(a.Enabled)
		k.NotBefore = value(a.NotBefore)
		k.Expires = value(a.Expires)
		k.RecoveryLevel = value(a.RecoveryLevel)
		k.RecoverableDays = int(value(a.RecoverableDays))
	}
	for name, v := range b.Tags {
		if k.Tags == nil {
			k.Tags = make(map[string]string, len(b.Tags))
		}
		k.Tags[name] = value(v)
	}
	return k
}

// wrapping returns the size in bits, the algorithm and the fingerprint of a key
// with which shares can be wrapped, and no algorithm for any other.
func wrapping(j *azkeys.JSONWebKey) (int, Algorithm, Fingerprint) {
	switch value(j.Kty) {
	case azkeys.KeyTypeRSA, azkeys.KeyTypeRSAHSM:
		size := new(big.Int).SetBytes(j.N).BitLen()
		e := new(big.Int).SetBytes(j.E)
		// A small exponent is no key that any vault makes; 1 would wrap nothing at all.
		sound := e.IsInt64() && e.Int64() >= 65537 && e.Bit(0) == 1
		if size%8 != 0 || !RSAOAEP256.wraps(size/8) || !sound {
			return size, "", Fingerprint{}
		}
		return size, RSAOAEP256, FingerprintOf(j.N, j.E)
	case azkeys.KeyTypeOctHSM:
		return 0, A256KW, Fingerprint{}
	}
	return 0, "", Fingerprint{}
}

// FingerprintOf returns the fingerprint of an RSA public key, given its modulus and
// exponent as big-endian bytes.
func FingerprintOf(n, e []byte) Fingerprint {
	b64 := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(bytes.TrimLeft(b, "\x00")) }
	return sha256.Sum256(fmt.Appendf(nil, `{"e":%q,"kty":"RSA","n":%q}`, b64(e), b64(n)))
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
