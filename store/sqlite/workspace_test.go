package sqlite_test

import (
	"testing"

	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/storetest"
	"github.com/kluis-io/kluis/workspace"
)

func TestWorkspace(t *testing.T) {
	fresh := func(t *testing.T) workspace.Store {
		return open(t, store.Schema{"audit", "rbac", "encryption", "workspace"}).Workspace()
	}
	storetest.Workspace(t, fresh)
	storetest.Control(t, fresh)
}
