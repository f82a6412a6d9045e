package encryption

import (
	"io"
	"sync"

	"github.com/kluis-io/kluis/envelope"
)

// A Key is an item's DEK or namespace key, open for use. Its bytes never leave
// this package: callers seal and open through it, and once the key is dropped
// every call fails with the reason for which it was.
//
// Every context names instance, tenant, scope, item, key and purpose, and then
// the object, so that a sealed byte string opens at its own place only.
type Key struct {
	id   KeyID
	item ItemID

	generation int64 // of the scope key that sealed it when it was opened

	base []string // the context's fields up to the object

	entry *entry // whose lease it lives under

	mu  sync.RWMutex
	key *envelope.Key // nil once dropped
}

// ID returns the key's id, which everything that it seals must name.
func (k *Key) ID() KeyID { return k.id }

func (k *Key) context(purpose string, object ...string) envelope.Context {
	return envelope.NewContext(purpose, append(k.base[:len(k.base):len(k.base)], object...)...)
}

// with calls fn with the key's bytes, which cannot be dropped meanwhile.
func (k *Key) with(fn func(*envelope.Key) error) error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if err := k.entry.check(); err != nil {
		return err
	}
	if k.key == nil {
		return k.entry.refusal()
	}
	return fn(k.key)
}

// Seal seals a small message. The purpose is one of the format's
// ("kluis/v1/manifest", say) and object the ids of the thing sealed.
func (k *Key) Seal(plaintext []byte, purpose string, object ...string) (sealed []byte, err error) {
	err = k.with(func(key *envelope.Key) error {
		sealed = envelope.Seal(key, k.context(purpose, object...), plaintext)
		return nil
	})
	return sealed, err
}

// Open opens what Seal sealed for the same purpose and object. It fails with
// [fault.Integrity] if that is not what the bytes are.
func (k *Key) Open(sealed []byte, purpose string, object ...string) (plaintext []byte, err error) {
	err = k.with(func(key *envelope.Key) error {
		plaintext, err = envelope.Open(key, k.context(purpose, object...), sealed)
		return err
	})
	return plaintext, err
}

// Writer returns a writer that seals a stream into dst.
func (k *Key) Writer(dst io.Writer, purpose string, object ...string) (w *envelope.Writer, err error) {
	err = k.with(func(key *envelope.Key) error {
		w = envelope.NewWriter(dst, key, k.context(purpose, object...))
		return nil
	})
	return w, err
}

// ReaderAt returns a reader of any range of the size sealed bytes of src.
func (k *Key) ReaderAt(src io.ReaderAt, size int64, purpose string, object ...string) (r *envelope.ReaderAt, err error) {
	err = k.with(func(key *envelope.Key) error {
		r, err = envelope.NewReaderAt(src, size, key, k.context(purpose, object...))
		return err
	})
	return r, err
}

// Folder derives the keys of one folder's listing records and look-ups from a
// namespace key. The caller clears it.
func (k *Key) Folder(id []byte, salt [24]byte) (f *envelope.Folder, err error) {
	err = k.with(func(key *envelope.Key) error {
		f = envelope.DeriveFolder(key, id, salt)
		return nil
	})
	return f, err
}

func (k *Key) drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key != nil {
		k.key.Clear()
		k.key = nil
	}
}
