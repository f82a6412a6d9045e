package lake

import (
	"context"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// Superuser is who owns what nobody was said to own.
const Superuser = "$superuser"

// Access is what a file or folder of a storage account says of who may what. It is
// kept for clients, and decides nothing.
type Access struct {
	Owner, Group string // object ids, or Superuser
	Mode         Mode
	ACL          ACL // nil in listings
}

// An AccessChange is what a client says of access. What is zero is left as it is.
type AccessChange struct {
	Owner, Group string
	Mode         *Mode
	Umask        *Mode // of what is made; 027 if nil
	ACL          ACL   // instead of Mode
}

func (a attributes) access() Access {
	out := Access{Owner: a.owner, Group: a.group, Mode: a.mode.of(a.kind)}
	if out.Owner == "" {
		out.Owner = Superuser
	}
	if out.Group == "" {
		out.Group = Superuser
	}
	return out
}

// list returns the whole access control list.
func (m manifest) list() ACL {
	if m.acl != nil {
		return m.acl
	}
	return m.mode.of(m.kind).acl()
}

// change makes a change of access.
func (m *manifest) change(c AccessChange) error {
	if c.Mode != nil && c.ACL != nil {
		return fault.New(fault.InvalidArgument, "Permissions and an access control list are not set in one.")
	}
	if len(c.Owner) > 128 || len(c.Group) > 128 {
		return fault.New(fault.InvalidArgument, "An owner or a group is named by its object id.")
	}
	if c.Owner != "" {
		m.owner = strings.TrimPrefix(c.Owner, Superuser)
	}
	if c.Group != "" {
		m.group = strings.TrimPrefix(c.Group, Superuser)
	}
	switch {
	case c.ACL != nil:
		return m.setList(append(ACL(nil), c.ACL...))
	case c.Mode != nil && m.acl != nil: // chmod: the group's bits are the mask, if there is one
		l := append(ACL(nil), m.acl...)
		group := ACLEntry{Kind: ACLGroup}
		if _, ok := l.entry(ACLEntry{Kind: ACLMask}); ok {
			group.Kind = ACLMask
		}
		group.May = *c.Mode >> 3 & 7
		for _, e := range []ACLEntry{{Kind: ACLUser, May: *c.Mode >> 6 & 7}, group, {Kind: ACLOther, May: *c.Mode & 7}} {
			l.put(e)
		}
		m.mode = *c.Mode & Sticky
		return m.setList(l)
	case c.Mode != nil:
		m.mode = modeSet | *c.Mode
	}
	return nil
}

func (m *manifest) setList(l ACL) error {
	if err := l.complete(m.kind); err != nil {
		return err
	}
	m.mode, m.acl = l.mode(m.mode), nil
	if len(l) > 3 {
		m.acl = l
	}
	return nil
}

// made is change for what is made just now, to whose mode the umask applies.
func (m *manifest) made(c *AccessChange) error {
	if c == nil {
		return nil
	}
	as := *c
	if as.Mode != nil {
		umask := defaultUmask
		if as.Umask != nil {
			umask = *as.Umask
		}
		mode := *as.Mode &^ umask
		as.Mode = &mode
	}
	return m.change(as)
}

// SetAccess changes what a file, folder or container of a storage account says of who
// may what. Its ETag stays. It needs the right to modify permissions.
func (l *Lake) SetAccess(ctx context.Context, caller identity.Caller, p Path, a AccessChange, c Conditions) (Properties, error) {
	if p.isRoot() {
		props, err := l.changeContainer(ctx, caller, opAccess, rbac.BlobPermissions, false, p, c, func(m *manifest) error { return m.change(a) })
		return Properties{ETag: props.ETag, Modified: props.Modified}, err
	}
	return l.change(ctx, caller, opAccess, rbac.BlobPermissions, p, c, false, func(m *manifest) error { return m.change(a) })
}

// An AccessMode says what [Lake.SetAccessBelow] does with a list.
type AccessMode string

// The modes.
const (
	SetACL    AccessMode = "set"
	ModifyACL AccessMode = "modify"
	RemoveACL AccessMode = "remove"
)

// An AccessProgress is what one call of [Lake.SetAccessBelow] did.
type AccessProgress struct {
	Folders, Files int
	Continuation   string // "" at the end
}

// maxAccessPage is the most entries of one call, and accessBatch those of one
// transaction.
const (
	maxAccessPage = 2000
	accessBatch   = 200
)

// SetAccessBelow changes the access control lists of a folder and of all below it, at
// most limit of them in one call. Entries of default lists are the folders' only.
func (l *Lake) SetAccessBelow(ctx context.Context, caller identity.Caller, p Path, how AccessMode, list ACL, limit int, continuation string) (done AccessProgress, err error) {
	if limit <= 0 || limit > maxAccessPage {
		limit = maxAccessPage
	}
	top, err := l.Stat(ctx, caller, p, Conditions{})
	if err != nil {
		return done, err
	}
	change := func(m *manifest) error { return m.setList(m.list().with(how, list, m.kind)) }
	var all []Properties
	taken := 0
	if continuation == "" {
		taken = 1
		if !p.isRoot() {
			all = append(all, top)
		} else if _, err := l.changeContainer(ctx, caller, opAccess, rbac.BlobPermissions, false, p, Conditions{}, change); err != nil {
			return done, err
		} else {
			done.Folders++
		}
	}
	if continuation == accessBegun {
		continuation = ""
	}
	if rest := limit - taken; top.Kind == Folder && rest > 0 {
		page, err := l.List(ctx, caller, p, ListOptions{Recursive: true, Max: rest, Continuation: continuation})
		if err != nil {
			return done, err
		}
		all, done.Continuation = append(all, page.Entries...), page.Continuation
	} else if top.Kind == Folder {
		done.Continuation = accessBegun
	}
	err = l.do(ctx, caller, opAccess, rbac.BlobPermissions, p, func(s *session) error {
		for len(all) > 0 {
			n := min(accessBatch, len(all))
			err := s.update(ctx, func(tx Tx) error { return s.changeEach(tx, p, all[:n], change) })
			if err != nil {
				return err
			}
			for _, one := range all[:n] {
				if one.Kind == Folder {
					done.Folders++
				} else {
					done.Files++
				}
			}
			all = all[n:]
		}
		return nil
	})
	return done, err
}

// accessBegun is the continuation of a call that changed the folder and nothing in it.
const accessBegun = "folder"

// changeEach changes files and folders in the container of p, but for those that are
// gone by now.
func (s *session) changeEach(tx Tx, p Path, all []Properties, change func(*manifest) error) error {
	for _, one := range all {
		p.Segments = strings.Split(one.Name, "/")
		pl, m, err := s.existing(tx, p)
		if fault.ReasonOf(err) == fault.PathNotFound {
			continue
		}
		if err != nil {
			return err
		}
		if err := change(&m); err != nil {
			return err
		}
		if err := s.put(tx, pl.parent(), pl.entry, record{pl.name, m.attributes}); err != nil {
			return err
		}
		if err := s.putNode(tx, pl.entry.ID, m); err != nil {
			return err
		}
	}
	return s.record(tx, "", 0)
}

// with returns the list after a change of one mode.
func (l ACL) with(how AccessMode, list ACL, k Kind) ACL {
	var out ACL
	if how != SetACL {
		out = append(out, l...)
	}
	for _, e := range list {
		switch {
		case e.Default && k == File:
		case how == RemoveACL:
			out = out.without(e)
		default:
			out.put(e)
		}
	}
	return out
}

// without returns the list less one entry. Those of the owner, the owning group and
// all others are always there.
func (l ACL) without(e ACLEntry) ACL {
	var out ACL
	for _, o := range l {
		if !o.same(e) || e.ID == "" && e.Kind != ACLMask && !e.Default {
			out = append(out, o)
		}
	}
	return out
}
