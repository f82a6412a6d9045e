package root

import (
	"crypto/fips140"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
)

// A SealType names a way of sealing a root, as the root file does.
type SealType string

// The seal types.
const (
	PassphraseType  SealType = "passphrase"
	TokenType       SealType = "pkcs11"       // under a key on a PKCS#11 token
	RemoteKeyType   SealType = "vault"        // under a key of a vault elsewhere
	DevUnsealedType SealType = "dev-unsealed" // anybody who reads the file has the root
)

// A Seal is what a root file is locked and opened with.
type Seal interface {
	sealType() SealType
	params() (sealParams, error)           // new ones
	key(sealParams) (*envelope.Key, error) // of validated parameters of this type
}

// An Unseal opens what the same Seal has locked.
type Unseal = Seal

// MinPassphrase is the least length of a passphrase in bytes.
const MinPassphrase = 12

// Passphrase seals with a passphrase: by Argon2id (RFC 9106) or, in FIPS mode, by
// PBKDF2 with HMAC-SHA-256 (NIST SP 800-132). It opens what either has sealed.
func Passphrase(passphrase []byte) Seal { return passphraseSeal{passphrase} }

// DevUnsealed does not seal: the root lies in its file (mode 0600) under a key
// that is no secret. It is for development only.
func DevUnsealed() Seal { return devSeal{} }

// sealParams is what the root file says about its seal.
type sealParams struct {
	Type     SealType        `json:"type"`
	Argon2id *argon2idParams `json:"argon2id,omitempty"`
	PBKDF2   *pbkdf2Params   `json:"pbkdf2,omitempty"` // in place of Argon2id
	Wrapped  *Wrapped        `json:"wrapped,omitempty"`
}

type argon2idParams struct {
	Salt    []byte `json:"salt"`
	Time    uint32 `json:"time"`
	Memory  uint32 `json:"memory"` // KiB
	Threads uint8  `json:"threads"`
}

type pbkdf2Params struct {
	Salt       []byte `json:"salt"`
	Iterations uint32 `json:"iterations"` // of HMAC-SHA-256
}

// OWASP's number of iterations for PBKDF2-HMAC-SHA256 (Password Storage Cheat Sheet,
// 2023), and bounds as for Argon2id.
const pbkdf2Iterations, minPBKDF2Iterations, maxPBKDF2Iterations = 600_000, 1_000, 50_000_000

// The parameters of new files are the second recommended option of RFC 9106 §4.
// The bounds keep a file that somebody else wrote from taking the machine down.
const (
	argonTime, argonMemory, argonThreads = 3, 64 << 10, 4
	maxArgonTime, maxArgonMemory         = 64, 4 << 20
	saltSize                             = 16 // bytes
)

func (p sealParams) validate() error {
	a := p.Argon2id
	switch {
	case p.Type != PassphraseType && (a != nil || p.PBKDF2 != nil):
		return errors.New("a passphrase's parameters without a passphrase")
	case p.Type != TokenType && p.Type != RemoteKeyType && p.Wrapped != nil:
		return errors.New("a wrapped key without a wrapping one")
	}
	switch p.Type {
	case DevUnsealedType:
		return nil
	case TokenType, RemoteKeyType:
		if p.Wrapped == nil {
			return errors.New("no wrapped key")
		}
		return p.Wrapped.validate()
	case PassphraseType:
		if f := p.PBKDF2; f != nil {
			if a != nil || len(f.Salt) != saltSize || f.Iterations < minPBKDF2Iterations || f.Iterations > maxPBKDF2Iterations {
				return errors.New("parameters of PBKDF2 out of range")
			}
			return nil
		}
		if a == nil || len(a.Salt) != saltSize || a.Threads == 0 ||
			a.Time == 0 || a.Time > maxArgonTime ||
			a.Memory < 8*uint32(a.Threads) || a.Memory > maxArgonMemory {
			return errors.New("parameters of Argon2id out of range")
		}
		return nil
	}
	return fmt.Errorf("unknown seal %q", p.Type)
}

type passphraseSeal struct{ passphrase []byte }

func (passphraseSeal) sealType() SealType { return PassphraseType }

func (s passphraseSeal) params() (sealParams, error) {
	if len(s.passphrase) < MinPassphrase {
		return sealParams{}, fault.New(fault.InvalidArgument, fmt.Sprintf("The passphrase is shorter than %d bytes.", MinPassphrase))
	}
	salt := make([]byte, saltSize)
	rand.Read(salt)
	if fips140.Enabled() {
		return sealParams{Type: PassphraseType, PBKDF2: &pbkdf2Params{salt, pbkdf2Iterations}}, nil
	}
	return sealParams{Type: PassphraseType, Argon2id: &argon2idParams{salt, argonTime, argonMemory, argonThreads}}, nil
}

func (s passphraseSeal) key(p sealParams) (*envelope.Key, error) {
	b, err := s.derive(p)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	k := new(envelope.Key)
	copy(k[:], b)
	return k, nil
}

func (s passphraseSeal) derive(p sealParams) ([]byte, error) {
	if f := p.PBKDF2; f != nil {
		return pbkdf2.Key(sha256.New, string(s.passphrase), f.Salt, int(f.Iterations), envelope.KeySize)
	}
	a := p.Argon2id
	return argon2.IDKey(s.passphrase, a.Salt, a.Time, a.Memory, a.Threads, envelope.KeySize), nil
}

type devSeal struct{}

func (devSeal) sealType() SealType { return DevUnsealedType }

func (devSeal) params() (sealParams, error) { return sealParams{Type: DevUnsealedType}, nil }

// key returns a constant: the format then still finds a damaged file.
func (devSeal) key(sealParams) (*envelope.Key, error) {
	k := envelope.Key(sha256.Sum256([]byte("kluis/v1/root/dev-unsealed: this key is public")))
	return &k, nil
}
