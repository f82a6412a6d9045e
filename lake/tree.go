package lake

import (
	"context"
	"crypto/rand"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
)

// maxSeals is how many records a folder seals under one salt: half of the 2³²
// that random nonces allow (NIST SP 800-38D §8.3).
var maxSeals int64 = 1 << 31

// folderKeys returns the folder's keys under one of the keys that it names.
func (s *session) folderKeys(f FolderRow, id encryption.KeyID) (*folderKeys, error) {
	key, err := s.key(id)
	if err != nil {
		return nil, err
	}
	return s.lake.folders.get(s.use, f, key)
}

// find returns the folder's entry of the name.
func (s *session) find(tx Tx, f FolderRow, name string) (EntryRow, bool, error) {
	ids := []encryption.KeyID{f.Key}
	if f.NextKey != "" {
		ids = append(ids, f.NextKey)
	}
	var lookups [][32]byte
	for _, id := range ids {
		keys, err := s.folderKeys(f, id)
		if err != nil {
			return EntryRow{}, false, err
		}
		mac, err := keys.lookup(name)
		if err != nil {
			return EntryRow{}, false, err
		}
		lookups = append(lookups, mac)
	}
	return tx.LakeEntry(f.ID, lookups...)
}

// open opens an entry's record.
func (s *session) open(f FolderRow, e EntryRow) (record, error) {
	keys, err := s.folderKeys(f, e.Key)
	if err != nil {
		return record{}, err
	}
	return keys.open(e)
}

// put seals a record for the entry, under the key that now seals in the folder,
// and stores both.
func (s *session) put(tx Tx, f *FolderRow, e EntryRow, r record) error {
	if err := s.putEntry(tx, f, e, r); err != nil {
		return err
	}
	return tx.PutLakeFolder(*f)
}

// putEntry is put for who stores the folder's row himself: f counts the seal, and
// the name if that is new to the folder.
func (s *session) putEntry(tx Tx, f *FolderRow, e EntryRow, r record) error {
	if f.Seals >= maxSeals {
		return noSalt(f.ID)
	}
	keys, err := s.folderKeys(*f, f.sealing())
	if err != nil {
		return err
	}
	e.Folder, e.Kind, e.Key, e.Revision = f.ID, r.kind, keys.key, e.Revision+1
	if e.Lookup, err = keys.lookup(r.name); err != nil {
		return err
	}
	if e.Record, err = keys.seal(e, r); err != nil {
		return err
	}
	f.Seals++
	if e.Ordinal == 0 {
		f.Names++
		e.Ordinal = f.Names
	}
	return tx.PutLakeEntry(e)
}

// resalt gives a folder a new salt and seals its records again, in one
// transaction: it happens once in two thousand million writes.
func (s *session) resalt(ctx context.Context, id NodeID) error {
	return s.run(ctx, s.lake.store.Update, func(tx Tx) error {
		old, ok, err := tx.LakeFolder(id)
		if err != nil || !ok || old.Seals < maxSeals {
			return err
		}
		f := old
		f.Seals = 0
		rand.Read(f.Salt[:])
		entries, err := tx.LakeEntriesUnder(id, "", -1)
		if err != nil {
			return err
		}
		for _, e := range entries {
			r, err := s.open(old, e)
			if err != nil {
				return err
			}
			if err := s.putEntry(tx, &f, e, r); err != nil {
				return err
			}
		}
		if err := s.use.Confirm(tx, f.sealing()); err != nil {
			return err
		}
		return tx.PutLakeFolder(f)
	})
}

// newFolder returns the row of a new folder, under the current namespace key.
func (s *session) newFolder(id NodeID, role Role) FolderRow {
	f := FolderRow{ID: id, Item: s.item.ID, Role: role, Key: s.names.ID()}
	rand.Read(f.Salt[:])
	return f
}

// special returns the item's folder with the role, making it if make is set.
func (s *session) special(tx Tx, role Role, make bool) (FolderRow, bool, error) {
	f, ok, err := tx.LakeFolderAs(s.item.ID, role)
	if err != nil || ok || !make {
		return f, ok, err
	}
	f = s.newFolder(NodeID(newID()), role)
	return f, true, tx.PutLakeFolder(f)
}

// A place is where a path below an item leads.
type place struct {
	folders []FolderRow // that exist on the way, from the root on; none if the item is empty
	missing []string    // names of folders that do not exist, from the first
	name    string
	entry   EntryRow // zero if nothing has the name
	exists  bool
}

// parent returns the folder that holds, or would hold, the name. It is only
// there if nothing is missing.
func (p place) parent() *FolderRow { return &p.folders[len(p.folders)-1] }

func (p place) isFile() bool   { return p.exists && p.entry.Kind == File }
func (p place) isFolder() bool { return p.exists && p.entry.Kind == Folder }

// locate walks to the path, at least one name below the item.
func (s *session) locate(tx Tx, names []string) (place, error) {
	p := place{name: names[len(names)-1]}
	f, ok, err := s.special(tx, Root, false)
	if err != nil {
		return place{}, err
	}
	if !ok {
		p.missing = names[:len(names)-1]
		return p, nil
	}
	p.folders = append(p.folders, f)
	for i, name := range names {
		e, ok, err := s.find(tx, f, name)
		if err != nil {
			return place{}, err
		}
		if i == len(names)-1 {
			p.entry, p.exists = e, ok
			return p, nil
		}
		if !ok {
			p.missing = names[i : len(names)-1]
			return p, nil
		}
		if e.Kind != Folder {
			return place{}, fault.New(fault.PathConflict, "A part of the path is a file, and no folder.")
		}
		if f, ok, err = tx.LakeFolder(e.ID); err != nil {
			return place{}, err
		}
		if !ok {
			return place{}, fault.New(fault.Integrity, "A folder's row is missing.").About(string(e.ID))
		}
		p.folders = append(p.folders, f)
	}
	return p, nil
}

// makeParents makes the folders that the place misses.
func (s *session) makeParents(tx Tx, p *place) error {
	if len(p.folders) == 0 {
		root, _, err := s.special(tx, Root, true)
		if err != nil {
			return err
		}
		p.folders = append(p.folders, root)
	}
	for _, name := range p.missing {
		if _, err := s.makeFolder(tx, p, name, PutOptions{}); err != nil {
			return err
		}
	}
	p.missing = nil
	return nil
}

// makeFolder makes a folder in the place's parent and makes it the new parent.
func (s *session) makeFolder(tx Tx, p *place, name string, o PutOptions) (manifest, error) {
	now := s.now()
	m := manifest{
		attributes: attributes{kind: Folder, etag: newETag(), created: now, modified: now, headers: o.Headers},
		metadata:   o.Metadata,
	}
	if err := m.begin(o, now); err != nil {
		return m, err
	}
	f := s.newFolder(NodeID(newID()), Ordinary)
	if err := tx.PutLakeFolder(f); err != nil {
		return m, err
	}
	if err := s.put(tx, p.parent(), EntryRow{ID: f.ID}, record{name, m.attributes}); err != nil {
		return m, err
	}
	if err := s.putNode(tx, f.ID, m); err != nil {
		return m, err
	}
	p.folders = append(p.folders, f)
	return m, nil
}

// The purposes of what the lake seals, as docs/format.md lists them.
const (
	purposeManifest     = "kluis/v1/manifest"
	purposeExtent       = "kluis/v1/extent"
	purposeStaged       = "kluis/v1/staged"
	purposeContinuation = "kluis/v1/continuation"
)

// putNode seals a manifest and stores it.
func (s *session) putNode(tx Tx, id NodeID, m manifest) error {
	sealed, err := s.content.Seal(m.encode(), purposeManifest, string(id))
	if err != nil {
		return err
	}
	return tx.PutLakeNode(NodeRow{
		ID: id, Item: s.item.ID, Kind: m.kind, Key: s.content.ID(), Size: m.size, Modified: m.modified, Manifest: sealed,
		Lease: m.lease,
	})
}

// openNode opens a node's manifest.
func (s *session) openNode(n NodeRow) (manifest, error) {
	key, err := s.key(n.Key)
	if err != nil {
		return manifest{}, err
	}
	b, err := key.Open(n.Manifest, purposeManifest, string(n.ID))
	if err != nil {
		return manifest{}, err
	}
	m, err := decodeManifest(b)
	m.lease = n.Lease.at(s.now())
	return m, err
}

// node reads and opens the node that an entry names.
func (s *session) node(tx Tx, id NodeID) (NodeRow, manifest, error) {
	n, ok, err := tx.LakeNode(id)
	if err == nil && !ok {
		err = fault.New(fault.Integrity, "An entry names a file or folder that has no row.").About(string(id))
	}
	if err != nil {
		return n, manifest{}, err
	}
	m, err := s.openNode(n)
	return n, m, err
}

// properties describes a node at its path.
func (s *session) properties(name string, key encryption.KeyID, m manifest) Properties {
	p := describe(name, m.attributes)
	p.Access.ACL = m.list()
	p.Metadata, p.Blocks, p.Copy, p.Lease = m.metadata, len(m.blocks), m.copied, m.lease
	p.Container, p.Item, p.KeyID = s.container.ID, s.item.ID, key
	return p
}
