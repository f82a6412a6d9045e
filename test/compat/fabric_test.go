package compat

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/microsoft/fabric-sdk-go/fabric/admin"
	"github.com/microsoft/fabric-sdk-go/fabric/core"
	"github.com/microsoft/fabric-sdk-go/fabric/lakehouse"
	"github.com/microsoft/fabric-sdk-go/fabric/notebook"
)

// notebookPart is a notebook's one file, print().
var notebookPart = core.ItemDefinitionPart{
	Path: to.Ptr("notebook-content.py"), Payload: to.Ptr("cHJpbnQoKQ=="), PayloadType: to.Ptr(core.PayloadTypeInlineBase64),
}

// refusal demands that an error is one of Fabric's, with the code.
func refusal(t *testing.T, err error, status int, code string) {
	t.Helper()
	var re *core.ResponseError
	if !errors.As(err, &re) || re.StatusCode != status || re.ErrorCode != code {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}

// TestFabric walks through the control plane as a Go program written for Fabric
// would.
func TestFabric(t *testing.T) {
	k := serve(t)
	ctx := t.Context()
	engineer := core.NewClientFactoryWithClient(k.fabric(t, "engineer"))
	workspaces, items := engineer.NewWorkspacesClient(), engineer.NewItemsClient()

	made, err := workspaces.CreateWorkspace(ctx, core.CreateWorkspaceRequest{DisplayName: to.Ptr("Sales"), Description: to.Ptr("orders")}, nil)
	must(t, err)
	ws := *made.ID
	_, err = workspaces.CreateWorkspace(ctx, core.CreateWorkspaceRequest{DisplayName: to.Ptr("sales")}, nil)
	refusal(t, err, http.StatusConflict, "WorkspaceNameAlreadyExists")

	t.Run("workspaces", func(t *testing.T) {
		_, err := workspaces.UpdateWorkspace(ctx, ws, core.UpdateWorkspaceRequest{DisplayName: to.Ptr("Sales 2")}, nil)
		must(t, err)
		got, err := workspaces.GetWorkspace(ctx, ws, nil)
		must(t, err)
		if *got.DisplayName != "Sales 2" || *got.Description != "orders" || *got.Type != core.WorkspaceTypeWorkspace || *got.OneLakeEndpoints.DfsEndpoint != k.Endpoints["dfs"] {
			t.Errorf("got %+v", got.WorkspaceInfo)
		}
		for role, n := range map[string]int{"Admin": 1, "Admin,Member": 1, "Viewer": 0} {
			list, err := workspaces.ListWorkspaces(ctx, &core.WorkspacesClientListWorkspacesOptions{Roles: to.Ptr(role)})
			must(t, err)
			if len(list) != n {
				t.Errorf("%d workspaces as %s, want %d", len(list), role, n)
			}
		}
		_, err = workspaces.GetWorkspace(ctx, "00000000-0000-4000-8000-00000000dead", nil)
		refusal(t, err, http.StatusNotFound, "WorkspaceNotFound")
	})

	t.Run("roles", func(t *testing.T) {
		auditor := core.Principal{ID: to.Ptr(k.Principals["auditor"].ObjectID), Type: to.Ptr(core.PrincipalTypeServicePrincipal)}
		added, err := workspaces.AddWorkspaceRoleAssignment(ctx, ws, core.AddWorkspaceRoleAssignmentRequest{Principal: &auditor, Role: to.Ptr(core.WorkspaceRoleViewer)}, nil)
		must(t, err)
		changed, err := workspaces.UpdateWorkspaceRoleAssignment(ctx, ws, *added.ID, core.UpdateWorkspaceRoleAssignmentRequest{Role: to.Ptr(core.WorkspaceRoleMember)}, nil)
		must(t, err)
		all, err := workspaces.ListWorkspaceRoleAssignments(ctx, ws, nil)
		must(t, err)
		if *changed.Role != core.WorkspaceRoleMember || len(all) != 2 {
			t.Errorf("%s, %d assignments", *changed.Role, len(all))
		}
		_, err = workspaces.DeleteWorkspaceRoleAssignment(ctx, ws, *added.ID, nil)
		must(t, err)
		_, err = workspaces.GetWorkspaceRoleAssignment(ctx, ws, *added.ID, nil)
		refusal(t, err, http.StatusNotFound, "EntityNotFound")
	})

	t.Run("items and definitions", func(t *testing.T) {
		book, err := items.CreateItem(ctx, ws, core.CreateItemRequest{
			DisplayName: to.Ptr("Book"), Type: to.Ptr(core.ItemTypeNotebook), Description: to.Ptr("a book"),
			Definition: &core.ItemDefinition{Format: to.Ptr("py"), Parts: []core.ItemDefinitionPart{notebookPart}},
		}, nil)
		must(t, err)
		d, err := items.GetItemDefinition(ctx, ws, *book.ID, nil)
		must(t, err)
		if p := d.Definition.Parts; len(p) != 1 || *p[0].Payload != *notebookPart.Payload || *d.Definition.Format != "py" {
			t.Errorf("got %+v", d.Definition)
		}
		part := notebookPart
		part.Payload = to.Ptr("cGFzcw==")
		_, err = items.UpdateItemDefinition(ctx, ws, *book.ID, core.UpdateItemDefinitionRequest{Definition: &core.ItemDefinition{Parts: []core.ItemDefinitionPart{part}}}, nil)
		must(t, err)
		books := notebook.NewClientFactoryWithClient(k.fabric(t, "engineer")).NewItemsClient()
		typed, err := books.GetNotebookDefinition(ctx, ws, *book.ID, nil)
		must(t, err)
		if *typed.Definition.Parts[0].Payload != "cGFzcw==" {
			t.Errorf("got %+v", typed.Definition)
		}
		_, err = items.UpdateItem(ctx, ws, *book.ID, core.UpdateItemRequest{DisplayName: to.Ptr("Book 2")}, nil)
		must(t, err)
		_, err = items.CreateItem(ctx, ws, core.CreateItemRequest{DisplayName: to.Ptr("BOOK 2"), Type: to.Ptr(core.ItemTypeNotebook)}, nil)
		refusal(t, err, http.StatusConflict, "ItemDisplayNameAlreadyInUse")
		lakes := lakehouse.NewClientFactoryWithClient(k.fabric(t, "engineer")).NewItemsClient()
		lake, err := lakes.CreateLakehouse(ctx, ws, lakehouse.CreateLakehouseRequest{DisplayName: to.Ptr("Lake")}, nil)
		must(t, err)
		if want := k.Endpoints["dfs"] + "/" + ws + "/" + *lake.ID + "/Files"; *lake.Properties.OneLakeFilesPath != want {
			t.Errorf("files are at %s, want %s", *lake.Properties.OneLakeFilesPath, want)
		}
	})

	t.Run("paging", func(t *testing.T) {
		const n = 101 // one more than a page
		for i := range n {
			_, err := items.CreateItem(ctx, ws, core.CreateItemRequest{DisplayName: to.Ptr(fmt.Sprintf("e %d", i)), Type: to.Ptr(core.ItemTypeEnvironment)}, nil)
			must(t, err)
		}
		pager := items.NewListItemsPager(ws, &core.ItemsClientListItemsOptions{Type: to.Ptr("Environment")})
		seen, pages := map[string]bool{}, 0
		for ; pager.More(); pages++ {
			p, err := pager.NextPage(ctx)
			must(t, err)
			for _, i := range p.Value {
				seen[*i.ID] = true
			}
		}
		if len(seen) != n || pages != 2 {
			t.Errorf("%d items on %d pages, want %d on 2", len(seen), pages, n)
		}
		for id := range seen {
			_, err := items.DeleteItem(ctx, ws, id, &core.ItemsClientDeleteItemOptions{HardDelete: to.Ptr(true)})
			must(t, err)
		}
	})

	t.Run("folders and deleted items", func(t *testing.T) {
		folders := engineer.NewFoldersClient()
		a, err := folders.CreateFolder(ctx, ws, core.CreateFolderRequest{DisplayName: to.Ptr("A")}, nil)
		must(t, err)
		b, err := folders.CreateFolder(ctx, ws, core.CreateFolderRequest{DisplayName: to.Ptr("B"), ParentFolderID: a.ID}, nil)
		must(t, err)
		_, err = folders.MoveFolder(ctx, ws, *b.ID, core.MoveFolderRequest{}, nil)
		must(t, err)
		all, err := folders.ListFolders(ctx, ws, &core.FoldersClientListFoldersOptions{Recursive: to.Ptr(false)})
		must(t, err)
		if len(all) != 2 {
			t.Errorf("%d folders", len(all))
		}
		job, err := items.CreateItem(ctx, ws, core.CreateItemRequest{DisplayName: to.Ptr("J"), Type: to.Ptr(core.ItemTypeCopyJob), FolderID: a.ID}, nil)
		must(t, err)
		moved, err := items.MoveItem(ctx, ws, *job.ID, core.MoveItemRequest{TargetFolderID: b.ID}, nil)
		must(t, err)
		if len(moved.Value) != 1 || *moved.Value[0].FolderID != *b.ID {
			t.Errorf("moved: %+v", moved.Value)
		}
		runs := engineer.NewJobSchedulerClient()
		_, err = runs.RunOnDemandItemJob(ctx, ws, *job.ID, "Execute", nil)
		must(t, err)
		instances, err := runs.ListItemJobInstances(ctx, ws, *job.ID, nil)
		must(t, err)
		_, err = runs.CancelItemJobInstance(ctx, ws, *job.ID, *instances[0].ID, nil)
		must(t, err)
		one, err := runs.GetItemJobInstance(ctx, ws, *job.ID, *instances[0].ID, nil)
		must(t, err)
		if len(instances) != 1 || *one.Status != core.ItemJobStatusCancelled {
			t.Errorf("%d instances, %s", len(instances), *one.Status)
		}
		_, err = items.DeleteItem(ctx, ws, *job.ID, nil)
		must(t, err)
		deleted := engineer.NewRecoverableItemsClient()
		gone, err := deleted.ListRecoverableItems(ctx, ws, nil)
		must(t, err)
		if len(gone) != 1 || *gone[0].ID != *job.ID {
			t.Errorf("recoverable: %+v", gone)
		}
		_, err = deleted.RecoverItem(ctx, ws, *job.ID, nil)
		must(t, err)
		_, err = items.DeleteItem(ctx, ws, *job.ID, nil)
		must(t, err)
		_, err = deleted.DeleteRecoverableItem(ctx, ws, *job.ID, nil)
		must(t, err)
		for _, f := range []string{*a.ID, *b.ID} {
			_, err = folders.DeleteFolder(ctx, ws, f, nil)
			must(t, err)
		}
	})

	t.Run("long-running operations", func(t *testing.T) {
		// Fabric decides when it answers 202; kluis does so if asked, as by a header
		// that any Azure client can add.
		slow := policy.WithHTTPHeader(ctx, http.Header{"Prefer": {"respond-async"}})
		made, err := items.CreateItem(slow, ws, core.CreateItemRequest{
			DisplayName: to.Ptr("Slow"), Type: to.Ptr(core.ItemTypeNotebook), Definition: &core.ItemDefinition{Parts: []core.ItemDefinitionPart{notebookPart}},
		}, nil)
		must(t, err)
		d, err := items.GetItemDefinition(slow, ws, *made.ID, nil)
		must(t, err)
		if *d.Definition.Parts[0].Payload != *notebookPart.Payload {
			t.Errorf("got %+v", d.Definition)
		}
		_, err = items.UpdateItemDefinition(slow, ws, *made.ID, core.UpdateItemDefinitionRequest{Definition: d.Definition}, nil)
		must(t, err)
		_, err = items.DeleteItem(ctx, ws, *made.ID, &core.ItemsClientDeleteItemOptions{HardDelete: to.Ptr(true)})
		must(t, err)
	})

	t.Run("capacities", func(t *testing.T) {
		all, err := engineer.NewCapacitiesClient().ListCapacities(ctx, nil)
		must(t, err)
		_, err = workspaces.AssignToCapacity(ctx, ws, core.AssignWorkspaceToCapacityRequest{CapacityID: all[0].ID}, nil)
		must(t, err)
		_, err = workspaces.UnassignFromCapacity(ctx, ws, nil)
		must(t, err)
	})

	t.Run("encryption", func(t *testing.T) {
		e, err := workspaces.GetWorkspaceEncryption(ctx, ws, nil)
		must(t, err)
		if *e.EncryptionDetail.EncryptionStatus != core.WorkspaceEncryptionStatusDisabled {
			t.Errorf("at first: %s", *e.EncryptionDetail.EncryptionStatus)
		}
		_, err = workspaces.AssignWorkspaceEncryption(ctx, ws, core.AssignWorkspaceEncryptionRequest{KeyIdentifier: to.Ptr("https://example.com/keys/k")}, nil)
		refusal(t, err, http.StatusBadRequest, "InvalidKeyIdentifier")
		key := k.key(t, "kek")
		_, err = workspaces.AssignWorkspaceEncryption(ctx, ws, core.AssignWorkspaceEncryptionRequest{KeyIdentifier: &key}, nil)
		must(t, err)
		d := await(t, workspaces, ws, core.WorkspaceEncryptionStatusActive)
		if *d.EncryptionDetail.KeyIdentifier != key {
			t.Errorf("the key is said to be %s, and %s was given", *d.EncryptionDetail.KeyIdentifier, key)
		}
		n := 0
		for _, g := range d.WorkspaceEncryptionItemsDetails {
			if *g.EncryptionStatus == core.WorkspaceEncryptionStatusActive {
				n += len(g.Items)
			}
		}
		if n != 2 {
			t.Errorf("%d items are active, want the notebook and the lakehouse", n)
		}
		admins := admin.NewClientFactoryWithClient(k.fabric(t, "admin")).NewWorkspacesClient()
		all, err := admins.ListWorkspaces(ctx, &admin.WorkspacesClientListWorkspacesOptions{Include: to.Ptr("encryption"), EncryptionStatus: to.Ptr("Active")})
		must(t, err)
		if i := slices.IndexFunc(all, func(w admin.Workspace) bool { return *w.ID == ws }); i < 0 || *all[i].Encryption.KeyIdentifier != key {
			t.Errorf("the administrator's list has %+v", all)
		}
		_, err = items.CreateItem(ctx, ws, core.CreateItemRequest{DisplayName: to.Ptr("R"), Type: to.Ptr(core.ItemTypeReport)}, nil)
		refusal(t, err, http.StatusBadRequest, "UnsupportedItemType")
		_, err = workspaces.ResetWorkspaceEncryption(ctx, ws, nil)
		must(t, err)
		await(t, workspaces, ws, core.WorkspaceEncryptionStatusDisabled)
	})

	_, err = workspaces.DeleteWorkspace(ctx, ws, nil)
	must(t, err)
	_, err = workspaces.GetWorkspaceEncryption(ctx, ws, nil)
	refusal(t, err, http.StatusNotFound, "WorkspaceNotFound")
}

// await waits until the workspace's encryption has the status.
func await(t *testing.T, c *core.WorkspacesClient, ws string, want core.WorkspaceEncryptionStatus) core.WorkspaceEncryptionDetail {
	t.Helper()
	for range 300 {
		e, err := c.GetWorkspaceEncryption(t.Context(), ws, nil)
		must(t, err)
		if *e.EncryptionDetail.EncryptionStatus == want {
			return e.WorkspaceEncryptionDetail
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("the encryption did not become %s", want)
	panic("unreachable")
}
