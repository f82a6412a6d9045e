package storagewire_test

import (
	"testing"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
)

var caller = identity.Caller{Tenant: "t", Principal: "p"}

func newLake(t *testing.T) *lake.Lake { return lake.New(lake.Config{}) }
