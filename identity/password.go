package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/kluis-io/kluis/fault"
)

// The bounds of a password, in characters. A password that is the only factor has
// 15 at least (NIST SP 800-63B-4 §3.1.1.2); no mixture of kinds is asked for.
const (
	MinPassword = 15
	MaxPassword = 256
)

// minDistinct is how many different characters a password has at least.
const minDistinct = 5

// An argonCost is what a hash costs.
type argonCost struct {
	passes, memory uint32 // memory in KiB
	lanes          uint8
}

// cost is that of new hashes: OWASP's recommendation for Argon2id (Password Storage
// Cheat Sheet, 2025), which strangers can have us spend without taking the machine
// down. A stored hash is compared at the cost that it names, within the bounds. Tests
// of other things lower it.
var cost = argonCost{2, 19 << 10, 1}

const (
	maxArgonPasses, maxArgonMemory = 16, 1 << 20
	argonSalt, argonHash           = 16, 32 // bytes
)

// A StoredPassword is what the directory keeps of a user's password.
type StoredPassword struct {
	Tenant    TenantID
	Principal PrincipalID
	Hash      string // $argon2id$v=19$m=KIB,t=PASSES,p=LANES$SALT$HASH
	Since     time.Time
}

// checkPassword refuses what could be guessed, for the user of a name.
func checkPassword(password, name string) error {
	n := utf8.RuneCountInString(password)
	distinct := map[rune]bool{}
	for _, r := range password {
		distinct[r] = true
	}
	local, _, _ := strings.Cut(name, "@")
	switch {
	case !utf8.ValidString(password) || n < MinPassword || n > MaxPassword:
		return fault.New(fault.InvalidArgument, fmt.Sprintf("A password has %d to %d characters.", MinPassword, MaxPassword)).
			WithMend("Take four or more words at random, or a password manager's proposal.")
	case len(distinct) < minDistinct:
		return fault.New(fault.InvalidArgument, "The password has too few different characters.")
	case len(local) > 3 && strings.Contains(strings.ToLower(password), local):
		return fault.New(fault.InvalidArgument, "The password contains the user's name.")
	}
	return nil
}

// hashPassword returns a password's hash under a fresh salt. It takes tens of
// milliseconds and 19 MiB, and so is never done in a transaction.
func hashPassword(password string) string {
	salt := make([]byte, argonSalt)
	rand.Read(salt)
	return cost.encode(salt, cost.hash(password, salt))
}

func (c argonCost) hash(password string, salt []byte) []byte {
	return argon2.IDKey(canonicalPassword(password), salt, c.passes, c.memory, c.lanes, argonHash)
}

func (c argonCost) encode(salt, hash []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.memory, c.passes, c.lanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(hash))
}

// canonicalPassword makes one string of what keyboards write in several ways
// (NIST SP 800-63B-4 §3.1.1.2).
func canonicalPassword(s string) []byte { return norm.NFKC.Bytes([]byte(s)) }

// standIn is compared with where there is no such user, so that time says nothing
// about who exists. Nothing hashes to it.
func standIn() string { return cost.encode(make([]byte, argonSalt), make([]byte, argonHash)) }

// matchesPassword reports whether the password has the hash.
func matchesPassword(password, hash string) (bool, error) {
	var version int
	var c argonCost
	parts := strings.Split(hash, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" {
		return false, errPasswordHash
	}
	if n, err := fmt.Sscanf(parts[2]+","+parts[3], "v=%d,m=%d,t=%d,p=%d", &version, &c.memory, &c.passes, &c.lanes); n != 4 || err != nil {
		return false, errPasswordHash
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || version != argon2.Version || len(salt) != argonSalt || len(want) != argonHash ||
		c.lanes == 0 || c.passes == 0 || c.passes > maxArgonPasses || c.memory < 8*uint32(c.lanes) || c.memory > maxArgonMemory {
		return false, errPasswordHash
	}
	return subtle.ConstantTimeCompare(c.hash(password, salt), want) == 1, nil
}

var errPasswordHash = fault.Wrap(fault.Integrity, errors.New("not an Argon2id hash"), "A password's hash is damaged.")

// hashing bounds how many hashes are reckoned at once, and so the memory that
// strangers can make us take.
type hashing chan struct{}

// hashers is how many at once; hashWait for how long one waits for its turn.
const (
	hashers  = 2
	hashWait = 5 * time.Second
)

func (h hashing) take(ctx context.Context) (done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, hashWait)
	defer cancel()
	select {
	case h <- struct{}{}:
		return func() { <-h }, nil
	case <-ctx.Done():
		return nil, errBusy
	}
}

var errBusy = fault.New(fault.Throttled, "Too many people sign in at once.").WithMend("Try again in a moment.")
