package sqlite_test

import (
	"testing"

	"github.com/kluis-io/kluis/posture/alert"
	"github.com/kluis-io/kluis/posture/history"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/storetest"
)

func TestPosture(t *testing.T) {
	storetest.Posture(t, func(t *testing.T) history.Store { return open(t, store.GovernanceSchema).Posture() })
}

func TestAlert(t *testing.T) {
	storetest.Alert(t, func(t *testing.T) alert.Store { return open(t, store.GovernanceSchema).Alert() })
}
