package sqlite_test

import (
	"testing"

	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/storetest"
	"github.com/kluis-io/kluis/vault"
)

func TestVault(t *testing.T) {
	storetest.Vault(t, func(t *testing.T) vault.Store { return open(t, store.VaultSchema).Vault() })
}
