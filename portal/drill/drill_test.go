package drill_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/kluis-io/kluis/portal/client"
	"github.com/kluis-io/kluis/portal/drill"
	"github.com/kluis-io/kluis/portal/portaltest"
)

func TestMain(m *testing.M) { portaltest.Main(m) }

// TestDrill runs a drill of two people, and one of somebody who may do both, and watches
// the clock.
func TestDrill(t *testing.T) {
	portaltest.Slow(t)
	e := portaltest.Furnish(t)
	parties := portaltest.Parties(e.Clients.Target)
	b := portaltest.NewBrowser(t, portaltest.Open(t, e.Clients, parties, drill.Section()))

	b.SignIn("engineer")
	b.Go("/drill")
	b.WaitFor("Nothing to drill")
	b.Inspect("drill-none")
	e.Assign()
	b.Go("/drill")
	b.WaitFor("Sales")
	b.Inspect("drills")
	b.Go("/drill/" + e.Workspace)
	b.WaitFor("It takes two")
	b.Inspect("drill-two")

	b.Fill("#name", "Sales")
	b.Click("button[name=watch]")
	b.WaitFor("Waiting for the key")
	b.Picture("drill-waiting")
	e.Enable(false)
	b.WaitFor("Dark: waiting")
	time.Sleep(time.Second / 2) // so that the picture shows the clock running
	b.Picture("drill-dark")
	e.Enable(true)
	b.WaitFor("Counted from the first refusal")
	b.Inspect("drill-watched")

	e.Grant(e.Clients.Target.Principals["engineer"].ObjectID, portaltest.CryptoOfficer)
	b.Go("/drill/" + e.Workspace)
	b.Inspect("drill-alone")
	b.Fill("#name", "sales") // not its name
	b.Click("button.danger")
	b.WaitFor("Nothing was done")
	b.Go("/drill/" + e.Workspace)
	b.Fill("#name", "Sales")
	b.Click("button.danger")
	b.WaitFor("Finished: dark after")
	b.WaitFor("Download evidence")
	b.Inspect("drill-finished")
	if s, err := e.Engineer.Fabric.Encryption(t.Context(), e.Workspace); err != nil || s.Serving.State != "Serving" {
		t.Errorf("after the drill: %+v, %v", s.Serving, err)
	}

	// A drill goes on without its page: it is recorded, and the key is given back.
	auditor := client.New(parties, e.Clients.HTTP, portaltest.Tokens(e.Clients, "auditor"))
	recorded := func() int {
		all, err := auditor.AuditEntries(t.Context(), "platform", url.Values{"operation": {"RecordRevocationDrill"}})
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	before := recorded()
	b.Go("/drill/" + e.Workspace)
	b.WaitFor("Take the key away")
	b.Fill("#name", "Sales")
	b.Click("button.danger")
	b.WaitUntil("#clock .legend")
	b.Go("/drill")
	for end := time.Now().Add(2 * time.Minute); recorded() == before; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("a drill whose page was left is not recorded")
		}
	}
	if s, err := e.Engineer.Fabric.Encryption(t.Context(), e.Workspace); err != nil || s.Serving.State != "Serving" {
		t.Errorf("after the drill that was left: %+v, %v", s.Serving, err)
	}

	b.SignIn("custodian")
	b.Go("/drill/" + e.Workspace)
	b.WaitFor("refused")
}
