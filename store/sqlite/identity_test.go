package sqlite_test

import (
	"testing"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/storetest"
)

func TestIdentity(t *testing.T) {
	storetest.Identity(t, func(t *testing.T) identity.Store { return open(t, store.DirectorySchema).Identity() })
}
