package fabric

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/workspace"
)

type folderBody struct {
	ID          string `json:"id"`
	DisplayName string `json:"displayName"`
	WorkspaceID string `json:"workspaceId"`
	Parent      string `json:"parentFolderId,omitempty"`
}

func toFolder(f workspace.Folder) folderBody {
	return folderBody{string(f.ID), f.DisplayName, string(f.Workspace), string(f.Parent)}
}

// folderFilter reads from which folder a listing is wanted, and whether from that
// alone.
func (c *call) folderFilter() (in workspace.FolderID, flat bool, err error) {
	q := c.r.URL.Query()
	in = workspace.FolderID(strings.ToLower(q.Get("rootFolderId")))
	if in != "" && !workspace.IsID(string(in)) {
		return "", false, fault.New(fault.InvalidArgument, "rootFolderId takes an id, which is a UUID.")
	}
	if r := q.Get("recursive"); r != "" {
		deep, err := strconv.ParseBool(r)
		if err != nil {
			return "", false, fault.New(fault.InvalidArgument, "recursive takes true or false.")
		}
		flat = !deep
	}
	return in, flat, nil
}

func (c *call) folder() (encryption.ScopeID, workspace.FolderID, error) {
	ws, err := c.workspace()
	if err != nil {
		return "", "", err
	}
	id, err := c.id("f", fault.NotFound)
	return ws, workspace.FolderID(id), err
}

func (c *call) listFolders() error {
	ws, err := c.workspace()
	if err != nil {
		return err
	}
	in, flat, err := c.folderFilter()
	if err != nil {
		return err
	}
	listing := "folders " + string(ws) + " " + string(in) + " " + strconv.FormatBool(flat)
	after, err := c.after(listing)
	if err != nil {
		return err
	}
	all, more, err := c.ws.Folders(c.r.Context(), c.caller, ws, in, !flat, workspace.FolderID(after), c.config.PageSize)
	if err != nil {
		return err
	}
	p := page[folderBody]{Value: []folderBody{}}
	for _, f := range all {
		p.Value = append(p.Value, toFolder(f))
	}
	if more {
		p.paging = c.next(listing, string(all[len(all)-1].ID))
	}
	return c.answer(http.StatusOK, p)
}

func (c *call) createFolder() error {
	ws, err := c.workspace()
	if err != nil {
		return err
	}
	var body struct {
		DisplayName string `json:"displayName"`
		Parent      string `json:"parentFolderId"`
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	f, err := c.ws.CreateFolder(c.r.Context(), c.caller, ws, body.DisplayName, workspace.FolderID(strings.ToLower(body.Parent)))
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", c.url("/v1/workspaces/"+string(ws)+"/folders/"+string(f.ID)))
	return c.answer(http.StatusCreated, toFolder(f))
}

// answerFolder answers with a folder.
func (c *call) answerFolder(f workspace.Folder, err error) error {
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, toFolder(f))
}

func (c *call) getFolder() error {
	ws, id, err := c.folder()
	if err != nil {
		return err
	}
	return c.answerFolder(c.ws.Folder(c.r.Context(), c.caller, ws, id))
}

func (c *call) renameFolder() error {
	ws, id, err := c.folder()
	if err != nil {
		return err
	}
	var body struct {
		DisplayName string `json:"displayName"`
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	return c.answerFolder(c.ws.RenameFolder(c.r.Context(), c.caller, ws, id, body.DisplayName))
}

// target reads where something is to be moved: to the workspace itself if the body
// names no folder, or is missing.
func (c *call) target() (workspace.FolderID, error) {
	var body struct {
		Target string `json:"targetFolderId"`
	}
	if c.r.ContentLength == 0 {
		return "", nil
	}
	err := c.read(bodyLimit, &body)
	return workspace.FolderID(strings.ToLower(body.Target)), err
}

func (c *call) moveFolder() error {
	ws, id, err := c.folder()
	if err != nil {
		return err
	}
	to, err := c.target()
	if err != nil {
		return err
	}
	return c.answerFolder(c.ws.MoveFolder(c.r.Context(), c.caller, ws, id, to))
}

func (c *call) deleteFolder() error {
	ws, id, err := c.folder()
	if err != nil {
		return err
	}
	return c.done(c.ws.DeleteFolder(c.r.Context(), c.caller, ws, id))
}

func (c *call) moveItem() error {
	ws, id, err := c.item()
	if err != nil {
		return err
	}
	to, err := c.target()
	if err != nil {
		return err
	}
	i, err := c.ws.MoveItem(c.r.Context(), c.caller, ws, id, to)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, page[itemBody]{Value: []itemBody{c.toItem(i, "")}})
}

type recoverable struct {
	itemBody
	Until time.Time `json:"retentionExpirationDateTime"`
}

func (c *call) listRecoverable() error {
	ws, err := c.workspace()
	if err != nil {
		return err
	}
	listing := "recoverable items " + string(ws)
	after, err := c.after(listing)
	if err != nil {
		return err
	}
	all, more, err := c.ws.DeletedItems(c.r.Context(), c.caller, ws, encryption.ItemID(after), c.config.PageSize)
	if err != nil {
		return err
	}
	want := c.r.URL.Query().Get("type")
	p := page[recoverable]{Value: []recoverable{}}
	for _, i := range all {
		if want == "" || strings.EqualFold(want, string(i.Type)) {
			p.Value = append(p.Value, recoverable{c.toItem(i.Item, ""), i.Until})
		}
	}
	if more {
		p.paging = c.next(listing, string(all[len(all)-1].ID))
	}
	return c.answer(http.StatusOK, p)
}

func (c *call) recoverItem() error {
	ws, id, err := c.item()
	if err != nil {
		return err
	}
	i, err := c.ws.RecoverItem(c.r.Context(), c.caller, ws, id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, c.toItem(i, ""))
}

func (c *call) purgeItem() error {
	ws, id, err := c.item()
	if err != nil {
		return err
	}
	return c.shredded(string(id), c.ws.PurgeItem(c.r.Context(), c.caller, ws, id))
}

func (c *call) assignCapacity() error {
	ws, err := c.workspace()
	if err != nil {
		return err
	}
	var body struct {
		CapacityID string `json:"capacityId"`
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	if !workspace.IsID(body.CapacityID) {
		return fault.New(fault.CapacityNotFound, "capacityId takes an id, which is a UUID.")
	}
	return c.moved(c.ws.AssignToCapacity(c.r.Context(), c.caller, ws, workspace.CapacityID(body.CapacityID)))
}

func (c *call) unassignCapacity() error {
	ws, err := c.workspace()
	if err != nil {
		return err
	}
	return c.moved(c.ws.AssignToCapacity(c.r.Context(), c.caller, ws, ""))
}

// moved answers 202 without an operation, as Fabric does; it is done already.
func (c *call) moved(err error) error {
	if err == nil {
		c.w.WriteHeader(http.StatusAccepted)
	}
	return err
}
