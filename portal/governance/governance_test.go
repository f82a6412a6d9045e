package governance_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/portal/governance"
	"github.com/kluis-io/kluis/portal/portaltest"
)

func TestMain(m *testing.M) { portaltest.Main(m) }

const policy = `rules:
- {name: payroll, when: {names: "payroll*"}, requires: cmk, why: salaries}
- {name: production, when: {resourceGroups: prod}, requires: cmk, why: customers' data}
- {name: lunch, when: {names: lunch}, requires: platform, why: nobody's data}
`

// TestGovernance goes through the pages as an officer, as an auditor and as one who may
// not: a scan, what it has found and what lies behind it, its mending, an exception and its
// end, the figures, an alert, the evidence pack.
func TestGovernance(t *testing.T) {
	portaltest.Slow(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"policy.yaml": policy,
		"kluis.yaml":  "posture: {estate: bank, policies: [" + filepath.Join(dir, "policy.yaml") + "]}\nalerts: {every: 1s, syslog: {network: udp, address: \"127.0.0.1:9\"}}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	target := portaltest.Serve(t, "--config", filepath.Join(dir, "kluis.yaml"))
	c, err := sdk.New(target)
	if err != nil {
		t.Fatal(err)
	}
	furnish(t, c)
	address := portaltest.Open(t, c, portaltest.Parties(target), governance.Section())
	b := portaltest.NewBrowser(t, address)

	b.SignIn("admin")
	b.Go("/governance")
	b.WaitFor("No scan yet")
	b.Inspect("governance-empty")
	b.Click("form[action$=scan] button")
	b.WaitFor("findings opened")
	b.WaitFor("By type and classification")
	b.Inspect("governance")

	b.Go("/governance/findings")
	b.WaitFor("CMK/Microsoft.Fabric/workspaces")
	b.Inspect("governance-findings")
	b.Go("/governance/findings?control=CMK/*&resource=prodsa")
	b.WaitFor("1 finding")
	b.Click("#rows a.row")
	b.WaitFor("under the platform's key")
	b.Inspect("governance-finding")
	b.Fill("input[name=key]", target.VaultURI("default")+"keys/ledger")
	b.Click("form[action$=plan] button")
	b.WaitFor("And back")
	b.WaitFor("kluis posture remediate")
	b.Inspect("governance-plan")

	// An exception: what is not taken stays in the form, and what is holds at once.
	b.Fill("#owner", "Ann")
	b.Fill("#reason", "Moves in March")
	b.Fill("#until", time.Now().AddDate(2, 0, 0).Format(time.DateOnly))
	b.Click("form[action$=except] button")
	b.WaitFor("within a year")
	if got := portaltest.Eval[string](b, `document.querySelector("#owner").value`); got != "Ann" {
		t.Errorf("the form has lost %q", got)
	}
	b.Picture("governance-except-refused")
	b.Fill("#until", time.Now().AddDate(0, 1, 0).Format(time.DateOnly))
	b.Click("form[action$=except] button")
	b.WaitFor("Accepted by Ann until")
	b.Go("/governance/exceptions")
	b.WaitFor("Moves in March")
	b.Inspect("governance-exceptions")

	// A finding about a key has the chain to the roles.
	b.Go("/governance/findings?control=G7")
	b.Click("#rows a.row")
	b.WaitFor("Key Vault")
	b.WaitFor("purge protection yes")
	b.Inspect("governance-chain")

	b.Go("/governance/kpis?window=7d")
	b.WaitFor("Compliant / ")
	b.Inspect("governance-kpis")

	for end := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		if b.Go("/governance/alerts"); !strings.Contains(b.Text(), "No alert") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no alert comes")
		}
	}
	b.Inspect("governance-alerts")
	b.Fill("form[action$=acknowledge] input[name=note]", "on it")
	b.Click("form[action$=acknowledge] button")
	b.WaitFor("Acknowledged until")

	// An auditor sees all, may take evidence, and is asked for nothing else.
	b.SignIn("auditor")
	for _, page := range []string{"/governance", "/governance/findings", "/governance/exceptions", "/governance/kpis", "/governance/alerts"} {
		b.Go(page)
		for _, forbidden := range []string{"form[action$=scan]", "form[action$=withdraw]", "form[action$=acknowledge]"} {
			if b.Has(forbidden) {
				t.Errorf("an auditor is offered %s on %s", forbidden, page)
			}
		}
	}
	b.Go("/governance/findings?control=CMK/*&standing=excepted")
	b.Click("#rows a.row")
	b.WaitFor("Accepted by Ann until")
	if b.Has("form[action$=except]") || b.Has("form[action$=withdraw]") {
		t.Error("an auditor is offered exceptions")
	}
	b.Inspect("governance-auditor")
	evidencePack(t, address)

	// The officer ends the exception.
	b.SignIn("admin")
	b.Go("/governance/exceptions")
	b.Click("form[action$=withdraw] button")
	b.WaitFor("The exception is withdrawn")
	b.WaitFor("Nothing is excepted")

	b.SignIn("engineer")
	b.Go("/governance")
	b.WaitFor("refused")
	b.Inspect("governance-refused")
	if b.Has("nav.side a[href='/governance']") {
		t.Error("who may not see it has it in his navigation")
	}
}

// furnish makes workspaces and accounts of several classes, and a key.
func furnish(t *testing.T, c *sdk.Clients) {
	t.Helper()
	engineer, err := c.Engineer()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"payroll-1", "payroll-2", "lunch", "attic"} {
		if err := engineer.Fabric.Call(t.Context(), http.MethodPost, "/workspaces", map[string]string{"displayName": name}, nil); err != nil {
			t.Fatal(err)
		}
	}
	o, err := c.OfficerAs("engineer")
	if err != nil {
		t.Fatal(err)
	}
	for group, name := range map[string]string{"prod": "prodsa", "dev": "devsa"} {
		id := "/subscriptions/" + c.Target.SubscriptionID + "/resourceGroups/" + group + "/providers/Microsoft.Storage/storageAccounts/" + name
		if err := o.Manage(t.Context(), "PUT", id, "2022-09-01", map[string]any{"location": "local", "kind": "StorageV2", "sku": map[string]string{"name": "Standard_LRS"}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	custodian, err := c.Officer()
	if err != nil {
		t.Fatal(err)
	}
	if err := custodian.Call(t.Context(), sdk.VaultScope, "POST", c.Target.VaultURI("default")+"keys/ledger/create?api-version=7.4", map[string]any{"kty": "RSA", "key_size": 2048}, nil); err != nil {
		t.Fatal(err)
	}
	// Somebody tries a key who may not: an alert.
	if err := o.Call(t.Context(), sdk.VaultScope, "GET", c.Target.VaultURI("default")+"keys/ledger?api-version=7.4", nil, nil); err == nil {
		t.Fatal("the engineer may read the custodian's key")
	}
}

// evidencePack downloads a pack as the auditor does.
func evidencePack(t *testing.T, address string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // the test's own listener
	req, err := http.NewRequest("POST", address+"/governance/evidence", strings.NewReader("window=7d"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", address)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.AddCookie(&http.Cookie{Name: portaltest.As, Value: "auditor"})
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	pack, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || !bytes.HasPrefix(pack, []byte("PK")) || !strings.Contains(resp.Header.Get("Content-Disposition"), "evidence-") {
		t.Fatalf("%d, %v, %d bytes", resp.StatusCode, err, len(pack))
	}
}
