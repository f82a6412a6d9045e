package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/google/uuid"
)

// canaryPause is how long to wait before the canary is looked at again.
const canaryPause = 20 * time.Millisecond

// furnish makes the canary: a key, and a workspace under it.
func (d *drillRun) furnish(ctx context.Context) (clean func(context.Context) error, err error) {
	var undo []func(context.Context) error
	clean = func(ctx context.Context) (err error) {
		for _, u := range slices.Backward(undo) {
			err = errors.Join(err, u(ctx))
		}
		return err
	}
	name := "kluis-drill-" + uuid.NewString()[:8]
	d.key.Name = name
	if d.key.Client, err = d.o.Keys(d.o.Target().VaultURI(d.vault)); err != nil {
		return clean, err
	}
	made, err := d.key.Client.CreateKey(ctx, name, azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeRSA), KeySize: to.Ptr[int32](2048)}, nil)
	if err != nil {
		return clean, err
	}
	undo = append(undo, func(ctx context.Context) error {
		_, err := d.key.Client.DeleteKey(ctx, name, nil)
		return err
	})
	scope, err := roleScope(ctx, d.o, d.resources, keyRef{vault: d.vault, name: name})
	if err != nil {
		return clean, err
	}
	grant := uuid.NewString()
	if _, err := d.o.Roles.Create(ctx, scope, grant, armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{
		RoleDefinitionID: to.Ptr("/subscriptions/" + d.o.Target().SubscriptionID + "/providers/Microsoft.Authorization/roleDefinitions/" + encryptionUser),
		PrincipalID:      to.Ptr(d.o.Target().Platform.ObjectID), PrincipalType: to.Ptr(armauthorization.PrincipalTypeServicePrincipal),
	}}, nil); err != nil {
		return clean, err
	}
	undo = append(undo, func(ctx context.Context) error {
		_, err := d.o.Roles.Delete(ctx, scope, grant, nil)
		return err
	})

	f := d.e.Fabric
	if d.workspace, err = d.make(ctx, "/workspaces", map[string]string{"displayName": name, "description": "A revocation drill; it may be deleted."}); err != nil {
		return clean, err
	}
	undo = append(undo, func(ctx context.Context) error { return f.Call(ctx, "DELETE", "/workspaces/"+d.workspace, nil, nil) })
	items := "/workspaces/" + d.workspace + "/items"
	if d.lakehouse, err = d.make(ctx, items, map[string]string{"displayName": "canary", "type": "Lakehouse"}); err != nil {
		return clean, err
	}
	if d.notebook, err = d.make(ctx, items, map[string]string{"displayName": "lost", "type": "Notebook"}); err != nil {
		return clean, err
	}
	if err := f.Call(ctx, "DELETE", items+"/"+d.notebook, nil, nil); err != nil {
		return clean, err
	}
	if err := d.place(ctx); err != nil {
		return clean, err
	}
	if err := f.Call(ctx, "POST", "/workspaces/"+d.workspace+"/encryption/assign", map[string]string{"keyIdentifier": versionless(*made.Key.KID)}, nil); err != nil {
		return clean, err
	}
	deadline := time.Now().Add(d.patience)
	for {
		st, err := f.Encryption(ctx, d.workspace)
		if err != nil || st.Detail.Status == "Active" {
			return clean, err
		}
		if time.Now().After(deadline) {
			return clean, fmt.Errorf("the canary workspace does not come under its key: it is %s", st.Detail.Status)
		}
		time.Sleep(canaryPause)
	}
}

func (d *drillRun) make(ctx context.Context, path string, body any) (id string, err error) {
	var made map[string]any
	err = d.e.Fabric.Call(ctx, "POST", path, body, &made)
	return text(made, "id"), err
}

// place puts the file there that is read.
func (d *drillRun) place(ctx context.Context) error {
	d.probe = d.lakehouse + "/Files/kluis-drill-" + uuid.NewString()[:8]
	return d.write(ctx)
}

func (d *drillRun) write(ctx context.Context) error {
	_, err := d.e.Blobs.UploadBuffer(ctx, d.workspace, d.probe, []byte("drill"), nil)
	return err
}
