package workspace

import (
	"context"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A CapacityID is the id of a capacity, a lower-case UUID.
type CapacityID string

// A Capacity is what workspaces run on: the operator's to name. The region says
// where, the SKU of which kind.
type Capacity struct {
	ID          CapacityID
	DisplayName string
	SKU         string
	Region      string
	State       string
}

// DefaultCapacity is the capacity of an installation whose operator names none.
var DefaultCapacity = Capacity{
	ID:          "6e5b5bb4-93e5-4b64-9a6c-5d1f1b0c2d01",
	DisplayName: "Default",
	SKU:         "F64",
	Region:      "West Europe",
	State:       "Active",
}

// SampleRegions are those that Fabric's own documentation named for customer-managed
// keys in May 2025; later editions name none:
// https://learn.microsoft.com/fabric/security/workspace-customer-managed-keys
var SampleRegions = []string{
	"East US", "Germany West Central", "North Central US", "North Europe", "South Central US",
	"Southeast Asia", "UAE North", "UK South", "West Europe", "West US",
}

// forKeys returns what stands against a workspace on the capacity being under a
// customer's key, or nil.
func (w *Workspaces) forKeys(k Capacity) *fault.Error {
	size, ok := strings.CutPrefix(k.SKU, "F")
	if !ok || strings.HasPrefix(size, "T") || size == "" { // FT1 is Fabric's trial
		return fault.New(fault.EncryptionBlocked, "The workspace's capacity is of SKU "+k.SKU+", and customer-managed keys need an F SKU that is no trial.").
			About(string(k.ID)).WithMend("Assign the workspace to a capacity with an F SKU.")
	}
	if !slices.Contains(w.regions, k.Region) {
		return fault.New(fault.EncryptionBlocked, "The workspace's capacity is in the region "+k.Region+", where customer-managed keys are not offered.").
			About(string(k.ID)).WithMend("Assign the workspace to a capacity in one of: " + strings.Join(w.regions, ", ") + ".")
	}
	return nil
}

// capacity returns the capacity of that id.
func (w *Workspaces) capacity(id CapacityID) (Capacity, error) {
	id = CapacityID(strings.ToLower(string(id)))
	for _, k := range w.capacities {
		if k.ID == id {
			return k, nil
		}
	}
	return Capacity{}, fault.New(fault.CapacityNotFound, "There is no such capacity.").About(subject(string(id)))
}

// CapacityOf returns what a workspace runs on; the zero Capacity if the operator has
// taken that away.
func (w *Workspaces) CapacityOf(ws Workspace) Capacity {
	k, _ := w.capacity(ws.Capacity)
	return k
}

// Capacities returns the capacities that the caller may see.
func (w *Workspaces) Capacities(ctx context.Context, c identity.Caller) ([]Capacity, error) {
	var seen []Capacity
	err := w.read(ctx, c, "ListCapacities", "/capacities", func(tx Tx) error {
		_, ok, err := rbac.Check(tx, w.roles, c, rbac.CapacitiesRead, false, "/")
		if ok {
			seen = slices.Clone(w.capacities)
		}
		return err
	})
	return seen, err
}

// AssignToCapacity moves a workspace to a capacity; to the default one if id is "".
// A workspace that is under a customer's key only goes where it may be.
func (w *Workspaces) AssignToCapacity(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id CapacityID) error {
	e := c.Entry("AssignWorkspaceToCapacity", resourceOf(ws))
	if id == "" {
		e.Operation = "UnassignWorkspaceFromCapacity"
	}
	return w.write(ctx, e, func(tx Tx) error {
		row, err := w.permit(tx, c, rbac.WorkspacesWrite, ws)
		if err != nil {
			return err
		}
		k := w.capacities[0]
		if id != "" {
			if err := w.permitTenant(tx, c, rbac.CapacitiesRead); err != nil {
				return err
			}
			if k, err = w.capacity(id); err != nil {
				return err
			}
		}
		managed, _, err := underCustomersKey(tx, ws)
		if err != nil {
			return err
		}
		if blocked := w.forKeys(k); managed && blocked != nil {
			return blocked
		}
		row.Capacity = k.ID
		return tx.UpdateWorkspace(row)
	})
}
