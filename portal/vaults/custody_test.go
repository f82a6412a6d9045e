package vaults_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/portal/client"
	"github.com/kluis-io/kluis/portal/portaltest"
)

// TestManagedHSM makes a managed HSM in a browser, which does nothing before its security
// domain has been taken out by the command line, gives its own roles, makes a key, and takes
// the HSM back when it is deleted. Another one, without purge protection, is purged, once a
// second person has agreed.
func TestManagedHSM(t *testing.T) {
	b, c := open(t)
	target := c.Target
	const hsm, key = "/hsms/keys/steel", "/hsms/keys/steel/keys/sales"
	b.SignIn("custodian")
	b.Go("/vaults/new")
	b.Click("#kindhsm")
	b.Fill("#name", "steel")
	b.Fill("#group", "keys")
	b.Click("main button.primary")
	b.WaitFor("The managed HSM steel is made")
	b.WaitFor("is not activated")
	b.Inspect("hsm-dormant")
	b.Go("/vaults")
	b.WaitFor("Not activated")
	b.Inspect("vaults-hsm")

	activate(t, target, "steel")
	b.Go(hsm)
	b.WaitFor("No keys yet")
	if b.Has(".heading a.button") {
		t.Error("an administrator, who uses no key, is offered to make one")
	}
	b.Go(hsm + "/settings")
	b.WaitFor("Activated")
	b.Inspect("hsm-protection")
	b.Go(hsm + "/access/new?q=fabric+platform")
	b.WaitUntil("#found a.button")
	b.Click("#found a.button")
	b.WaitFor("Managed HSM Crypto Service Encryption User")
	b.Inspect("hsm-access-role")
	b.Click("main button.primary")
	b.WaitFor("It holds at once")
	b.Click("main button.primary")
	b.WaitFor("Fabric Platform CMK has the role Managed HSM Crypto Service Encryption User")
	b.WaitFor("this managed HSM")
	b.Inspect("hsm-access")

	// The administrator makes himself a user of keys too: this HSM does not keep duties apart.
	crypto := url.Values{"principal": {string(target.Principals["custodian"].ObjectID)}, "role": {"21dbd100-6940-42c2-9190-5d6cb909625b"}}
	if got := b.Fetch("POST", hsm+"/access/new", crypto); got.Status != http.StatusOK {
		t.Fatalf("a role for himself: %d\n%.2000s", got.Status, got.Body)
	}
	b.Go(hsm + "/keys/new")
	b.WaitFor("AES, 256 bits")
	b.Inspect("hsm-key-new")
	b.Fill("#name", "sales")
	b.Fill("#bits", "oct")
	b.Click("main button.primary")
	b.WaitFor("The key sales is made")
	b.WaitFor("oct-HSM")
	b.Click(`form[action$="/rotate"] button`)
	b.WaitFor("Rotated: a new version")
	b.WaitFor("Managed HSM Crypto Service Encryption User") // who may use it, by the HSM's own roles
	b.Inspect("hsm-key")
	b.Go(key + "/disable")
	b.WaitFor("What it does")
	b.Click("main button.danger")
	b.WaitFor("2 versions are disabled")

	flint := client.Place{Name: "flint", HSM: true}
	purge := doomed(t, c, flint)
	b.Go(hsm + "/delete")
	b.WaitFor("Type steel to go on")
	b.Fill("#name", "steel")
	b.Click("main button.danger")
	b.WaitFor("The managed HSM steel is deleted")
	b.WaitFor("managed HSM in keys")
	if b.Has(`a[href="` + hsm + `/purge"]`) {
		t.Error("purging is offered of a managed HSM with purge protection")
	}
	if got := b.Fetch("POST", hsm+"/purge", url.Values{"name": {"steel"}}); got.Status != http.StatusForbidden {
		t.Errorf("purging a managed HSM with purge protection: %d", got.Status)
	}
	b.Click(`form[action="` + hsm + `/recover"] button`)
	b.WaitFor("steel is back, with its keys as they were")
	b.WaitFor("sales")
	purging := func() {
		t.Helper()
		b.Go("/vaults")
		b.Click(`a[href="/hsms/keys/flint/purge"]`)
		b.WaitFor("may ask a second person first")
		b.Fill("#name", "flint")
	}
	purging()
	b.Inspect("hsm-purge")
	b.Click("main button.danger")
	b.WaitFor("a second person has to agree")
	b.WaitFor("VaultPurge")
	b.WaitFor("This managed HSM is deleted")
	b.Inspect("hsm-deleted-approvals")
	purge()
	purging()
	b.Click("main button.danger")
	b.WaitFor("The managed HSM flint is purged")
	if b.Has(`a[href="/hsms/keys/flint/purge"]`) {
		t.Error("a purged managed HSM is listed")
	}

	// Whoever has no role in it is refused, whatever he holds above it.
	b.SignIn("auditor")
	b.Go(hsm)
	b.WaitFor("refused")
	for path, form := range map[string]url.Values{hsm + "/access/new": crypto, key + "/enable": nil, key + "/delete": {"name": {"sales"}}, hsm + "/keys/new": {"name": {"mine"}, "bits": {"oct"}}} {
		if got := b.Fetch("POST", path, form); got.Status != http.StatusForbidden {
			t.Errorf("the auditor's POST of %s: %d", path, got.Status)
		}
	}
}

// doomed makes a managed HSM that a second person, the auditor, has agreed to delete, and
// returns what has him agree to whatever else waits there.
func doomed(t *testing.T, c *sdk.Clients, hsm client.Place) (agree func()) {
	t.Helper()
	target := c.Target
	as := func(name string) *client.Clients {
		return client.New(portaltest.Parties(target), c.HTTP, portaltest.Tokens(c, name))
	}
	first, second := as("custodian"), as("auditor")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const contributor, id = "b24988ac-6180-42a0-ab88-20f7382dd24c", "3f6d2a5e-7c1b-4a0e-9d54-6b8e0f1c2a37"
	check(first.Assign(t.Context(), client.Place{}, "/subscriptions/"+target.SubscriptionID, id, contributor, target.Principals["auditor"].ObjectID, "ServicePrincipal"))
	check(first.PutVault(t.Context(), target.TenantID, "keys", hsm, "local", map[string]any{
		"initialAdminObjectIds": []string{target.Principals["custodian"].ObjectID}, "requireApproval": true,
	}))
	agree = func() {
		t.Helper()
		all, err := second.Approvals(t.Context(), hsm)
		check(err)
		for _, a := range all {
			if a.State == "pending" {
				check(second.Decide(t.Context(), hsm, a.ID, true))
			}
		}
	}
	if _, err := first.DeleteVault(t.Context(), "keys", hsm); err == nil {
		t.Error("one person has deleted a managed HSM that asks for two")
	}
	agree()
	_, err := first.DeleteVault(t.Context(), "keys", hsm)
	check(err)
	return agree
}

// activate takes a managed HSM's security domain out, for three officers.
func activate(t *testing.T, target sdk.Target, name string) {
	t.Helper()
	dir := t.TempDir()
	profile, err := json.Marshal(target)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "profile.json"), profile, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"init-keys --dir officers",
		"download " + name + " --file " + name + ".domain --quorum 2 --officer officers/officer1.cer --officer officers/officer2.cer --officer officers/officer3.cer",
	} {
		cmd := exec.Command(devtest.Binary(t), append([]string{"vault", "security-domain"}, strings.Fields(args)...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "KLUIS_PROFILE="+filepath.Join(dir, "profile.json"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", args, err, out)
		}
	}
}

// TestAccessPolicies gives the platform its permissions in a vault of the older model and
// takes them away, in a browser; and checks that whoever may not is refused.
func TestAccessPolicies(t *testing.T) {
	b, c := open(t)
	target := c.Target
	custodian := client.New(portaltest.Parties(target), c.HTTP, portaltest.Tokens(c, "custodian"))
	if err := custodian.PutGroup(t.Context(), "keys", "local"); err != nil {
		t.Fatal(err)
	}
	if err := custodian.PutVault(t.Context(), target.TenantID, "keys", client.Place{Name: "older"}, "local", map[string]any{"enableRbacAuthorization": false, "accessPolicies": []any{}}); err != nil {
		t.Fatal(err)
	}
	const access = "/vaults/keys/older/access"
	platform := target.Platform.ObjectID
	b.SignIn("custodian")
	b.Go(access)
	b.WaitFor("Access policies")
	b.Click(".heading a.button")
	b.WaitFor("Which permissions")
	b.Go(access + "/new?q=fabric+platform")
	b.WaitUntil("#found a.button")
	b.Click("#found a.button")
	b.WaitFor("Permissions on keys")
	b.Inspect("policy-permissions")
	b.Click("main button.primary")
	b.WaitFor("It holds at once")
	b.Inspect("policy-review")
	b.Click("main button.primary")
	b.WaitFor("Fabric Platform CMK has an access policy")
	b.WaitFor("get, wrapKey, unwrapKey")
	b.Inspect("policy-given")

	b.SignIn("auditor")
	b.Go(access)
	b.WaitFor("get, wrapKey, unwrapKey")
	if b.Has(".heading a.button") || b.Has("tbody a.button") {
		t.Errorf("an auditor is offered to change access policies:\n%s", b.Text())
	}
	for path, form := range map[string]url.Values{access + "/new": {"principal": {platform}, "permission": {"get", "purge"}}, access + "/remove": {"policy": {platform}}} {
		if got := b.Fetch("POST", path, form); got.Status != http.StatusForbidden {
			t.Errorf("the auditor's POST of %s: %d", path, got.Status)
		}
	}

	b.SignIn("custodian")
	b.Go(access)
	b.WaitFor("get, wrapKey, unwrapKey")
	b.Click("tbody a.button")
	b.WaitFor("Take away the access policy of Fabric Platform CMK")
	b.Inspect("policy-remove")
	b.Click("main button.danger")
	b.WaitFor("Taken away")
	b.WaitFor("Nobody yet")
}
