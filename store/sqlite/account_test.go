package sqlite_test

import (
	"testing"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/storetest"
)

func TestAccount(t *testing.T) {
	storetest.Account(t, func(t *testing.T) account.Store { return open(t, store.PlatformSchema).Account() })
}
