package lake

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/subtle"
	"hash"
	"io"
	"sync"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/failpoint"
)

const (
	// maxInlineSealed is the most sealed bytes that an extent keeps in its row.
	maxInlineSealed = 16 << 10
	maxInline       = maxInlineSealed - envelope.HeaderSize - envelope.TagSize
)

// maxUnlisted is the largest body whose only extent has no row while it is written: so
// little that a client may as well send it again if it meets re-encryption. It is the
// size of the blocks that clients write.
const maxUnlisted = 4 << 20

// maxExtent is the most content of one extent: what re-encryption moves at a
// time, and what is sent again if it meets an upload.
var maxExtent int64 = 64 << 20

var (
	extentBegun   = failpoint.New("lake/upload/extent-begun")   // its row is there, no byte of it
	extentWritten = failpoint.New("lake/upload/extent-written") // its object is durable, its row does not know
	published     = failpoint.New("lake/publish/committed")     // the write is durable and not acknowledged
)

// arrivals are the extents that this process is writing.
type arrivals struct {
	mu  sync.Mutex
	ids map[ExtentID]struct{}
}

func (a *arrivals) add(id ExtentID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ids == nil {
		a.ids = map[ExtentID]struct{}{}
	}
	a.ids[id] = struct{}{}
}

func (a *arrivals) remove(id ExtentID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.ids, id)
}

func (a *arrivals) has(id ExtentID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, ok := a.ids[id]
	return ok
}

// A source is a body on its way to the disk. It stops when the lease does.
type source struct {
	ctx  context.Context
	use  *encryption.Use
	body io.Reader
	size int64
	md5  hash.Hash // nil unless the client gave one
}

func (r *source) Read(p []byte) (int, error) {
	if err := r.use.Check(); err != nil {
		return 0, err
	}
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.body.Read(p)
	if n > 0 {
		r.size += int64(n)
		if r.md5 != nil {
			r.md5.Write(p[:n])
		}
	}
	return n, err
}

// A run is the next part of a source, with its checksum.
type run struct {
	r     io.Reader
	n     int64
	crc64 uint64
}

func (r *run) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.crc64 = CRC64(r.crc64, p[:n])
	r.n += int64(n)
	return n, err
}

// An upload is a body that has been sealed and stored, and is not part of
// anything yet. What does not fit in a row is in objects, listed by a staged row
// without an owner, but for the last of them.
type upload struct {
	s     *session
	id    StagedID
	size  int64
	crc64 uint64

	inline *ExtentRow // all of a small body
	row    bool       // the staged row is there
	last   *ExtentRow // written, and neither listed nor complete in the database
	ref    extentRef  // the reference to inline or last
}

// receive takes a body in. size is what the client said, or -1. Unless it fails,
// the caller ends the upload by adopt or keep, or by abandon.
func (s *session) receive(ctx context.Context, body io.Reader, size int64, h Hashes) (_ *upload, err error) {
	u := &upload{s: s, id: StagedID(newID())}
	if from, ok := body.(*sourceReader); ok {
		s.note("source", from.resource())
	}
	src := &source{ctx: ctx, use: s.use, body: body}
	if h.MD5 != nil {
		src.md5 = md5.New()
	}
	defer func() {
		if err != nil {
			u.abandon(ctx)
		}
	}()
	buf := bufio.NewReaderSize(src, maxInlineSealed)
	first, err := buf.Peek(maxInline + 1)
	switch {
	case err == nil:
		err = u.receiveLarge(ctx, buf, size)
	case err == io.EOF:
		err = u.receiveSmall(first)
	}
	if err != nil {
		return u, bodyError(err)
	}
	u.size = src.size
	switch {
	case size >= 0 && size != u.size:
		err = fault.New(fault.InvalidArgument, "The body is not as long as the request says.")
	case src.md5 != nil && subtle.ConstantTimeCompare(src.md5.Sum(nil), h.MD5) != 1:
		err = fault.New(fault.HashMismatch, "The body's MD5 is not the one that the request says.")
	case h.CRC64 != nil && *h.CRC64 != u.crc64:
		err = fault.New(fault.HashMismatch, "The body's CRC64 is not the one that the request says.")
	}
	return u, err
}

// bodyError gives a failure to read the client's body a reason of its own; ours
// have theirs.
func bodyError(err error) error {
	if err == io.ErrUnexpectedEOF {
		return fault.Wrap(fault.InvalidArgument, err, "The body ended early.")
	}
	return err
}

func (u *upload) receiveSmall(body []byte) error {
	if len(body) == 0 {
		return nil
	}
	s := u.s
	u.crc64 = CRC64(0, body)
	u.ref = extentRef{id: ExtentID(newID()), plain: int64(len(body)), crc64: u.crc64}
	sealed, err := s.content.Seal(body, purposeExtent, string(u.ref.id))
	if err != nil {
		return err
	}
	u.inline = &ExtentRow{
		ID: u.ref.id, Item: s.item.ID, Key: s.content.ID(), Size: int64(len(sealed)), Inline: sealed, Changed: s.now(),
	}
	return nil
}

// receiveLarge writes extents. One that is all of a body, and no larger than
// maxUnlisted, gets its row in the transaction that publishes, like a small body: a
// crash before that leaves an object that no row names, for a sweep, and if its key
// has gone meanwhile, nothing is published.
func (u *upload) receiveLarge(ctx context.Context, body *bufio.Reader, size int64) error {
	if size >= 0 && size <= min(maxUnlisted, maxExtent) {
		part := &run{r: io.LimitReader(body, size)}
		if err := u.write(ctx, u.newExtent(), part); err != nil {
			return err
		}
		u.crc64 = part.crc64
	}
	for {
		if _, err := body.Peek(1); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		part := &run{r: io.LimitReader(body, maxExtent)}
		if err := u.extent(ctx, part); err != nil {
			return err
		}
		u.crc64 = combineCRC64(u.crc64, part.crc64, part.n)
	}
}

// extent lists the next extent, and writes it.
func (u *upload) extent(ctx context.Context, part *run) error {
	s := u.s
	// The key that seals may have changed since the last extent.
	key, err := s.use.Current(ctx, s.item.ID, encryption.ContentKey)
	if err != nil {
		return err
	}
	s.content, s.keys[key.ID()] = key, key
	row := u.newExtent()
	s.lake.arrives.add(row.ID)
	defer s.lake.arrives.remove(row.ID)
	err = s.update(ctx, func(tx Tx) error {
		m, err := u.complete(tx)
		if err != nil {
			return err
		}
		if err := u.putRow(tx, StagedRow{ID: u.id}, m); err != nil {
			return err
		}
		return tx.PutLakeExtent(row)
	})
	if err != nil {
		return err
	}
	u.row, u.last = true, nil
	if err := extentBegun.Hit(); err != nil {
		return err
	}
	return u.write(ctx, row, part)
}

// newExtent returns the row of an extent under the key that seals now.
func (u *upload) newExtent() ExtentRow {
	return ExtentRow{ID: ExtentID(newID()), Item: u.s.item.ID, Key: u.s.content.ID(), Owner: string(u.id), Changed: u.s.now()}
}

// write writes an extent's object.
func (u *upload) write(ctx context.Context, row ExtentRow, part *run) (err error) {
	if row.Size, err = u.s.lake.writeObject(ctx, u.s.content, row.ID, part); err != nil {
		return err
	}
	u.last, u.ref = &row, extentRef{id: row.ID, plain: part.n, crc64: part.crc64}
	return extentWritten.Hit()
}

// writeObject seals a stream into the extent's object and returns its stored
// size.
func (l *Lake) writeObject(ctx context.Context, key *encryption.Key, id ExtentID, src io.Reader) (int64, error) {
	obj, err := l.objects.Create(ctx, string(id))
	if err != nil {
		return 0, storeFailed(err)
	}
	defer obj.Abort()
	w := &countingWriter{w: obj}
	sealer, err := key.Writer(w, purposeExtent, string(id))
	if err != nil {
		return 0, err
	}
	defer sealer.Abort()
	if _, err := sealer.ReadFrom(src); err != nil {
		return 0, err
	}
	if err := sealer.Close(); err != nil {
		return 0, err
	}
	if err := obj.Commit(); err != nil {
		return 0, storeFailed(err)
	}
	return w.n, nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.n += int64(n)
	if err != nil {
		err = storeFailed(err)
	}
	return n, err
}

// storeFailed gives an error of the object store a reason, unless it has one.
func storeFailed(err error) error {
	if fault.ReasonOf(err) != fault.Internal {
		return err
	}
	return fault.Wrap(fault.Unavailable, err, "The object store did not take or give the content.").WithMend("Try again.")
}

// listed returns what the staged row lists: the truth about all extents but the
// last, since re-encryption may have put others in their place.
func (u *upload) listed(tx Tx) (manifest, error) {
	if !u.row {
		return manifest{}, nil
	}
	row, ok, err := tx.LakeStaged(u.id)
	if err != nil {
		return manifest{}, err
	}
	if !ok {
		return manifest{}, errMeanwhile()
	}
	return u.s.openStaged(row)
}

// complete lists the last extent with the others, and completes its row.
func (u *upload) complete(tx Tx) (manifest, error) {
	m, err := u.listed(tx)
	if err != nil || u.last == nil {
		return m, err
	}
	if u.row {
		if _, ok, err := tx.LakeExtent(u.last.ID); err != nil {
			return m, err
		} else if !ok {
			return m, errMeanwhile()
		}
	} else if err := u.s.use.Confirm(tx, u.last.Key); err != nil {
		return m, err
	}
	if err := tx.PutLakeExtent(*u.last); err != nil {
		return m, err
	}
	m.extents = append(m.extents, u.ref)
	return m, nil
}

func errMeanwhile() error {
	return fault.New(fault.EncryptionChanged, "The item's keys have changed while this was written; it was not stored.").
		WithMend("Try again.")
}

// putRow seals a staged row's record and stores it.
func (u *upload) putRow(tx Tx, row StagedRow, m manifest) error {
	s := u.s
	sealed, err := s.content.Seal(m.encode(), purposeStaged, string(row.ID))
	if err != nil {
		return err
	}
	row.Item, row.Key, row.Record, row.Changed = s.item.ID, s.content.ID(), sealed, s.now()
	return tx.PutLakeStaged(row)
}

// adopt makes the upload the content of a file, in the transaction that
// publishes it.
func (u *upload) adopt(tx Tx, owner NodeID) ([]extentRef, error) {
	if u.inline != nil {
		row := *u.inline
		row.Owner, row.State = string(owner), Live
		return []extentRef{u.ref}, tx.PutLakeExtent(row)
	}
	m, err := u.complete(tx)
	if err != nil {
		return nil, err
	}
	if u.row {
		if err := tx.DeleteLakeStaged(u.id); err != nil {
			return nil, err
		}
	}
	return m.extents, u.s.adopt(tx, owner, m.extents)
}

// adopt makes extents live in a file.
func (s *session) adopt(tx Tx, owner NodeID, extents []extentRef) error {
	for _, ref := range extents {
		row, ok, err := tx.LakeExtent(ref.id)
		if err != nil {
			return err
		}
		if !ok {
			return errMeanwhile()
		}
		row.Owner, row.State, row.Changed = string(owner), Live, s.now()
		if err := s.use.Confirm(tx, row.Key); err != nil {
			return err
		}
		if err := tx.PutLakeExtent(row); err != nil {
			return err
		}
	}
	return nil
}

// keep makes the upload a block of an upload's entry, or an append to a file.
func (u *upload) keep(tx Tx, owner NodeID, position int64, blockID string) error {
	var m manifest
	if u.inline != nil {
		row := *u.inline
		row.Owner, row.State = string(u.id), Staged
		if err := tx.PutLakeExtent(row); err != nil {
			return err
		}
		m.extents = []extentRef{u.ref}
	} else {
		var err error
		if m, err = u.complete(tx); err != nil {
			return err
		}
	}
	m.size, m.crc64 = u.size, &u.crc64
	m.blocks = []blockRef{{id: blockID, extents: len(m.extents)}}
	ordinal, err := tx.LakeStagedNext(owner)
	if err != nil {
		return err
	}
	if ordinal > maxStaged {
		return fault.New(fault.PayloadTooLarge, "Too many blocks wait to be committed.").WithMend("Commit or delete them first.")
	}
	return u.putRow(tx, StagedRow{ID: u.id, Owner: owner, Ordinal: ordinal, Position: position, Size: u.size}, m)
}

// maxStaged is how many uncommitted blocks or appends a file may have (Azure:
// 100,000, https://learn.microsoft.com/rest/api/storageservices/put-block).
const maxStaged = 100_000

// abandon removes what the upload has left in the database. Its objects go with
// the next sweep, and so does everything if this fails.
func (u *upload) abandon(ctx context.Context) {
	if !u.row {
		return
	}
	u.s.lake.store.Update(context.WithoutCancel(ctx), func(tx Tx) error {
		return dropStaged(tx, StagedRow{ID: u.id}, u.s.now())
	})
}

// openStaged opens a staged row's record.
func (s *session) openStaged(row StagedRow) (manifest, error) {
	if m, ok := s.staged[row.ID]; ok && string(m.record) == string(row.Record) {
		return m.manifest, nil
	}
	key, err := s.key(row.Key)
	if err != nil {
		return manifest{}, err
	}
	b, err := key.Open(row.Record, purposeStaged, string(row.ID))
	if err != nil {
		return manifest{}, err
	}
	m, err := decodeManifest(b)
	if err == nil {
		if s.staged == nil {
			s.staged = map[StagedID]openedStaged{}
		}
		s.staged[row.ID] = openedStaged{row.Record, m}
	}
	return m, err
}

// openedStaged remembers an opened record, so that the transaction that commits a
// long block list need not open it again.
type openedStaged struct {
	record   []byte
	manifest manifest
}
