package lake

import (
	"cmp"
	"context"
	"errors"
	"io"
	"slices"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// ListContainers returns the caller's tenant's containers whose names begin with
// the prefix and whose data the caller may read, in order of their names.
//
// An account that is not "" is the storage account whose containers they are.
func (l *Lake) ListContainers(ctx context.Context, caller identity.Caller, account, prefix string) ([]ContainerProperties, error) {
	if account != "" {
		return l.accountContainers(ctx, caller, account, prefix)
	}
	all, err := l.catalog.Workspaces(ctx, caller.Tenant)
	if err != nil {
		return nil, err
	}
	var out []ContainerProperties
	err = l.store.View(ctx, func(tx Tx) error {
		out = nil
		for _, c := range all {
			s := session{caller: caller, action: rbac.DataRead, container: c}
			if c.Tenant != caller.Tenant || len(c.Name) < len(prefix) || c.Name[:len(prefix)] != prefix || s.authorise(tx) != nil {
				continue
			}
			out = append(out, ContainerProperties{Container: c, ETag: managedETag(c.ID)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b ContainerProperties) int { return cmp.Compare(a.Name, b.Name) })
	if err := l.recorder.Record(ctx, caller.Entry(opContainer, "/workspaces")); err != nil {
		return nil, auditFailed(err)
	}
	return out, nil
}

// Container describes a container, by name or id. Like all data access it is
// refused while the container's key is revoked. Of the conditions only the lease counts.
func (l *Lake) Container(ctx context.Context, caller identity.Caller, p Path, c Conditions) (props ContainerProperties, err error) {
	p.Segments = nil
	err = l.do(ctx, caller, opContainer, rbac.DataRead, p, func(s *session) error {
		props = ContainerProperties{Container: s.container, ETag: managedETag(s.container.ID)}
		if p.Account != "" {
			props = s.containerProperties(p.Container, s.root)
			if err := s.root.lease.allowsRead(c.Lease); err != nil {
				return err
			}
		}
		return s.recordRead(ctx, "", 0)
	})
	return props, err
}

// Rights are what a caller may do with a container's data.
type Rights struct{ Read, Write, Delete bool }

// Rights returns the caller's own in a container. Whoever may not read it is
// refused.
func (l *Lake) Rights(ctx context.Context, caller identity.Caller, p Path) (r Rights, err error) {
	p.Segments = nil
	err = l.do(ctx, caller, opRights, rbac.DataRead, p, func(s *session) error {
		err := s.view(ctx, func(tx Tx) error {
			r = Rights{Read: true}
			for action, may := range map[rbac.Action]*bool{rbac.DataWrite: &r.Write, rbac.DataDelete: &r.Delete} {
				as := *s
				as.action = action
				err := as.authorise(tx)
				if err != nil && fault.ReasonOf(err) != fault.Denied {
					return err
				}
				*may = err == nil
			}
			return nil
		})
		if err != nil {
			return err
		}
		return s.recordRead(ctx, "", 0)
	})
	return r, err
}

// Stat describes a file or folder, or a container or item as a folder.
func (l *Lake) Stat(ctx context.Context, caller identity.Caller, p Path, c Conditions) (props Properties, err error) {
	err = l.do(ctx, caller, opStat, rbac.DataRead, p, func(s *session) error {
		var node NodeID
		err := s.view(ctx, func(tx Tx) (err error) {
			props, node, _, err = s.stat(tx, p)
			return err
		})
		if err != nil {
			return err
		}
		if err := c.forRead(props); err != nil {
			return err
		}
		return s.recordRead(ctx, node, 0)
	})
	return props, err
}

// stat describes what is at the path.
func (s *session) stat(tx Tx, p Path) (Properties, NodeID, manifest, error) {
	if p.isRoot() || len(p.Segments) < p.managedDepth() {
		return s.managedFolder(p.String()), "", manifest{}, nil
	}
	pl, err := s.locate(tx, p.inner())
	if err != nil {
		return Properties{}, "", manifest{}, err
	}
	if !pl.exists {
		if p.isVirtual(s.item) {
			return s.managedFolder(p.String()), "", manifest{}, nil
		}
		return Properties{}, "", manifest{}, errNotFound()
	}
	n, m, err := s.node(tx, pl.entry.ID)
	if err != nil {
		return Properties{}, "", manifest{}, err
	}
	return s.properties(p.String(), n.Key, m), n.ID, m, nil
}

// managedFolder describes a folder that is always there.
func (s *session) managedFolder(name string) Properties {
	p := Properties{
		Name: name, Kind: Folder, Created: s.container.Modified, Modified: s.container.Modified,
		ETag: managedETag(s.container.ID), Container: s.container.ID,
	}
	if s.item.ID != "" {
		p.ETag, p.Item = managedETag(s.item.ID), s.item.ID
	}
	if s.root.kind == containerKind {
		p.ETag, p.Created, p.Modified, p.Lease = formatETag(s.root.etag), s.root.created, s.root.modified, s.root.lease
		p.Access = s.root.access()
		p.Access.ACL = s.root.list()
	}
	return p
}

// Content is a file, or a range of it, open for reading: WriteTo it once, then
// Close. A folder is open too, and empty.
type Content struct {
	Properties Properties
	Offset     int64 // of the first byte
	Length     int64 // bytes that WriteTo writes if it succeeds

	ctx      context.Context
	s        *session
	node     NodeID
	etag     uint64
	extents  []extentRef
	position int64 // of the next byte

	rows map[ExtentID]ExtentRow // read ahead
	open *openExtent
}

// Open opens a file for reading. The read is recorded before it returns; ctx must
// live as long as the content.
func (l *Lake) Open(ctx context.Context, caller identity.Caller, p Path, c Conditions, r Range) (content *Content, err error) {
	err = l.do(ctx, caller, opRead, rbac.DataRead, p, func(s *session) error {
		o := &Content{ctx: ctx, s: s}
		err := s.view(ctx, func(tx Tx) error {
			props, node, m, err := s.stat(tx, p)
			if err != nil {
				return err
			}
			if err := c.forRead(props); err != nil {
				return err
			}
			if props.Tier == Archive {
				return refuse(fault.Conflict, Archived, "This operation is not permitted on an archived blob.")
			}
			if o.Offset, o.Length, err = r.within(props.Size); err != nil {
				return err
			}
			o.Properties, o.node, o.etag, o.extents, o.position = props, node, m.etag, m.extents, o.Offset
			if err := m.check(); err != nil {
				return err
			}
			return o.readAhead(tx)
		})
		if err != nil {
			return err
		}
		if o.Length > 0 { // find out now what is wrong, while there is a status to say so
			if err := o.advance(); err != nil {
				return err
			}
		}
		if err := s.recordRead(ctx, o.node, o.Length); err != nil {
			o.Close()
			return err
		}
		content = o
		return nil
	})
	return content, err
}

// within clips a range to a size.
func (r Range) within(size int64) (offset, length int64, err error) {
	if r.Offset < 0 || r.Count < 0 || r.Suffix < 0 {
		return 0, 0, fault.New(fault.InvalidArgument, "A range begins at or after the first byte.")
	}
	if r == (Range{}) {
		return 0, size, nil
	}
	if r.Suffix > 0 {
		length = min(r.Suffix, size)
		return size - length, length, nil
	}
	if r.Offset >= size {
		return 0, 0, fault.New(fault.RangeNotSatisfiable, "The range begins behind the last byte.")
	}
	length = size - r.Offset
	if r.Count > 0 {
		length = min(length, r.Count)
	}
	return r.Offset, length, nil
}

// check compares a manifest's length with its extents'.
func (m manifest) check() error {
	var sum int64
	for _, e := range m.extents {
		sum += e.plain
	}
	if sum != m.size {
		return fault.New(fault.Integrity, "A file's length is not that of its extents.")
	}
	return nil
}

// at returns the extent that holds the next byte, its index and where it begins.
func (c *Content) at() (i int, begin int64) {
	for i = range c.extents {
		if c.position < begin+c.extents[i].plain {
			return i, begin
		}
		begin += c.extents[i].plain
	}
	return len(c.extents), begin
}

// The rows that one transaction reads ahead, at most: small extents come in
// many.
const (
	readAheadRows  = 32
	readAheadBytes = 1 << 20
)

// readAhead reads rows from the next byte's extent on.
func (c *Content) readAhead(tx Tx) error {
	c.rows = map[ExtentID]ExtentRow{}
	i, begin := c.at()
	var bytes int
	for ; i < len(c.extents) && begin < c.Offset+c.Length; i++ {
		row, ok, err := tx.LakeExtent(c.extents[i].id)
		if err != nil {
			return err
		}
		if ok {
			if _, err := c.s.key(row.Key); err != nil {
				return err
			}
			c.rows[row.ID] = row
		}
		begin += c.extents[i].plain
		if bytes += len(row.Inline); len(c.rows) >= readAheadRows || bytes >= readAheadBytes {
			break
		}
	}
	return nil
}

// An openExtent is the extent that is being read.
type openExtent struct {
	index  int
	begin  int64 // of its first byte in the file
	object Object
	r      *envelope.ReaderAt
}

func (e *openExtent) close() {
	if e != nil && e.object != nil {
		e.object.Close()
	}
}

// advance opens the extent that holds the next byte. If it is gone, the manifest
// is read once more: re-encryption may have put another in its place.
func (c *Content) advance() error {
	i, begin := c.at()
	if c.open != nil && c.open.index == i {
		return nil
	}
	c.open.close()
	c.open = nil
	for again := false; ; again = true {
		ref := c.extents[i]
		row, ok := c.rows[ref.id]
		if !ok && !again {
			if err := c.s.view(c.ctx, c.readAhead); err != nil {
				return err
			}
			row, ok = c.rows[ref.id]
		}
		if ok {
			e, err := c.s.openExtent(c.ctx, ref, row)
			if err == nil {
				e.index, e.begin = i, begin
				c.open = e
				return nil
			}
			if !errors.Is(err, fault.NotFound) {
				return err
			}
		}
		if again {
			return fault.New(fault.Integrity, "An extent of the file is missing.").About(string(ref.id))
		}
		if err := c.reread(); err != nil {
			return err
		}
	}
}

// reread reads the manifest again.
func (c *Content) reread() error {
	return c.s.view(c.ctx, func(tx Tx) error {
		n, ok, err := tx.LakeNode(c.node)
		if err != nil {
			return err
		}
		if !ok {
			return errReplaced()
		}
		m, err := c.s.openNode(n)
		if err != nil {
			return err
		}
		if m.etag != c.etag || len(m.extents) != len(c.extents) {
			return errReplaced()
		}
		c.extents = m.extents
		return c.readAhead(tx)
	})
}

func errReplaced() error {
	return fault.New(fault.Conflict, "The file was replaced while it was read, and what it held is gone.").WithMend("Read it again.")
}

// openExtent opens an extent's sealed bytes. It fails with [fault.NotFound] if
// its object is not there.
func (s *session) openExtent(ctx context.Context, ref extentRef, row ExtentRow) (*openExtent, error) {
	key, err := s.key(row.Key)
	if err != nil {
		if key, err = s.use.Key(ctx, s.item.ID, row.Key); err != nil {
			return nil, err
		}
		s.keys[row.Key] = key
	}
	return s.lake.openExtent(ctx, key, ref, row)
}

func (l *Lake) openExtent(ctx context.Context, key *encryption.Key, ref extentRef, row ExtentRow) (e *openExtent, err error) {
	if row.Size != envelope.SealedSize(ref.plain) {
		return nil, errStoredSize(ref.id)
	}
	if row.Inline != nil {
		r, err := key.ReaderAt(byteReader(row.Inline), int64(len(row.Inline)), purposeExtent, string(ref.id))
		if err == nil && int64(len(row.Inline)) != row.Size {
			err = errStoredSize(ref.id)
		}
		return &openExtent{r: r}, err
	}
	obj, err := l.objects.Open(ctx, string(ref.id))
	if err != nil {
		return nil, storeFailed(err)
	}
	e = &openExtent{object: obj}
	if obj.Size() != row.Size {
		err = errStoredSize(ref.id)
	} else {
		e.r, err = key.ReaderAt(obj, row.Size, purposeExtent, string(ref.id))
	}
	if err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func errStoredSize(id ExtentID) error {
	return fault.New(fault.Integrity, "An extent's stored size is not what the file's manifest says.").About(string(id))
}

// byteReader is an io.ReaderAt of bytes.
type byteReader []byte

func (b byteReader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// A guard lets bytes leave only under the lease.
type guard struct {
	use *encryption.Use
	w   io.Writer
}

func (g guard) Write(p []byte) (int, error) {
	if err := g.use.Check(); err != nil {
		return 0, err
	}
	return g.w.Write(p)
}

// WriteTo writes the content, in chunks of at most 16 KiB, and checks the key
// lease before each. If it fails, what was written is not the whole: the
// connection must be broken off, never ended cleanly.
func (c *Content) WriteTo(w io.Writer) (written int64, err error) {
	defer func() {
		if errors.Is(err, fault.Integrity) { // the read was recorded as it began
			if rec := c.s.lake.recorder.Record(context.WithoutCancel(c.ctx), identity.Failed(c.s.entry, err)); rec != nil {
				err = auditFailed(rec)
			}
		}
	}()
	end := c.Offset + c.Length
	var lost ExtentID // whose object went while it was read
	for c.position < end {
		if err := c.ctx.Err(); err != nil {
			return written, err
		}
		if err := c.advance(); err != nil {
			return written, err
		}
		from := c.position - c.open.begin
		want := min(end-c.position, c.extents[c.open.index].plain-from)
		r := c.open.r.Range(from, want)
		n, err := r.WriteTo(guard{c.s.use, w})
		r.Close()
		written += n
		c.position += n
		if id := c.extents[c.open.index].id; errors.Is(err, fault.NotFound) && id != lost {
			// Re-encryption has put another in its place; not every store keeps what is open.
			lost = id
			delete(c.rows, id)
			c.open.close()
			c.open = nil
			continue
		}
		if err != nil {
			return written, err
		}
		if n != want {
			return written, errStoredSize(c.extents[c.open.index].id)
		}
	}
	return written, nil
}

// Close releases what the content holds.
func (c *Content) Close() error {
	c.open.close()
	c.open = nil
	return nil
}
