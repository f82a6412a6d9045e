package sqlite_test

import (
	"testing"

	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/storetest"
	"github.com/kluis-io/kluis/vault/event"
)

func TestEvent(t *testing.T) {
	storetest.Event(t, func(t *testing.T) event.Store { return open(t, store.VaultSchema).Event() })
}
