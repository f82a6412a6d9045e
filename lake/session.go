package lake

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// The operations, as audit entries name them.
const (
	opContainer = "lake/container/read"
	opStat      = "lake/stat"
	opRead      = "lake/read"
	opList      = "lake/list"
	opWrite     = "lake/write"
	opStage     = "lake/stage"
	opDelete    = "lake/delete"
	opRename    = "lake/rename"
	opUpdate    = "lake/update"
	opLease     = "lake/lease"
	opRights    = "lake/rights/read"
	opAccess    = "lake/access/write"
	opTier      = "lake/tier/write"
	opDelegate  = "lake/delegation-key/generate"

	opMakeContainer = "lake/container/create"
	opDropContainer = "lake/container/delete"
)

// A session is one caller's operation on one item, from its authorisation to its
// audit entry. It is for one goroutine.
type session struct {
	lake      *Lake
	caller    identity.Caller
	action    rbac.Action
	manage    bool // the action is one of management, and not on data
	container Container
	root      manifest // of the storage account's container that the path is in
	item      Item     // zero on a container's own level
	use       *encryption.Use
	entry     audit.Entry

	content *encryption.Key // seals what is written now
	names   *encryption.Key
	keys    map[encryption.KeyID]*encryption.Key
	staged  map[StagedID]openedStaged
}

// do runs fn as an authorised operation of the caller at the path, and records it
// if it fails. fn records its success.
func (l *Lake) do(ctx context.Context, caller identity.Caller, op string, action rbac.Action, p Path, fn func(*session) error) error {
	s := &session{lake: l, caller: caller, action: action, entry: caller.Entry(op, "")}
	return s.recorded(ctx, func() error {
		if err := s.begin(ctx, p); err != nil {
			return err
		}
		return fn(s)
	})
}

// recorded runs fn, and records that it failed.
func (s *session) recorded(ctx context.Context, fn func() error) error {
	err := fn()
	if err == nil || fault.ReasonOf(err) == fault.AuditFailed {
		return err
	}
	// The refusal is recorded even if the caller has hung up.
	if rec := s.lake.recorder.Record(context.WithoutCancel(ctx), identity.Failed(s.entry, err)); rec != nil {
		return auditFailed(rec)
	}
	return err
}

func auditFailed(err error) error {
	return fault.Wrap(fault.AuditFailed, err, "The audit entry could not be written.")
}

// begin finds the container, authorises the caller, and finds the item and the
// keys.
func (s *session) begin(ctx context.Context, p Path) (err error) {
	if err := p.check(); err != nil {
		return err
	}
	if p.Account != "" {
		return s.beginAccount(ctx, p)
	}
	s.container, err = s.lake.catalog.FindWorkspace(ctx, s.caller.Tenant, p.Container)
	if err == nil && s.container.Tenant != s.caller.Tenant {
		err = fault.WorkspaceNotFound
	}
	if errors.Is(err, fault.WorkspaceNotFound) {
		return fault.New(fault.ContainerNotFound, "There is no such container.")
	}
	if err != nil {
		return err
	}
	s.entry.Resource = string(s.container.path())
	if err := s.takeScope(ctx, s.authorise); err != nil {
		return err
	}
	if len(p.Segments) == 0 {
		return nil
	}
	return s.enter(ctx, p.Segments[0])
}

// takeScope runs what a session begins with in a transaction, and gets the right to use
// the scope's keys as that transaction sees them.
func (s *session) takeScope(ctx context.Context, fn func(Tx) error) error {
	var row encryption.Scope
	err := s.lake.store.View(ctx, func(tx Tx) (err error) {
		if err = fn(tx); err == nil {
			row, err = tx.Scope(s.container.ID)
		}
		return err
	})
	if err != nil {
		return err
	}
	s.use, err = s.lake.keys.UseAsOf(ctx, row)
	return err
}

// enter finds the item of a path's first segment, and its keys.
func (s *session) enter(ctx context.Context, segment string) error {
	item, err := s.lake.catalog.FindItem(ctx, s.use, s.container.ID, segment)
	if errors.Is(err, fault.ItemNotFound) {
		return fault.New(fault.PathNotFound, "The workspace has no such item.")
	}
	if err != nil {
		return err
	}
	s.entry.Resource = string(s.container.path()) + "/items/" + string(item.ID)
	return s.takeItem(ctx, item)
}

// takeItem makes the session work on the item.
func (s *session) takeItem(ctx context.Context, item Item) (err error) {
	s.item = item
	if s.content, err = s.use.Current(ctx, item.ID, encryption.ContentKey); err != nil {
		return err
	}
	if s.names, err = s.use.Current(ctx, item.ID, encryption.NamesKey); err != nil {
		return err
	}
	if s.keys == nil {
		s.keys = map[encryption.KeyID]*encryption.Key{}
	}
	s.keys[s.content.ID()], s.keys[s.names.ID()] = s.content, s.names
	return nil
}

// within returns a session of the same caller on another item of the container.
func (s *session) within(ctx context.Context, item Item) (*session, error) {
	o := *s
	o.keys, o.staged = nil, nil
	return &o, o.takeItem(ctx, item)
}

// authorise asks whether the caller may, by the assignments that tx sees.
func (s *session) authorise(tx Tx) error {
	scope := s.container.path()
	_, ok, err := rbac.Check(tx, rbac.PlatformRolesAt(scope), s.caller, s.action, !s.manage, scope)
	if err == nil && !ok {
		err = fault.New(fault.Denied, "The caller has no role in the workspace or storage account that allows "+string(s.action)+".").
			WithMend("One of its administrators can give one.")
	}
	return err
}

// noKey is what a transaction's function returns when it meets a key that is not
// loaded: keys are never fetched inside a transaction.
type noKey encryption.KeyID

func (k noKey) Error() string { return "key " + string(k) + " is not loaded" }

// noSalt is what it returns when a folder's salt is used up.
type noSalt NodeID

func (n noSalt) Error() string { return "the salt of folder " + string(n) + " is used up" }

// maxAttempts bounds how often one operation is begun anew because keys were
// missing or the namespace moved on under it.
const maxAttempts = 32

// view runs fn in a read transaction, and again whenever it needed a key. fn must
// not keep anything of a run that failed.
func (s *session) view(ctx context.Context, fn func(Tx) error) error {
	return s.run(ctx, s.lake.store.View, fn)
}

// update does the same with a write transaction that publishes: it authorises the
// caller once more and checks that the scope still serves.
func (s *session) update(ctx context.Context, fn func(Tx) error) error {
	return s.run(ctx, s.lake.store.Update, func(tx Tx) error {
		if err := s.authorise(tx); err != nil {
			return err
		}
		if err := s.use.Confirm(tx, s.content.ID(), s.names.ID()); err != nil {
			return err
		}
		return fn(tx)
	})
}

func (s *session) run(ctx context.Context, do func(context.Context, func(Tx) error) error, fn func(Tx) error) error {
	var gone noKey
	for range maxAttempts {
		err := do(ctx, fn)
		var key noKey
		var salt noSalt
		var unordered noOrder
		switch {
		case errors.As(err, &key):
			k, err := s.use.Key(ctx, s.item.ID, encryption.KeyID(key))
			switch {
			case fault.ReasonOf(err) == fault.Integrity && key != gone:
				gone = key // it may have been retired since, and what it sealed have another
			case err != nil:
				return err
			default:
				s.keys[k.ID()] = k
			}
		case errors.As(err, &salt):
			if err := s.resalt(ctx, NodeID(salt)); err != nil {
				return err
			}
		case errors.As(err, &unordered):
			if err := s.order(ctx, NodeID(unordered)); err != nil {
				return err
			}
		default:
			return err
		}
	}
	return fault.New(fault.Unavailable, "The item's keys keep changing.").WithMend("Try again.")
}

// key returns a key of the item that is loaded.
func (s *session) key(id encryption.KeyID) (*encryption.Key, error) {
	if k := s.keys[id]; k != nil {
		return k, nil
	}
	return nil, noKey(id)
}

// record appends the success to the transaction that does the act.
func (s *session) record(tx Tx, node NodeID, bytes int64) error {
	if err := tx.AppendAudit(s.success(node, bytes)); err != nil {
		return auditFailed(err)
	}
	return nil
}

// recordRead makes the success of an act that writes nothing durable.
func (s *session) recordRead(ctx context.Context, node NodeID, bytes int64) error {
	if err := s.lake.recorder.Record(ctx, s.success(node, bytes)); err != nil {
		return auditFailed(err)
	}
	return nil
}

// note adds to what the operation's audit entry tells.
func (s *session) note(name, id string) {
	s.entry.Detail = maps.Clone(s.entry.Detail)
	if s.entry.Detail == nil {
		s.entry.Detail = map[string]string{}
	}
	s.entry.Detail[name] = id
}

func (s *session) success(node NodeID, bytes int64) audit.Entry {
	e := s.entry
	e.Detail = maps.Clone(e.Detail)
	if e.Detail == nil {
		e.Detail = map[string]string{}
	}
	if node != "" {
		e.Detail["node"] = string(node)
	}
	e.Detail["bytes"] = strconv.FormatInt(bytes, 10)
	return e
}

// now returns the time in the store's resolution.
func (s *session) now() time.Time { return s.lake.now().UTC().Truncate(time.Microsecond) }
