package workspace

import (
	"context"
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/check"
)

// A CheckTx is the part of a transaction that only checks need.
type CheckTx interface {
	// WorkspacesAfter returns at most limit workspaces in any state with ids above
	// after, by id.
	WorkspacesAfter(after encryption.ScopeID, limit int) ([]WorkspaceRow, error)
	// ItemsAfter returns at most limit items of the scope, as package encryption
	// knows them, with ids above after, by id.
	ItemsAfter(s encryption.ScopeID, after encryption.ItemID, limit int) ([]encryption.Item, error)
}

// What a check of this package looks at.
const (
	partWorkspace   = "workspace"
	partEntry       = "item name"
	partDescription = "description"
	partDefinition  = "definition"
	partRecord      = "opened item name"
)

// Check checks, without any key, that every workspace has its scope and its list
// of items, that its items are those of the scope, and that what is sealed is
// under a key that it may be under. What is being deleted is left alone.
func Check(ctx context.Context, store Store, r *check.Report) error {
	return eachWorkspace(ctx, store, func(ws WorkspaceRow) error {
		r.Checked(partWorkspace)
		return store.View(ctx, func(tx Tx) error { return checkWorkspace(tx, ws, r) })
	})
}

func eachWorkspace(ctx context.Context, store Store, each func(WorkspaceRow) error) error {
	return check.Pages(func(after encryption.ScopeID, limit int) (page []WorkspaceRow, err error) {
		err = store.View(ctx, func(tx Tx) (err error) {
			page, err = tx.WorkspacesAfter(after, limit)
			return err
		})
		return page, err
	}, func(ws WorkspaceRow) encryption.ScopeID { return ws.ID }, func(ws WorkspaceRow) error {
		if ws.Deleted {
			return nil
		}
		return each(ws)
	})
}

func checkWorkspace(tx Tx, ws WorkspaceRow, r *check.Report) error {
	found := func(format string, args ...any) { r.Found(partWorkspace, string(ws.ID), format, args...) }
	sc, err := tx.Scope(ws.ID)
	if fault.ReasonOf(err) == fault.WorkspaceNotFound {
		found("It has no scope, and so no keys.")
		return nil
	}
	if err != nil {
		return err
	}
	if sc.Tenant != ws.Tenant {
		found("It belongs to another tenant than its scope.")
	}
	if ws.Canonical != Canonical(ws.Name) {
		found("The form by which its name compares is another name's.")
	}
	own, err := liveKeys(tx, encryption.ScopeItem(ws.ID))
	if err != nil {
		return err
	}
	if ws.DescriptionKey != "" && own[ws.DescriptionKey] != encryption.ContentKey {
		found("Its description is under key %s, which is no live content key of its own.", ws.DescriptionKey)
	}
	list, err := tx.ItemList(ws.ID)
	switch fault.ReasonOf(err) {
	case "":
	case fault.WorkspaceNotFound:
		found("It has no list of items.")
		return nil
	case fault.Integrity:
		found("%s", check.Text(err))
		return nil
	default:
		return err
	}
	for _, k := range []encryption.KeyID{list.Key, list.NextKey} {
		if k != "" && own[k] != encryption.NamesKey {
			found("Its list of items is under key %s, which is no live names key of its own.", k)
		}
	}
	return checkItems(tx, ws, list, r)
}

// liveKeys returns the purposes of an item's keys that are not shredded.
func liveKeys(tx Tx, item encryption.ItemID) (map[encryption.KeyID]encryption.Purpose, error) {
	rows, err := tx.ItemKeys(item)
	live := map[encryption.KeyID]encryption.Purpose{}
	for _, k := range rows {
		if k.State != encryption.Shredded {
			live[k.ID] = k.Purpose
		}
	}
	return live, err
}

// checkItems compares the items that have names with those that have keys.
func checkItems(tx Tx, ws WorkspaceRow, list List, r *check.Report) error {
	entries, err := entriesOf(tx, ws.ID)
	if err != nil {
		return err
	}
	items := map[encryption.ItemID]encryption.Item{}
	err = check.Pages(func(after encryption.ItemID, limit int) ([]encryption.Item, error) {
		return tx.ItemsAfter(ws.ID, after, limit)
	}, func(i encryption.Item) encryption.ItemID { return i.ID }, func(i encryption.Item) error {
		items[i.ID] = i
		return nil
	})
	if err != nil {
		return err
	}
	delete(items, encryption.ScopeItem(ws.ID))
	for _, e := range entries {
		found := func(format string, args ...any) { r.Found(partEntry, string(e.ID), format, args...) }
		r.Checked(partEntry)
		i, ok := items[e.ID]
		delete(items, e.ID)
		switch {
		case e.Type == FolderType:
			if ok {
				found("It is a folder, and has keys.")
			}
		case !ok:
			found("It has no keys in its workspace.")
		case i.Type != string(e.Type):
			found("It is a %s, and its keys are of a %s.", e.Type, i.Type)
		}
		if e.State != Creating && e.State != Live && e.State != Deleted {
			found("There is no state %q.", e.State)
		}
		if _, err := list.salt(e.Key); err != nil {
			found("Its name is under key %s, which its workspace's list does not name.", e.Key)
		}
		if e.Folder != "" {
			if _, err := tx.ItemEntry(encryption.ItemID(e.Folder)); fault.ReasonOf(err) == fault.ItemNotFound && e.State != Deleted {
				found("It lies in folder %s, which does not exist.", e.Folder)
			}
		}
		keys, err := liveKeys(tx, e.ID)
		if err != nil {
			return err
		}
		d, ok, err := tx.ItemDefinition(e.ID)
		if err != nil {
			return err
		}
		if ok && keys[d.Key] != encryption.ContentKey {
			r.Found(partDefinition, string(e.ID), "It is under key %s, which is no live content key of its item's.", d.Key)
		}
	}
	for id := range items { // with keys, and without a name
		live, err := liveKeys(tx, id)
		if err != nil {
			return err
		}
		if len(live) > 0 {
			r.Found(partEntry, string(id), "The item has keys, and no name leads to it.")
		}
	}
	return nil
}

// entriesOf returns a workspace's entries in any state.
func entriesOf(tx Tx, ws encryption.ScopeID) ([]Entry, error) {
	return tx.ItemEntriesIn(ws, "", time.Time{}, 0)
}

// A KeyOpener gives the right to use a scope's keys.
type KeyOpener interface {
	Use(context.Context, encryption.ScopeID) (*encryption.Use, error)
}

// CheckContent opens every item's name, every description and every definition,
// with the keys of the scopes that can be used: names must be found under their
// look-up codes, and no two items have one. What lies under a scope whose key
// cannot be used is counted and not checked.
func CheckContent(ctx context.Context, store Store, keys KeyOpener, r *check.Report) error {
	return eachWorkspace(ctx, store, func(ws WorkspaceRow) error {
		c := &contents{ctx: ctx, store: store, keys: keys, report: r}
		return c.workspace(ws)
	})
}

type contents struct {
	ctx    context.Context
	store  Store
	keys   KeyOpener
	report *check.Report
}

// with runs fn with the scope's keys, and counts what it is about.
func (c *contents) with(ws encryption.ScopeID, part, subject string, fn func(*encryption.Use) error) error {
	for again := false; ; again = true {
		u, err := c.keys.Use(c.ctx, ws)
		switch {
		case c.ctx.Err() != nil:
			return c.ctx.Err()
		case err != nil:
			c.report.Skipped(part)
			return nil
		}
		err = fn(u)
		if fault.ReasonOf(err) == fault.KEKUnreachable && !again {
			continue // the lease was over in between
		}
		c.report.Checked(part)
		if err != nil {
			c.report.Found(part, subject, "%s", check.Text(err))
		}
		return nil
	}
}

func (c *contents) workspace(ws WorkspaceRow) error {
	var list List
	var entries []Entry
	err := c.store.View(c.ctx, func(tx Tx) (err error) {
		if list, err = tx.ItemList(ws.ID); err == nil {
			entries, err = entriesOf(tx, ws.ID)
		}
		return err
	})
	if r := fault.ReasonOf(err); r == fault.WorkspaceNotFound || r == fault.Integrity {
		return nil // found without a key
	}
	if err != nil {
		return err
	}
	if ws.DescriptionKey != "" {
		err := c.with(ws.ID, partDescription, string(ws.ID), func(u *encryption.Use) error {
			text, err := openDescription(c.ctx, u, ws)
			if err == nil && !utf8.ValidString(text) {
				err = fault.New(fault.Integrity, "It is no text.")
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	var opened folders
	defer opened.clear()
	type name struct {
		among     string
		canonical string
	}
	taken := map[name]encryption.ItemID{}
	for _, e := range entries {
		err := c.with(ws.ID, partRecord, string(e.ID), func(u *encryption.Use) error {
			r, err := names{list, u, &opened}.record(c.ctx, e)
			if err != nil || e.State == Deleted {
				return err
			}
			n := name{e.among(), Canonical(r.Name)}
			if other, ok := taken[n]; ok && other != e.ID {
				return fault.New(fault.Integrity, "Item "+string(other)+" has the same name.")
			}
			taken[n] = e.ID
			return nil
		})
		if err != nil {
			return err
		}
		if err := c.definition(ws.ID, e.ID); err != nil {
			return err
		}
	}
	return nil
}

func (c *contents) definition(ws encryption.ScopeID, item encryption.ItemID) error {
	var row DefinitionRow
	var ok bool
	err := c.store.View(c.ctx, func(tx Tx) (err error) {
		row, ok, err = tx.ItemDefinition(item)
		return err
	})
	if err != nil || !ok {
		return err
	}
	return c.with(ws, partDefinition, string(item), func(u *encryption.Use) error {
		plain, err := openBlob(c.ctx, u, row)
		if err != nil {
			return err
		}
		defer clear(plain)
		c.report.Read(int64(len(plain)))
		var d Definition
		if json.Unmarshal(plain, &d) != nil || d.check() != nil {
			return fault.New(fault.Integrity, "It does not read.")
		}
		return nil
	})
}

// clear overwrites all opened keys.
func (c *folders) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, f := range c.open {
		delete(c.open, k)
		f.clear()
	}
}
