package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/kluis-io/kluis/internal/durable"
)

// VerifierSuffix, added to the path of a log's signing key, gives the path of
// its verifier key.
const VerifierSuffix = ".pub"

// CreateSigner makes a log's Ed25519 signing key and writes it to path (mode
// 0600, outside the database), and the verifier key, which is for publishing,
// beside it. Both are in the text form of golang.org/x/mod/sumdb/note. origin is
// the log's name: no spaces, no plus sign. It never replaces a signing key.
func CreateSigner(path, origin string) (note.Signer, note.Verifier, error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s: the audit log's signing key is there already (%w)", path, fs.ErrExist)
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return nil, nil, err
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		return nil, nil, fmt.Errorf("audit log's name %q: %w", origin, err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, nil, err
	}
	// The signing key comes last: a crash between the two leaves nothing in use.
	if err := durable.WriteFile(path+VerifierSuffix, []byte(vkey+"\n"), 0o644); err != nil {
		return nil, nil, err
	}
	if err := durable.WriteFile(path, []byte(skey+"\n"), 0o600); err != nil {
		return nil, nil, err
	}
	return s, v, nil
}

// LoadSigner reads the signing key that [CreateSigner] wrote. It refuses a file
// that others than its owner may read.
func LoadSigner(path string) (note.Signer, note.Verifier, error) {
	skey, err := readKey(path, 0o077)
	if err != nil {
		return nil, nil, err
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: not an audit log's signing key", path) // the cause could quote it
	}
	// PRIVATE+KEY+name+hash+base64(1 ‖ seed), and the seed's base64 may hold a +
	fields := strings.SplitN(skey, "+", 5)
	seed, err := base64.StdEncoding.DecodeString(fields[4])
	if err != nil || len(seed) != 1+ed25519.SeedSize {
		return nil, nil, fmt.Errorf("%s: not an Ed25519 signing key", path)
	}
	defer clear(seed)
	pub := ed25519.NewKeyFromSeed(seed[1:]).Public().(ed25519.PublicKey)
	vkey, err := note.NewEd25519VerifierKey(s.Name(), pub)
	if err != nil {
		return nil, nil, err
	}
	v, err := note.NewVerifier(vkey)
	return s, v, err
}

// LoadVerifier reads a verifier key, of which only the origin of the copy
// matters: take it from a place that the log's database and host do not share.
func LoadVerifier(path string) (note.Verifier, error) {
	vkey, err := readKey(path, 0)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("%s: not an audit log's verifier key: %w", path, err)
	}
	return v, nil
}

func readKey(path string, forbidden fs.FileMode) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if open := info.Mode().Perm() & forbidden; open != 0 {
		return "", fmt.Errorf("%s: mode %04o lets others read the signing key: set it to 0600, and make a new key if anybody may have read it",
			path, info.Mode().Perm())
	}
	if !info.Mode().IsRegular() || info.Size() > 4096 {
		return "", fmt.Errorf("%s: not a key file", path)
	}
	b, err := os.ReadFile(path)
	return strings.TrimSuffix(string(b), "\n"), err
}
