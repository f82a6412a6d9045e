package sqlite_test

import (
	"testing"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/storetest"
)

func TestEncryption(t *testing.T) {
	storetest.Encryption(t, func(t *testing.T) encryption.Store {
		return open(t, store.Schema{"audit", "rbac", "encryption", "workspace"}).Encryption()
	})
}
