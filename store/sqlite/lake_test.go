package sqlite_test

import (
	"testing"

	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/storetest"
)

func TestLake(t *testing.T) {
	storetest.Lake(t, func(t *testing.T) lake.Store {
		return open(t, store.Schema{"audit", "rbac", "encryption", "lake"}).Lake()
	})
}
