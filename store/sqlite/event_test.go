package sqlite_test

import (
	"testing"

	"github.com/kluis-io/kluis/store/sqlite"
	"github.com/kluis-io/kluis/store/storetest"
	"github.com/kluis-io/kluis/vault/event"
)

func TestEvent(t *testing.T) {
	storetest.Event(t, func(t *testing.T) event.Store { return open(t, sqlite.VaultSchema).Event() })
}
