package overview_test

import (
	"strings"
	"testing"

	"github.com/kluis-io/kluis/portal/client"
	"github.com/kluis-io/kluis/portal/overview"
	"github.com/kluis-io/kluis/portal/portaltest"
)

func TestMain(m *testing.M) { portaltest.Main(m) }

// TestOverview looks at the overview of a new installation and of one in use, as each
// principal, and with parties missing.
func TestOverview(t *testing.T) {
	portaltest.Slow(t)
	e := portaltest.Furnish(t)
	parties := portaltest.Parties(e.Clients.Target)
	b := portaltest.NewBrowser(t, portaltest.Open(t, e.Clients, parties, overview.Section()))
	b.SignIn("admin")
	b.Go("/")
	b.WaitFor("No scan yet")
	b.Inspect("overview-new")

	e.Assign()
	engineer := client.New(parties, e.Clients.HTTP, portaltest.Tokens(e.Clients, "engineer"))
	if _, err := engineer.Key(t.Context(), client.Place{Name: "default"}, "GET", "/keys/sales", nil, nil); err == nil { // an attempt to be drawn
		t.Fatal("the engineer reads the key")
	}
	admin := client.New(parties, e.Clients.HTTP, portaltest.Tokens(e.Clients, "admin"))
	for range 3 {
		if err := admin.Call(t.Context(), parties.Posture, "POST", "/posture/v1/scans", struct{}{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, window := range []string{"7d", "30d", "90d", "365d"} {
		b.Go("/?window=" + window)
		b.WaitFor("Coverage")
		if !b.Has("svg.chart") {
			t.Errorf("%s: there is no drawing", window)
		}
	}
	e.Enable(false)
	for !strings.Contains(b.Text(), "cut off by its key") {
		b.Go("/")
	}
	for _, who := range []string{"admin", "engineer", "auditor", "custodian"} {
		b.SignIn(who)
		b.Go("/")
		if who == "custodian" { // governance and the platform tell him nothing, and the vaults all
			for _, want := range []string{"Keys near expiry", "Rotation overdue", "Blocked attempts", "sales", "Disabled"} {
				b.WaitFor(want)
			}
		}
		b.Inspect("overview-" + who)
	}

	parties.Fabric.Address, parties.Posture.Address = "", "https://127.0.0.1:1"
	alone := portaltest.NewBrowser(t, portaltest.Open(t, e.Clients, parties, overview.Section()))
	alone.SignIn("admin")
	alone.Go("/")
	alone.WaitFor("Not connected to the platform")
	alone.WaitFor("Governance did not answer")
	alone.Inspect("overview-apart")
}
