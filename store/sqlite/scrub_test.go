package sqlite_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/sqlite"
)

// TestShredLeavesTheDisk checks that a shredded key's bytes are gone from the
// database and its write-ahead log while the server runs, also when a reader of an
// older snapshot delays that.
func TestShredLeavesTheDisk(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	db, err := sqlite.Open(ctx, filepath.Join(dir, "kluis.db"), store.PlatformSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store := db.Encryption()
	secret := []byte("the sealed bytes of a key that is to be shredded")
	err = store.Update(ctx, func(tx encryption.Tx) error {
		if err := tx.InsertScope(encryption.Scope{ID: "s", Sealing: 1}); err != nil {
			return err
		}
		if err := tx.InsertItem(encryption.Item{ID: "i", Scope: "s", Generation: 1}); err != nil {
			return err
		}
		return tx.InsertKey(encryption.KeyRow{ID: "k", Scope: "s", Item: "i", State: encryption.Current, Sealed: secret})
	})
	if err != nil {
		t.Fatal(err)
	}
	onDisk := func() bool {
		for _, name := range []string{"kluis.db", "kluis.db-wal"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err == nil && bytes.Contains(b, secret) {
				return true
			}
		}
		return false
	}
	if !onDisk() {
		t.Fatal("the sealed bytes are not on the disk to begin with")
	}
	reading, done := make(chan struct{}), make(chan struct{})
	go store.View(context.WithoutCancel(ctx), func(tx encryption.Tx) error {
		_, err := tx.ItemKeys("i")
		close(reading)
		<-done
		return err
	})
	<-reading
	if err := store.Update(ctx, func(tx encryption.Tx) error { return tx.ShredItem("i") }); err != nil {
		t.Fatal(err)
	}
	close(done)
	for deadline := time.Now().Add(5 * time.Second); onDisk(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the shredded bytes are still on the disk")
		}
	}
}
