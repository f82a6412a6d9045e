package fabric

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/workspace"
)

type itemBody struct {
	ID          string          `json:"id"`
	Type        string          `json:"type"`
	DisplayName string          `json:"displayName"`
	Description string          `json:"description"`
	WorkspaceID string          `json:"workspaceId"`
	Properties  *itemProperties `json:"properties,omitempty"`
}

// itemProperties are a lakehouse's, told by its own collection.
type itemProperties struct {
	Tables string `json:"oneLakeTablesPath"`
	Files  string `json:"oneLakeFilesPath"`
}

// toItem returns an item as a collection shows it; t is "" for the untyped one.
func (c *call) toItem(i workspace.Item, t workspace.ItemType) itemBody {
	b := itemBody{
		ID: string(i.ID), Type: string(i.Type), DisplayName: i.DisplayName, Description: i.Description,
		WorkspaceID: string(i.Workspace),
	}
	if t == workspace.Lakehouse && c.config.DFSEndpoint != "" {
		root := c.config.DFSEndpoint + "/" + string(i.Workspace) + "/" + string(i.ID)
		b.Properties = &itemProperties{root + "/Tables", root + "/Files"}
	}
	return b
}

func (c *call) listItems(t workspace.ItemType) error {
	ws, err := c.workspace()
	if err != nil {
		return err
	}
	want := t
	if q := c.r.URL.Query().Get("type"); t == "" && q != "" {
		var ok bool
		if want, ok = workspace.ParseItemType(q); !ok {
			return fault.New(fault.InvalidItemType, "This is not one of the item types.")
		}
	}
	listing := "items " + string(ws) + " " + string(want)
	after, err := c.after(listing)
	if err != nil {
		return err
	}
	all, more, err := c.ws.Items(c.r.Context(), c.caller, ws, want, encryption.ItemID(after), c.config.PageSize)
	if err != nil {
		return err
	}
	p := page[itemBody]{Value: []itemBody{}}
	for _, i := range all {
		p.Value = append(p.Value, c.toItem(i, t))
	}
	if more {
		p.paging = c.next(listing, string(all[len(all)-1].ID))
	}
	return c.answer(http.StatusOK, p)
}

func (c *call) createItem(t workspace.ItemType) error {
	ws, err := c.workspace()
	if err != nil {
		return err
	}
	var body struct {
		DisplayName     string          `json:"displayName"`
		Type            string          `json:"type"`
		Description     string          `json:"description"`
		Definition      *definitionBody `json:"definition"`
		FolderID        string          `json:"folderId"`
		CreationPayload json.RawMessage `json:"creationPayload"`
		Label           json.RawMessage `json:"sensitivityLabelSettings"`
	}
	if err := c.read(definitionLimit, &body); err != nil {
		return err
	}
	if body.FolderID != "" || given(body.CreationPayload) || given(body.Label) {
		return fault.New(fault.NotSupported, "folderId, creationPayload and sensitivityLabelSettings are not supported.")
	}
	n := workspace.NewItem{DisplayName: body.DisplayName, Type: workspace.ItemType(body.Type), Description: body.Description}
	if t != "" {
		n.Type = t
	}
	if body.Definition != nil {
		d, err := body.Definition.definition()
		if err != nil {
			return err
		}
		n.Definition = &d
	}
	item, err := c.ws.CreateItem(c.r.Context(), c.caller, ws, n)
	if err != nil {
		return err
	}
	return c.answer(http.StatusCreated, c.toItem(item, t))
}

// given reports whether a field was sent with a value.
func given(m json.RawMessage) bool { return len(m) > 0 && string(m) != "null" && string(m) != "{}" }

// item returns the ids of the path. An item of another type than the collection's
// is not in it.
func (c *call) item() (ws encryption.ScopeID, id encryption.ItemID, err error) {
	if ws, err = c.workspace(); err != nil {
		return "", "", err
	}
	s, err := c.id("i", fault.ItemNotFound)
	return ws, encryption.ItemID(s), err
}

// typed returns the item of the path, if the collection has it.
func (c *call) typed(t workspace.ItemType) (workspace.Item, error) {
	ws, id, err := c.item()
	if err != nil {
		return workspace.Item{}, err
	}
	i, err := c.ws.Item(c.r.Context(), c.caller, ws, id)
	if err == nil && t != "" && i.Type != t {
		err = fault.New(fault.ItemNotFound, "There is no such item of this type in this workspace.").About(string(id))
	}
	return i, err
}

func (c *call) getItem(t workspace.ItemType) error {
	i, err := c.typed(t)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, c.toItem(i, t))
}

func (c *call) updateItem(t workspace.ItemType) error {
	ch, err := c.change()
	if err != nil {
		return err
	}
	i, err := c.typed(t)
	if err != nil {
		return err
	}
	if i, err = c.ws.UpdateItem(c.r.Context(), c.caller, i.Workspace, i.ID, ch); err != nil {
		return err
	}
	return c.answer(http.StatusOK, c.toItem(i, t))
}

// deleteItem does not look at the item first, which would need its keys: whoever
// may delete can, also while the key is revoked.
func (c *call) deleteItem(t workspace.ItemType) error {
	ws, id, err := c.item()
	if err != nil {
		return err
	}
	hard, err := c.flag("hardDelete")
	if err != nil {
		return err
	}
	return c.done(c.ws.DeleteItem(c.r.Context(), c.caller, ws, id, t, hard))
}

func (c *call) flag(name string) (bool, error) {
	q := c.r.URL.Query().Get(name)
	if q == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(q)
	if err != nil {
		return false, fault.New(fault.InvalidArgument, name+" takes true or false.")
	}
	return b, nil
}

type definitionBody struct {
	Format string     `json:"format,omitempty"`
	Parts  []partBody `json:"parts"`
}

type partBody struct {
	Path        string `json:"path"`
	Payload     string `json:"payload"`
	PayloadType string `json:"payloadType"`
}

const inlineBase64 = "InlineBase64"

func (b definitionBody) definition() (workspace.Definition, error) {
	d := workspace.Definition{Format: b.Format}
	for _, p := range b.Parts {
		if p.PayloadType != inlineBase64 {
			return d, fault.New(fault.InvalidArgument, "A part's payloadType must be InlineBase64.")
		}
		raw, err := base64.StdEncoding.DecodeString(p.Payload)
		if err != nil {
			return d, fault.New(fault.InvalidArgument, "A part's payload is not base64.")
		}
		d.Parts = append(d.Parts, workspace.Part{Path: p.Path, Payload: raw})
	}
	return d, nil
}

type definitionAnswer struct {
	Definition definitionBody `json:"definition"`
}

func (c *call) getDefinition(t workspace.ItemType) error {
	i, err := c.typed(t)
	if err != nil {
		return err
	}
	d, err := c.ws.Definition(c.r.Context(), c.caller, i.Workspace, i.ID)
	if err != nil {
		return err
	}
	if f := c.r.URL.Query().Get("format"); f != "" && f != d.Format {
		return fault.New(fault.NotSupported, "The definition is not kept in this format.")
	}
	body := definitionBody{Format: d.Format, Parts: []partBody{}}
	for _, p := range d.Parts {
		body.Parts = append(body.Parts, partBody{p.Path, base64.StdEncoding.EncodeToString(p.Payload), inlineBase64})
	}
	return c.answer(http.StatusOK, definitionAnswer{body})
}

func (c *call) updateDefinition(t workspace.ItemType) error {
	var body struct {
		Definition *definitionBody `json:"definition"`
	}
	if err := c.read(definitionLimit, &body); err != nil {
		return err
	}
	if metadata, err := c.flag("updateMetadata"); err != nil {
		return err
	} else if metadata {
		return fault.New(fault.NotSupported, "updateMetadata is not supported.").WithMend("Update the item itself.")
	}
	if body.Definition == nil {
		return fault.New(fault.InvalidArgument, "The body has no definition.")
	}
	d, err := body.Definition.definition()
	if err != nil {
		return err
	}
	i, err := c.typed(t)
	if err != nil {
		return err
	}
	return c.done(c.ws.UpdateDefinition(c.r.Context(), c.caller, i.Workspace, i.ID, d))
}
