package envelope

import "crypto/subtle"

// A Commitment ties a derived key to what it was derived from. It is no secret,
// and tells nothing about the key.
type Commitment [CommitmentSize]byte

// Equal compares two commitments in constant time.
func (c Commitment) Equal(d Commitment) bool {
	return subtle.ConstantTimeCompare(c[:], d[:]) == 1
}

// DeriveScopeKey joins a customer's share and the platform's into a scope key:
// HKDF-SHA-512 over customer ‖ platform, without salt, with the context as info
// (RFC 5869). Neither share alone tells anything about the key.
//
// The caller must compare the commitment with the one that he keeps before he
// uses the key: a share that was exchanged gives another key and another
// commitment. It panics on the zero key or context: both are mistakes of the
// program.
func DeriveScopeKey(customer, platform *Key, ctx Context) (*Key, Commitment) {
	if customer.isZero() || platform.isZero() || ctx.encoded == "" {
		panic("envelope: a scope key needs two shares and a context")
	}
	var shares [2 * KeySize]byte
	copy(shares[:KeySize], customer[:])
	copy(shares[KeySize:], platform[:])
	defer clear(shares[:])
	prk := extract(shares[:])
	defer wipe(prk)
	okm := expand(prk, ctx.encoded, KeySize+CommitmentSize)
	defer wipe(okm)
	return (*Key)(append([]byte(nil), okm[:KeySize]...)), Commitment(okm[KeySize:])
}
