package workspace_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/workspace"
)

func (w *world) use(ws encryption.ScopeID) *encryption.Use {
	w.Helper()
	u, err := w.ring.Use(w.Context(), ws)
	w.must(err)
	return u
}

func (w *world) find(ws encryption.ScopeID, segment string) (workspace.Item, error) {
	w.Helper()
	return w.ws.FindItem(w.Context(), w.use(ws), ws, segment)
}

func TestItems(t *testing.T) {
	run(t, func(w *world) {
		ctx := w.Context()
		ws := w.create("Sales").ID
		lake := w.item(ws, "My.Orders", workspace.Lakehouse)
		book := w.item(ws, "My.Orders", workspace.Notebook) // unique per type
		_, err := w.ws.CreateItem(ctx, member, ws, workspace.NewItem{DisplayName: "my.ORDERS", Type: workspace.Notebook})
		w.want(err, fault.ItemNameTaken)
		for _, n := range []workspace.NewItem{
			{DisplayName: "a/b", Type: workspace.Notebook},
			{DisplayName: "", Type: workspace.Notebook},
			{DisplayName: "a", Type: workspace.Notebook, Description: strings.Repeat("x", 4001)},
			{DisplayName: "a", Type: workspace.Notebook, Definition: &workspace.Definition{}},
			{DisplayName: "a", Type: workspace.Notebook, Definition: &workspace.Definition{Parts: []workspace.Part{{Path: "../x"}}}},
			{DisplayName: "a", Type: workspace.Notebook, Definition: &workspace.Definition{Parts: []workspace.Part{{Path: "x"}, {Path: "x"}}}},
		} {
			_, err := w.ws.CreateItem(ctx, member, ws, n)
			w.want(err, fault.InvalidArgument)
		}
		_, err = w.ws.CreateItem(ctx, member, ws, workspace.NewItem{DisplayName: "a", Type: "lakehouse"})
		w.want(err, fault.InvalidItemType)

		for segment, want := range map[string]workspace.Item{
			"My.Orders.Lakehouse": lake, "my.orders.LAKEHOUSE": lake, "My.Orders.Notebook": book,
			string(lake.ID): lake, strings.ToUpper(string(book.ID)): book,
		} {
			got, err := w.find(ws, segment)
			w.must(err)
			if d := cmp.Diff(want, got); d != "" {
				w.Errorf("%s (-want +got):\n%s", segment, d)
			}
		}
		other := w.create("Other").ID
		for _, segment := range []string{"My.Orders.Warehouse", "My.Lakehouse", "My.Orders", ".Lakehouse", "", "x", string(ws)} {
			_, err := w.find(ws, segment)
			w.want(err, fault.ItemNotFound)
		}
		_, err = w.find(other, string(lake.ID))
		w.want(err, fault.ItemNotFound)
		_, err = w.ws.Item(ctx, creator, other, lake.ID)
		w.want(err, fault.ItemNotFound)
		_, err = w.ws.FindItem(ctx, w.use(other), ws, string(lake.ID))
		w.want(err, fault.Internal)

		name := "Renamed"
		got, err := w.ws.UpdateItem(ctx, member, ws, lake.ID, workspace.Change{DisplayName: &name})
		w.must(err)
		if got.DisplayName != name || got.Description != lake.Description {
			w.Errorf("renamed to %v", got)
		}
		_, err = w.find(ws, "My.Orders.Lakehouse")
		w.want(err, fault.ItemNotFound)
		again := w.item(ws, "My.Orders", workspace.Lakehouse)
		_, err = w.ws.UpdateItem(ctx, member, ws, again.ID, workspace.Change{DisplayName: &name})
		w.want(err, fault.ItemNameTaken)
		lower := "renamed"
		_, err = w.ws.UpdateItem(ctx, member, ws, lake.ID, workspace.Change{DisplayName: &lower}) // its own name in another case
		w.must(err)

		page, more, err := w.ws.Items(ctx, viewer, ws, workspace.ItemFilter{Type: workspace.Lakehouse}, "", 1)
		w.must(err)
		if len(page) != 1 || !more {
			w.Errorf("first page of lakehouses: %v, %v", page, more)
		}
		page, more, err = w.ws.Items(ctx, viewer, ws, workspace.ItemFilter{Type: workspace.Lakehouse}, page[0].ID, 1)
		w.must(err)
		if len(page) != 1 || more {
			w.Errorf("second page of lakehouses: %v, %v", page, more)
		}
	})
}

func TestDefinition(t *testing.T) {
	run(t, func(w *world) {
		ctx := w.Context()
		ws := w.create("Sales").ID
		item := w.item(ws, "Book", workspace.Notebook)
		got, err := w.ws.Definition(ctx, member, ws, item.ID)
		w.must(err)
		if d := cmp.Diff(definition, got); d != "" {
			w.Errorf("(-want +got):\n%s", d)
		}
		next := workspace.Definition{Parts: []workspace.Part{{Path: "a/b", Payload: []byte("1")}, {Path: ".platform", Payload: []byte("{}")}}}
		w.must(w.ws.UpdateDefinition(ctx, member, ws, item.ID, next))
		got, err = w.ws.Definition(ctx, member, ws, item.ID)
		w.must(err)
		if d := cmp.Diff(next, got); d != "" {
			w.Errorf("(-want +got):\n%s", d)
		}
		large := workspace.Definition{Parts: []workspace.Part{{Path: "a", Payload: make([]byte, workspace.MaxDefinition)}}}
		w.want(w.ws.UpdateDefinition(ctx, member, ws, item.ID, large), fault.PayloadTooLarge)

		plain, err := w.ws.CreateItem(ctx, member, ws, workspace.NewItem{DisplayName: "Plain", Type: workspace.Notebook})
		w.must(err)
		got, err = w.ws.Definition(ctx, member, ws, plain.ID)
		w.must(err)
		if len(got.Parts) != 0 {
			w.Errorf("an item without a definition has %v", got)
		}
	})
}

func TestDeleteItem(t *testing.T) {
	run(t, func(w *world) {
		ctx := w.Context()
		ws := w.create("Sales").ID
		soft, hard := w.item(ws, "Soft", workspace.Notebook), w.item(ws, "Hard", workspace.Notebook)
		shredded := func(i workspace.Item) bool {
			var keys []encryption.KeyRow
			w.view(func(tx workspace.Tx) (err error) { keys, err = tx.ItemKeys(i.ID); return err })
			for _, k := range keys {
				if k.State != encryption.Shredded {
					return false
				}
			}
			return len(keys) > 0
		}
		// All of it works while the vault says no.
		w.assign(ws, "k")
		w.settle(ws, encryption.Active)
		w.vault.SetEnabled("k", false)
		time.Sleep(time.Minute)
		_, err := w.ws.Item(ctx, member, ws, soft.ID)
		w.want(err, fault.KEKRefused)

		w.want(w.ws.DeleteItem(ctx, member, ws, soft.ID, workspace.Lakehouse, false), fault.ItemNotFound)
		w.must(w.ws.DeleteItem(ctx, member, ws, soft.ID, workspace.Notebook, false))
		w.want(w.ws.DeleteItem(ctx, member, ws, soft.ID, "", false), fault.ItemNotFound)
		w.want(w.ws.DeleteItem(ctx, member, ws, hard.ID, "", true), fault.Denied)
		w.must(w.ws.DeleteItem(ctx, creator, ws, hard.ID, "", true))
		if shredded(soft) || !shredded(hard) {
			w.Errorf("shredded: soft %v, hard %v", shredded(soft), shredded(hard))
		}

		w.vault.SetEnabled("k", true)
		time.Sleep(time.Minute)
		for _, i := range []workspace.Item{soft, hard} {
			_, err := w.ws.Item(ctx, member, ws, i.ID)
			w.want(err, fault.ItemNotFound)
			_, err = w.find(ws, string(i.DisplayName)+".Notebook")
			w.want(err, fault.ItemNotFound)
			w.item(ws, i.DisplayName, workspace.Notebook) // the name is free
		}
		w.skew = 6 * 24 * time.Hour
		w.must(w.ws.Sweep(ctx))
		if shredded(soft) {
			w.Error("shredded before its retention is over")
		}
		w.skew += 25 * time.Hour
		w.must(w.ws.Sweep(ctx))
		if !shredded(soft) {
			w.Error("not shredded when its retention is over")
		}
	})
}

func TestUnsupportedTypes(t *testing.T) {
	run(t, func(w *world) {
		ws := w.create("Sales").ID
		report := workspace.NewItem{DisplayName: "R", Type: "Report"}
		i, err := w.ws.CreateItem(w.Context(), member, ws, report)
		w.must(err)
		w.want(w.scopes.Assign(w.Context(), creator, ws, w.vault.Create("k").String()), fault.UnsupportedItemType)
		w.must(w.ws.DeleteItem(w.Context(), creator, ws, i.ID, "", true))
		w.update(func(tx workspace.Tx) error { return tx.DeleteItemKeys(i.ID) })
		w.assign(ws, "k")
		_, err = w.ws.CreateItem(w.Context(), member, ws, report)
		w.want(err, fault.UnsupportedItemType)
		w.settle(ws, encryption.Active)
		_, err = w.ws.CreateItem(w.Context(), member, ws, report)
		w.want(err, fault.UnsupportedItemType)
		w.must(w.scopes.Reset(w.Context(), creator, ws))
		_, err = w.ws.CreateItem(w.Context(), member, ws, report)
		w.must(err)
	})
}

// While the vault says no, what needs no key goes on, and the rest says why not.
// Nothing opened before outlives the lease.
func TestRevoked(t *testing.T) {
	run(t, func(w *world) {
		ctx := w.Context()
		ws := w.create("Sales")
		item := w.item(ws.ID, "Orders", workspace.Lakehouse)
		w.assign(ws.ID, "k")
		w.settle(ws.ID, encryption.Active)
		u := w.use(ws.ID)
		_, err := w.ws.FindItem(ctx, u, ws.ID, "Orders.Lakehouse")
		w.must(err)
		if w.ws.OpenFolders() != 1 {
			w.Errorf("%d folders are open", w.ws.OpenFolders())
		}

		w.vault.Grant(false)
		time.Sleep(time.Minute)
		_, err = w.ws.FindItem(ctx, u, ws.ID, "Orders.Lakehouse")
		w.want(err, fault.KEKRefused)
		_, err = w.ws.ItemsOf(ctx, u, ws.ID)
		w.want(err, fault.KEKRefused)
		if w.ws.OpenFolders() != 0 {
			w.Errorf("%d folders are open after the lease", w.ws.OpenFolders())
		}
		got, err := w.ws.Get(ctx, creator, ws.ID)
		w.must(err)
		if got.Unreadable != fault.KEKRefused || got.Description != "" || got.DisplayName != "Sales" {
			w.Errorf("while revoked: %+v", got)
		}
		name := "Sales 2"
		_, err = w.ws.Update(ctx, creator, ws.ID, workspace.Change{DisplayName: &name})
		w.must(err)
		names, err := w.ws.ItemNames(ctx, creator, ws.ID)
		w.must(err)
		if names != nil {
			w.Errorf("names while revoked: %v", names)
		}
		_, err = w.ws.CreateItem(ctx, member, ws.ID, workspace.NewItem{DisplayName: "X", Type: workspace.Notebook})
		w.want(err, fault.KEKRefused)

		w.vault.Grant(true)
		time.Sleep(2 * time.Minute)
		found, err := w.find(ws.ID, "Orders.Lakehouse")
		w.must(err)
		if d := cmp.Diff(item, found); d != "" {
			w.Errorf("after the restore (-want +got):\n%s", d)
		}
	})
}

// A database writer who moves or changes rows is found out.
func TestMovedRows(t *testing.T) {
	run(t, func(w *world) {
		ws := w.create("Sales").ID
		a, b := w.item(ws, "A", workspace.Notebook), w.item(ws, "B", workspace.Notebook)
		entry := func(i workspace.Item) (e workspace.Entry) {
			w.view(func(tx workspace.Tx) (err error) { e, err = tx.ItemEntry(i.ID); return err })
			return e
		}
		ea, eb := entry(a), entry(b)
		for name, change := range map[string]func(*workspace.Entry){
			"another's record":   func(e *workspace.Entry) { e.Record = eb.Record },
			"another's code":     func(e *workspace.Entry) { e.Lookup = [32]byte{1} },
			"another revision":   func(e *workspace.Entry) { e.Revision++ },
			"a flipped bit":      func(e *workspace.Entry) { e.Record = append([]byte{e.Record[0] ^ 1}, e.Record[1:]...) },
			"a truncated record": func(e *workspace.Entry) { e.Record = e.Record[:len(e.Record)-1] },
		} {
			bad := ea
			change(&bad)
			w.update(func(tx workspace.Tx) error { return tx.UpdateItemEntry(bad, ea.Revision) })
			if _, err := w.find(ws, string(a.ID)); fault.ReasonOf(err) != fault.Integrity {
				w.Errorf("%s: %v", name, err)
			}
			w.update(func(tx workspace.Tx) error { return tx.UpdateItemEntry(ea, bad.Revision) })
		}
		// A definition is its item's.
		w.update(func(tx workspace.Tx) error {
			d, _, err := tx.ItemDefinition(b.ID)
			if err != nil {
				return err
			}
			d.Item = a.ID
			return tx.PutItemDefinition(d)
		})
		_, err := w.ws.Definition(w.Context(), member, ws, a.ID)
		w.want(err, fault.Integrity)
		_, err = w.find(ws, "A.Notebook")
		w.must(err)
	})
}
