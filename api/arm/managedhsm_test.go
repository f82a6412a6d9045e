package arm_test

import (
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// The life of a managed HSM, as the Go SDK leads it.
func TestSDKManagedHSMs(t *testing.T) {
	f := vaulttest.New(t, func(c *vault.Config) { c.ActivateHSMs = false })
	s := serve(t, f)
	ctx := t.Context()
	client := func(c identity.Caller) *armkeyvault.ManagedHsmsClient {
		k, err := armkeyvault.NewManagedHsmsClient(vaulttest.Subscription, vaulttest.Credential{Caller: c}, options(s))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k := client(f.Officer)
	put := func(k *armkeyvault.ManagedHsmsClient, admins ...*string) (armkeyvault.ManagedHsm, error) {
		p, err := k.BeginCreateOrUpdate(ctx, vaulttest.Group, "hsm1", armkeyvault.ManagedHsm{
			Location: new("westeurope"), SKU: &armkeyvault.ManagedHsmSKU{Family: new(armkeyvault.ManagedHsmSKUFamilyB), Name: new(armkeyvault.ManagedHsmSKUNameStandardB1)},
			Properties: &armkeyvault.ManagedHsmProperties{
				TenantID: new(string(vaulttest.Tenant)), InitialAdminObjectIDs: admins, SoftDeleteRetentionInDays: new(int32(7)),
			},
		}, nil)
		if err != nil {
			return armkeyvault.ManagedHsm{}, err
		}
		r, err := p.PollUntilDone(ctx, &quickly)
		return r.ManagedHsm, err
	}
	_, err := put(k)
	wantStatus(t, err, 400, "BadRequest")
	_, err = put(client(vaulttest.Caller(9)), new(vaulttest.ID(9)))
	wantStatus(t, err, 403, "AuthorizationFailed")
	v, err := put(k, new(vaulttest.ID(2)))
	if err != nil {
		t.Fatal(err)
	}
	if p := v.Properties; *p.HsmURI != "https://hsm1.managedhsm.localhost:"+s.Port+"/" || *p.SoftDeleteRetentionInDays != 7 ||
		*p.InitialAdminObjectIDs[0] != vaulttest.ID(2) || *v.Type != "Microsoft.KeyVault/managedHSMs" || *v.SKU.Name != armkeyvault.ManagedHsmSKUNameStandardB1 ||
		*p.SecurityDomainProperties.ActivationStatus != armkeyvault.ActivationStatusNotActivated {
		t.Errorf("created %+v", p)
	}
	count := func() (n int) {
		for pager := k.NewListByResourceGroupPager(vaulttest.Group, nil); pager.More(); {
			page, err := pager.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			n += len(page.Value)
		}
		return n
	}
	f.Vault(t, "kv1")
	if n := count(); n != 1 {
		t.Errorf("%d managed HSMs, want 1", n)
	}
	p, err := k.BeginDelete(ctx, vaulttest.Group, "hsm1", nil)
	if err == nil {
		_, err = p.PollUntilDone(ctx, &quickly)
	}
	if err != nil || count() != 0 {
		t.Fatalf("delete: %v", err)
	}
	deleted, err := k.GetDeleted(ctx, "hsm1", "westeurope", nil)
	if err != nil || *deleted.Properties.MhsmID != *v.ID {
		t.Errorf("deleted: %v", err)
	}
	purge, err := k.BeginPurgeDeleted(ctx, "hsm1", "westeurope", nil)
	if err == nil {
		_, err = purge.PollUntilDone(ctx, &quickly)
	}
	if err != nil {
		t.Errorf("purge: %v", err)
	}
}
