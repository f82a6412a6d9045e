package workspace

import (
	"context"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// Provision gives a tenant's first roles on the platform, as configuration says
// and nobody's token: whoever holds them gives all others. It may be repeated; a
// role that was since taken away is given again, so a server calls it when it
// makes its data directory and not at each start.
func (w *Workspaces) Provision(ctx context.Context, tenant identity.TenantID, first ...rbac.Assignment) error {
	e := identity.Caller{Tenant: tenant}.Entry("ProvisionTenant", "/tenants/"+known(string(tenant)))
	return w.write(ctx, e, func(tx Tx) error {
		for _, a := range first {
			a.ID, a.Tenant, a.Created = uuid.NewString(), tenant, w.time()
			if err := tx.PutRoleAssignment(a); err != nil && fault.ReasonOf(err) != fault.RoleAssignmentExists {
				return err
			}
			e := e
			e.Operation, e.Resource = "AddRoleAssignment", "/roleAssignments/"+a.ID
			e.Detail = map[string]string{"principal": string(a.Principal), "role": string(a.Role)}
			if err := tx.AppendAudit(e); err != nil {
				return err
			}
		}
		return nil
	})
}
