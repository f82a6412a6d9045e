package overview_test

import (
	"net/http"
	"testing"

	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/portal/overview"
	"github.com/kluis-io/kluis/portal/portaltest"
)

func TestMain(m *testing.M) { portaltest.Main(m) }

func TestOverview(t *testing.T) {
	portaltest.Slow(t)
	target := portaltest.Serve(t)
	c, err := sdk.New(target)
	if err != nil {
		t.Fatal(err)
	}
	engineer, err := c.Engineer()
	if err != nil {
		t.Fatal(err)
	}
	if err := engineer.Fabric.Call(t.Context(), http.MethodPost, "/workspaces", map[string]string{"displayName": "sales"}, nil); err != nil {
		t.Fatal(err)
	}
	b := portaltest.NewBrowser(t, portaltest.Open(t, c, portaltest.Parties(target), overview.Section()))
	for _, who := range []string{"admin", "engineer", "auditor", "custodian"} {
		b.SignIn(who)
		b.Go("/")
		b.Inspect("overview-" + who)
	}
}
