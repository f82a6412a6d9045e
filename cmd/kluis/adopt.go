package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// An adoption is what a tenant with a directory elsewhere gets in this installation.
type adoption struct {
	tenant       identity.TenantID
	subscription string // of its storage accounts; none if empty
	admin        identity.PrincipalID
	given        []gift
}

// A gift is a role of somebody's beside the administrator.
type gift struct {
	role string // its name
	to   identity.PrincipalID
}

func tenantAdoptCommand() *cobra.Command {
	var tenant, admin, subscription string
	var give []string
	cmd := &cobra.Command{
		Use:   "adopt",
		Short: "Give a tenant with a directory of its own its first people here",
		Long: `Give a tenant its first administrator on the platform, and of governance, where the
tenant's directory is not this installation's: its tokens come from an issuer that the
configuration names under "issuers". The server must not run meanwhile.

With --subscription the tenant has storage accounts, in the subscription of this id,
and its administrator is Contributor and Role Based Access Control Administrator there.
--give lets others have roles from the start, by the roles' names: at the platform
those of the tenant (Workspace Creator, Auditor, …) and of the subscription (Reader,
…), at governance its own. It may be repeated, and so may the command.

  kluis tenant adopt --tenant TENANT --admin ID --give 'Workspace Creator=ID' --give Auditor=ID

Governance adopts the one tenant that "posture.tenant" names.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(cmd)
			if err != nil {
				return err
			}
			var a adoption
			if a.tenant, err = identity.ParseTenantID(tenant); err != nil {
				return usageError{fmt.Errorf("--tenant: %w", err)}
			}
			if a.admin, err = identity.ParsePrincipalID(admin); err != nil {
				return usageError{fmt.Errorf("--admin: %w", err)}
			}
			if subscription != "" {
				id, err := uuid.Parse(subscription)
				if err != nil {
					return usageError{fmt.Errorf("--subscription: %w", err)}
				}
				a.subscription = id.String()
			}
			for _, g := range give {
				role, to, _ := strings.Cut(g, "=")
				id, err := identity.ParsePrincipalID(to)
				if err != nil {
					return usageError{fmt.Errorf("--give takes ROLE=OBJECT-ID: %w", err)}
				}
				a.given = append(a.given, gift{role, id})
			}
			return a.carryOut(cmd.Context(), c)
		},
	}
	addFlags(cmd.Flags())
	cmd.Flags().StringVar(&tenant, "tenant", "", "the tenant's `ID`")
	cmd.Flags().StringVar(&admin, "admin", "", "the object `ID` of its administrator")
	cmd.Flags().StringVar(&subscription, "subscription", "", "the `ID` of the subscription in which its storage accounts lie (default none)")
	cmd.Flags().StringArrayVar(&give, "give", nil, "give somebody else a role too: `ROLE=OBJECT-ID`")
	cmd.MarkFlagRequired("tenant")
	cmd.MarkFlagRequired("admin")
	return cmd
}

// carryOut gives the tenant what it gets, in a data directory that nobody serves.
func (a adoption) carryOut(ctx context.Context, c Config) (err error) {
	s := &server{config: c, port: "443"}
	defer func() {
		if e := s.stop(); err == nil {
			err = e
		}
	}()
	if err := s.openData(ctx); err != nil {
		return err
	}
	if err := s.wire(ctx, &router{domain: c.Domain}); err != nil {
		return err
	}
	watches := s.records != nil && s.records.Tenant == a.tenant
	if s.workspaces == nil && !watches {
		return fmt.Errorf("%s holds no platform, and no governance for this tenant: posture.tenant names the one that it is for", c.Data)
	}
	if a.subscription != "" && s.workspaces == nil {
		return usageError{fmt.Errorf("--subscription: storage accounts are the platform's, and %s holds none", c.Data)}
	}
	tenant, subscription, watch, err := a.roles(watches)
	if err != nil {
		return err
	}
	if s.workspaces != nil {
		if err := s.workspaces.Provision(ctx, a.tenant, tenant...); err != nil {
			return err
		}
	}
	if watches {
		if err := s.records.Provision(ctx, watch...); err != nil {
			return err
		}
	}
	if a.subscription == "" {
		return nil
	}
	if err := s.accounts.Provision(ctx, a.tenant, subscription...); err != nil {
		return err
	}
	// Last: what a crash leaves behind is roles at a subscription that is not there.
	if s.identity.Adopted == nil {
		s.identity.Adopted = map[identity.TenantID]string{}
	}
	s.identity.Adopted[a.tenant] = a.subscription
	return writeJSON(filepath.Join(c.Data, instanceFile), s.identity)
}

// roles returns the assignments of the tenant, at its subscription, and of governance, if
// that watches for it.
func (a adoption) roles(watches bool) (tenant, subscription, watch []rbac.Assignment, err error) {
	at := rbac.Scope("/subscriptions/" + a.subscription)
	tenant = assignments(a.admin, "/", rbac.TenantAdministrator, rbac.WorkspaceCreator)
	subscription = assignments(a.admin, at, rbac.Contributor, rbac.RoleBasedAccessControlAdmin)
	watch = assignments(a.admin, "/", rbac.GovernanceOfficer)
	administrator, _ := rbac.PlatformRoles.Lookup(rbac.TenantAdministrator)
	for _, g := range a.given {
		if d, ok := rbac.PlatformRoles.Named(g.role); ok && slices.Contains(administrator.Grants, d.ID) {
			tenant = append(tenant, assignments(g.to, "/", d.ID)...)
		} else if d, ok := rbac.AccountRoles.Named(g.role); ok && a.subscription != "" {
			subscription = append(subscription, assignments(g.to, at, d.ID)...)
		} else if d, ok := rbac.GovernanceRoles.Named(g.role); ok && watches {
			watch = append(watch, assignments(g.to, "/", d.ID)...)
		} else {
			return nil, nil, nil, usageError{fmt.Errorf("--give: no role of the tenant, of its subscription or of governance is called %q here", g.role)}
		}
	}
	return tenant, subscription, watch, nil
}
