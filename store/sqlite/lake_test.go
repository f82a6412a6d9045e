package sqlite_test

import (
	"testing"

	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/store/sqlite"
	"github.com/kluis-io/kluis/store/storetest"
)

func TestLake(t *testing.T) {
	storetest.Lake(t, func(t *testing.T) lake.Store {
		return open(t, sqlite.Schema{"audit", "rbac", "encryption", "lake"}).Lake()
	})
}
