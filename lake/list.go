package lake

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// maxPage is the most entries of one page (Azure's limit for Blob and DFS).
const maxPage = 5000

// List lists a container, an item or a folder, one page at a time, in byte order
// of the full path. A prefix that leads nowhere gives an empty listing, a path
// that does is [fault.PathNotFound].
func (l *Lake) List(ctx context.Context, caller identity.Caller, p Path, o ListOptions) (listing Listing, err error) {
	err = l.do(ctx, caller, opList, rbac.DataRead, p, func(s *session) error {
		if o.Prefix != "" && len(p.Segments) > 0 {
			return fault.New(fault.InvalidArgument, "A prefix and a folder cannot be combined.")
		}
		w := &lister{s: s, o: o, max: o.Max}
		if w.max <= 0 || w.max > maxPage {
			w.max = maxPage
		}
		w.from, w.inclusive = o.StartFrom, true
		if o.Continuation != "" {
			last, err := s.openContinuation(ctx, p, o)
			if err != nil {
				return err
			}
			w.from, w.inclusive = last, false
		}
		if err := w.list(ctx, p); err != nil {
			return err
		}
		listing = w.out
		if w.full {
			if listing.Continuation, err = s.sealContinuation(ctx, p, o, w.last); err != nil {
				return err
			}
		}
		return s.recordRead(ctx, "", 0)
	})
	return listing, err
}

// A lister walks the tree in byte order of the full path and keeps one page.
//
// A folder stands twice in that order: as itself, and with a slash behind its
// name for what lies below it. "a", "a.txt", "a/b" is the order, not "a", "a/b",
// "a.txt".
type lister struct {
	s         *session
	o         ListOptions
	max       int
	from      string // first path wanted
	inclusive bool   // whether from itself is

	out  Listing
	n    int    // entries and prefixes so far
	last string // path of the last
	full bool   // there is more

	leased map[NodeID]Lease // in the item that is being listed
	staged []step           // its uncommitted paths that are still to come, in order
}

// A step is one thing in the order of a folder's listing.
type step struct {
	path    string // "a", or "a/" for what is below
	descend bool
	rec     record
	id      NodeID // "" for a managed folder that does not exist yet
	item    *Item  // on a container's own level
}

// wanted reports whether the step can lead to anything on this page.
func (w *lister) wanted(s step) bool {
	if w.o.EndBefore != "" && s.path >= w.o.EndBefore {
		return false
	}
	if s.descend {
		if !strings.HasPrefix(s.path, w.o.Prefix) && !strings.HasPrefix(w.o.Prefix, s.path) {
			return false
		}
		return s.path >= w.from || strings.HasPrefix(w.from, s.path)
	}
	if !strings.HasPrefix(s.path, w.o.Prefix) {
		return false
	}
	return s.path > w.from || w.inclusive && s.path == w.from
}

// steps returns the steps of one child that are wanted.
func (w *lister) steps(c step) []step {
	var out []step
	folder := c.rec.kind == Folder
	below := c
	below.path, below.descend = c.path+"/", true
	switch {
	case folder && w.o.Delimited && strings.HasPrefix(w.o.Prefix, below.path):
		// The prefix leads into it.
		out = append(out, below)
	case folder && w.o.Delimited:
		c.path += "/" // a prefix of the listing
		out = append(out, c)
	default:
		out = append(out, c)
		if folder && (w.o.Recursive || strings.HasPrefix(w.o.Prefix, below.path)) {
			out = append(out, below)
		}
	}
	return slices.DeleteFunc(out, func(s step) bool { return !w.wanted(s) })
}

// list walks from the path.
func (w *lister) list(ctx context.Context, p Path) error {
	base := p.String() + "/"
	switch {
	case p.isRoot():
		base = ""
	case len(p.Segments) == 0:
		return w.container(ctx)
	case !w.wantsBelow(base):
		return nil
	}
	return w.transaction(ctx, w.s, func(tx Tx) error {
		if len(p.inner()) == 0 {
			root, ok, err := w.s.special(tx, Root, false)
			if err != nil {
				return err
			}
			return w.root(tx, w.s, root, ok, base)
		}
		pl, err := w.s.locate(tx, p.inner())
		if err != nil {
			return err
		}
		if pl.isFolder() {
			f, _, err := tx.LakeFolder(pl.entry.ID)
			if err != nil {
				return err
			}
			return w.folder(tx, w.s, f, base)
		}
		if !pl.exists && p.isVirtual(w.s.item) {
			return nil // always there, and empty
		}
		return errNotFound()
	})
}

func (w *lister) wantsBelow(base string) bool { return w.wanted(step{path: base, descend: true}) }

// transaction runs fn in a read transaction that may have to be repeated.
func (w *lister) transaction(ctx context.Context, s *session, fn func(Tx) error) error {
	before := *w
	return s.view(ctx, func(tx Tx) error {
		out := before.out
		*w = before
		w.out = Listing{slices.Clip(out.Entries), slices.Clip(out.Prefixes), ""}
		leased, err := tx.LakeNodesLeased(s.item.ID)
		if err != nil {
			return err
		}
		w.leased = make(map[NodeID]Lease, len(leased))
		for _, n := range leased {
			w.leased[n.ID] = n.Lease.at(s.now())
		}
		return fn(tx)
	})
}

// container lists the items of a container, and what lies below them.
func (w *lister) container(ctx context.Context) error {
	segment, _, complete := strings.Cut(w.o.Prefix, "/")
	var items []Item
	if complete { // the prefix leads into one item
		item, err := w.s.lake.catalog.FindItem(ctx, w.s.use, w.s.container.ID, segment)
		if fault.ReasonOf(err) == fault.ItemNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		items = []Item{item}
	} else {
		var err error
		if items, err = w.s.lake.catalog.ItemsOf(ctx, w.s.use, w.s.container.ID); err != nil {
			return err
		}
	}
	var steps []step
	for _, item := range items {
		name := item.Segment()
		if complete {
			name = segment
		}
		steps = append(steps, w.steps(step{path: name, item: &item, rec: w.managedRecord(name)})...)
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Compare(a.path, b.path) })
	for _, st := range steps {
		if w.full {
			return nil
		}
		if !st.descend {
			w.emitManaged(st)
			continue
		}
		s, err := w.s.within(ctx, *st.item)
		if err != nil {
			return err
		}
		err = w.transaction(ctx, s, func(tx Tx) error {
			root, ok, err := s.special(tx, Root, false)
			if err != nil {
				return err
			}
			return w.root(tx, s, root, ok, st.path)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *lister) managedRecord(name string) record {
	return record{name, attributes{kind: Folder, created: w.s.container.Modified, modified: w.s.container.Modified}}
}

// emitManaged adds an item, or a managed folder that holds nothing yet.
func (w *lister) emitManaged(st step) {
	s := *w.s
	if st.item != nil {
		s.item = *st.item
	}
	w.emit(st, s.managedFolder(strings.TrimSuffix(st.path, "/")))
}

// emit adds an entry or a prefix to the page, or finds that it is full. Uncommitted
// paths that come before it go first.
func (w *lister) emit(st step, p Properties) {
	w.emitStaged(st.path)
	if w.n == w.max {
		w.full = true
		return
	}
	w.n++
	w.last = st.path
	if w.o.Delimited && st.rec.kind == Folder {
		w.out.Prefixes = append(w.out.Prefixes, st.path)
		return
	}
	w.out.Entries = append(w.out.Entries, p)
}

// emitStaged adds the uncommitted paths before path, all of them if that is "". One
// at path itself has been committed, or is a prefix that is there anyway.
func (w *lister) emitStaged(path string) {
	for len(w.staged) > 0 && (path == "" || w.staged[0].path <= path) && !w.full {
		st := w.staged[0]
		w.staged = w.staged[1:]
		if st.path == path {
			continue
		}
		if w.n == w.max {
			w.full = true
			return
		}
		w.n++
		w.last = st.path
		if st.rec.kind == Folder {
			w.out.Prefixes = append(w.out.Prefixes, st.path)
			continue
		}
		p := describe(st.path, st.rec.attributes)
		p.ETag, p.Container, p.Item = "", w.s.container.ID, st.item.ID
		w.out.Entries = append(w.out.Entries, p)
	}
}

// findStaged finds the item's uncommitted paths that the listing wants. base is
// the item's path, with a slash.
func (w *lister) findStaged(tx Tx, s *session, base string) error {
	w.staged = nil
	if !w.o.IncludeUncommitted {
		return nil
	}
	f, ok, err := s.special(tx, Uploads, false)
	if err != nil || !ok {
		return err
	}
	err = tx.LakeEntries(f.ID, func(e EntryRow) error {
		r, err := s.open(f, e)
		if err != nil {
			return err
		}
		st := step{path: base + r.name, rec: r, item: &s.item}
		if rest, ok := strings.CutPrefix(st.path, w.o.Prefix); ok && w.o.Delimited {
			if i := strings.IndexByte(rest, '/'); i >= 0 {
				st.path = w.o.Prefix + rest[:i+1]
				st.rec.kind = Folder
			}
		}
		if w.wanted(st) {
			w.staged = append(w.staged, st)
		}
		return nil
	})
	slices.SortFunc(w.staged, func(a, b step) int { return cmp.Compare(a.path, b.path) })
	w.staged = slices.CompactFunc(w.staged, func(a, b step) bool { return a.path == b.path })
	return err
}

// root lists an item's root: the managed folders are there even if no row says
// so.
func (w *lister) root(tx Tx, s *session, f FolderRow, exists bool, base string) error {
	var virtual []string
	for _, name := range managed(s.item.Type) {
		if exists {
			if _, ok, err := s.find(tx, f, name); err != nil {
				return err
			} else if ok {
				continue
			}
		}
		virtual = append(virtual, name)
	}
	var extra []step
	for _, name := range virtual {
		extra = append(extra, step{path: base + name, rec: w.managedRecord(name), item: &s.item})
	}
	if err := w.findStaged(tx, s, base); err != nil {
		return err
	}
	if err := w.walk(tx, s, f, exists, base, extra); err != nil || w.full {
		return err
	}
	w.emitStaged("")
	return nil
}

func (w *lister) folder(tx Tx, s *session, f FolderRow, base string) error {
	return w.walk(tx, s, f, true, base, nil)
}

// walk lists a folder whose full path is base. It keeps no more steps in memory
// than the page still takes, and looks at the folder again for the next ones.
func (w *lister) walk(tx Tx, s *session, f FolderRow, exists bool, base string, extra []step) error {
	for !w.full {
		steps, more, err := w.next(tx, s, f, exists, base, extra)
		if err != nil {
			return err
		}
		for _, st := range steps {
			if w.full {
				return nil
			}
			if err := w.take(tx, s, st); err != nil {
				return err
			}
			w.from, w.inclusive = st.path, false
			if st.descend { // behind all that is below: "0" follows "/"
				w.from, w.inclusive = strings.TrimSuffix(st.path, "/")+"0", true
			}
		}
		if !more {
			return nil
		}
	}
	return nil
}

func (w *lister) take(tx Tx, s *session, st step) error {
	switch {
	case st.descend && st.id == "":
		return nil
	case st.descend:
		f, ok, err := tx.LakeFolder(st.id)
		if err != nil {
			return err
		}
		if !ok {
			return fault.New(fault.Integrity, "A folder's row is missing.").About(string(st.id))
		}
		return w.folder(tx, s, f, st.path)
	case st.id == "":
		w.emitManaged(st)
		return nil
	}
	p := describe(st.path, st.rec.attributes)
	p.Container, p.Item, p.Lease = s.container.ID, s.item.ID, w.leased[st.id]
	if w.o.IncludeMetadata && w.n < w.max && !(w.o.Delimited && st.rec.kind == Folder) {
		n, m, err := s.node(tx, st.id)
		if err != nil {
			return err
		}
		p.Metadata, p.KeyID, p.Copy = m.metadata, n.Key, m.copied
	}
	w.emit(st, p)
	return nil
}

// next returns the folder's first wanted steps in order, and whether there may be
// more.
func (w *lister) next(tx Tx, s *session, f FolderRow, exists bool, base string, extra []step) (steps []step, more bool, err error) {
	into := false // the prefix leads into one child
	if rest, ok := strings.CutPrefix(w.o.Prefix, base); ok {
		into = strings.Contains(rest, "/")
	}
	if exists && !into && len(extra) == 0 {
		o, err := s.ordered(tx, f)
		if err != nil {
			return nil, false, err
		}
		if o != nil {
			return w.nextOrdered(tx, s, f, o, base)
		}
	}
	for _, c := range extra {
		steps = append(steps, w.steps(c)...)
	}
	order := func(a, b step) int { return cmp.Compare(a.path, b.path) }
	add := func(e EntryRow) error {
		r, err := s.open(f, e)
		if err != nil {
			return err
		}
		steps = append(steps, w.steps(step{path: base + r.name, id: e.ID, rec: r})...)
		if limit := w.max - w.n + 1; len(steps) > 2*limit+64 {
			slices.SortFunc(steps, order)
			steps, more = steps[:limit], true
		}
		return nil
	}
	if exists {
		if into {
			name, _, _ := strings.Cut(w.o.Prefix[len(base):], "/")
			e, ok, err := s.find(tx, f, name)
			if err != nil {
				return nil, false, err
			}
			if ok {
				err = add(e)
			}
			if err != nil {
				return nil, false, err
			}
		} else if err := tx.LakeEntries(f.ID, add); err != nil {
			return nil, false, err
		}
	}
	slices.SortFunc(steps, order)
	return steps, more, nil
}

// continuation names the listing that a continuation belongs to.
func (s *session) continuation(p Path, o ListOptions) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %t %t", s.caller.Principal, s.item.ID, p.Segments, o.Prefix, o.Delimited, o.Recursive))
	return hex.EncodeToString(h[:])
}

// sealContinuation makes the token by which the caller gets the next page: the
// last path, sealed under the container's key of names and bound to the listing.
func (s *session) sealContinuation(ctx context.Context, p Path, o ListOptions, last string) (string, error) {
	key, err := s.use.Current(ctx, encryption.ScopeItem(s.container.ID), encryption.NamesKey)
	if err != nil {
		return "", err
	}
	sealed, err := key.Seal([]byte(last), purposeContinuation, s.continuation(p, o))
	if err != nil {
		return "", err
	}
	return string(key.ID()) + "." + base64.RawURLEncoding.EncodeToString(sealed), nil
}

func (s *session) openContinuation(ctx context.Context, p Path, o ListOptions) (string, error) {
	id, text, _ := strings.Cut(o.Continuation, ".")
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	var last []byte
	if err == nil {
		var key *encryption.Key
		key, err = s.use.Key(ctx, encryption.ScopeItem(s.container.ID), encryption.KeyID(id))
		if err == nil {
			last, err = key.Open(sealed, purposeContinuation, s.continuation(p, o))
		}
	}
	if err != nil {
		if use := s.use.Check(); use != nil {
			return "", use
		}
		return "", fault.Wrap(fault.InvalidContinuation, err, "The continuation is not one of this listing.").
			WithMend("Begin the listing anew.")
	}
	return string(last), nil
}
