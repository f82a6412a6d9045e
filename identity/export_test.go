package identity

// VerifySignature is what a token goes through before its claims are read.
func VerifySignature(token string, keys []PublicKey) ([]byte, error) {
	jws, err := parseToken(token)
	if err != nil {
		return nil, err
	}
	return verifySignature(jws, keys)
}

// Limit bounds the verifier's cache, and Cached says how much is in it.
func (v *Verifier) Limit(n int) { v.cache.limit = n }
func (v *Verifier) Cached() int { return len(v.cache.m) }

// KeyIDs lists the keys that the issuer publishes.
func (i *Issuer) KeyIDs() []string {
	var ids []string
	for _, k := range i.ring.keys {
		ids = append(ids, k.id)
	}
	return ids
}
