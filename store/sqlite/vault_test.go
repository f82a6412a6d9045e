package sqlite_test

import (
	"testing"

	"github.com/kluis-io/kluis/store/sqlite"
	"github.com/kluis-io/kluis/store/storetest"
	"github.com/kluis-io/kluis/vault"
)

func TestVault(t *testing.T) {
	storetest.Vault(t, func(t *testing.T) vault.Store { return open(t, sqlite.VaultSchema).Vault() })
}
