package system_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// A way takes a customer's key from the platform, and gives it back.
type way struct {
	name            string
	revoke, restore func(context.Context) error
}

// ways are all that there are at a vault that the customer has for itself. They are gone
// through in this order, or one alone: access policies stay until the vault's network is
// opened again, and a role says nothing beside them.
func (c *customer) ways() []way {
	vault := lastSegment(c.vaultID)
	put := func(edit func(*armkeyvault.VaultProperties)) func(context.Context) error {
		return func(ctx context.Context) error { return c.putVault(ctx, vault, edit) }
	}
	policies := func(permissions ...armkeyvault.KeyPermissions) func(context.Context) error {
		return put(func(v *armkeyvault.VaultProperties) {
			entry := func(principal string, permissions ...armkeyvault.KeyPermissions) *armkeyvault.AccessPolicyEntry {
				e := &armkeyvault.AccessPolicyEntry{TenantID: v.TenantID, ObjectID: &principal, Permissions: &armkeyvault.Permissions{}}
				for _, p := range permissions {
					e.Permissions.Keys = append(e.Permissions.Keys, &p)
				}
				return e
			}
			v.EnableRbacAuthorization = to.Ptr(false)
			v.AccessPolicies = []*armkeyvault.AccessPolicyEntry{
				entry(c.clients.Target.Principals["custodian"].ObjectID, armkeyvault.KeyPermissionsAll),
				entry(c.clients.Target.Platform.ObjectID, permissions...),
			}
		})
	}
	network := func(a armkeyvault.NetworkRuleAction) func(context.Context) error {
		return put(func(v *armkeyvault.VaultProperties) {
			v.NetworkACLs = &armkeyvault.NetworkRuleSet{DefaultAction: &a, Bypass: to.Ptr(armkeyvault.NetworkRuleBypassOptionsNone)}
		})
	}
	version := func(on bool) func(context.Context) error {
		return func(ctx context.Context) error {
			st, err := c.engineer.Fabric.Encryption(ctx, c.id)
			if err == nil {
				_, err = c.keys.UpdateKey(ctx, c.key, lastSegment(st.KeyVersion), azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}}, nil)
			}
			return err
		}
	}
	return []way{
		{"role", c.take, c.give},
		{"access policy", policies(armkeyvault.KeyPermissionsGet),
			policies(armkeyvault.KeyPermissionsGet, armkeyvault.KeyPermissionsWrapKey, armkeyvault.KeyPermissionsUnwrapKey)},
		{"key version", version(false), version(true)},
		{"key", func(ctx context.Context) error { return c.setEnabled(ctx, c.key, false) }, func(ctx context.Context) error { return c.setEnabled(ctx, c.key, true) }},
		{"key deletion", func(ctx context.Context) error {
			_, err := c.keys.DeleteKey(ctx, c.key, nil)
			return err
		}, func(ctx context.Context) error {
			_, err := c.keys.RecoverDeletedKey(ctx, c.key, nil)
			return err
		}},
		{"network rule", network(armkeyvault.NetworkRuleActionDeny), network(armkeyvault.NetworkRuleActionAllow)},
		{"vault deletion", func(ctx context.Context) error {
			_, err := c.officer.Vaults.Delete(ctx, "kluis", vault, nil)
			return err
		}, put(func(v *armkeyvault.VaultProperties) { v.CreateMode = to.Ptr(armkeyvault.CreateModeRecover) })},
	}
}

// TestWays takes a workspace's key away in every way that there is at a vault, and
// gives it back: the workspace goes dark and comes back by each.
func TestWays(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, p := underKey(ctx, t)
	c := &customer{site: s, key: keyName, grant: grantID, id: s.workspace, name: s.container}
	for _, way := range c.ways() {
		t.Run(way.name, func(t *testing.T) {
			must(t, s.readBack(ctx))
			must(t, way.revoke(ctx))
			revoked := time.Now()
			eventually(ctx, t, 30*time.Second, func() error {
				if _, err := s.get(ctx, s.smallest()); !refusedByKey(err) {
					return fmt.Errorf("a read is answered with %v", err)
				}
				return nil
			})
			dark := time.Since(revoked)
			must(t, way.restore(ctx))
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
