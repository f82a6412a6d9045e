package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// A PublicKey is one key by which an issuer's tokens are verified: RSA of 2048 to
// 8192 bits, or EC on P-256.
type PublicKey struct {
	ID        string                  // kid
	Algorithm jose.SignatureAlgorithm // the only one that the key serves, "" if its issuer names none
	Key       crypto.PublicKey
}

// A KeySource hands out an issuer's public keys.
type KeySource interface {
	// Keys returns the keys in force. A source that caches looks again if none of
	// them has the id kid. It fails with [fault.Unavailable] if it cannot know.
	Keys(ctx context.Context, kid string) ([]PublicKey, error)
}

// StaticKeys is a source whose keys never change.
type StaticKeys []PublicKey

// Keys returns the keys.
func (s StaticKeys) Keys(context.Context, string) ([]PublicKey, error) { return s, nil }

// The bounds of a key set.
const (
	maxKeySetBytes = 1 << 20
	maxKeySetKeys  = 64
)

// ParseKeySet reads a JSON Web Key Set (RFC 7517). Keys that cannot verify a
// token here (other types, sizes, curves or uses, and secret ones) are left out.
// A set in which two keys share an id is refused: which of them signed would be
// the sender's choice.
func ParseKeySet(b []byte) ([]PublicKey, error) {
	if len(b) > maxKeySetBytes {
		return nil, errors.New("identity: the key set is too large")
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, fmt.Errorf("identity: the key set is malformed: %w", err)
	}
	if len(set.Keys) > maxKeySetKeys {
		return nil, errors.New("identity: the key set has too many keys")
	}
	var keys []PublicKey
	seen := map[string]bool{}
	for _, raw := range set.Keys {
		var id struct {
			ID string `json:"kid"`
		}
		if err := json.Unmarshal(raw, &id); err != nil {
			return nil, fmt.Errorf("identity: the key set is malformed: %w", err)
		}
		if id.ID != "" && seen[id.ID] {
			return nil, errors.New("identity: two keys of the set share an id")
		}
		seen[id.ID] = true
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) != nil || !k.IsPublic() || (k.Use != "" && k.Use != "sig") {
			continue
		}
		p := PublicKey{ID: k.KeyID, Algorithm: jose.SignatureAlgorithm(k.Algorithm), Key: k.Key}
		for _, alg := range algorithms {
			if p.serves(alg) {
				keys = append(keys, p)
				break
			}
		}
	}
	return keys, nil
}

// algorithms is the closed list of what a token may be signed with: asymmetric
// ones of at least 112 bits of strength. "none" and HMAC are not on it.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256}

// serves reports whether the key may verify a signature of the algorithm. The
// key decides that, never the token alone.
func (p PublicKey) serves(alg jose.SignatureAlgorithm) bool {
	if p.Algorithm != "" && p.Algorithm != alg {
		return false
	}
	switch k := p.Key.(type) {
	case *rsa.PublicKey:
		bits := k.N.BitLen()
		return (alg == jose.RS256 || alg == jose.PS256) && 2048 <= bits && bits <= 8192 && k.E >= 3 && !roca(k.N)
	case *ecdsa.PublicKey:
		return alg == jose.ES256 && k.Curve == elliptic.P256()
	}
	return false
}

// roca reports whether an RSA modulus has the fingerprint of CVE-2017-15361: keys
// of a widespread smart card chip, whose primes are powers of 65537 modulo small
// primes, and which can be factored. Another key has it by chance once in 2^27.
func roca(n *big.Int) bool {
	for p := int64(3); p <= 167; p += 2 {
		if !big.NewInt(p).ProbablyPrime(0) {
			continue
		}
		residue := new(big.Int).Mod(n, big.NewInt(p)).Int64()
		power, found := int64(1), false
		for range p - 1 {
			found = found || power == residue
			power = power * 65537 % p
		}
		if !found {
			return false
		}
	}
	return true
}
