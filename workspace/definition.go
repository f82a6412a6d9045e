package workspace

import (
	"context"
	"encoding/json"
	"path"
	"strings"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// definitionPurpose is that of an item's definition, sealed as one message under
// the item's content key.
const definitionPurpose = "kluis/v1/definition"

// MaxDefinition is the most that a definition's payloads and paths may come to, in
// bytes.
const MaxDefinition = 8 << 20

const maxParts = 1000

// A Definition is what an item is made of: a notebook's cells, say.
type Definition struct {
	Format string `json:"format,omitempty"`
	Parts  []Part `json:"parts"`
}

// A Part is one file of a definition.
type Part struct {
	Path    string `json:"path"`
	Payload []byte `json:"payload"`
}

func (d Definition) check() error {
	bad := func(why string) error { return fault.New(fault.InvalidArgument, "The definition "+why+".") }
	if len(d.Parts) == 0 {
		return bad("has no parts")
	}
	if len(d.Parts) > maxParts {
		return bad("has more than 1,000 parts")
	}
	if len(d.Format) > maxName {
		return bad("names a format of more than 256 characters")
	}
	size := 0
	seen := map[string]bool{}
	for _, p := range d.Parts {
		size += len(p.Path) + len(p.Payload)
		switch {
		case p.Path == "" || len(p.Path) > 1024 || path.Clean("/"+p.Path) != "/"+p.Path || strings.ContainsAny(p.Path, "\\\x00"):
			return bad("has a part whose path is not a plain relative one")
		case seen[p.Path]:
			return bad("has two parts of one path")
		}
		seen[p.Path] = true
	}
	if size > MaxDefinition {
		return fault.New(fault.PayloadTooLarge, "The definition is larger than 8 MiB.")
	}
	return nil
}

func sealDefinition(ctx context.Context, u *encryption.Use, item encryption.ItemID, d Definition) (DefinitionRow, error) {
	plain, err := json.Marshal(d)
	if err != nil {
		return DefinitionRow{}, err
	}
	return sealBlob(ctx, u, item, plain)
}

func sealBlob(ctx context.Context, u *encryption.Use, item encryption.ItemID, plain []byte) (DefinitionRow, error) {
	k, err := u.Current(ctx, item, encryption.ContentKey)
	if err != nil {
		return DefinitionRow{}, err
	}
	sealed, err := k.Seal(plain, definitionPurpose)
	return DefinitionRow{Item: item, Key: k.ID(), Sealed: sealed}, err
}

func openBlob(ctx context.Context, u *encryption.Use, row DefinitionRow) ([]byte, error) {
	k, err := u.Key(ctx, row.Item, row.Key)
	if err != nil {
		return nil, err
	}
	return k.Open(row.Sealed, definitionPurpose)
}

// Definition returns an item's definition. Only who may write the item may read
// it, as in Fabric. An item without one has a definition without parts.
func (w *Workspaces) Definition(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id encryption.ItemID) (d Definition, err error) {
	err = w.opening(ctx, c, "GetItemDefinition", itemResource(ws, id), rbac.ItemsWrite, ws, func(u *encryption.Use) error {
		return again(ctx, func() error {
			var row DefinitionRow
			var ok bool
			err := w.store.View(ctx, func(tx Tx) error {
				_, err := liveEntry(tx, ws, id)
				if err == nil {
					row, ok, err = tx.ItemDefinition(id)
				}
				return err
			})
			if err != nil || !ok {
				return err
			}
			plain, err := openBlob(ctx, u, row)
			if err != nil {
				// Re-encryption may have dropped the key since the row was read.
				return w.moved(ctx, row, err)
			}
			if err := json.Unmarshal(plain, &d); err != nil {
				return fault.Wrap(fault.Integrity, err, "The item's definition does not read.")
			}
			return nil
		})
	})
	return d, err
}

// moved returns [fault.EncryptionChanged] if the definition is not under the row's
// key any more, and err else.
func (w *Workspaces) moved(ctx context.Context, row DefinitionRow, err error) error {
	now, ok := row, true
	view := w.store.View(ctx, func(tx Tx) (err error) {
		now, ok, err = tx.ItemDefinition(row.Item)
		return err
	})
	if view == nil && (!ok || now.Key != row.Key) {
		return errMoved()
	}
	return err
}

// UpdateDefinition replaces an item's definition.
func (w *Workspaces) UpdateDefinition(ctx context.Context, c identity.Caller, ws encryption.ScopeID, id encryption.ItemID, d Definition) error {
	e := c.Entry("UpdateItemDefinition", itemResource(ws, id))
	err := again(ctx, func() error {
		err := w.store.View(ctx, func(tx Tx) error {
			if _, err := w.permit(tx, c, rbac.ItemsWrite, ws); err != nil {
				return err
			}
			if _, err := liveEntry(tx, ws, id); err != nil {
				return err
			}
			return d.check()
		})
		if err != nil {
			return err
		}
		u, err := w.keys.Use(ctx, ws)
		if err != nil {
			return err
		}
		row, err := sealDefinition(ctx, u, id, d)
		if err != nil {
			return err
		}
		return w.update(ctx, e, func(tx Tx) error {
			if _, err := w.permit(tx, c, rbac.ItemsWrite, ws); err != nil {
				return err
			}
			entry, err := liveEntry(tx, ws, id)
			if err != nil {
				return err
			}
			if err := u.Confirm(tx, row.Key); err != nil {
				return err
			}
			if err := tx.PutItemDefinition(row); err != nil {
				return err
			}
			entry.Changed = w.time()
			return tx.UpdateItemEntry(entry, entry.Revision)
		})
	})
	if err != nil {
		return w.record(ctx, e, err)
	}
	return nil
}
