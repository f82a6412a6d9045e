package arm_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azarm "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"

	"github.com/kluis-io/kluis/api/arm"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

func audience(port string) string { return "https://management.localhost:" + port }

func serve(t testing.TB, f *vaulttest.Fixture) *vaulttest.Server {
	t.Helper()
	return vaulttest.Serve(t, func(port string) http.Handler {
		return arm.New(f.Vaults, vaulttest.Tokens{}, arm.Config{
			VaultSuffix: "vault.localhost:" + port, HSMSuffix: "managedhsm.localhost:" + port, Audiences: []string{audience(port)},
			Endpoints: arm.Endpoints{
				ResourceManager: audience(port), Login: "https://login.localhost:" + port, ADFS: "https://login.localhost:" + port + "/adfs",
				Graph: "https://graph.localhost:" + port, Portal: "https://portal.localhost:" + port,
			},
		})
	})
}

// options set an unmodified SDK client up through its public options.
func options(s *vaulttest.Server) *azarm.ClientOptions {
	return &azarm.ClientOptions{
		ClientOptions: azcore.ClientOptions{
			Transport: s.Client, Retry: policy.RetryOptions{MaxRetries: -1},
			Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: audience(s.Port), Audience: audience(s.Port)},
			}},
		},
		DisableRPRegistration: true,
	}
}

func wantStatus(t *testing.T, err error, status int, code string) {
	t.Helper()
	var re *azcore.ResponseError
	if !errors.As(err, &re) || re.StatusCode != status || re.ErrorCode != code {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}

// The life of a vault, as the Go SDK leads it.
func TestSDKVaults(t *testing.T) {
	f := vaulttest.New(t)
	s := serve(t, f)
	ctx := t.Context()
	client := func(c identity.Caller) *armkeyvault.VaultsClient {
		k, err := armkeyvault.NewVaultsClient(vaulttest.Subscription, vaulttest.Credential{Caller: c}, options(s))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k, stranger := client(f.Officer), client(vaulttest.Caller(9))
	body := func() armkeyvault.VaultCreateOrUpdateParameters {
		return armkeyvault.VaultCreateOrUpdateParameters{
			Location: new("westeurope"), Tags: map[string]*string{"team": new("a")},
			Properties: &armkeyvault.VaultProperties{
				TenantID: new(string(vaulttest.Tenant)), SKU: &armkeyvault.SKU{Family: new(armkeyvault.SKUFamilyA), Name: new(armkeyvault.SKUNameStandard)},
				EnablePurgeProtection: new(true), SoftDeleteRetentionInDays: new(int32(7)), EnableRbacAuthorization: new(true),
				NetworkACLs: &armkeyvault.NetworkRuleSet{Bypass: new(armkeyvault.NetworkRuleBypassOptionsAzureServices), DefaultAction: new(armkeyvault.NetworkRuleActionAllow)},
				AccessPolicies: []*armkeyvault.AccessPolicyEntry{{
					TenantID: new(string(vaulttest.Tenant)), ObjectID: new(vaulttest.ID(2)),
					Permissions: &armkeyvault.Permissions{Keys: []*armkeyvault.KeyPermissions{new(armkeyvault.KeyPermissionsGet)}},
				}},
			},
		}
	}
	put := func(k *armkeyvault.VaultsClient, name string, b armkeyvault.VaultCreateOrUpdateParameters) (armkeyvault.Vault, error) {
		p, err := k.BeginCreateOrUpdate(ctx, vaulttest.Group, name, b, nil)
		if err != nil {
			return armkeyvault.Vault{}, err
		}
		r, err := p.PollUntilDone(ctx, &quickly)
		return r.Vault, err
	}
	v, err := put(k, "KV1", body())
	if err != nil {
		t.Fatal(err)
	}
	p := v.Properties
	if *v.Name != "kv1" || *p.VaultURI != "https://kv1.vault.localhost:"+s.Port+"/" || !*p.EnablePurgeProtection || *p.SoftDeleteRetentionInDays != 7 ||
		!*p.EnableRbacAuthorization || *p.TenantID != string(vaulttest.Tenant) || *v.Tags["team"] != "a" || len(p.AccessPolicies) != 1 ||
		*p.AccessPolicies[0].Permissions.Keys[0] != armkeyvault.KeyPermissionsGet || *v.Type != "Microsoft.KeyVault/vaults" || v.SystemData.CreatedAt.IsZero() {
		t.Errorf("created %+v", p)
	}
	for name, c := range map[string]struct {
		change func(*armkeyvault.VaultProperties)
		status int
		code   string
	}{
		"unset purge protection": {func(p *armkeyvault.VaultProperties) { p.EnablePurgeProtection = new(false) }, 400, "BadRequest"},
		"public access":          {func(p *armkeyvault.VaultProperties) { p.PublicNetworkAccess = new("No") }, 400, "BadRequest"},
		"virtual network": {func(p *armkeyvault.VaultProperties) {
			p.NetworkACLs.VirtualNetworkRules = []*armkeyvault.VirtualNetworkRule{{ID: new("/subscriptions/s/x")}}
		}, 400, "NotSupported"},
		"IP rule": {func(p *armkeyvault.VaultProperties) {
			p.NetworkACLs.IPRules = []*armkeyvault.IPRule{{Value: new("192.0.2.0/33")}}
		}, 400, "BadRequest"},
		"default action": {func(p *armkeyvault.VaultProperties) { p.NetworkACLs.DefaultAction = nil }, 400, "BadRequest"},
		"premium":        {func(p *armkeyvault.VaultProperties) { p.SKU.Name = new(armkeyvault.SKUNamePremium) }, 400, "NotSupported"},
		"tenant":         {func(p *armkeyvault.VaultProperties) { p.TenantID = new(string(vaulttest.OtherTenant)) }, 400, "BadRequest"},
		"retention":      {func(p *armkeyvault.VaultProperties) { p.SoftDeleteRetentionInDays = new(int32(8)) }, 400, "BadRequest"},
	} {
		b := body()
		c.change(b.Properties)
		if _, err := put(k, "kv1", b); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			wantStatus(t, err, c.status, c.code)
		}
	}
	again := body() // as az does: the whole vault, read-only fields and all
	again.Properties.VaultURI, again.Properties.ProvisioningState = p.VaultURI, p.ProvisioningState
	if _, err := put(k, "kv1", again); err != nil {
		t.Errorf("put of what was got: %v", err)
	}
	open := body()
	open.Properties.EnableRbacAuthorization = new(false)
	open.Properties.PublicNetworkAccess = new("Disabled")
	open.Properties.NetworkACLs.DefaultAction = new(armkeyvault.NetworkRuleActionDeny)
	open.Properties.NetworkACLs.IPRules = []*armkeyvault.IPRule{{Value: new("192.0.2.7")}, {Value: new("198.51.100.9/24")}}
	if got, err := put(k, "kv1", open); err != nil || *got.Properties.EnableRbacAuthorization || *got.Properties.PublicNetworkAccess != "Disabled" ||
		*got.Properties.NetworkACLs.DefaultAction != armkeyvault.NetworkRuleActionDeny || *got.Properties.NetworkACLs.IPRules[0].Value != "192.0.2.7/32" ||
		*got.Properties.NetworkACLs.IPRules[1].Value != "198.51.100.0/24" || *got.Properties.NetworkACLs.Bypass != armkeyvault.NetworkRuleBypassOptionsAzureServices {
		t.Errorf("network rules: %v, %+v", err, got.Properties)
	}
	again.Properties.PublicNetworkAccess = new("Enabled")
	if got, err := put(k, "kv1", again); err != nil || *got.Properties.PublicNetworkAccess != "Enabled" || len(got.Properties.NetworkACLs.IPRules) != 0 {
		t.Errorf("network rules taken away: %v, %+v", err, got.Properties)
	}
	policies, err := k.UpdateAccessPolicy(ctx, vaulttest.Group, "kv1", armkeyvault.AccessPolicyUpdateKindAdd, armkeyvault.VaultAccessPolicyParameters{
		Properties: &armkeyvault.VaultAccessPolicyProperties{AccessPolicies: []*armkeyvault.AccessPolicyEntry{{
			TenantID: new(string(vaulttest.Tenant)), ObjectID: new(vaulttest.ID(2)),
			Permissions: &armkeyvault.Permissions{Keys: []*armkeyvault.KeyPermissions{new(armkeyvault.KeyPermissionsWrapKey)}},
		}}},
	}, nil)
	if err != nil || len(policies.Properties.AccessPolicies) != 1 || len(policies.Properties.AccessPolicies[0].Permissions.Keys) != 2 {
		t.Errorf("adding to a policy: %v, %+v", err, policies.Properties)
	}
	patched, err := k.Update(ctx, vaulttest.Group, "kv1", armkeyvault.VaultPatchParameters{Tags: map[string]*string{"team": new("b")}}, nil)
	if err != nil || *patched.Tags["team"] != "b" || len(patched.Properties.AccessPolicies) != 1 {
		t.Errorf("patch: %v", err)
	}
	_, err = stranger.Get(ctx, vaulttest.Group, "kv1", nil)
	wantStatus(t, err, 403, "AuthorizationFailed")
	_, err = put(stranger, "kv2", body())
	wantStatus(t, err, 403, "AuthorizationFailed")
	_, err = k.Get(ctx, vaulttest.Group, "absent", nil)
	wantStatus(t, err, 404, "ResourceNotFound")
	b := body()
	p2, err := k.BeginCreateOrUpdate(ctx, "nogroup", "kv2", b, nil)
	if err == nil {
		_, err = p2.PollUntilDone(ctx, nil)
	}
	wantStatus(t, err, 404, "ResourceGroupNotFound")

	list := func() (n int) {
		for pager := k.NewListBySubscriptionPager(nil); pager.More(); {
			page, err := pager.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			n += len(page.Value)
		}
		for pager := k.NewListByResourceGroupPager(vaulttest.Group, nil); pager.More(); {
			page, err := pager.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			n += len(page.Value)
		}
		for pager := k.NewListPager(nil); pager.More(); {
			page, err := pager.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			n += len(page.Value)
		}
		return n
	}
	if n := list(); n != 3 {
		t.Errorf("three listings hold %d vaults together", n)
	}
	name, err := k.CheckNameAvailability(ctx, armkeyvault.VaultCheckNameAvailabilityParameters{Name: new("kv1"), Type: new("Microsoft.KeyVault/vaults")}, nil)
	if err != nil || *name.NameAvailable || *name.Reason != armkeyvault.ReasonAlreadyExists {
		t.Errorf("check name: %v", err)
	}

	if _, err := k.Delete(ctx, vaulttest.Group, "kv1", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Delete(ctx, vaulttest.Group, "kv1", nil); err != nil { // 204
		t.Error(err)
	}
	if n := list(); n != 0 {
		t.Errorf("a deleted vault is listed")
	}
	deleted, err := k.GetDeleted(ctx, "kv1", "westeurope", nil)
	if err != nil || deleted.Properties.ScheduledPurgeDate.Sub(*deleted.Properties.DeletionDate) != 7*24*time.Hour || !*deleted.Properties.PurgeProtectionEnabled {
		t.Fatalf("deleted vault: %v", err)
	}
	for pager := k.NewListDeletedPager(nil); pager.More(); {
		if page, err := pager.NextPage(ctx); err != nil || len(page.Value) != 1 || *page.Value[0].Properties.VaultID != *v.ID {
			t.Fatalf("deleted vaults: %v", err)
		}
	}
	_, err = k.BeginPurgeDeleted(ctx, "kv1", "westeurope", nil)
	wantStatus(t, err, 403, "DeletedVaultPurge")
	_, err = put(k, "kv1", body())
	wantStatus(t, err, 409, "ConflictError")
	back := body()
	back.Properties.CreateMode = new(armkeyvault.CreateModeRecover)
	if v, err := put(k, "kv1", back); err != nil || *v.Tags["team"] != "b" {
		t.Errorf("recover: %v", err)
	}
}

var quickly = runtime.PollUntilDoneOptions{Frequency: time.Millisecond}

func TestSDKRoles(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1")
	s := serve(t, f)
	ctx := t.Context()
	client := func(c identity.Caller) *armauthorization.RoleAssignmentsClient {
		k, err := armauthorization.NewRoleAssignmentsClient(vaulttest.Subscription, vaulttest.Credential{Caller: c}, options(s))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k, stranger := client(f.Officer), client(vaulttest.Caller(9))
	defs, err := armauthorization.NewRoleDefinitionsClient(vaulttest.Credential{Caller: f.Officer}, options(s))
	if err != nil {
		t.Fatal(err)
	}
	var role armauthorization.RoleDefinition
	for p := defs.NewListPager("subscriptions/"+vaulttest.Subscription, &armauthorization.RoleDefinitionsClientListOptions{
		Filter: new("roleName eq 'Key Vault Crypto Service Encryption User'"),
	}); p.More(); {
		page, err := p.NextPage(ctx)
		if err != nil || len(page.Value) != 1 {
			t.Fatalf("role definitions: %v, %d", err, len(page.Value))
		}
		role = *page.Value[0]
	}
	if *role.Name != string(rbac.KeyVaultCryptoServiceEncryption) || len(role.Properties.Permissions[0].DataActions) != 3 {
		t.Errorf("role %+v", role.Properties)
	}
	if _, err := defs.Get(ctx, "subscriptions/"+vaulttest.Subscription, *role.Name, nil); err != nil {
		t.Error(err)
	}
	scope := string(v.KeyScope("k"))
	grant := armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{
		RoleDefinitionID: new("/subscriptions/" + vaulttest.Subscription + *role.ID), PrincipalID: new(vaulttest.ID(2)),
		PrincipalType: new(armauthorization.PrincipalTypeServicePrincipal),
	}}
	_, err = stranger.Create(ctx, scope, vaulttest.ID(600), grant, nil)
	wantStatus(t, err, 403, "AuthorizationFailed")
	a, err := k.Create(ctx, scope, vaulttest.ID(600), grant, nil)
	if err != nil || *a.Properties.Scope != scope || *a.Properties.PrincipalID != vaulttest.ID(2) || *a.Properties.CreatedBy != string(f.Officer.Principal) {
		t.Fatalf("create: %v, %+v", err, a.Properties)
	}
	if _, err := k.Create(ctx, scope, vaulttest.ID(600), grant, nil); err != nil {
		t.Errorf("the same again: %v", err)
	}
	_, err = k.Create(ctx, scope, vaulttest.ID(601), grant, nil)
	wantStatus(t, err, 409, "RoleAssignmentExists")
	grant.Properties.Condition = new("@Resource[x] StringEquals 'y'")
	_, err = k.Create(ctx, scope, vaulttest.ID(602), grant, nil)
	wantStatus(t, err, 400, "NotSupported")

	// This client sends the filter as it gets it: escaping is its caller's.
	list := func(scope, filter string) (n int) {
		t.Helper()
		for p := k.NewListForScopePager(scope, &armauthorization.RoleAssignmentsClientListForScopeOptions{Filter: &filter}); p.More(); {
			page, err := p.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			n += len(page.Value)
		}
		return n
	}
	if n := list(scope, "atScope()"); n != 3 {
		t.Errorf("%d at the key and above, want 3", n)
	}
	if n := list(string(v.Scope()), "atScope()"); n != 2 {
		t.Errorf("%d at the vault and above, want 2", n)
	}
	if n := list(string(v.Scope()), "principalId%20eq%20'"+vaulttest.ID(2)+"'"); n != 1 {
		t.Errorf("%d of the principal, want 1", n)
	}
	for p := k.NewListForSubscriptionPager(nil); p.More(); {
		if page, err := p.NextPage(ctx); err != nil || len(page.Value) != 3 {
			t.Fatalf("for the subscription: %v", err)
		}
	}
	if got, err := k.GetByID(ctx, (*a.ID)[1:], nil); err != nil || *got.Name != vaulttest.ID(600) {
		t.Errorf("get by id: %v", err)
	}
	if _, err := k.Delete(ctx, scope, vaulttest.ID(600), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Delete(ctx, scope, vaulttest.ID(600), nil); err != nil { // 204
		t.Error(err)
	}
	_, err = k.Get(ctx, scope, vaulttest.ID(600), nil)
	wantStatus(t, err, 404, "RoleAssignmentNotFound")
}
