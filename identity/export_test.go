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

func init() { cost = argonCost{1, 64, 1} } // but for TestPasswordHash, tests are of other things

// HashPassword hashes at the cost of shipping, and tells whether the hash matches.
func HashPassword(password, try string) (hash string, matches bool, err error) {
	light := cost
	cost = argonCost{2, 19 << 10, 1}
	defer func() { cost = light }()
	hash = hashPassword(password)
	matches, err = matchesPassword(try, hash)
	return hash, matches, err
}

// MatchesPassword compares with a stored hash.
func MatchesPassword(password, hash string) (bool, error) { return matchesPassword(password, hash) }

// Ticket reads a code or refresh token under a key, and writes it again.
func Ticket(text string, key []byte) (again string, genuine bool) {
	for _, kind := range []ticketKind{codeTicket, refreshTicket} {
		if t, ok := parseTicket(kind, text, key); ok {
			return t.text(key), true
		}
	}
	return "", false
}

// NewTicket makes a code.
func NewTicket(signIn string, key []byte) string { return ticket{codeTicket, signIn, 0}.text(key) }
