package system_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/devtest"
)

// TestWays takes a workspace's key away in every way that there is at a vault, and
// gives it back: the workspace goes dark and comes back by each.
func TestWays(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	p := start(t, s.data, s.port)
	s.connect(t)
	s.furnish(ctx, t)
	must(t, s.assign(ctx))
	s.await(ctx, t, "Active")

	target := s.clients.Target
	put := func(edit func(*armkeyvault.VaultProperties)) error {
		props := &armkeyvault.VaultProperties{
			TenantID: &target.TenantID, EnableRbacAuthorization: to.Ptr(true), EnablePurgeProtection: to.Ptr(true),
			SKU: &armkeyvault.SKU{Family: to.Ptr(armkeyvault.SKUFamilyA), Name: to.Ptr(armkeyvault.SKUNameStandard)},
		}
		edit(props)
		poller, err := s.officer.Vaults.BeginCreateOrUpdate(ctx, "kluis", "custody", armkeyvault.VaultCreateOrUpdateParameters{
			Location: to.Ptr("local"), Properties: props,
		}, nil)
		if err == nil {
			_, err = poller.PollUntilDone(ctx, nil)
		}
		return err
	}
	policies := func(permissions ...*armkeyvault.KeyPermissions) func(*armkeyvault.VaultProperties) {
		return func(v *armkeyvault.VaultProperties) {
			v.EnableRbacAuthorization = to.Ptr(false)
			v.AccessPolicies = []*armkeyvault.AccessPolicyEntry{
				{TenantID: &target.TenantID, ObjectID: to.Ptr(target.Principals["custodian"].ObjectID), Permissions: &armkeyvault.Permissions{Keys: []*armkeyvault.KeyPermissions{to.Ptr(armkeyvault.KeyPermissionsAll)}}},
				{TenantID: &target.TenantID, ObjectID: to.Ptr(target.Platform.ObjectID), Permissions: &armkeyvault.Permissions{Keys: permissions}},
			}
		}
	}
	network := func(a armkeyvault.NetworkRuleAction) func(*armkeyvault.VaultProperties) {
		return func(v *armkeyvault.VaultProperties) {
			v.NetworkACLs = &armkeyvault.NetworkRuleSet{DefaultAction: &a, Bypass: to.Ptr(armkeyvault.NetworkRuleBypassOptionsNone)}
		}
	}
	version := func() string {
		st, err := s.engineer.Fabric.Encryption(ctx, s.workspace)
		must(t, err)
		return lastSegment(st.KeyVersion)
	}
	enable := func(v string, on bool) error {
		_, err := s.keys.UpdateKey(ctx, keyName, v, azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}}, nil)
		return err
	}
	recoverVault := func() error {
		return put(func(v *armkeyvault.VaultProperties) { v.CreateMode = to.Ptr(armkeyvault.CreateModeRecover) })
	}

	for _, way := range []struct {
		name            string
		revoke, restore func() error
	}{
		{"role", func() error {
			_, err := s.officer.Roles.Delete(ctx, s.keyScope(), grantID, nil)
			return err
		}, func() error { s.grant(ctx, t); return nil }},
		{"access policy", func() error {
			return put(policies(to.Ptr(armkeyvault.KeyPermissionsGet)))
		}, func() error {
			return put(policies(to.Ptr(armkeyvault.KeyPermissionsGet), to.Ptr(armkeyvault.KeyPermissionsWrapKey), to.Ptr(armkeyvault.KeyPermissionsUnwrapKey)))
		}},
		{"key version", func() error { return enable(version(), false) }, func() error { return enable(version(), true) }},
		{"key deletion", func() error {
			_, err := s.keys.DeleteKey(ctx, keyName, nil)
			return err
		}, func() error {
			_, err := s.keys.RecoverDeletedKey(ctx, keyName, nil)
			return err
		}},
		{"network rule", func() error { return put(network(armkeyvault.NetworkRuleActionDeny)) }, func() error { return put(network(armkeyvault.NetworkRuleActionAllow)) }},
		{"vault deletion", func() error {
			_, err := s.officer.Vaults.Delete(ctx, "kluis", "custody", nil)
			return err
		}, recoverVault},
	} {
		t.Run(way.name, func(t *testing.T) {
			must(t, s.readBack(ctx))
			must(t, way.revoke())
			revoked := time.Now()
			eventually(ctx, t, 30*time.Second, func() error {
				if _, err := s.get(ctx, s.smallest()); !refusedByKey(err) {
					return fmt.Errorf("a read is answered with %v", err)
				}
				return nil
			})
			dark := time.Since(revoked)
			must(t, way.restore())
			restored := time.Now()
			eventually(ctx, t, 60*time.Second, func() error { return s.readBack(ctx) })
			t.Logf("dark after %s, back after %s", dark.Round(time.Millisecond), time.Since(restored).Round(time.Millisecond))
			if dark > bound {
				t.Errorf("it took %s, bound %s", dark, bound)
			}
		})
	}
	p.stop(t)
	s.fsck(t)
}
