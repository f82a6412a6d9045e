// Package root keeps a party's root key: 32 random bytes from which every key
// that guards the party's rows derives.
//
// The root lies in one small file outside the database, sealed by a [Seal], and
// can be put together again from recovery shares. The file says which root it
// holds: a root has a random id, which the rows sealed under it carry, and a
// generation.
//
// The package promises that a file opens only with the seal it was sealed with
// and only for its own instance, that a write replaces the file whole, and that
// fewer shares than the threshold say nothing about the root. It leaves to its
// callers what is sealed under the keys that [Root.Derive] gives. It does not
// protect a root in the memory of a running process.
package root

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
)

// The recovery shares that [Create] makes: any three of five.
const (
	DefaultShares    = 5
	DefaultThreshold = 3
)

const idSize = 16 // bytes of a root id

// A Root is an open root key. It is safe for concurrent use, but for Close.
type Root struct {
	key        *envelope.Key
	id         [idSize]byte
	generation uint16
	instance   string
	seal       SealType
}

// Create makes a new root for an instance, writes it to path under the seal
// (mode 0600) and returns it with its recovery shares, which are kept nowhere
// else. It never replaces a file: whatever that sealed would be lost.
func Create(path, instance string, seal Seal) (*Root, Shares, error) {
	if instance == "" {
		return nil, nil, fault.New(fault.InvalidArgument, "A root needs the id of its instance.")
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fault.Wrap(fault.Conflict, err, "There is a root file already.")
	}
	r := &Root{key: envelope.NewKey(), generation: 1, instance: instance}
	rand.Read(r.id[:])
	shares, err := r.Split(DefaultShares, DefaultThreshold)
	if err != nil {
		return nil, nil, err
	}
	if err := r.Reseal(path, seal); err != nil {
		return nil, nil, err
	}
	return r, shares, nil
}

// Sealed returns what a root file is sealed with, and of which root it is, without
// opening it.
func Sealed(path string) (SealType, string, error) {
	f, err := readFile(path)
	return f.Seal.Type, f.RootID, err
}

// Open opens the root file at path. It fails with [fault.Denied] if the seal's
// secret is not the one, or the file was changed.
func Open(path string, unseal Unseal) (*Root, error) {
	f, err := readFile(path)
	if err != nil {
		return nil, err
	}
	if f.Seal.Type != unseal.sealType() {
		return nil, fault.New(fault.InvalidArgument, fmt.Sprintf("The root is sealed as %q, not as %q.", f.Seal.Type, unseal.sealType()))
	}
	if f.Seal.Type == DevUnsealedType {
		if err := private(path); err != nil {
			return nil, err
		}
	}
	key, err := unseal.key(f.Seal)
	if err != nil {
		return nil, err
	}
	defer key.Clear()
	plain, err := envelope.Open(key, f.context(), f.Sealed)
	defer clear(plain)
	if err != nil || len(plain) != envelope.KeySize {
		return nil, fault.Wrap(fault.Denied, err, "The root does not open.").
			WithMend("Either the passphrase or key is not the right one, or the root file is damaged; recovery shares help in both cases.")
	}
	r := &Root{key: new(envelope.Key), id: f.id(), generation: f.Generation, instance: f.Instance, seal: f.Seal.Type}
	copy(r.key[:], plain)
	return r, nil
}

// Recover puts the root of an instance together from its shares and writes it to
// path under a new seal: [Assemble] and then [Root.Reseal].
func Recover(path, instance string, shares Shares, seal Seal) (*Root, error) {
	r, err := Assemble(path, instance, shares)
	if err != nil {
		return nil, err
	}
	if err := r.Reseal(path, seal); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Assemble puts the root of an instance together from its shares, to be written to
// path, and writes nothing. The shares must be enough, of one root, and of this
// instance; a readable root file at path must be of the same root.
func Assemble(path, instance string, shares Shares) (*Root, error) {
	secret, first, err := shares.combine()
	defer clear(secret)
	if err != nil {
		return nil, err
	}
	r := &Root{key: new(envelope.Key), id: first.root, generation: first.generation, instance: instance}
	copy(r.key[:], secret)
	if !hmac.Equal(secret[envelope.KeySize:], r.check()) {
		r.Close()
		return nil, fault.New(fault.Denied, "The shares do not give the root of this instance: one is forged, or they are of another.")
	}
	if f, err := readFile(path); err == nil && f.id() != r.id {
		r.Close()
		return nil, fault.New(fault.Conflict, "The file holds another root than the shares.").
			WithMend("Move it away first if it is to be given up.")
	}
	return r, nil
}

// Reseal writes the same root to path under another seal. The old file opens no
// more, but copies of it do: a passphrase that leaked needs a new root.
func (r *Root) Reseal(path string, seal Seal) error {
	r.mustBeOpen()
	params, err := seal.params()
	if err != nil {
		return err
	}
	key, err := seal.key(params)
	if err != nil {
		return err
	}
	defer key.Clear()
	f := file{Version: fileVersion, Generation: r.generation, RootID: r.ID(), Instance: r.instance, Seal: params}
	f.Sealed = envelope.Seal(key, f.context(), r.key[:])
	if err := f.write(path); err != nil {
		return err
	}
	r.seal = params.Type
	return nil
}

// ID returns the root's random id, 32 hexadecimal digits.
func (r *Root) ID() string { return hex.EncodeToString(r.id[:]) }

// Instance returns the id of the instance that the root belongs to.
func (r *Root) Instance() string { return r.instance }

// Generation counts the roots that the party has had, from 1.
func (r *Root) Generation() int { return int(r.generation) }

// SealType returns how the root lies on the disk.
func (r *Root) SealType() SealType { return r.seal }

// Derive returns the key of a purpose: HKDF-Expand-SHA-512 under the root, the
// info being the encoded context of "kluis/v1/root-derive" and the purpose. Each
// purpose has a key of its own, the same one each time.
func (r *Root) Derive(purpose string) *envelope.Key {
	r.mustBeOpen()
	b, err := hkdf.Expand(sha512.New, r.key[:], string(envelope.NewContext("kluis/v1/root-derive", purpose).Bytes()), envelope.KeySize)
	if err != nil {
		panic(err) // only for lengths that HKDF cannot give
	}
	defer clear(b)
	k := new(envelope.Key)
	copy(k[:], b)
	return k
}

// Close overwrites the root.
func (r *Root) Close() error {
	r.key.Clear()
	r.key = nil
	return nil
}

// mustBeOpen keeps a closed root's zeros from being taken for a key.
func (r *Root) mustBeOpen() {
	if r.key == nil {
		panic("root: used after Close")
	}
}

// check returns what a recovered secret is recognised by.
func (r *Root) check() []byte {
	r.mustBeOpen()
	mac := hmac.New(sha512.New, r.key[:])
	mac.Write(envelope.NewContext("kluis/v1/root-recovery", r.instance, r.ID()).WithUint64(uint64(r.generation)).Bytes())
	return mac.Sum(nil)[:checkSize]
}
