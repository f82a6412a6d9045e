package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/internal/sdk"
)

// encryptionUser is Azure's role Key Vault Crypto Service Encryption User: get,
// wrap and unwrap, and nothing else.
const encryptionUser = "e147488a-f6f5-4113-8e2d-b22465e65bf6"

// roleScope returns the scope of a key, by its vault's id.
func roleScope(ctx context.Context, o *sdk.Officer, group string, k keyRef) (string, error) {
	v, err := o.Vaults.Get(ctx, group, k.vault, nil)
	if err != nil {
		return "", err
	}
	return *v.ID + "/keys/" + k.name, nil
}

func keyGrant(s *session) *cobra.Command {
	var principal, role, group string
	c := s.withKey("grant", "Let the platform use a key: get, wrap and unwrap, and nothing else", func(ctx context.Context, o *sdk.Officer, _ *azkeys.Client, k keyRef) error {
		if s.hsm {
			return s.grantLocal(ctx, o, k.vault, "/keys/"+k.name, role, principal)
		}
		scope, err := roleScope(ctx, o, group, k)
		if err != nil {
			return err
		}
		role, principal := cmp.Or(role, encryptionUser), cmp.Or(principal, o.Target().Platform.ObjectID)
		_, err = o.Roles.Create(ctx, scope, uuid.NewString(), armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{
			RoleDefinitionID: to.Ptr("/subscriptions/" + o.Target().SubscriptionID + "/providers/Microsoft.Authorization/roleDefinitions/" + role),
			PrincipalID:      &principal, PrincipalType: to.Ptr(armauthorization.PrincipalTypeServicePrincipal),
		}}, nil)
		if err != nil {
			return err
		}
		return s.done("%s may use key %s of vault %s.", principal, k.name, k.vault)
	})
	grantFlags(c, &principal, &role, &group)
	return c
}

func grantFlags(c *cobra.Command, principal, role, group *string) {
	c.Flags().StringVar(principal, "principal", "", "object `ID` of a principal; the tenant's Fabric Platform CMK if none is named")
	c.Flags().StringVar(role, "role", "", "`ID` of the role definition; the one to get, wrap and unwrap if none is named")
	groupFlag(c, group)
}

func keyRevoke(s *session) *cobra.Command {
	var principal, role, group string
	c := s.withKey("revoke", "Take that right away: every workspace under the key goes dark", func(ctx context.Context, o *sdk.Officer, _ *azkeys.Client, k keyRef) error {
		if s.hsm {
			return s.revokeLocal(ctx, o, k.vault, "/keys/"+k.name, role, principal)
		}
		scope, err := roleScope(ctx, o, group, k)
		if err != nil {
			return err
		}
		role, principal := cmp.Or(role, encryptionUser), cmp.Or(principal, o.Target().Platform.ObjectID)
		n := 0
		all, err := collect(ctx, o.Roles.NewListForScopePager(scope, nil), func(p armauthorization.RoleAssignmentsClientListForScopeResponse) []*armauthorization.RoleAssignment {
			return p.Value
		})
		if err != nil {
			return err
		}
		for _, a := range all {
			if *a.Properties.PrincipalID != principal || !strings.HasSuffix(*a.Properties.RoleDefinitionID, role) || !strings.EqualFold(*a.Properties.Scope, scope) {
				continue
			}
			if _, err := o.Roles.Delete(ctx, scope, *a.Name, nil); err != nil {
				return err
			}
			n++
		}
		if n == 0 {
			return fmt.Errorf("%s has no such role at this key itself; it may have one at the vault or above", principal)
		}
		return s.done("%s may not use key %s of vault %s any more. To restore: kluis key grant %s/%s", principal, k.name, k.vault, k.vault, k.name)
	})
	grantFlags(c, &principal, &role, &group)
	return c
}
