package store

import (
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// Lake returns the database as package lake's store.
func (d Domains) Lake() lake.Store {
	return domain[lake.Tx]{d.recall, func(t *Tx) lake.Tx { return t }}
}

// one runs a query for at most one row, and tells whether there was one.
func one[T any](t *Tx, scan func(func(...any) error) (T, error), query string, args ...any) (row T, ok bool, err error) {
	row, err = scan(func(into ...any) error { return t.row(query, args, into...) })
	if errors.Is(err, sql.ErrNoRows) {
		var none T
		return none, false, nil
	}
	return row, err == nil, err
}

// many runs a query and returns its rows.
func many[T any](t *Tx, scan func(func(...any) error) (T, error), query string, args ...any) (out []T, err error) {
	err = t.rows(query, args, func(into func(...any) error) error {
		row, err := scan(into)
		out = append(out, row)
		return err
	})
	return out, err
}

const folderColumns = `id, item, role, salt, key, COALESCE(next_key, ''), seals, names`

func scanFolder(scan func(...any) error) (f lake.FolderRow, err error) {
	var salt []byte
	err = scan(&f.ID, &f.Item, &f.Role, &salt, &f.Key, &f.NextKey, &f.Seals, &f.Names)
	copy(f.Salt[:], salt)
	return f, err
}

// LakeFolder implements [lake.Tx]. The one writer is the lock.
func (t *Tx) LakeFolder(id lake.NodeID) (lake.FolderRow, bool, error) {
	return recallOne(t, folderKey(id), aboutFolder, func() (lake.FolderRow, bool, error) {
		return one(t, scanFolder, `SELECT `+folderColumns+` FROM lake_folder WHERE id = $1`, string(id))
	})
}

// LakeFolderAs implements [lake.Tx]. The roles stand in the queries: SQLite would
// compile one with a parameter anew each time, to see whether the partial index
// serves its value.
func (t *Tx) LakeFolderAs(item encryption.ItemID, role lake.Role) (lake.FolderRow, bool, error) {
	query := `SELECT ` + folderColumns + ` FROM lake_folder WHERE item = $1 AND role = 'root'`
	switch role {
	case lake.Root:
	case lake.Uploads:
		query = `SELECT ` + folderColumns + ` FROM lake_folder WHERE item = $1 AND role = 'uploads'`
	default:
		return lake.FolderRow{}, false, fault.New(fault.Internal, "An item has many folders of this role.")
	}
	return recallOne(t, roleKey(item, role), aboutFolder, func() (lake.FolderRow, bool, error) {
		return one(t, scanFolder, query, string(item))
	})
}

// LakeFoldersUnder implements [lake.Tx].
func (t *Tx) LakeFoldersUnder(key encryption.KeyID, limit int) ([]lake.FolderRow, error) {
	return many(t, scanFolder, `SELECT `+folderColumns+` FROM lake_folder WHERE key = $1 OR next_key = $1 LIMIT $2`,
		string(key), limit)
}

// LakeFoldersDeleted implements [lake.Tx].
func (t *Tx) LakeFoldersDeleted(item encryption.ItemID, limit int) ([]lake.FolderRow, error) {
	if item == "" {
		return many(t, scanFolder, `SELECT `+folderColumns+` FROM lake_folder WHERE role = 'deleted' LIMIT $1`, limit)
	}
	return many(t, scanFolder, `SELECT `+folderColumns+` FROM lake_folder WHERE item = $1 AND role = 'deleted' LIMIT $2`,
		string(item), limit)
}

// PutLakeFolder implements [lake.Tx].
func (t *Tx) PutLakeFolder(f lake.FolderRow) error {
	keys := []rowKey{folderKey(f.ID), roleKey(f.Item, lake.Root), roleKey(f.Item, lake.Uploads)}
	if f.Role == lake.Ordinary {
		keys = keys[:1]
	}
	_, err := t.execRow(keys, `INSERT INTO lake_folder (id, item, role, salt, key, next_key, seals, names)
		VALUES ($1, $2, $3, $4, $5, NULLIF($6, ''), $7, $8)
		ON CONFLICT (id) DO UPDATE SET role = excluded.role, salt = excluded.salt, key = excluded.key,
		next_key = excluded.next_key, seals = excluded.seals, names = excluded.names`,
		string(f.ID), string(f.Item), string(f.Role), f.Salt[:], string(f.Key), string(f.NextKey), f.Seals, f.Names)
	if err == nil {
		t.became(keys[0], rowOf(f, true, aboutFolder))
	}
	return lakeErr(err)
}

// lakeErr gives a violated constraint its reason.
func lakeErr(err error) error {
	if isConstraint(err) {
		return fault.Wrap(fault.Conflict, err, "Somebody else has changed this at the same time.")
	}
	return err
}

// DeleteLakeFolder implements [lake.Tx].
func (t *Tx) DeleteLakeFolder(id lake.NodeID) error {
	_, err := t.execRow([]rowKey{folderKey(id)}, `DELETE FROM lake_folder WHERE id = $1`, string(id))
	return lakeErr(err)
}

const entryColumns = `id, folder, kind, key, lookup, revision, ordinal, record`

func scanEntry(scan func(...any) error) (e lake.EntryRow, err error) {
	var lookup []byte
	err = scan(&e.ID, &e.Folder, &e.Kind, &e.Key, &lookup, &e.Revision, &e.Ordinal, &e.Record)
	copy(e.Lookup[:], lookup)
	return e, err
}

// LakeEntry implements [lake.Tx].
func (t *Tx) LakeEntry(folder lake.NodeID, lookups ...[32]byte) (lake.EntryRow, bool, error) {
	for _, l := range lookups {
		e, ok, err := recallOne(t, entryKey(folder, l), aboutEntry, func() (lake.EntryRow, bool, error) {
			return one(t, scanEntry, `SELECT `+entryColumns+` FROM lake_entry WHERE folder = $1 AND lookup = $2`,
				string(folder), l[:])
		})
		if err != nil || ok {
			return e, ok, err
		}
	}
	return lake.EntryRow{}, false, nil
}

// LakeEntries implements [lake.Tx].
func (t *Tx) LakeEntries(folder lake.NodeID, each func(lake.EntryRow) error) error {
	return t.rows(`SELECT `+entryColumns+` FROM lake_entry WHERE folder = $1`, []any{string(folder)},
		func(scan func(...any) error) error {
			e, err := scanEntry(scan)
			if err != nil {
				return err
			}
			return each(e)
		})
}

// LakeEntriesSince implements [lake.Tx].
func (t *Tx) LakeEntriesSince(folder lake.NodeID, after int64, each func(lake.EntryRow) error) error {
	return t.rows(`SELECT `+entryColumns+` FROM lake_entry WHERE folder = $1 AND ordinal > $2`, []any{string(folder), after},
		func(scan func(...any) error) error {
			e, err := scanEntry(scan)
			if err != nil {
				return err
			}
			return each(e)
		})
}

// LakeEntriesAt implements [lake.Tx]. Of ordinals there are as many in a statement as
// stay far from any database's limit.
func (t *Tx) LakeEntriesAt(folder lake.NodeID, ordinals []int64) (out []lake.EntryRow, err error) {
	for part := range slices.Chunk(ordinals, 256) {
		args := make([]any, 257) // one statement for all lengths
		args[0] = string(folder)
		for i := range args[1:] {
			args[i+1] = part[min(i, len(part)-1)]
		}
		rows, err := many(t, scanEntry, lakeEntriesAt, args...)
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	return out, nil
}

var lakeEntriesAt = func() string {
	q := []byte(`SELECT ` + entryColumns + ` FROM lake_entry WHERE folder = $1 AND ordinal IN (`)
	for i := range 256 {
		if i > 0 {
			q = append(q, ',')
		}
		q = strconv.AppendInt(append(q, '$'), int64(i+2), 10)
	}
	return string(append(q, ')'))
}()

// LakeEntriesUnder implements [lake.Tx].
func (t *Tx) LakeEntriesUnder(folder lake.NodeID, key encryption.KeyID, limit int) ([]lake.EntryRow, error) {
	if key == "" {
		return many(t, scanEntry, `SELECT `+entryColumns+` FROM lake_entry WHERE folder = $1 LIMIT $2`, string(folder), unlimited(limit))
	}
	return many(t, scanEntry, `SELECT `+entryColumns+` FROM lake_entry WHERE folder = $1 AND key = $2 LIMIT $3`,
		string(folder), string(key), limit)
}

// PutLakeEntry implements [lake.Tx].
func (t *Tx) PutLakeEntry(e lake.EntryRow) error {
	keys := []rowKey{entryKey(e.Folder, e.Lookup), entryIDKey(e.ID)}
	_, err := t.execRow(keys, `INSERT INTO lake_entry (id, folder, kind, key, lookup, revision, ordinal, record)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (id) DO UPDATE SET folder = excluded.folder, kind = excluded.kind, key = excluded.key,
		lookup = excluded.lookup, revision = excluded.revision, ordinal = excluded.ordinal, record = excluded.record`,
		string(e.ID), string(e.Folder), int64(e.Kind), string(e.Key), e.Lookup[:], e.Revision, e.Ordinal, e.Record)
	if err == nil {
		t.became(keys[0], rowOf(e, true, aboutEntry))
	}
	return lakeErr(err)
}

// DeleteLakeEntry implements [lake.Tx].
func (t *Tx) DeleteLakeEntry(id lake.NodeID) error {
	_, err := t.execRow([]rowKey{entryIDKey(id)}, `DELETE FROM lake_entry WHERE id = $1`, string(id))
	return err
}

const nodeColumns = `id, item, kind, key, size, modified, manifest, lease, lease_length, lease_ends, lease_breaks`

func scanNode(scan func(...any) error) (n lake.NodeRow, err error) {
	var modified, length, ends, breaks int64
	err = scan(&n.ID, &n.Item, &n.Kind, &n.Key, &n.Size, &modified, &n.Manifest, &n.Lease.ID, &length, &ends, &breaks)
	n.Modified = fromMicros(modified)
	n.Lease.Length = time.Duration(length) * time.Microsecond
	n.Lease.Ends, n.Lease.Breaks = fromMicros(ends), fromMicros(breaks)
	return n, err
}

// LakeNode implements [lake.Tx].
func (t *Tx) LakeNode(id lake.NodeID) (lake.NodeRow, bool, error) {
	return recallOne(t, nodeKey(id), aboutNode, func() (lake.NodeRow, bool, error) {
		return one(t, scanNode, `SELECT `+nodeColumns+` FROM lake_node WHERE id = $1`, string(id))
	})
}

// LakeNodesUnder implements [lake.Tx].
func (t *Tx) LakeNodesUnder(key encryption.KeyID, limit int) ([]lake.NodeRow, error) {
	return many(t, scanNode, `SELECT `+nodeColumns+` FROM lake_node WHERE key = $1 LIMIT $2`, string(key), limit)
}

// LakeNodesLeased implements [lake.Tx].
func (t *Tx) LakeNodesLeased(item encryption.ItemID) ([]lake.NodeRow, error) {
	return many(t, scanNode, `SELECT `+nodeColumns+` FROM lake_node WHERE item = $1 AND lease <> ''`, string(item))
}

// PutLakeNode implements [lake.Tx].
func (t *Tx) PutLakeNode(n lake.NodeRow) error {
	_, err := t.execRow([]rowKey{nodeKey(n.ID)}, `INSERT INTO lake_node (id, item, kind, key, size, modified, manifest, lease, lease_length, lease_ends, lease_breaks)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (id) DO UPDATE SET key = excluded.key, size = excluded.size, modified = excluded.modified,
		manifest = excluded.manifest, lease = excluded.lease, lease_length = excluded.lease_length,
		lease_ends = excluded.lease_ends, lease_breaks = excluded.lease_breaks`,
		string(n.ID), string(n.Item), int64(n.Kind), string(n.Key), n.Size, micros(n.Modified), n.Manifest,
		n.Lease.ID, n.Lease.Length.Microseconds(), micros(n.Lease.Ends), micros(n.Lease.Breaks))
	if err == nil {
		n.Modified = fromMicros(micros(n.Modified))
		n.Lease.Length = n.Lease.Length.Truncate(time.Microsecond)
		n.Lease.Ends, n.Lease.Breaks = fromMicros(micros(n.Lease.Ends)), fromMicros(micros(n.Lease.Breaks))
		t.became(nodeKey(n.ID), rowOf(n, true, aboutNode))
	}
	return lakeErr(err)
}

// DeleteLakeNode implements [lake.Tx].
func (t *Tx) DeleteLakeNode(id lake.NodeID) error {
	_, err := t.execRow([]rowKey{nodeKey(id)}, `DELETE FROM lake_node WHERE id = $1`, string(id))
	return err
}

const (
	extentColumns = `id, item, key, owner, state, size, changed, due, inline`
	extentHead    = `id, item, key, owner, state, size, changed, due, NULL`
)

func scanExtent(scan func(...any) error) (e lake.ExtentRow, err error) {
	var changed, due int64
	err = scan(&e.ID, &e.Item, &e.Key, &e.Owner, &e.State, &e.Size, &changed, &due, &e.Inline)
	e.Changed, e.Due = fromMicros(changed), fromMicros(due)
	return e, err
}

// LakeExtent implements [lake.Tx].
func (t *Tx) LakeExtent(id lake.ExtentID) (lake.ExtentRow, bool, error) {
	return recallOne(t, extentKey(id), aboutExtent, func() (lake.ExtentRow, bool, error) {
		return one(t, scanExtent, `SELECT `+extentColumns+` FROM lake_extent WHERE id = $1`, string(id))
	})
}

// LakeExtentsUnder implements [lake.Tx].
func (t *Tx) LakeExtentsUnder(key encryption.KeyID, state lake.ExtentState, limit int) ([]lake.ExtentRow, error) {
	return many(t, scanExtent, `SELECT `+extentHead+` FROM lake_extent WHERE key = $1 AND state = $2 LIMIT $3`,
		string(key), int64(state), limit)
}

// LakeExtentsDue implements [lake.Tx].
func (t *Tx) LakeExtentsDue(now time.Time, limit int) ([]lake.ExtentRow, error) {
	return many(t, scanExtent, `SELECT `+extentHead+` FROM lake_extent WHERE state = 2 AND due <= $1 ORDER BY due LIMIT $2`,
		micros(now), limit)
}

// LakeExtentsLost implements [lake.Tx].
func (t *Tx) LakeExtentsLost(since time.Time, limit int) ([]lake.ExtentRow, error) {
	return many(t, scanExtent, `SELECT `+extentHead+` FROM lake_extent WHERE state = 0 AND changed <= $1
		AND NOT EXISTS (SELECT 1 FROM lake_staged WHERE lake_staged.id = lake_extent.owner) LIMIT $2`,
		micros(since), limit)
}

// PutLakeExtent implements [lake.Tx].
func (t *Tx) PutLakeExtent(e lake.ExtentRow) error {
	_, err := t.execRow([]rowKey{extentKey(e.ID)}, `INSERT INTO lake_extent (id, item, key, owner, state, size, changed, due, inline)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (id) DO UPDATE SET key = excluded.key, owner = excluded.owner, state = excluded.state,
		size = excluded.size, changed = excluded.changed, due = excluded.due, inline = excluded.inline`,
		string(e.ID), string(e.Item), string(e.Key), e.Owner, int64(e.State), e.Size, micros(e.Changed), micros(e.Due), e.Inline)
	if err == nil {
		e.Changed, e.Due = fromMicros(micros(e.Changed)), fromMicros(micros(e.Due))
		t.became(extentKey(e.ID), rowOf(e, true, aboutExtent))
	}
	return lakeErr(err)
}

// RekeyLakeExtent implements [lake.Tx]. What of the row is in other indexes than that
// of keys stays where it is.
func (t *Tx) RekeyLakeExtent(id lake.ExtentID, from, to encryption.KeyID, inline []byte) (bool, error) {
	n, err := t.exec(`UPDATE lake_extent SET key = $1, inline = $2 WHERE id = $3 AND key = $4 AND inline IS NOT NULL`,
		string(to), inline, string(id), string(from))
	return n > 0, lakeErr(err)
}

// DeleteLakeExtent implements [lake.Tx].
func (t *Tx) DeleteLakeExtent(id lake.ExtentID) error {
	_, err := t.execRow([]rowKey{extentKey(id)}, `DELETE FROM lake_extent WHERE id = $1`, string(id))
	return err
}

// DoomLakeExtents implements [lake.Tx].
func (t *Tx) DoomLakeExtents(owner string, due time.Time) error {
	keys := []rowKey{ownerKey(owner)}
	if _, err := t.execRow(keys, `DELETE FROM lake_extent WHERE owner = $1 AND inline IS NOT NULL`, owner); err != nil {
		return err
	}
	_, err := t.execRow(keys, `UPDATE lake_extent SET state = 2, due = $2 WHERE owner = $1 AND state <> 2`, owner, micros(due))
	return err
}

const stagedColumns = `id, item, owner, key, ordinal, position, size, record, changed`

func scanStaged(scan func(...any) error) (s lake.StagedRow, err error) {
	var changed int64
	err = scan(&s.ID, &s.Item, &s.Owner, &s.Key, &s.Ordinal, &s.Position, &s.Size, &s.Record, &changed)
	s.Changed = fromMicros(changed)
	return s, err
}

// LakeStaged implements [lake.Tx].
func (t *Tx) LakeStaged(id lake.StagedID) (lake.StagedRow, bool, error) {
	return one(t, scanStaged, `SELECT `+stagedColumns+` FROM lake_staged WHERE id = $1`, string(id))
}

// LakeStagedOf implements [lake.Tx].
func (t *Tx) LakeStagedOf(owner lake.NodeID) ([]lake.StagedRow, error) {
	return many(t, scanStaged, `SELECT `+stagedColumns+` FROM lake_staged WHERE owner = $1 ORDER BY ordinal`, string(owner))
}

// LakeStagedNext implements [lake.Tx].
func (t *Tx) LakeStagedNext(owner lake.NodeID) (next int64, err error) {
	err = t.row(`SELECT COALESCE(MAX(ordinal), 0) + 1 FROM lake_staged WHERE owner = $1`, []any{string(owner)}, &next)
	return next, err
}

// LakeStagedUnder implements [lake.Tx].
func (t *Tx) LakeStagedUnder(key encryption.KeyID, limit int) ([]lake.StagedRow, error) {
	return many(t, scanStaged, `SELECT `+stagedColumns+` FROM lake_staged WHERE key = $1 LIMIT $2`, string(key), limit)
}

// LakeStagedSince implements [lake.Tx].
func (t *Tx) LakeStagedSince(owned bool, since time.Time, limit int) ([]lake.StagedRow, error) {
	query := `SELECT ` + stagedColumns + ` FROM lake_staged WHERE changed <= $1 AND owner = '' LIMIT $2`
	if owned {
		query = `SELECT ` + stagedColumns + ` FROM lake_staged WHERE changed <= $1 AND owner <> '' LIMIT $2`
	}
	return many(t, scanStaged, query, micros(since), limit)
}

// PutLakeStaged implements [lake.Tx].
func (t *Tx) PutLakeStaged(s lake.StagedRow) error {
	_, err := t.exec(`INSERT INTO lake_staged (id, item, owner, key, ordinal, position, size, record, changed)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, key = excluded.key, ordinal = excluded.ordinal,
		position = excluded.position, size = excluded.size, record = excluded.record, changed = excluded.changed`,
		string(s.ID), string(s.Item), string(s.Owner), string(s.Key), s.Ordinal, s.Position, s.Size, s.Record, micros(s.Changed))
	return lakeErr(err)
}

// DeleteLakeStaged implements [lake.Tx].
func (t *Tx) DeleteLakeStaged(id lake.StagedID) error {
	_, err := t.exec(`DELETE FROM lake_staged WHERE id = $1`, string(id))
	return err
}

// LakeTotals implements [lake.Tx].
func (t *Tx) LakeTotals(item encryption.ItemID, key encryption.KeyID) (all, under lake.Totals, err error) {
	err = t.row(`SELECT COUNT(*), COALESCE(SUM(size), 0), COUNT(CASE WHEN key = $2 THEN 1 END),
		COALESCE(SUM(CASE WHEN key = $2 THEN size END), 0) FROM lake_node WHERE item = $1 AND kind = 1`,
		[]any{string(item), string(key)}, &all.Files, &all.Bytes, &under.Files, &under.Bytes)
	return all, under, err
}

// LakeShreddedItems implements [lake.Tx].
func (t *Tx) LakeShreddedItems(limit int) ([]encryption.ItemID, error) {
	return many(t, func(scan func(...any) error) (id encryption.ItemID, err error) {
		err = scan(&id)
		return id, err
	}, `SELECT DISTINCT item FROM item_key k WHERE state = 'shredded'
		AND (item <> scope OR EXISTS (SELECT 1 FROM lake_folder f WHERE f.item = k.item)) LIMIT $1`, limit)
}

// DropLakeItem implements [lake.Tx].
func (t *Tx) DropLakeItem(item encryption.ItemID, due time.Time, limit int) (done bool, err error) {
	id := string(item)
	if _, err := t.exec(`UPDATE lake_extent SET state = 2, due = $2 WHERE item = $1 AND state <> 2 AND inline IS NULL`,
		id, micros(due)); err != nil {
		return false, err
	}
	for _, q := range []string{
		`DELETE FROM lake_extent WHERE id IN (SELECT id FROM lake_extent WHERE item = $1 AND inline IS NOT NULL LIMIT $2)`,
		`DELETE FROM lake_staged WHERE id IN (SELECT id FROM lake_staged WHERE item = $1 LIMIT $2)`,
		`DELETE FROM lake_node WHERE id IN (SELECT id FROM lake_node WHERE item = $1 LIMIT $2)`,
		`DELETE FROM lake_entry WHERE id IN (SELECT e.id FROM lake_folder f JOIN lake_entry e ON e.folder = f.id
			WHERE f.item = $1 LIMIT $2)`,
		`DELETE FROM lake_folder WHERE id IN (SELECT id FROM lake_folder WHERE item = $1 LIMIT $2)`,
	} {
		n, err := t.exec(q, id, limit)
		if err != nil {
			return false, lakeErr(err)
		}
		if n == int64(limit) {
			return false, nil
		}
	}
	return true, nil
}
