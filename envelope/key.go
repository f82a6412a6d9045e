package envelope

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// KeySize is the length of a [Key] in bytes.
const KeySize = 32

// A Key is 32 uniformly random bytes under which messages are sealed. It prints
// as a fixed word, and refuses to be marshalled, so that it ends up in no log and
// no row by accident; whoever needs its bytes slices it.
//
// The zero Key is not a key: what would use it fails, so that work which comes
// after [Key.Clear] cannot seal data under a known value.
type Key [KeySize]byte

// NewKey returns a fresh random key.
func NewKey() *Key {
	k := new(Key)
	rand.Read(k[:]) // never fails: crypto/rand ends the program instead
	return k
}

// Clear overwrites the key. It must not run while the key is in use elsewhere.
func (k *Key) Clear() { clear(k[:]) }

func (k *Key) isZero() bool {
	var zero Key
	return subtle.ConstantTimeCompare(k[:], zero[:]) == 1
}

const redacted = "[key]"

// String returns a fixed word in place of the key.
func (Key) String() string { return redacted }

// Format writes a fixed word in place of the key, whatever the verb.
func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue returns a fixed word in place of the key.
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText always fails: a key leaves the process only sealed.
func (Key) MarshalText() ([]byte, error) {
	return nil, errors.New("envelope: a key is never marshalled")
}
