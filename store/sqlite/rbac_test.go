package sqlite_test

import (
	"testing"

	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store/sqlite"
	"github.com/kluis-io/kluis/store/storetest"
)

func TestRBAC(t *testing.T) {
	storetest.RBAC(t, func(t *testing.T) rbac.Store { return open(t, sqlite.Schema{"rbac"}).Roles() })
}
