package workspace

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A LabelID is the id of a classification label, a UUID.
type LabelID string

// A Label classifies what carries it: a domain, a workspace or an item. One that
// requires a customer's key keeps new items out of workspaces without one, and such
// workspaces from being reset.
type Label struct {
	ID          LabelID
	Tenant      identity.TenantID
	Name        string
	RequiresCMK bool
	Created     time.Time
}

// A DomainID is the id of a domain, a UUID.
type DomainID string

// A Domain groups workspaces; its label counts for all of them.
type Domain struct {
	ID          DomainID
	Tenant      identity.TenantID
	Name        string
	Description string
	Label       LabelID // "" for none
	Created     time.Time
}

// tenantLabel returns one of the tenant's labels.
func tenantLabel(tx LabelTx, tenant identity.TenantID, id LabelID) (Label, error) {
	l, err := tx.Label(id)
	if fault.ReasonOf(err) == fault.NotFound || err == nil && l.Tenant != tenant {
		return Label{}, fault.New(fault.NotFound, "There is no such label.").About(subject(string(id)))
	}
	return l, err
}

// tenantDomain returns one of the tenant's domains.
func tenantDomain(tx LabelTx, tenant identity.TenantID, id DomainID) (Domain, error) {
	d, err := tx.Domain(id)
	if fault.ReasonOf(err) == fault.NotFound || err == nil && d.Tenant != tenant {
		return Domain{}, fault.New(fault.NotFound, "There is no such domain.").About(subject(string(id)))
	}
	return d, err
}

// requiring returns the first of the labels that requires a customer's key.
func requiring(tx LabelTx, labels ...LabelID) (Label, bool, error) {
	for _, id := range labels {
		if id == "" {
			continue
		}
		l, err := tx.Label(id)
		if err != nil || l.RequiresCMK {
			return l, err == nil, err
		}
	}
	return Label{}, false, nil
}

// workspaceLabels returns the labels that count for a workspace as a whole.
func workspaceLabels(tx LabelTx, ws WorkspaceRow) ([]LabelID, error) {
	labels := []LabelID{ws.Label}
	if ws.Domain != "" {
		d, err := tx.Domain(ws.Domain)
		if err != nil {
			return nil, err
		}
		labels = append(labels, d.Label)
	}
	return labels, nil
}

// mayBeUnmanaged refuses what a label wants under a customer's key, in a workspace
// that is under none.
func mayBeUnmanaged(tx LabelTx, ws WorkspaceRow, more ...LabelID) error {
	labels, err := workspaceLabels(tx, ws)
	if err != nil {
		return err
	}
	l, found, err := requiring(tx, append(labels, more...)...)
	if err == nil && found {
		err = fault.New(fault.EncryptionBlocked, "The label "+l.Name+" requires a customer-managed key, and the workspace is under none.").
			About(string(ws.ID)).WithMend("Assign a key to the workspace first.")
	}
	return err
}

// managedOrEmpty refuses labels on a workspace that holds items and is under no
// customer's key, if one of the labels requires that.
func managedOrEmpty(tx Tx, ws WorkspaceRow, labels ...LabelID) error {
	managed, _, err := underCustomersKey(tx, ws.ID)
	if err != nil || managed {
		return err
	}
	if items, err := tx.ItemEntries(ws.ID, "", "", 1); err != nil || len(items) == 0 {
		return err
	}
	return mayBeUnmanaged(tx, WorkspaceRow{ID: ws.ID}, labels...)
}

// Blockers implements [encryption.Guard]: what capacities and labels have against
// putting a workspace under a customer's key, or taking it back. Of a scope that is none
// they have nothing.
func (w *Workspaces) Blockers(etx encryption.Tx, s encryption.Scope, to encryption.Mode) (all []*fault.Error, err error) {
	if s.Path != "" {
		return nil, nil
	}
	tx, ok := etx.(Tx)
	if !ok {
		return nil, fault.New(fault.Internal, "The transaction is not one of this package's store.")
	}
	row, err := tx.Workspace(s.ID)
	if err != nil || row.Deleted {
		return nil, err // which only needs its keys to be deleted
	}
	if to == encryption.CustomerManaged {
		k, err := w.capacity(row.Capacity)
		if err != nil {
			return []*fault.Error{fault.New(fault.EncryptionBlocked, "The workspace's capacity does not exist any more.").
				About(string(row.Capacity)).WithMend("Assign the workspace to another capacity.")}, nil
		}
		if e := w.forKeys(k); e != nil {
			all = append(all, e)
		}
		return all, nil
	}
	labels, err := workspaceLabels(tx, row)
	if err != nil {
		return nil, err
	}
	ofItems, err := tx.ItemLabels(s.ID)
	if err != nil {
		return nil, err
	}
	l, found, err := requiring(tx, append(labels, ofItems...)...)
	if found {
		all = append(all, fault.New(fault.EncryptionBlocked, "The label "+l.Name+" on the workspace, its domain or one of its items requires a customer-managed key.").
			About(string(l.ID)).WithMend("Have an administrator take the label away first."))
	}
	return all, err
}

// Labels returns the caller's tenant's labels. Everybody of the tenant may know
// them.
func (w *Workspaces) Labels(ctx context.Context, c identity.Caller) (all []Label, err error) {
	err = w.read(ctx, c, "ListLabels", "/labels", func(tx Tx) (err error) {
		all, err = tx.TenantLabels(c.Tenant)
		return err
	})
	return all, err
}

// PutLabel makes a label, or changes the one of that id, and returns it.
func (w *Workspaces) PutLabel(ctx context.Context, c identity.Caller, l Label) (Label, error) {
	operation := "UpdateLabel"
	made := l.ID == ""
	if made {
		operation, l.ID = "CreateLabel", LabelID(uuid.NewString())
	}
	l.Tenant, l.Created = c.Tenant, w.time()
	return l, w.write(ctx, c.Entry(operation, "/labels/"+known(string(l.ID))), func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.TenantSettingsWrite); err != nil {
			return err
		}
		if err := checkName(l.Name); err != nil {
			return err
		}
		if !made {
			was, err := tenantLabel(tx, c.Tenant, l.ID)
			if err != nil {
				return err
			}
			if l.Created = was.Created; l.RequiresCMK && !was.RequiresCMK {
				if used, err := tx.LabelUsed(l.ID); err != nil || used {
					return inUse(err, "The label is in use, and cannot begin to require a customer-managed key.", "Make another label, and move to it.")
				}
			}
		}
		return tx.PutLabel(l)
	})
}

func inUse(err error, detail, mend string) error {
	if err != nil {
		return err
	}
	return fault.New(fault.Conflict, detail).WithMend(mend)
}

// DeleteLabel removes a label that nothing carries.
func (w *Workspaces) DeleteLabel(ctx context.Context, c identity.Caller, id LabelID) error {
	return w.write(ctx, c.Entry("DeleteLabel", "/labels/"+known(string(id))), func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.TenantSettingsWrite); err != nil {
			return err
		}
		if _, err := tenantLabel(tx, c.Tenant, id); err != nil {
			return err
		}
		if used, err := tx.LabelUsed(id); err != nil || used {
			return inUse(err, "Something carries the label.", "Take it away there first.")
		}
		return tx.DeleteLabel(id)
	})
}

// relabel checks that the label may replace another: a label that requires a
// customer's key goes only with the consent of the tenant's administrator, since a
// workspace's own may reset the key once it is gone.
func (w *Workspaces) relabel(tx Tx, c identity.Caller, from, to LabelID) error {
	var next Label
	if to != "" {
		var err error
		if next, err = tenantLabel(tx, c.Tenant, to); err != nil {
			return err
		}
	}
	if _, requires, err := requiring(tx, from); err != nil || !requires || next.RequiresCMK {
		return err
	}
	return w.permitTenant(tx, c, rbac.TenantSettingsWrite)
}

// LabelWorkspace gives a workspace a label, or none if it is "".
func (w *Workspaces) LabelWorkspace(ctx context.Context, c identity.Caller, ws encryption.ScopeID, l LabelID) error {
	e := c.Entry("LabelWorkspace", resourceOf(ws))
	e.Detail = map[string]string{"label": known(string(l))}
	return w.write(ctx, e, func(tx Tx) error {
		row, err := w.permit(tx, c, rbac.WorkspacesWrite, ws)
		if fault.ReasonOf(err) == fault.Denied { // who governs labels may set one everywhere
			if err = w.permitTenant(tx, c, rbac.TenantSettingsWrite); err == nil {
				row, err = live(tx, c.Tenant, ws)
			}
		}
		if err != nil {
			return err
		}
		if err := w.relabel(tx, c, row.Label, l); err != nil {
			return err
		}
		if err := managedOrEmpty(tx, row, l); err != nil {
			return err
		}
		row.Label = l
		return tx.UpdateWorkspace(row)
	})
}

// LabelItem gives an item a label, or none if it is "".
func (w *Workspaces) LabelItem(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id encryption.ItemID, l LabelID) error {
	e := c.Entry("LabelItem", itemResource(ws, id))
	e.Detail = map[string]string{"label": known(string(l))}
	return w.write(ctx, e, func(tx Tx) error {
		if _, err := w.permit(tx, c, rbac.ItemsWrite, ws); err != nil {
			return err
		}
		entry, err := liveEntry(tx, ws, id)
		if err != nil {
			return err
		}
		if err := w.relabel(tx, c, entry.Label, l); err != nil {
			return err
		}
		managed, _, err := underCustomersKey(tx, ws)
		if err != nil {
			return err
		}
		if !managed {
			if err := mayBeUnmanaged(tx, WorkspaceRow{ID: ws}, l); err != nil {
				return err
			}
		}
		entry.Label = l
		return tx.UpdateItemEntry(entry, entry.Revision)
	})
}

// Domains returns the caller's tenant's domains. Everybody of the tenant may know
// them.
func (w *Workspaces) Domains(ctx context.Context, c identity.Caller) (all []Domain, err error) {
	err = w.read(ctx, c, "ListDomains", "/domains", func(tx Tx) (err error) {
		all, err = tx.TenantDomains(c.Tenant)
		return err
	})
	return all, err
}

// Domain returns one of them.
func (w *Workspaces) Domain(ctx context.Context, c identity.Caller, id DomainID) (d Domain, err error) {
	err = w.read(ctx, c, "GetDomain", "/domains/"+known(string(id)), func(tx Tx) (err error) {
		d, err = tenantDomain(tx, c.Tenant, id)
		return err
	})
	return d, err
}

// CreateDomain makes a domain.
func (w *Workspaces) CreateDomain(ctx context.Context, c identity.Caller, name, description string) (Domain, error) {
	d := Domain{ID: DomainID(uuid.NewString()), Tenant: c.Tenant, Name: name, Description: description, Created: w.time()}
	return d, w.write(ctx, c.Entry("CreateDomain", "/domains/"+string(d.ID)), func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.TenantSettingsWrite); err != nil {
			return err
		}
		return d.put(tx)
	})
}

func (d Domain) put(tx Tx) error {
	if err := checkName(d.Name); err != nil {
		return err
	}
	if err := checkDescription(d.Description); err != nil {
		return err
	}
	return tx.PutDomain(d)
}

// A DomainChange says what to change of a domain; what is nil stays.
type DomainChange struct {
	Change
	Label *LabelID // "" takes the label away
}

// UpdateDomain changes a domain.
func (w *Workspaces) UpdateDomain(ctx context.Context, c identity.Caller, id DomainID, ch DomainChange) (d Domain, err error) {
	err = w.write(ctx, c.Entry("UpdateDomain", "/domains/"+known(string(id))), func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.TenantSettingsWrite); err != nil {
			return err
		}
		if d, err = tenantDomain(tx, c.Tenant, id); err != nil {
			return err
		}
		if ch.DisplayName != nil {
			d.Name = *ch.DisplayName
		}
		if ch.Description != nil {
			d.Description = *ch.Description
		}
		if ch.Label != nil {
			if err := w.relabel(tx, c, d.Label, *ch.Label); err != nil {
				return err
			}
			d.Label = *ch.Label
			rows, err := tx.DomainWorkspaces(id)
			if err != nil {
				return err
			}
			for _, row := range rows {
				if err := managedOrEmpty(tx, row, d.Label); err != nil {
					return err
				}
			}
		}
		return d.put(tx)
	})
	return d, err
}

// DeleteDomain removes a domain. Its workspaces stay, in none.
func (w *Workspaces) DeleteDomain(ctx context.Context, c identity.Caller, id DomainID) error {
	return w.write(ctx, c.Entry("DeleteDomain", "/domains/"+known(string(id))), func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.TenantSettingsWrite); err != nil {
			return err
		}
		if _, err := tenantDomain(tx, c.Tenant, id); err != nil {
			return err
		}
		rows, err := tx.DomainWorkspaces(id)
		if err != nil {
			return err
		}
		for _, row := range rows {
			row.Domain = ""
			if err := tx.UpdateWorkspace(row); err != nil {
				return err
			}
		}
		return tx.DeleteDomain(id)
	})
}

// AssignToDomain puts workspaces into a domain, or out of any if id is "". It does
// all of them or none.
func (w *Workspaces) AssignToDomain(ctx context.Context, c identity.Caller, id DomainID, workspaces ...encryption.ScopeID) error {
	e := c.Entry("AssignWorkspacesToDomain", "/domains/"+known(string(id)))
	ids := make([]string, len(workspaces))
	for i, ws := range workspaces {
		ids[i] = known(string(ws))
	}
	e.Detail = map[string]string{"workspaces": strings.Join(ids, " ")}
	return w.write(ctx, e, func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.TenantSettingsWrite); err != nil {
			return err
		}
		var d Domain
		if id != "" {
			var err error
			if d, err = tenantDomain(tx, c.Tenant, id); err != nil {
				return err
			}
		}
		for _, ws := range workspaces {
			row, err := live(tx, c.Tenant, ws)
			if err != nil {
				return err
			}
			if err := managedOrEmpty(tx, row, d.Label); err != nil {
				return err
			}
			row.Domain = id
			if err := tx.UpdateWorkspace(row); err != nil {
				return err
			}
		}
		return nil
	})
}

// DomainWorkspaces returns the workspaces of a domain, without their descriptions.
func (w *Workspaces) DomainWorkspaces(ctx context.Context, c identity.Caller, id DomainID) (all []Workspace, err error) {
	err = w.read(ctx, c, "ListDomainWorkspaces", "/domains/"+known(string(id)), func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.WorkspacesRead); err != nil {
			return err
		}
		if _, err := tenantDomain(tx, c.Tenant, id); err != nil {
			return err
		}
		rows, err := tx.DomainWorkspaces(id)
		for _, r := range rows {
			all = append(all, r.public())
		}
		return err
	})
	return all, err
}
