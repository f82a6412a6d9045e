package envelope

import (
	"bytes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/kluis-io/kluis/fault"
)

// A Folder seals the listing records of one folder and computes the codes by
// which its entries are looked up. A record costs one AES-256-GCM call and no key
// derivation, so that a listing of many entries is cheap.
//
// Its two keys follow from the namespace key, the folder's id and the salt in the
// folder's row. Nonces are random, so the salt must be replaced before 2³¹
// records have been sealed under it (NIST SP 800-38D §8.3 allows 2³²). A new salt
// makes both keys new: every record is sealed again, and every look-up code
// computed again.
//
// A Folder is safe for concurrent use, but for Clear.
type Folder struct {
	aead   cipher.AEAD
	lookup Key
}

const (
	folderPurpose = "kluis/v1/folder"
	recordPad     = 64 // records are padded to a multiple of this many bytes

	// RecordOverhead is what sealing adds to a padded record, in bytes.
	RecordOverhead = nonceSize + TagSize
)

// DeriveFolder returns the keys of a folder: HKDF-Expand-SHA-512 of the namespace
// key, with the context of the purpose "kluis/v1/folder", the folder's id and the
// salt as info. It panics on the zero key or an empty id.
func DeriveFolder(namespace *Key, folderID []byte, salt [SaltSize]byte) *Folder {
	if namespace.isZero() || len(folderID) == 0 {
		panic("envelope: a folder needs a namespace key and an id")
	}
	ctx := NewContext(folderPurpose).WithBytes(folderID).WithBytes(salt[:])
	okm := expand(namespace[:], ctx.encoded, 2*KeySize)
	defer wipe(okm)
	return &Folder{aead: newAEAD(okm[:KeySize]), lookup: Key(okm[KeySize:])}
}

// Clear overwrites the look-up key and drops the other. Any later use panics. It
// must not run while the Folder is in use elsewhere.
func (f *Folder) Clear() {
	f.lookup.Clear()
	f.aead = nil
}

func (f *Folder) check() {
	if f.aead == nil {
		panic("envelope: a folder's keys were used after they were cleared")
	}
}

// SealedRecordSize returns the length of a sealed record of n bytes.
func SealedRecordSize(n int) int { return (n/recordPad+1)*recordPad + RecordOverhead }

// SealRecord returns record sealed for one entry at one revision. Its length
// tells the record's only to a multiple of 64 bytes.
func (f *Folder) SealRecord(entryID []byte, revision uint64, record []byte) []byte {
	f.check()
	padded := SealedRecordSize(len(record)) - RecordOverhead
	sealed := make([]byte, nonceSize+padded, nonceSize+padded+TagSize)
	nonce, plain := sealed[:nonceSize:nonceSize], sealed[nonceSize:]
	rand.Read(nonce)
	plain[copy(plain, record)] = 0x80
	f.aead.Seal(plain[:0], nonce, plain, recordData(entryID, revision))
	return sealed[:cap(sealed)]
}

// OpenRecord returns the record that SealRecord has sealed for the entry and
// revision; anything else fails with [fault.Integrity].
func (f *Folder) OpenRecord(entryID []byte, revision uint64, sealed []byte) ([]byte, error) {
	return f.AppendOpenRecord(nil, entryID, revision, sealed)
}

// AppendOpenRecord is [Folder.OpenRecord] that appends the record to dst, which
// must not overlap sealed. It uses up to 64 bytes of dst's capacity beyond the
// record, so that one buffer serves a whole listing.
func (f *Folder) AppendOpenRecord(dst []byte, entryID []byte, revision uint64, sealed []byte) ([]byte, error) {
	f.check()
	if n := len(sealed) - RecordOverhead; n <= 0 || n%recordPad != 0 {
		return nil, errRecord()
	}
	nonce, body := sealed[:nonceSize], sealed[nonceSize:]
	start := len(dst)
	dst, err := f.aead.Open(slices.Grow(dst, len(body)), nonce, body, recordData(entryID, revision))
	if err != nil {
		return nil, errRecord()
	}
	// What verified was padded by us: one 0x80, then at most 63 zeros.
	end := start + bytes.LastIndexByte(dst[start:], 0x80)
	if end < len(dst)-recordPad || end < start || len(bytes.Trim(dst[end+1:], "\x00")) > 0 {
		return nil, errRecord()
	}
	return dst[:end], nil
}

// LookupMAC returns the code by which an entry of a kind is found under its
// canonical name: HMAC-SHA-256 over both, each written like a [Context]'s field.
// What is canonical, and which kinds there are, is the caller's to say.
func (f *Folder) LookupMAC(kind, canonicalName string) [sha256.Size]byte {
	f.check()
	mac := hmac.New(sha256.New, f.lookup[:])
	mac.Write(appendField(appendField(make([]byte, 0, 128), kind), canonicalName))
	return [sha256.Size]byte(mac.Sum(nil))
}

// recordData binds a record to its entry and revision. The revision's length is
// fixed, so no two pairs share an encoding.
func recordData(entryID []byte, revision uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, len(entryID)+8), entryID...), revision)
}

func errRecord() error {
	return fault.New(fault.Integrity, "A listing record does not verify: it was changed or belongs elsewhere.")
}
