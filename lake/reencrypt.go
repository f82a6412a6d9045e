package lake

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/failpoint"
)

var (
	resealed  = failpoint.New("lake/reencrypt/copied")    // new extents are there, and listed nowhere
	swapped   = failpoint.New("lake/reencrypt/swapped")   // manifests list them; the old ones' objects are still there
	destroyed = failpoint.New("lake/reencrypt/destroyed") // the old ones' objects are gone, their rows not
	named     = failpoint.New("lake/reencrypt/named")     // a batch of names is under the new key
)

// The size of one step of re-encryption.
const (
	batchRows = 64
	// swapBytes is how much one step copies at most, beyond one extent: it
	// bounds what a crash repeats.
	swapBytes = 256 << 20
)

// inFlightGrace is how long re-encryption waits for an extent that is just being
// written under a retiring key, before that upload has to be sent again.
var inFlightGrace = time.Minute

// A reencryption is the lake's part of one item's.
type reencryption struct {
	*session
	job      *encryption.Job
	progress encryption.Progress
	waited   time.Time // when it began to wait for uploads
	idle     int       // steps in a row that found nothing of what they were to replace
}

// Reencrypt implements [encryption.Content]: it brings the item's extents,
// manifests, staged content and names from retiring keys to the current ones.
// Files can be read, written, renamed and deleted meanwhile: each step replaces
// what it has found unchanged. What a retiring key has sealed is destroyed, also
// where it was kept for backups only.
func (l *Lake) Reencrypt(ctx context.Context, job *encryption.Job) error {
	r := &reencryption{session: &session{lake: l, use: job.Use, item: Item{ID: job.Item}}, job: job}
	if err := r.count(ctx); err != nil {
		return err
	}
	for {
		if err := job.Check(); err != nil {
			return err
		}
		// The current keys first: asking for them may retire older ones.
		if err := r.takeItem(ctx, r.item); err != nil {
			return err
		}
		done, err := r.step(ctx)
		if err != nil {
			return err
		}
		if err := r.job.Report(r.progress); err != nil || done {
			return err
		}
	}
}

// count finds out how much there is, and how much of it is done.
func (r *reencryption) count(ctx context.Context) error {
	if err := r.takeItem(ctx, r.item); err != nil {
		return err
	}
	return r.lake.store.View(ctx, func(tx Tx) error {
		all, done, err := tx.LakeTotals(r.item.ID, r.content.ID())
		r.progress = encryption.Progress{Files: done.Files, TotalFiles: all.Files, Bytes: done.Bytes, TotalBytes: all.Bytes}
		return err
	})
}

// update is a transaction of the job.
func (r *reencryption) update(ctx context.Context, fn func(Tx) error) error {
	return r.run(ctx, r.lake.store.Update, func(tx Tx) error {
		if err := r.job.Confirm(tx, r.content.ID(), r.names.ID()); err != nil {
			return err
		}
		return fn(tx)
	})
}

// A backlog is what is found under one retiring key, a batch of each.
type backlog struct {
	doomed  []ExtentRow
	nodes   []NodeID
	staged  []StagedRow
	flying  []ExtentRow
	folders []NodeID
	deleted bool // there are folders cut off from the tree
}

func (b backlog) empty() bool {
	return len(b.doomed)+len(b.nodes)+len(b.staged)+len(b.flying)+len(b.folders) == 0 && !b.deleted
}

// step does one batch of what is left. It is done when no row names a retiring
// key.
func (r *reencryption) step(ctx context.Context) (done bool, err error) {
	b, err := r.backlog(ctx)
	switch {
	case err != nil || b.empty():
		return err == nil, err
	case b.deleted:
		_, err = r.lake.purge(ctx, r.item.ID, 1)
	case len(b.doomed) > 0:
		err = r.lake.destroy(ctx, b.doomed)
	case len(b.nodes) > 0:
		err = r.swapNodes(ctx, b.nodes)
	case len(b.staged) > 0:
		err = r.swapStaged(ctx, b.staged[0])
	case len(b.folders) > 0:
		err = r.renameFolders(ctx, b.folders)
	default:
		err = r.await(ctx, b.flying)
	}
	return false, err
}

func (r *reencryption) backlog(ctx context.Context) (b backlog, err error) {
	err = r.lake.store.View(ctx, func(tx Tx) error {
		b = backlog{}
		keys, err := tx.ItemKeys(r.item.ID)
		if err != nil {
			return err
		}
		deleted, err := tx.LakeFoldersDeleted(r.item.ID, 1)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if k.State != encryption.Retiring || !b.empty() {
				continue
			}
			if k.Purpose == encryption.NamesKey {
				folders, err := tx.LakeFoldersUnder(k.ID, batchRows)
				if err != nil {
					return err
				}
				for _, f := range folders {
					b.folders = append(b.folders, f.ID)
				}
			} else if err := b.content(tx, k.ID); err != nil {
				return err
			}
		}
		b.deleted = len(deleted) > 0 && !b.empty()
		return nil
	})
	return b, err
}

func (b *backlog) content(tx Tx, key encryption.KeyID) (err error) {
	if b.doomed, err = tx.LakeExtentsUnder(key, Doomed, batchRows); err != nil {
		return err
	}
	seen := map[NodeID]bool{}
	add := func(id NodeID) {
		if !seen[id] {
			seen[id] = true
			b.nodes = append(b.nodes, id)
		}
	}
	nodes, err := tx.LakeNodesUnder(key, batchRows)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		add(n.ID)
	}
	live, err := tx.LakeExtentsUnder(key, Live, batchRows)
	if err != nil {
		return err
	}
	for _, e := range live {
		add(NodeID(e.Owner))
	}
	if b.staged, err = tx.LakeStagedUnder(key, batchRows); err != nil {
		return err
	}
	staged, err := tx.LakeExtentsUnder(key, Staged, batchRows)
	if err != nil {
		return err
	}
	for _, e := range staged {
		row, ok, err := tx.LakeStaged(StagedID(e.Owner))
		if err != nil {
			return err
		}
		if ok && e.Size > 0 {
			b.staged = append(b.staged, row)
		} else {
			b.flying = append(b.flying, e)
		}
	}
	return nil
}

// A swap is one manifest's part of a step: new extents for old ones. One that is in
// its row stays where it is, under another key.
type swap struct {
	node NodeID
	by   map[ExtentID]copied // the new one of each old one
}

// A copied extent is sealed anew.
type copied struct {
	ExtentRow
	from encryption.KeyID // what the old one was under
}

// swapNodes brings files, and folders' metadata, under the current key: as many
// of them as one step takes.
func (r *reencryption) swapNodes(ctx context.Context, ids []NodeID) error {
	found, err := r.findSwaps(ctx, ids[:min(len(ids), batchRows)])
	if err != nil {
		return err
	}
	swaps := make([]swap, len(found))
	for i, f := range found {
		swaps[i].node = f.node
		if err := r.copyAll(ctx, f.refs, f.rows, &swaps[i]); err != nil {
			return err
		}
	}
	if err := resealed.Hit(); err != nil {
		return err
	}
	var old []ExtentRow
	var finished encryption.Progress
	var did bool
	err = r.update(ctx, func(tx Tx) error {
		old, finished, did = nil, encryption.Progress{}, false
		for _, sw := range swaps {
			gone, changed, err := r.swapNode(tx, sw, &finished)
			if err != nil {
				return err
			}
			old = append(old, gone...)
			did = did || changed
		}
		return nil
	})
	if err != nil {
		return err
	}
	if r.idle++; did {
		r.idle = 0
	}
	if r.idle == maxIdle {
		return fault.New(fault.Integrity, "A file has extents that its manifest does not list.").About(string(ids[0]))
	}
	r.progress.Files = min(r.progress.Files+finished.Files, r.progress.TotalFiles)
	r.progress.Bytes = min(r.progress.Bytes+finished.Bytes, r.progress.TotalBytes)
	if err := swapped.Hit(); err != nil {
		return err
	}
	return r.lake.destroy(ctx, old)
}

// A toSwap is what of a manifest is to be replaced.
type toSwap struct {
	node NodeID
	refs []extentRef
	rows []ExtentRow
}

// findSwaps finds what is to be replaced in the nodes, of as many as one step takes.
func (r *reencryption) findSwaps(ctx context.Context, ids []NodeID) (found []toSwap, err error) {
	err = r.view(ctx, func(tx Tx) error {
		found = nil
		for volume := int64(0); len(found) < len(ids) && volume < swapBytes; {
			f := toSwap{node: ids[len(found)]}
			f.refs, f.rows, err = r.behind(tx, func() (manifest, bool, error) {
				n, ok, err := tx.LakeNode(f.node)
				if err != nil || !ok {
					return manifest{}, false, err
				}
				m, err := r.openNode(n)
				return m, true, err
			})
			if err != nil {
				return err
			}
			for _, ref := range f.refs {
				volume += ref.plain
			}
			found = append(found, f)
		}
		return nil
	})
	return found, err
}

// behind returns a manifest's extents that are not under the current key, with
// their rows.
func (r *reencryption) behind(tx Tx, open func() (manifest, bool, error)) (refs []extentRef, rows []ExtentRow, err error) {
	m, ok, err := open()
	if err != nil || !ok {
		return nil, nil, err
	}
	var volume int64
	for _, ref := range m.extents {
		row, ok, err := tx.LakeExtent(ref.id)
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			return nil, nil, fault.New(fault.Integrity, "An extent of the item has no row.").About(string(ref.id))
		}
		if row.Key == r.content.ID() {
			continue
		}
		if _, err := r.key(row.Key); err != nil {
			return nil, nil, err
		}
		refs, rows = append(refs, ref), append(rows, row)
		if volume += ref.plain; volume >= swapBytes {
			break
		}
	}
	return refs, rows, nil
}

// maxIdle is how many steps in a row may find that what they were to replace has
// gone meanwhile.
const maxIdle = 50

// swapNode replaces what is still in the node's manifest, counts the node in
// finished if nothing of it is left, and reports whether it changed anything.
func (r *reencryption) swapNode(tx Tx, sw swap, finished *encryption.Progress) (gone []ExtentRow, changed bool, err error) {
	n, ok, err := tx.LakeNode(sw.node)
	if err != nil {
		return nil, false, err
	}
	if !ok {
		gone, err = r.replaceExtents(tx, &manifest{}, sw, "", Doomed)
		return gone, false, err
	}
	if n.Key == r.content.ID() && len(sw.by) == 0 {
		return nil, false, nil
	}
	m, err := r.openNode(n)
	if err != nil {
		return nil, false, err
	}
	if gone, err = r.replaceExtents(tx, &m, sw, string(n.ID), Live); err != nil {
		return nil, false, err
	}
	if n.Kind == File && n.Key != r.content.ID() {
		finished.Files++
		finished.Bytes += n.Size
	}
	return gone, true, r.putNode(tx, n.ID, m)
}

// destroy removes extents at once: their objects, then their rows. A crash in
// between leaves doomed rows that are due.
func (l *Lake) destroy(ctx context.Context, extents []ExtentRow) error {
	if len(extents) == 0 {
		return nil
	}
	for _, e := range extents {
		if err := l.objects.Delete(ctx, string(e.ID)); err != nil {
			return storeFailed(err)
		}
	}
	if err := destroyed.Hit(); err != nil {
		return err
	}
	return l.store.Update(ctx, func(tx Tx) error {
		for _, e := range extents {
			if err := tx.DeleteLakeExtent(e.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// maxAtOnce is how many names one transaction seals anew: SQLite's statements take
// the longer, the more a transaction has done. A folder with more of them has two
// keys for a while.
var maxAtOnce = 128

// renameFolders brings the names in folders under the current key: as many of them
// as one transaction takes.
func (r *reencryption) renameFolders(ctx context.Context, folders []NodeID) error {
	err := r.update(ctx, func(tx Tx) error {
		for i, left := 0, maxAtOnce; i < len(folders) && left > 0; i++ {
			n, err := r.renameFolder(tx, folders[i], left)
			if err != nil {
				return err
			}
			left -= n
		}
		return nil
	})
	if err != nil {
		return err
	}
	return named.Hit()
}

// renameFolder brings up to limit of a folder's names under the current key, and
// returns how many.
func (r *reencryption) renameFolder(tx Tx, id NodeID, limit int) (n int, err error) {
	f, ok, err := tx.LakeFolder(id)
	if err != nil || !ok {
		return 0, err
	}
	// A folder that a former re-encryption has left between two keys goes on
	// to the second before it goes to a third.
	if f.NextKey == "" {
		if f.Key == r.names.ID() {
			return 0, nil
		}
		f.NextKey, f.Seals = r.names.ID(), 0
	}
	entries, err := tx.LakeEntriesUnder(id, f.Key, limit+1)
	if err != nil {
		return 0, err
	}
	last := len(entries) <= limit
	entries = entries[:min(len(entries), limit)]
	for _, e := range entries {
		rec, err := r.open(f, e)
		if err != nil {
			return 0, err
		}
		if err := r.putEntry(tx, &f, e, rec); err != nil {
			return 0, err
		}
	}
	if last {
		f.Key, f.NextKey = f.NextKey, ""
	}
	return len(entries), tx.PutLakeFolder(f)
}
