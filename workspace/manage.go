package workspace

import (
	"context"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/failpoint"
	"github.com/kluis-io/kluis/rbac"
)

// descriptionPurpose is that of a workspace's description, sealed under the
// content key of its [encryption.ScopeItem].
const descriptionPurpose = "kluis/v1/description"

var scopeMade = failpoint.New("workspace/create/scope-made")

// A NewWorkspace says what workspace to create.
type NewWorkspace struct {
	DisplayName string
	Description string
	Capacity    CapacityID // the default one if ""
	Domain      DomainID   // "" for none
}

// A Change says what to change of a workspace or an item; what is nil stays.
type Change struct {
	DisplayName *string
	Description *string
}

// Create makes a workspace in the caller's tenant. The caller becomes its admin.
func (w *Workspaces) Create(ctx context.Context, c identity.Caller, n NewWorkspace) (Workspace, error) {
	row := WorkspaceRow{
		ID: encryption.ScopeID(uuid.NewString()), Tenant: c.Tenant, Name: n.DisplayName, Canonical: Canonical(n.DisplayName),
		Capacity: w.capacities[0].ID, Domain: n.Domain, Created: w.time(),
	}
	e := c.Entry("CreateWorkspace", resourceOf(row.ID))
	check := func(tx Tx) error {
		if err := w.permitTenant(tx, c, rbac.WorkspacesCreate); err != nil {
			return err
		}
		if err := checkWorkspaceName(n.DisplayName); err != nil {
			return err
		}
		if n.Capacity != "" {
			k, err := w.capacity(n.Capacity)
			if err != nil {
				return err
			}
			row.Capacity = k.ID
		}
		if n.Domain != "" {
			if _, err := tenantDomain(tx, c.Tenant, n.Domain); err != nil {
				return err
			}
		}
		_, err := tx.WorkspaceNamed(c.Tenant, row.Canonical)
		switch {
		case err == nil:
			return ErrNameTaken
		case fault.ReasonOf(err) != fault.WorkspaceNotFound:
			return err
		}
		return checkDescription(n.Description)
	}
	if err := w.store.View(ctx, check); err != nil {
		return Workspace{}, w.record(ctx, e, err)
	}
	keys, err := w.keys.NewScope(row.ID, c.Tenant)
	if err != nil {
		return Workspace{}, w.record(ctx, e, err)
	}
	made := false
	if n.Description != "" {
		// The description is sealed under the scope's own key, which has to be there
		// first. Until the workspace is, nothing names the scope and nobody sees it.
		if made, err = w.sealFirst(ctx, keys, &row, n.Description); err != nil {
			w.unmake(ctx, row.ID, made)
			return Workspace{}, w.record(ctx, e, err)
		}
	}
	err = w.write(ctx, e, func(tx Tx) error {
		if err := check(tx); err != nil {
			return err
		}
		if !made {
			if err := keys.Insert(tx); err != nil {
				return err
			}
		}
		list, err := firstList(tx, row.ID)
		if err != nil {
			return err
		}
		if err := tx.InsertWorkspace(row); err != nil {
			return err
		}
		if err := tx.PutItemList(list); err != nil {
			return err
		}
		return tx.PutRoleAssignment(rbac.Assignment{
			ID: uuid.NewString(), Tenant: c.Tenant, Principal: c.Principal, PrincipalType: c.Type,
			Role: rbac.WorkspaceAdmin, Scope: scopeOf(row.ID), Created: row.Created, CreatedBy: c.Principal,
		})
	})
	if err != nil {
		w.unmake(ctx, row.ID, made)
		return Workspace{}, err
	}
	ws := row.public()
	ws.Description = n.Description
	return ws, nil
}

// ErrNameTaken says that the tenant has a workspace of that name.
var ErrNameTaken = fault.New(fault.WorkspaceNameTaken, "The tenant has a workspace of that name, in this or another case.")

func (w *Workspaces) sealFirst(ctx context.Context, keys *encryption.ScopeKeys, row *WorkspaceRow, description string) (made bool, err error) {
	if err := w.store.Update(ctx, func(tx Tx) error { return keys.Insert(tx) }); err != nil {
		return false, err
	}
	if err := scopeMade.Hit(); err != nil {
		return true, err
	}
	u, err := w.keys.Use(ctx, row.ID)
	if err != nil {
		return true, err
	}
	return true, sealDescription(ctx, u, row, description)
}

// unmake removes the keys of a workspace that did not come to be. What a crash
// leaves of them protects nothing.
func (w *Workspaces) unmake(ctx context.Context, id encryption.ScopeID, made bool) {
	if !made {
		return
	}
	w.store.Update(context.WithoutCancel(ctx), func(tx Tx) error {
		if err := tx.DeleteItemKeys(encryption.ScopeItem(id)); err != nil {
			return err
		}
		return tx.DeleteScope(id)
	})
}

// firstList returns the list row of a new workspace, under the names key that its
// scope was made with.
func firstList(tx Tx, ws encryption.ScopeID) (List, error) {
	l := List{Workspace: ws, Salt: newSalt()}
	keys, err := tx.ItemKeys(encryption.ScopeItem(ws))
	for _, k := range keys {
		if k.Purpose == encryption.NamesKey && k.State == encryption.Current {
			l.Key = k.ID
		}
	}
	if err == nil && l.Key == "" {
		err = fault.New(fault.Internal, "The new scope has no names key.")
	}
	return l, err
}

func sealDescription(ctx context.Context, u *encryption.Use, row *WorkspaceRow, description string) error {
	if description == "" {
		row.DescriptionKey, row.Description = "", nil
		return nil
	}
	k, err := u.Current(ctx, encryption.ScopeItem(row.ID), encryption.ContentKey)
	if err != nil {
		return err
	}
	row.DescriptionKey = k.ID()
	row.Description, err = k.Seal([]byte(description), descriptionPurpose)
	return err
}

func openDescription(ctx context.Context, u *encryption.Use, row WorkspaceRow) (string, error) {
	k, err := u.Key(ctx, encryption.ScopeItem(row.ID), row.DescriptionKey)
	if err != nil {
		return "", err
	}
	plain, err := k.Open(row.Description, descriptionPurpose)
	return string(plain), err
}

// public returns what of a workspace needs no key.
func (r WorkspaceRow) public() Workspace {
	return Workspace{
		ID: r.ID, Tenant: r.Tenant, DisplayName: r.Name, Capacity: r.Capacity, Domain: r.Domain, Label: r.Label, Created: r.Created,
	}
}

// describe returns the workspace with its description or, if the scope's keys
// cannot be used, with the reason. A workspace can be looked at while it is
// revoked: how else would one see that it is.
func (w *Workspaces) describe(ctx context.Context, row WorkspaceRow) Workspace {
	ws := row.public()
	if len(row.Description) == 0 {
		return ws
	}
	ws.Unreadable = fault.ReasonOf(again(ctx, func() error {
		u, err := w.keys.Use(ctx, row.ID)
		if err != nil {
			return err
		}
		key := row.DescriptionKey
		if ws.Description, err = openDescription(ctx, u, row); err == nil {
			return nil
		}
		// Re-encryption may have dropped the key since the row was read.
		view := w.store.View(ctx, func(tx Tx) (err error) {
			row, err = tx.Workspace(row.ID)
			return err
		})
		if view == nil && row.DescriptionKey != key && len(row.Description) > 0 {
			return errMoved()
		}
		return err
	}))
	return ws
}

// Get returns a workspace.
func (w *Workspaces) Get(ctx context.Context, c identity.Caller, id encryption.ScopeID) (Workspace, error) {
	var row WorkspaceRow
	err := w.read(ctx, c, "GetWorkspace", resourceOf(id), func(tx Tx) (err error) {
		row, err = w.permit(tx, c, rbac.WorkspacesRead, id)
		return err
	})
	if err != nil {
		return Workspace{}, err
	}
	return w.describe(ctx, row), nil
}

// Update changes a workspace's name or description. A new name needs no key.
func (w *Workspaces) Update(ctx context.Context, c identity.Caller, id encryption.ScopeID, ch Change) (Workspace, error) {
	e := c.Entry("UpdateWorkspace", resourceOf(id))
	var row WorkspaceRow
	err := again(ctx, func() error {
		err := w.store.View(ctx, func(tx Tx) (err error) {
			if _, err = w.permit(tx, c, rbac.WorkspacesWrite, id); err != nil {
				return err
			}
			return ch.check(checkWorkspaceName)
		})
		if err != nil {
			return err
		}
		var u *encryption.Use
		sealed := WorkspaceRow{ID: id}
		if ch.Description != nil && *ch.Description != "" {
			if u, err = w.keys.Use(ctx, id); err != nil {
				return err
			}
			if err := sealDescription(ctx, u, &sealed, *ch.Description); err != nil {
				return err
			}
		}
		return w.update(ctx, e, func(tx Tx) (err error) {
			if row, err = w.permit(tx, c, rbac.WorkspacesWrite, id); err != nil {
				return err
			}
			if ch.DisplayName != nil {
				row.Name, row.Canonical = *ch.DisplayName, Canonical(*ch.DisplayName)
			}
			if ch.Description != nil {
				row.DescriptionKey, row.Description = sealed.DescriptionKey, sealed.Description
			}
			if u != nil {
				if err := u.Confirm(tx, row.DescriptionKey); err != nil {
					return err
				}
			}
			return tx.UpdateWorkspace(row)
		})
	})
	if err != nil {
		return Workspace{}, w.record(ctx, e, err)
	}
	return w.describe(ctx, row), nil
}

func (ch Change) check(name func(string) error) error {
	if ch.DisplayName != nil {
		if err := name(*ch.DisplayName); err != nil {
			return err
		}
	}
	if ch.Description != nil {
		return checkDescription(*ch.Description)
	}
	return nil
}

// MayCreate reports whether the caller may make workspaces: for programs that show people
// what they can do. It protects nothing, and a failure to tell is a no.
func (w *Workspaces) MayCreate(ctx context.Context, c identity.Caller) bool {
	return w.store.View(ctx, func(tx Tx) error { return w.permitTenant(tx, c, rbac.WorkspacesCreate) }) == nil
}
