package lake

import (
	"context"
	"io"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// Put makes or replaces a file from a body of size bytes, -1 if that is not
// known. Folders on the way are made. Blocks staged for the path are dropped.
func (l *Lake) Put(ctx context.Context, caller identity.Caller, p Path, body io.Reader, size int64, o PutOptions) (props Properties, err error) {
	err = l.do(ctx, caller, opWrite, rbac.DataWrite, p, func(s *session) error {
		if err := s.prepare(ctx, p, o.Conditions, size); err != nil {
			return err
		}
		u, err := s.receive(ctx, body, size, o.Hashes)
		if err != nil {
			return err
		}
		if o.Headers.MD5 == nil {
			o.Headers.MD5 = o.Hashes.MD5
		}
		props, err = s.publish(ctx, p, o, u)
		if err != nil {
			u.abandon(ctx)
		}
		return err
	})
	return props, err
}

// prepare refuses a write to the path before its body is taken, if it would be
// refused after that. With a body that is known to be small it leaves what the
// database says to the transaction that publishes.
func (s *session) prepare(ctx context.Context, p Path, c Conditions, size int64) error {
	if len(p.Segments) == 0 {
		return errManaged()
	}
	if err := writable(p, s.item); err != nil {
		return err
	}
	if size >= 0 && size <= maxInline {
		return nil
	}
	return s.view(ctx, func(tx Tx) error {
		_, _, err := s.target(tx, p, c)
		return err
	})
}

// target finds where a file is to be written, and what is there.
func (s *session) target(tx Tx, p Path, c Conditions) (place, *manifest, error) {
	pl, err := s.locate(tx, p.inner())
	if err != nil {
		return pl, nil, err
	}
	if pl.isFolder() {
		return pl, nil, fault.New(fault.PathConflict, "There is a folder with this name.")
	}
	if !pl.exists {
		return pl, nil, c.allow(nil)
	}
	_, m, err := s.node(tx, pl.entry.ID)
	if err != nil {
		return pl, nil, err
	}
	return pl, &m, c.allow(&m)
}

// publish makes an upload the content of the file at the path.
func (s *session) publish(ctx context.Context, p Path, o PutOptions, u *upload) (props Properties, err error) {
	err = s.update(ctx, func(tx Tx) error {
		pl, old, err := s.target(tx, p, o.Conditions)
		if err != nil {
			return err
		}
		id, m, err := s.begun(tx, &pl, old, o)
		if err != nil {
			return err
		}
		if old != nil {
			if err := tx.DoomLakeExtents(string(id), s.due()); err != nil {
				return err
			}
			if err := s.dropStagedOf(tx, id); err != nil {
				return err
			}
		}
		m.size, m.crc64 = u.size, &u.crc64
		if m.extents, err = u.adopt(tx, id); err != nil {
			return err
		}
		if err := s.dropBlocks(tx, p); err != nil {
			return err
		}
		props, err = s.finish(tx, p, pl, id, m)
		return err
	})
	if err == nil {
		err = published.Hit()
	}
	return props, err
}

// begun makes the parents of a file that is written anew, and what its manifest
// begins with.
func (s *session) begun(tx Tx, pl *place, old *manifest, o PutOptions) (NodeID, manifest, error) {
	now := s.now()
	m := manifest{
		attributes: attributes{kind: File, etag: newETag(), created: now, modified: now, headers: o.Headers, appends: o.Append},
		metadata:   o.Metadata,
		copied:     o.Copied,
	}
	if old != nil {
		m.created, m.lease = old.created, old.lease.kept()
		m.owner, m.group, m.mode, m.acl = old.owner, old.group, old.mode, old.acl
		return pl.entry.ID, m, m.begin(o, now)
	}
	if err := m.begin(o, now); err != nil {
		return "", m, err
	}
	return NodeID(newID()), m, s.makeParents(tx, pl)
}

// maxContext is the longest encryption context, in bytes (Azure's).
const maxContext = 1024

// begin gives a file or folder what its client said of it when it was made.
func (m *manifest) begin(o PutOptions, now time.Time) (err error) {
	if len(o.Context) > maxContext {
		return fault.New(fault.InvalidArgument, "An encryption context has at most 1,024 bytes.")
	}
	m.context = o.Context
	if o.Tier != "" {
		m.tier, m.tiered = o.Tier, now
	}
	if o.Lease != nil {
		if err := o.Lease.check(); err != nil {
			return err
		}
		if m.lease, err = m.lease.apply(*o.Lease, now); err != nil {
			return err
		}
		m.lease = m.lease.at(now)
	}
	return m.made(o.Access)
}

// finish stores the entry and the node of a written file, and records the write.
func (s *session) finish(tx Tx, p Path, pl place, id NodeID, m manifest) (Properties, error) {
	e := pl.entry
	e.ID = id
	if err := s.put(tx, pl.parent(), e, record{pl.name, m.attributes}); err != nil {
		return Properties{}, err
	}
	if err := s.putNode(tx, id, m); err != nil {
		return Properties{}, err
	}
	if err := s.record(tx, id, m.size); err != nil {
		return Properties{}, err
	}
	return s.properties(p.String(), s.content.ID(), m), nil
}

// due is when what is deleted now is no longer needed by any backup.
func (s *session) due() time.Time { return s.now().Add(s.lake.horizon) }

// Create makes an empty file, replacing what was there, or a folder. A folder
// that exists stays as it is. Folders on the way are made.
func (l *Lake) Create(ctx context.Context, caller identity.Caller, p Path, k Kind, o PutOptions) (props Properties, err error) {
	err = l.do(ctx, caller, opWrite, rbac.DataWrite, p, func(s *session) error {
		if p.isManaged() {
			return s.createManaged(p, o.Conditions)
		}
		if err := writable(p, s.item); err != nil {
			return err
		}
		if k == File {
			props, err = s.publish(ctx, p, o, &upload{s: s})
			return err
		}
		return s.update(ctx, func(tx Tx) error {
			props, err = s.createFolder(tx, p, o)
			return err
		})
	})
	return props, err
}

// createManaged answers a client that makes every folder on its way if it is
// missing: those that are always there exist.
func (s *session) createManaged(p Path, c Conditions) error {
	exists := len(p.Segments) < p.managedDepth() || p.Account != "" || p.isVirtual(s.item)
	if exists && c.IfNoneMatch == "*" {
		return c.forWrite(&attributes{})
	}
	return errManaged()
}

func (s *session) createFolder(tx Tx, p Path, o PutOptions) (Properties, error) {
	pl, err := s.locate(tx, p.inner())
	if err != nil {
		return Properties{}, err
	}
	if pl.exists {
		_, m, err := s.node(tx, pl.entry.ID)
		if err != nil {
			return Properties{}, err
		}
		if err := o.Conditions.allow(&m); err != nil {
			return Properties{}, err
		}
		if !pl.isFolder() {
			return Properties{}, fault.New(fault.PathConflict, "There is a file with this name.")
		}
		return s.properties(p.String(), s.content.ID(), m), s.record(tx, pl.entry.ID, 0)
	}
	if err := o.Conditions.allow(nil); err != nil {
		return Properties{}, err
	}
	if err := s.makeParents(tx, &pl); err != nil {
		return Properties{}, err
	}
	m, err := s.makeFolder(tx, &pl, pl.name, o)
	if err != nil {
		return Properties{}, err
	}
	return s.properties(p.String(), s.content.ID(), m), s.record(tx, pl.parent().ID, 0)
}

// SetMetadata replaces the user metadata of a file or folder.
func (l *Lake) SetMetadata(ctx context.Context, caller identity.Caller, p Path, metadata map[string]string, c Conditions) (Properties, error) {
	return l.change(ctx, caller, opUpdate, rbac.DataWrite, p, c, true, func(m *manifest) error {
		m.metadata = metadata
		return nil
	})
}

// SetHeaders replaces the content headers of a file or folder.
func (l *Lake) SetHeaders(ctx context.Context, caller identity.Caller, p Path, h ContentHeaders, c Conditions) (Properties, error) {
	return l.change(ctx, caller, opUpdate, rbac.DataWrite, p, c, true, func(m *manifest) error {
		m.headers = h
		return nil
	})
}

// change changes what is said of a file or folder; if touch, its ETag and time too.
func (l *Lake) change(ctx context.Context, caller identity.Caller, op string, action rbac.Action, p Path, c Conditions, touch bool, set func(*manifest) error) (props Properties, err error) {
	err = l.do(ctx, caller, op, action, p, func(s *session) error {
		if p.isManaged() {
			return errManaged()
		}
		return s.update(ctx, func(tx Tx) error {
			pl, m, err := s.existing(tx, p)
			if err != nil {
				return err
			}
			if err := c.allow(&m); err != nil {
				return err
			}
			if err := set(&m); err != nil {
				return err
			}
			if m.lease = m.lease.kept(); touch {
				m.etag, m.modified = newETag(), s.now()
			}
			props, err = s.finish(tx, p, pl, pl.entry.ID, m)
			return err
		})
	})
	return props, err
}

// A Tier is an access tier. There is one kind of storage, so a tier is a label; but
// what is in [Archive] is not read before it is brought back, which is done at once.
type Tier string

// The tiers.
const (
	Hot     Tier = "Hot"
	Cool    Tier = "Cool"
	Cold    Tier = "Cold"
	Archive Tier = "Archive"
)

// SetTier sets the tier of a file in a storage account. Its ETag and time stay.
func (l *Lake) SetTier(ctx context.Context, caller identity.Caller, p Path, t Tier, c Conditions) (was Tier, err error) {
	_, err = l.change(ctx, caller, opTier, rbac.DataWrite, p, c, false, func(m *manifest) error {
		if m.kind != File {
			return fault.New(fault.PathConflict, "A folder has no access tier.")
		}
		was, m.tier, m.tiered = m.tier, t, l.now().UTC()
		return nil
	})
	return was, err
}

// existing finds what is at a path below the managed folders.
func (s *session) existing(tx Tx, p Path) (place, manifest, error) {
	pl, err := s.locate(tx, p.inner())
	if err == nil && !pl.exists {
		err = errNotFound()
	}
	if err != nil {
		return pl, manifest{}, err
	}
	_, m, err := s.node(tx, pl.entry.ID)
	return pl, m, err
}

func errNotFound() error { return fault.New(fault.PathNotFound, "There is nothing at this path.") }
