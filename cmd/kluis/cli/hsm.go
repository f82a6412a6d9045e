package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/internal/sdk"
)

// localEncryptionUser is the managed HSM's own role to get, wrap and unwrap.
const localEncryptionUser = "33413926-3206-4cdd-b39a-83574fe37a17"

func (s *session) showHSMs(v any, all ...vaultState) error {
	var rows [][]string
	for _, h := range all {
		p := h.Properties
		rows = append(rows, []string{h.Name, p.HSMURI, yes(value(p.Domain).Activation == "Active"), strconv.Itoa(p.RetentionDays), yes(value(p.PurgeProtection)), resourceGroup(h.ID)})
	}
	return s.show(v, "NAME,URI,ACTIVE,RETENTION DAYS,PURGE PROTECTION,GROUP", rows)
}

func hsmCreate(s *session) *cobra.Command {
	var location string
	var admins []string
	var days int
	var purgeable bool
	c := s.onVault("create NAME", "Make a managed HSM, to be activated by 'kluis vault security-domain download'; its administrators give its roles, and use no key", 0, func(ctx context.Context, o *sdk.Officer, group, name string, _ []string) error {
		s.hsm = true
		t := o.Target()
		if len(admins) == 0 {
			admins = []string{t.Principals[s.as].ObjectID}
		}
		h := vaultState{Location: location, Properties: vaultProperties{TenantID: t.TenantID, Admins: admins, RetentionDays: days}}
		if !purgeable {
			on := true
			h.Properties.PurgeProtection = &on
		}
		if err := o.Manage(ctx, http.MethodPut, s.resourceID(o, group, name), vaultsVersion, h, &h); err != nil {
			return err
		}
		return s.showHSMs(h, h)
	})
	f := c.Flags()
	f.StringVar(&location, "location", "local", "where the managed HSM is said to be")
	f.StringSliceVar(&admins, "admin", nil, "object `ID` of an administrator, once for each; you if none is named")
	f.IntVar(&days, "retention-days", 90, "for how many days deleted keys can be recovered, 7 to 90; never changed")
	f.BoolVar(&purgeable, "no-purge-protection", false, "let deleted keys be purged early; such an HSM's keys protect no workspace")
	return c
}

func hsmList(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the managed HSMs that you may see",
		Args:  cobra.NoArgs,
		RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, _ []string) error {
			var answer struct{ Value []vaultState }
			id := "/subscriptions/" + o.Target().SubscriptionID + "/providers/Microsoft.KeyVault/managedHSMs"
			if err := o.Manage(ctx, http.MethodGet, id, vaultsVersion, nil, &answer); err != nil {
				return err
			}
			return s.showHSMs(answer.Value, answer.Value...)
		}),
	}
}

// localPath returns the path of something of the roles at a scope of a managed HSM.
func localPath(scope, what string) string {
	return strings.Trim(scope+"/providers/Microsoft.Authorization/"+what, "/")
}

// localRole returns the id of one of a managed HSM's own roles, by id or name.
func (s *session) localRole(ctx context.Context, o *sdk.Officer, hsm, role string) (string, error) {
	var answer struct {
		Value []struct {
			Name       string
			Properties struct{ RoleName string }
		}
	}
	if err := s.custody(ctx, o, hsm, http.MethodGet, localPath("", "roleDefinitions")+"?api-version="+keysVersion, nil, &answer); err != nil {
		return "", err
	}
	var names []string
	for _, d := range answer.Value {
		if strings.EqualFold(role, d.Name) || strings.EqualFold(role, d.Properties.RoleName) || strings.EqualFold("Managed HSM "+role, d.Properties.RoleName) {
			return d.Name, nil
		}
		names = append(names, strconv.Quote(d.Properties.RoleName))
	}
	return "", usage("the managed HSM has no role %q, but %s", role, strings.Join(names, ", "))
}

type localAssignment struct {
	Name       string `json:"name,omitempty"`
	Properties struct {
		Scope     string `json:"scope,omitempty"`
		Role      string `json:"roleDefinitionId"`
		Principal string `json:"principalId"`
	} `json:"properties"`
}

// local returns the role and the principal that are meant where none is named: the
// platform, to get, wrap and unwrap.
func (s *session) local(ctx context.Context, o *sdk.Officer, hsm, role, principal string) (string, string, error) {
	principal = cmp.Or(principal, o.Target().Platform.ObjectID)
	if role == "" {
		return localEncryptionUser, principal, nil
	}
	role, err := s.localRole(ctx, o, hsm, role)
	return role, principal, err
}

// grantLocal gives one of a managed HSM's own roles.
func (s *session) grantLocal(ctx context.Context, o *sdk.Officer, hsm, scope, role, principal string) error {
	role, principal, err := s.local(ctx, o, hsm, role, principal)
	if err != nil {
		return err
	}
	var as localAssignment
	as.Properties.Role, as.Properties.Principal = "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/"+role, principal
	path := localPath(scope, "roleAssignments/"+uuid.NewString()) + "?api-version=" + keysVersion
	if err := s.custody(ctx, o, hsm, http.MethodPut, path, as, &as); err != nil {
		return err
	}
	if s.output == "json" {
		return s.show(as, "", nil)
	}
	return s.done("%s has the role at %s of managed HSM %s.", nameOf(o, principal), as.Properties.Scope, hsm)
}

// revokeLocal takes it away, where it was given.
func (s *session) revokeLocal(ctx context.Context, o *sdk.Officer, hsm, scope, role, principal string) error {
	role, principal, err := s.local(ctx, o, hsm, role, principal)
	if err != nil {
		return err
	}
	var answer struct{ Value []localAssignment }
	q := url.Values{"api-version": {keysVersion}, "$filter": {"principalId eq '" + principal + "'"}}
	if err := s.custody(ctx, o, hsm, http.MethodGet, localPath(scope, "roleAssignments")+"?"+q.Encode(), nil, &answer); err != nil {
		return err
	}
	n := 0
	for _, as := range answer.Value {
		if !strings.EqualFold(as.Properties.Scope, scope) || !strings.HasSuffix(strings.ToLower(as.Properties.Role), strings.ToLower(role)) {
			continue
		}
		if err := s.custody(ctx, o, hsm, http.MethodDelete, localPath(scope, "roleAssignments/"+as.Name)+"?api-version="+keysVersion, nil, nil); err != nil {
			return err
		}
		n++
	}
	if n == 0 {
		return fmt.Errorf("%s has no such role at %s itself; it may have one above", nameOf(o, principal), scope)
	}
	return s.done("%s has the role at %s of managed HSM %s no more.", nameOf(o, principal), scope, hsm)
}

// localRoleCommand makes a command that gives or takes a role at a whole managed
// HSM, or at all its keys.
func localRoleCommand(use, short string, run func(s *session, ctx context.Context, o *sdk.Officer, hsm, scope, role, principal string) error) func(*session) *cobra.Command {
	return func(s *session) *cobra.Command {
		var principal string
		var keys bool
		c := &cobra.Command{
			Use:   use + " NAME ROLE",
			Short: short,
			Args:  cobra.ExactArgs(2),
			RunE: s.asOfficer(func(ctx context.Context, o *sdk.Officer, args []string) error {
				s.hsm = true
				scope := "/"
				if keys {
					scope = "/keys"
				}
				principal = cmp.Or(principal, o.Target().Principals[s.as].ObjectID)
				return run(s, ctx, o, args[0], scope, args[1], principal)
			}),
		}
		c.Flags().StringVar(&principal, "principal", "", "object `ID` of a principal; you if none is named")
		c.Flags().BoolVar(&keys, "keys", false, "at the HSM's keys only")
		return c
	}
}

var (
	hsmGrant  = localRoleCommand("grant", "Give one of a managed HSM's own roles, such as 'Crypto User'", (*session).grantLocal)
	hsmRevoke = localRoleCommand("revoke", "Take such a role away", (*session).revokeLocal)
)
