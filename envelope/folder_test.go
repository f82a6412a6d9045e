package envelope_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/kluis-io/kluis/envelope"
	"pgregory.net/rapid"
)

var testFolder = envelope.DeriveFolder(testKey, []byte("folder"), [envelope.SaltSize]byte{1})

func TestRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		record := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 200), rapid.SliceOfN(rapid.SampledFrom([]byte{0, 0x80}), 0, 130)).Draw(t, "record")
		entry, revision := rapid.SliceOfN(rapid.Byte(), 0, 16).Draw(t, "entry"), rapid.Uint64().Draw(t, "revision")
		sealed := testFolder.SealRecord(entry, revision, record)
		if len(sealed) != envelope.SealedRecordSize(len(record)) || (len(sealed)-envelope.RecordOverhead)%64 != 0 {
			t.Fatalf("%d bytes sealed to %d", len(record), len(sealed))
		}
		if again := testFolder.SealRecord(entry, revision, record); bytes.Equal(again, sealed) {
			t.Fatal("two seals of a record are equal")
		}
		got, err := testFolder.AppendOpenRecord([]byte("before"), entry, revision, sealed)
		if err != nil || !bytes.Equal(got, append([]byte("before"), record...)) {
			t.Fatalf("AppendOpenRecord: %x, %v", got, err)
		}
		i := rapid.IntRange(0, len(sealed)-1).Draw(t, "damaged")
		sealed[i] ^= byte(rapid.IntRange(1, 255).Draw(t, "by"))
		if _, err := testFolder.OpenRecord(entry, revision, sealed); err == nil {
			t.Fatal("a damaged record opens")
		}
	})
}

func TestRecordsElsewhere(t *testing.T) {
	entry := []byte("entry-1")
	sealed := testFolder.SealRecord(entry, 7, []byte("record"))
	other := func(key *envelope.Key, id string, salt byte) *envelope.Folder {
		return envelope.DeriveFolder(key, []byte(id), [envelope.SaltSize]byte{salt})
	}
	for name, open := range map[string]func() ([]byte, error){
		"entry":         func() ([]byte, error) { return testFolder.OpenRecord([]byte("entry-2"), 7, sealed) },
		"revision":      func() ([]byte, error) { return testFolder.OpenRecord(entry, 8, sealed) },
		"split id":      func() ([]byte, error) { return testFolder.OpenRecord([]byte("entry-1\x00"), 7, sealed) },
		"folder":        func() ([]byte, error) { return other(testKey, "folder2", 1).OpenRecord(entry, 7, sealed) },
		"salt":          func() ([]byte, error) { return other(testKey, "folder", 2).OpenRecord(entry, 7, sealed) },
		"namespace key": func() ([]byte, error) { return other(envelope.NewKey(), "folder", 1).OpenRecord(entry, 7, sealed) },
	} {
		_, err := open()
		wantIntegrity(t, "another "+name, err)
	}
	for n := range len(sealed) {
		_, err := testFolder.OpenRecord(entry, 7, sealed[:n])
		wantIntegrity(t, fmt.Sprintf("cut to %d bytes", n), err)
	}
	_, err := testFolder.OpenRecord(entry, 7, append(sealed, make([]byte, 64)...))
	wantIntegrity(t, "64 bytes added", err)
}

// TestRecordLengthIsHidden demands one sealed length for all records that differ
// by less than the padding.
func TestRecordLengthIsHidden(t *testing.T) {
	for n := range 300 {
		if got, want := len(testFolder.SealRecord(nil, 0, make([]byte, n))), (n/64+1)*64+28; got != want {
			t.Errorf("%d bytes sealed to %d, want %d", n, got, want)
		}
	}
}

func TestLookupMAC(t *testing.T) {
	seen := map[[32]byte]string{}
	for _, kind := range []string{"", "a", "ab", "abc"} {
		for _, name := range []string{"", "a", "b", "bc", "c", "abc"} {
			mac := testFolder.LookupMAC(kind, name)
			if mac != testFolder.LookupMAC(kind, name) {
				t.Error("a look-up code is not repeatable")
			}
			if other, ok := seen[mac]; ok {
				t.Errorf("%q/%q has the code of %s", kind, name, other)
			}
			seen[mac] = kind + "/" + name
		}
	}
	resealed := envelope.DeriveFolder(testKey, []byte("folder"), [envelope.SaltSize]byte{2})
	if resealed.LookupMAC("a", "b") == testFolder.LookupMAC("a", "b") {
		t.Error("a look-up code survives a new salt")
	}
}

func TestFolderAfterClear(t *testing.T) {
	f := envelope.DeriveFolder(testKey, []byte("folder"), [envelope.SaltSize]byte{1})
	sealed := f.SealRecord(nil, 0, nil)
	f.Clear()
	wantPanic(t, "SealRecord", func() { f.SealRecord(nil, 0, nil) })
	wantPanic(t, "OpenRecord", func() { f.OpenRecord(nil, 0, sealed) })
	wantPanic(t, "LookupMAC", func() { f.LookupMAC("", "") })
}

func TestScopeKeyNeedsBothShares(t *testing.T) {
	customer, platform := envelope.NewKey(), envelope.NewKey()
	key, commitment := envelope.DeriveScopeKey(customer, platform, testCtx)
	if *key == *customer || *key == *platform || bytes.Equal(key[:], commitment[:]) {
		t.Fatal("the scope key is one of its parts")
	}
	again, same := envelope.DeriveScopeKey(customer, platform, testCtx)
	if *again != *key || !same.Equal(commitment) {
		t.Error("the derivation is not repeatable")
	}
	for name, derive := range map[string]func() (*envelope.Key, envelope.Commitment){
		"customer share": func() (*envelope.Key, envelope.Commitment) {
			return envelope.DeriveScopeKey(envelope.NewKey(), platform, testCtx)
		},
		"platform share": func() (*envelope.Key, envelope.Commitment) {
			return envelope.DeriveScopeKey(customer, envelope.NewKey(), testCtx)
		},
		"context": func() (*envelope.Key, envelope.Commitment) {
			return envelope.DeriveScopeKey(customer, platform, testCtx.With(""))
		},
		"order": func() (*envelope.Key, envelope.Commitment) {
			return envelope.DeriveScopeKey(platform, customer, testCtx)
		},
	} {
		if k, c := derive(); *k == *key || c.Equal(commitment) {
			t.Errorf("another %s gives the same key or commitment", name)
		}
	}
}

// FuzzOpenRecord opens any bytes, and any padding under a good seal: only what is
// padded in the one right way may open.
func FuzzOpenRecord(f *testing.F) {
	entry := []byte("entry")
	f.Add(testFolder.SealRecord(entry, 1, []byte("record")), false)
	f.Add(append([]byte("record\x80"), make([]byte, 57)...), true)
	f.Add(make([]byte, 64), true)
	f.Add(append([]byte{0x80}, make([]byte, 127)...), true)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		sealed := b
		if seal {
			nonce := make([]byte, 12)
			sealed = testFolder.AEAD().Seal(nonce, nonce, b, binary.BigEndian.AppendUint64(bytes.Clone(entry), 1))
		}
		record, err := testFolder.OpenRecord(entry, 1, sealed)
		if err != nil {
			wantIntegrity(t, "OpenRecord", err)
			if seal && len(b) > 0 && len(b)%64 == 0 {
				if i := bytes.LastIndexByte(b, 0x80); i >= len(b)-64 && len(bytes.Trim(b[i+1:], "\x00")) == 0 {
					t.Error("good padding was refused")
				}
			}
			return
		}
		if seal {
			padded := append(bytes.Clone(record), 0x80)
			padded = append(padded, make([]byte, (64-len(padded)%64)%64)...)
			if !bytes.Equal(padded, b) {
				t.Errorf("%x opens, and is not how %x is padded", b, record)
			}
		}
	})
}
