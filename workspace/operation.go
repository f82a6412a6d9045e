package workspace

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// An OperationID is the id of a long-running operation, a UUID.
type OperationID string

// An OperationKind says what an operation does.
type OperationKind string

// The kinds of operations.
const (
	CreatingItem       OperationKind = "CreateItem"
	GettingDefinition  OperationKind = "GetItemDefinition"
	UpdatingDefinition OperationKind = "UpdateItemDefinition"
	RotatingScopeKey   OperationKind = "RotateWorkspaceEncryption"
)

// An Operation is something that its caller does not wait for. It holds what was
// asked for and whether it is done, never what came of it: a result is read where it
// lies, with the reader's rights at that moment and under its own keys.
type Operation struct {
	ID         OperationID
	Tenant     identity.TenantID
	Principal  identity.PrincipalID
	Kind       OperationKind
	Workspace  encryption.ScopeID
	Item       encryption.ItemID
	Generation int64 // of the scope's key that it waits for, 0 for none
	Created    time.Time
	Ended      time.Time    // zero while it runs
	Failure    fault.Reason // "" for none
}

// operationLife is after which time an operation is forgotten.
const operationLife = 24 * time.Hour

// Operate runs an act and, if it succeeds, remembers it as an operation of the
// caller's, which goes on if the act names a generation that it waits for. The act
// authorises and audits itself; an operation gives no right to anything. A crash
// after the act leaves it done, and no operation that was ever told to anybody.
func (w *Workspaces) Operate(ctx context.Context, c identity.Caller, kind OperationKind, ws encryption.ScopeID, act func(*Operation) error) (Operation, error) {
	o := Operation{
		ID: OperationID(uuid.NewString()), Tenant: c.Tenant, Principal: c.Principal, Kind: kind, Workspace: ws, Created: w.time(),
	}
	if err := act(&o); err != nil {
		return o, err
	}
	if o.Generation == 0 {
		o.Ended = w.time()
	}
	return o, w.store.Update(context.WithoutCancel(ctx), func(tx Tx) error { return tx.PutOperation(o) })
}

// Operation returns an operation of the caller's own: nobody else's exists for him.
func (w *Workspaces) Operation(ctx context.Context, c identity.Caller, id OperationID) (o Operation, err error) {
	err = w.read(ctx, c, "GetOperation", "/operations/"+known(string(id)), func(tx Tx) error {
		if o, err = tx.Operation(id); err != nil {
			return err
		}
		if o.Tenant != c.Tenant || o.Principal != c.Principal {
			return fault.New(fault.OperationNotFound, "There is no such operation.").About(string(id))
		}
		return nil
	})
	return o, err
}
