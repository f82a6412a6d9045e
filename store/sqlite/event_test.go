package sqlite_test

import (
	"testing"

	"github.com/kluis-io/kluis/store/sqlite"
	"github.com/kluis-io/kluis/store/storetest"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/event"
)

func TestEvent(t *testing.T) {
	storetest.Event(t, func(t *testing.T) (event.Store, vault.Store) {
		db := open(t, sqlite.VaultSchema)
		return db.Event(), db.Vault()
	})
}
