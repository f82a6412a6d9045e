package workspace

import (
	"bytes"
	"context"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/failpoint"
)

var (
	listBegun       = failpoint.New("workspace/reencrypt/list-begun")
	listBatch       = failpoint.New("workspace/reencrypt/list-batch")
	listEmptied     = failpoint.New("workspace/reencrypt/list-emptied")
	listDone        = failpoint.New("workspace/reencrypt/list-done")
	descriptionDone = failpoint.New("workspace/reencrypt/description-done")
	definitionDone  = failpoint.New("workspace/reencrypt/definition-done")
)

// reencryptBatch is how many entries one transaction re-seals. It bounds for how
// long others wait to write.
const reencryptBatch = 128

// Reencrypt implements [encryption.Content]: for a scope's own item the names of
// the workspace's items and its description, for any other the definition and the
// logs of its jobs.
func (w *Workspaces) Reencrypt(ctx context.Context, job *encryption.Job) error {
	if ws := job.Use.Scope(); job.Item == encryption.ScopeItem(ws) {
		if err := w.reencryptNames(ctx, job, ws); err != nil {
			return err
		}
		return w.reencryptDescription(ctx, job, ws)
	}
	if err := w.reencryptDefinition(ctx, job); err != nil {
		return err
	}
	return w.reencryptLogs(ctx, job)
}

// reencryptNames moves the list to the current names key. Each turn is one durable
// step, so that a crash loses at most one: name the key and salt to come; re-seal
// entries in batches; and once none is left under the old key, forget it. A list
// that was on its way to a key which is no longer current arrives there first.
func (w *Workspaces) reencryptNames(ctx context.Context, job *encryption.Job, ws encryption.ScopeID) error {
	var p encryption.Progress
	for {
		if err := job.Check(); err != nil {
			return err
		}
		current, err := job.Use.Current(ctx, job.Item, encryption.NamesKey)
		if err != nil {
			return err
		}
		n, err := w.freshNames(ctx, job.Use)
		if fault.ReasonOf(err) == fault.WorkspaceNotFound {
			return nil // a workspace that is being created or deleted has no names
		}
		if err != nil {
			return err
		}
		switch {
		case n.list.NextKey == "" && n.list.Key == current.ID():
			return nil
		case n.list.NextKey == "":
			next := n.list
			next.NextKey, next.NextSalt, next.Seals = current.ID(), newSalt(), 0
			if err := w.moveList(ctx, job, n.list, next); err != nil {
				return err
			}
			if err := listBegun.Hit(); err != nil {
				return err
			}
			continue
		}
		moved, err := w.resealBatch(ctx, job, n)
		if err != nil {
			return err
		}
		if moved > 0 {
			p.Files += int64(moved)
			if err := job.Report(p); err != nil {
				return err
			}
			if err := listBatch.Hit(); err != nil {
				return err
			}
			continue
		}
		if err := listEmptied.Hit(); err != nil {
			return err
		}
		next := n.list
		next.Key, next.Salt = next.NextKey, next.NextSalt
		next.NextKey, next.NextSalt = "", [24]byte{}
		if err := w.moveList(ctx, job, n.list, next); err != nil {
			return err
		}
		w.folders.forget(ws, n.list.Key)
		if err := listDone.Hit(); err != nil {
			return err
		}
	}
}

// moveList replaces the list's row, if it still names the same keys. A list may
// only forget a key that no entry is under.
func (w *Workspaces) moveList(ctx context.Context, job *encryption.Job, old, next List) error {
	return w.store.Update(ctx, func(tx Tx) error {
		if err := job.Confirm(tx, next.sealing()); err != nil {
			return err
		}
		now, err := tx.ItemList(old.Workspace)
		if err != nil || !now.sameKeys(old) {
			return err // somebody else moved it: look again
		}
		if next.NextKey == "" {
			next.Seals = now.Seals
			if left, err := tx.ItemEntriesUnder(old.Workspace, old.Key, 1); err != nil || len(left) > 0 {
				return err
			}
		}
		return tx.PutItemList(next)
	})
}

// resealBatch re-seals some entries from the list's old key to its next one and
// returns how many it found there.
func (w *Workspaces) resealBatch(ctx context.Context, job *encryption.Job, n names) (int, error) {
	var rows []Entry
	err := w.store.View(ctx, func(tx Tx) (err error) {
		rows, err = tx.ItemEntriesUnder(n.list.Workspace, n.list.Key, w.batch)
		return err
	})
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	sealed := make([]Entry, len(rows))
	for i, e := range rows {
		r, err := n.record(ctx, e)
		if err != nil {
			return 0, err
		}
		e.Revision++
		if err := n.seal(ctx, &e, r); err != nil {
			return 0, err
		}
		sealed[i] = e
	}
	return len(rows), w.store.Update(ctx, func(tx Tx) error {
		if err := job.Confirm(tx, n.list.NextKey); err != nil {
			return err
		}
		if now, err := tx.ItemList(n.list.Workspace); err != nil || !now.sameKeys(n.list) {
			return err
		}
		for i, e := range rows {
			now, err := tx.ItemEntry(e.ID)
			if fault.ReasonOf(err) == fault.ItemNotFound {
				continue // shredded since
			}
			if err != nil {
				return err
			}
			if now.Revision != e.Revision {
				continue // renamed since, and so under the next key
			}
			// Only the seal is ours: the state may have changed since.
			now.Key, now.Lookup, now.Revision, now.Record = sealed[i].Key, sealed[i].Lookup, sealed[i].Revision, sealed[i].Record
			if err := tx.UpdateItemEntry(now, e.Revision); err != nil {
				return err
			}
			if err := tx.CountItemListSeal(n.list.Workspace); err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *Workspaces) reencryptDescription(ctx context.Context, job *encryption.Job, ws encryption.ScopeID) error {
	for {
		var row WorkspaceRow
		err := w.store.View(ctx, func(tx Tx) (err error) {
			row, err = tx.Workspace(ws)
			return err
		})
		if fault.ReasonOf(err) == fault.WorkspaceNotFound || err == nil && row.DescriptionKey == "" {
			return nil
		}
		if err != nil {
			return err
		}
		current, err := job.Use.Current(ctx, job.Item, encryption.ContentKey)
		if err != nil {
			return err
		}
		if row.DescriptionKey == current.ID() {
			return nil
		}
		text, err := openDescription(ctx, job.Use, row)
		if err != nil {
			return err
		}
		sealed := row
		if err := sealDescription(ctx, job.Use, &sealed, text); err != nil {
			return err
		}
		err = w.store.Update(ctx, func(tx Tx) error {
			if err := job.Confirm(tx, sealed.DescriptionKey); err != nil {
				return err
			}
			now, err := tx.Workspace(ws)
			if err != nil || now.DescriptionKey != row.DescriptionKey || !bytes.Equal(now.Description, row.Description) {
				return err // changed since: look again
			}
			now.DescriptionKey, now.Description = sealed.DescriptionKey, sealed.Description
			return tx.UpdateWorkspace(now)
		})
		if err != nil {
			return err
		}
		if err := descriptionDone.Hit(); err != nil {
			return err
		}
	}
}

func (w *Workspaces) reencryptDefinition(ctx context.Context, job *encryption.Job) error {
	for {
		if err := job.Check(); err != nil {
			return err
		}
		var row DefinitionRow
		var ok bool
		err := w.store.View(ctx, func(tx Tx) (err error) {
			row, ok, err = tx.ItemDefinition(job.Item)
			return err
		})
		if err != nil || !ok {
			return err
		}
		current, err := job.Use.Current(ctx, job.Item, encryption.ContentKey)
		if err != nil {
			return err
		}
		if row.Key == current.ID() {
			return nil
		}
		plain, err := openBlob(ctx, job.Use, row)
		if err != nil {
			return err
		}
		sealed, err := sealBlob(ctx, job.Use, job.Item, plain)
		clear(plain)
		if err != nil {
			return err
		}
		err = w.store.Update(ctx, func(tx Tx) error {
			if err := job.Confirm(tx, sealed.Key); err != nil {
				return err
			}
			now, ok, err := tx.ItemDefinition(job.Item)
			if err != nil || !ok || now.Key != row.Key || !bytes.Equal(now.Sealed, row.Sealed) {
				return err // changed since: look again
			}
			return tx.PutItemDefinition(sealed)
		})
		if err != nil {
			return err
		}
		if err := definitionDone.Hit(); err != nil {
			return err
		}
	}
}
