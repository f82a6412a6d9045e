package root

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
)

// A Wrapper wraps sealing keys with a key that lies elsewhere, and never sees a
// root. Its errors reach the caller of [Open] as they are: whether the key's
// keeper refused or did not answer is its to say.
type Wrapper interface {
	// Wrap wraps a sealing key.
	Wrap(ctx context.Context, key *[32]byte) (Wrapped, error)
	// Unwrap is the reverse. What it is given comes from the root file, which
	// anybody may have written.
	Unwrap(ctx context.Context, w Wrapped) (*[32]byte, error)
}

// A Wrapped is a sealing key as it lies in the root file. None of it is secret.
type Wrapped struct {
	Key       string `json:"key"` // what it was wrapped with: printable ASCII, at most 1 KiB
	Algorithm string `json:"algorithm"`
	Bytes     []byte `json:"bytes"` // at most 1 KiB
}

const maxWrapped = 1 << 10 // bytes; RSA-4096 gives 512

func (w Wrapped) validate() error {
	printable := func(s string) bool {
		for _, c := range []byte(s) {
			if c <= ' ' || c > '~' {
				return false
			}
		}
		return s != "" && len(s) <= maxWrapped
	}
	if !printable(w.Key) || !printable(w.Algorithm) || len(w.Bytes) == 0 || len(w.Bytes) > maxWrapped {
		return errors.New("malformed wrapped key")
	}
	return nil
}

// Token seals with a random key that a PKCS#11 token wraps. ctx bounds every
// question to the token.
func Token(ctx context.Context, w Wrapper) Seal { return wrappedSeal{ctx, TokenType, w} }

// RemoteKey seals with a random key that a key of a vault elsewhere wraps. ctx
// bounds every question to the vault.
func RemoteKey(ctx context.Context, w Wrapper) Seal { return wrappedSeal{ctx, RemoteKeyType, w} }

type wrappedSeal struct {
	ctx     context.Context
	typ     SealType
	wrapper Wrapper
}

func (s wrappedSeal) sealType() SealType { return s.typ }

// params has a fresh sealing key wrapped, and leaves it: key, which is called next,
// has it unwrapped. So nothing is sealed under a key that does not come back.
func (s wrappedSeal) params() (sealParams, error) {
	var k [envelope.KeySize]byte
	defer clear(k[:])
	rand.Read(k[:])
	w, err := s.wrapper.Wrap(s.ctx, &k)
	if err != nil {
		return sealParams{}, err
	}
	p := sealParams{Type: s.typ, Wrapped: &w}
	if err := p.validate(); err != nil {
		return sealParams{}, fault.Wrap(fault.Integrity, err, "What came back for the wrapped key cannot be kept.")
	}
	return p, nil
}

func (s wrappedSeal) key(p sealParams) (*envelope.Key, error) {
	b, err := s.wrapper.Unwrap(s.ctx, *p.Wrapped)
	if err != nil {
		return nil, err
	}
	defer clear(b[:])
	k := envelope.Key(*b)
	return &k, nil
}
