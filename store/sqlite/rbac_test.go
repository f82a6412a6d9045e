package sqlite_test

import (
	"testing"

	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/storetest"
)

func TestRBAC(t *testing.T) {
	storetest.RBAC(t, func(t *testing.T) rbac.Store { return open(t, store.Schema{"rbac"}).Roles() })
}
