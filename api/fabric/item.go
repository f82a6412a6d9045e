package fabric

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

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
	FolderID    string          `json:"folderId,omitempty"`
	Label       *labelRef       `json:"sensitivityLabel,omitempty"`
	Properties  *itemProperties `json:"properties,omitempty"`
}

// itemProperties are what a typed collection tells of its items, where there is
// something to tell: kluis serves OneLake and no SQL endpoint.
type itemProperties struct {
	Tables  string     `json:"oneLakeTablesPath,omitempty"`
	Files   string     `json:"oneLakeFilesPath,omitempty"`
	Root    string     `json:"oneLakeRootPath,omitempty"`
	Created *time.Time `json:"createdDate,omitempty"`
	Updated *time.Time `json:"lastUpdatedTime,omitempty"`
}

// properties returns an item's, nil if it has none.
func (c *call) properties(i workspace.Item) *itemProperties {
	root := c.config.DFSEndpoint + "/" + string(i.Workspace) + "/" + string(i.ID)
	switch lake := c.config.DFSEndpoint != ""; {
	case i.Type == workspace.Lakehouse && lake:
		return &itemProperties{Tables: root + "/Tables", Files: root + "/Files"}
	case i.Type == "MirroredDatabase" && lake:
		return &itemProperties{Tables: root + "/Tables"}
	case i.Type == "SparkJobDefinition" && lake:
		return &itemProperties{Root: root}
	case i.Type == "Warehouse":
		return &itemProperties{Created: &i.Created, Updated: &i.Changed}
	}
	return nil
}

// toItem returns an item as a collection shows it; t is "" for the untyped one.
func (c *call) toItem(i workspace.Item, t workspace.ItemType) itemBody {
	b := itemBody{
		ID: string(i.ID), Type: string(i.Type), DisplayName: i.DisplayName, Description: i.Description,
		WorkspaceID: string(i.Workspace), FolderID: string(i.Folder), Label: toLabelRef(i.Label),
	}
	if t != "" {
		b.Properties = c.properties(i)
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
		if want, ok = c.ws.ParseItemType(q); !ok {
			return fault.New(fault.InvalidItemType, "This is not one of the item types.")
		}
	}
	in, flat, err := c.folderFilter()
	if err != nil {
		return err
	}
	listing := "items " + string(ws) + " " + string(want) + " " + string(in) + " " + strconv.FormatBool(flat)
	after, err := c.after(listing)
	if err != nil {
		return err
	}
	all, more, err := c.ws.Items(c.r.Context(), c.caller, ws, workspace.ItemFilter{Type: want, In: in, Flat: flat},
		encryption.ItemID(after), c.config.PageSize)
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
		Label           struct {
			LabelID string `json:"labelId"`
		} `json:"sensitivityLabelSettings"`
	}
	if err := c.read(definitionLimit, &body); err != nil {
		return err
	}
	if sent(body.CreationPayload) {
		return fault.New(fault.NotSupported, "creationPayload is not supported.").WithMend("Give a definition.")
	}
	n := workspace.NewItem{
		DisplayName: body.DisplayName, Type: workspace.ItemType(body.Type), Description: body.Description,
		Folder: workspace.FolderID(strings.ToLower(body.FolderID)), Label: workspace.LabelID(strings.ToLower(body.Label.LabelID)),
	}
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
	var item workspace.Item
	return c.perform(workspace.CreatingItem, ws, func(o *workspace.Operation) (err error) {
		item, err = c.ws.CreateItem(c.r.Context(), c.caller, ws, n)
		o.Item = item.ID
		return err
	}, func() error { return c.answer(http.StatusCreated, c.toItem(item, t)) })
}

// sent reports whether a field was sent with a value.
func sent(m json.RawMessage) bool { return len(m) > 0 && string(m) != "null" && string(m) != "{}" }

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
	err = c.ws.DeleteItem(c.r.Context(), c.caller, ws, id, t, hard)
	if !hard {
		return c.done(err)
	}
	return c.shredded(string(id), err)
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
	var body definitionAnswer
	return c.perform(workspace.GettingDefinition, i.Workspace, func(o *workspace.Operation) (err error) {
		o.Item = i.ID
		body, err = c.definitionOf(i.Workspace, i.ID)
		return err
	}, func() error { return c.answer(http.StatusOK, body) })
}

func (c *call) definitionOf(ws encryption.ScopeID, id encryption.ItemID) (definitionAnswer, error) {
	d, err := c.ws.Definition(c.r.Context(), c.caller, ws, id)
	if err != nil {
		return definitionAnswer{}, err
	}
	if f := c.r.URL.Query().Get("format"); f != "" && f != d.Format {
		return definitionAnswer{}, fault.New(fault.NotSupported, "The definition is not kept in this format.")
	}
	body := definitionBody{Format: d.Format, Parts: []partBody{}}
	for _, p := range d.Parts {
		body.Parts = append(body.Parts, partBody{p.Path, base64.StdEncoding.EncodeToString(p.Payload), inlineBase64})
	}
	return definitionAnswer{body}, nil
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
	return c.perform(workspace.UpdatingDefinition, i.Workspace, func(o *workspace.Operation) error {
		o.Item = i.ID
		return c.ws.UpdateDefinition(c.r.Context(), c.caller, i.Workspace, i.ID, d)
	}, func() error { return c.done(nil) })
}
