package encryption_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Encryption(t, func(*testing.T) encryption.Store { return newMemory() })
}

// A memory is a store in memory, which unlike a database runs in a bubble of
// testing/synctest, can be copied, and can be cut off as a crash would.
type memory struct {
	mu   sync.RWMutex
	data *memoryTx

	crash int // after as many transactions more the store is cut off; 0 means never
	dead  bool
	mute  error // what recording an entry fails with
}

// A memoryTx is the data as one transaction sees it.
type memoryTx struct {
	mute        error
	scopes      map[encryption.ScopeID]encryption.Scope
	generations map[generationKey]encryption.Generation
	links       map[generationKey]encryption.Link
	versions    map[encryption.ScopeID][]encryption.VersionUse
	items       map[encryption.ItemID]encryption.Item
	keys        map[encryption.KeyID]encryption.KeyRow
	objects     map[string]object
	renewals    map[encryption.ScopeID]encryption.Renewal
	backups     []encryption.Backup
	grants      map[string]rbac.Assignment
	off         bool          // the tenant's switch
	skew        time.Duration // of its clock
	audit       []audit.Entry
}

type generationKey struct {
	scope  encryption.ScopeID
	number int64
}

// An object is something sealed under an item's key, which its row names.
type object struct {
	id     string
	item   encryption.ItemID
	key    encryption.KeyID
	sealed []byte
}

func (t *memoryTx) Now() (time.Time, error) { return time.Now().Add(t.skew), nil }

func (t *memoryTx) Renewal(id encryption.ScopeID) (encryption.Renewal, bool, error) {
	r, ok := t.renewals[id]
	return r, ok, nil
}

func (t *memoryTx) PutRenewal(r encryption.Renewal) error {
	t.renewals[r.Scope] = r
	return nil
}

func newMemory() *memory {
	return &memory{data: &memoryTx{
		scopes:      map[encryption.ScopeID]encryption.Scope{},
		generations: map[generationKey]encryption.Generation{},
		links:       map[generationKey]encryption.Link{},
		versions:    map[encryption.ScopeID][]encryption.VersionUse{},
		items:       map[encryption.ItemID]encryption.Item{},
		keys:        map[encryption.KeyID]encryption.KeyRow{},
		objects:     map[string]object{},
		renewals:    map[encryption.ScopeID]encryption.Renewal{},
		grants:      map[string]rbac.Assignment{},
	}}
}

func (t *memoryTx) clone() *memoryTx {
	c := *t
	c.scopes, c.generations, c.links = maps.Clone(t.scopes), maps.Clone(t.generations), maps.Clone(t.links)
	c.versions, c.items, c.keys = maps.Clone(t.versions), maps.Clone(t.items), maps.Clone(t.keys)
	c.renewals = maps.Clone(t.renewals)
	c.objects, c.grants = maps.Clone(t.objects), maps.Clone(t.grants)
	return &c
}

// copy returns a store with the same data: a backup, or what a crash leaves.
func (m *memory) copy() *memory {
	m.mu.RLock()
	defer m.mu.RUnlock()
	data := m.data.clone()
	data.audit = slices.Clip(data.audit) // transactions append in place
	return &memory{data: data}
}

// crashAfter cuts the store off after n more transactions that change it.
func (m *memory) crashAfter(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crash = n
}

func (m *memory) cut() bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.dead
}

var errCrashed = errors.New("memory: cut off")

func (m *memory) view(fn func(*memoryTx) error) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.dead {
		return errCrashed
	}
	return fn(m.data)
}

func (m *memory) update(fn func(*memoryTx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errCrashed
	}
	t := m.data.clone()
	t.mute = m.mute
	if err := fn(t); err != nil {
		return err
	}
	m.data = t
	if m.crash > 0 {
		m.crash--
		m.dead = m.crash == 0
	}
	return nil
}

func (m *memory) View(ctx context.Context, fn func(encryption.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.view(func(t *memoryTx) error { return fn(t) })
}

func (m *memory) Update(ctx context.Context, fn func(encryption.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.update(func(t *memoryTx) error { return fn(t) })
}

// Record implements [audit.Recorder].
func (m *memory) Record(_ context.Context, e audit.Entry) error {
	return m.update(func(t *memoryTx) error { return t.AppendAudit(e) })
}

func (t *memoryTx) AppendAudit(e audit.Entry) error {
	if t.mute != nil {
		return fault.Wrap(fault.AuditFailed, t.mute, "no audit")
	}
	t.audit = append(t.audit, e)
	return nil
}

func (t *memoryTx) Scope(id encryption.ScopeID) (encryption.Scope, error) {
	s, ok := t.scopes[id]
	if !ok {
		return s, fault.New(fault.WorkspaceNotFound, "")
	}
	return s, nil
}

func (t *memoryTx) Latched(since time.Time) (out []encryption.Scope, err error) {
	for _, s := range t.scopes {
		if s.Serving != encryption.Serves && !s.ServingSince.Before(since) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b encryption.Scope) int { return a.ServingSince.Compare(b.ServingSince) })
	return out, nil
}

func (t *memoryTx) Pending() (p encryption.Pending, err error) {
	for _, s := range t.scopes {
		g := t.generations[generationKey{s.ID, s.Sealing}]
		switch {
		case s.Serving == encryption.Revoked:
			p.Revoked++
		case s.Serving == encryption.Unreachable:
			p.Unreachable++
		case g.State == encryption.Enabling || g.State == encryption.Disabling:
			p.Changing++
		}
	}
	return p, nil
}

func (t *memoryTx) Changing(after encryption.ScopeID, limit int) (out []encryption.Scope, err error) {
	for _, s := range t.scopes {
		g := t.generations[generationKey{s.ID, s.Sealing}]
		if s.ID > after && (g.State == encryption.Enabling || g.State == encryption.Disabling) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b encryption.Scope) int { return cmp.Compare(a.ID, b.ID) })
	return out[:min(limit, len(out))], nil
}

func (t *memoryTx) UpdateScope(s encryption.Scope, epoch int64) error {
	if old, ok := t.scopes[s.ID]; !ok || old.Epoch != epoch {
		return fault.New(fault.EncryptionChanged, "")
	}
	t.scopes[s.ID] = s
	return nil
}

func (t *memoryTx) Generations(s encryption.ScopeID) (out []encryption.Generation, err error) {
	for k, g := range t.generations {
		if k.scope == s {
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b encryption.Generation) int { return cmp.Compare(b.Number, a.Number) })
	return out, nil
}

func (t *memoryTx) PutGeneration(g encryption.Generation) error {
	t.generations[generationKey{g.Scope, g.Number}] = g
	return nil
}

func (t *memoryTx) DeleteGeneration(s encryption.ScopeID, n int64) error {
	delete(t.generations, generationKey{s, n})
	return nil
}

func (t *memoryTx) Links(s encryption.ScopeID) (out []encryption.Link, err error) {
	for k, l := range t.links {
		if k.scope == s {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b encryption.Link) int { return cmp.Compare(b.Generation, a.Generation) })
	return out, nil
}

func (t *memoryTx) PutLink(l encryption.Link) error {
	t.links[generationKey{l.Scope, l.Generation}] = l
	return nil
}

func (t *memoryTx) DeleteLink(s encryption.ScopeID, n int64) error {
	delete(t.links, generationKey{s, n})
	return nil
}

func (t *memoryTx) Item(id encryption.ItemID) (encryption.Item, error) {
	i, ok := t.items[id]
	if !ok {
		return i, fault.New(fault.ItemNotFound, "")
	}
	return i, nil
}

func (t *memoryTx) ItemsBehind(s encryption.ScopeID, n int64, now time.Time) (behind, failed int, next []encryption.Item, err error) {
	for _, i := range t.items {
		if i.Scope != s || i.Generation >= n {
			continue
		}
		behind++
		if i.Failed {
			failed++
		}
		if !i.Until.After(now) && !i.NextRun.After(now) {
			next = append(next, i)
		}
	}
	slices.SortFunc(next, func(a, b encryption.Item) int {
		return cmp.Or(a.NextRun.Compare(b.NextRun), cmp.Compare(a.ID, b.ID))
	})
	return behind, failed, next, nil
}

func (t *memoryTx) ReleaseItems() error {
	for id, i := range t.items {
		if !i.Until.IsZero() {
			i.Until, i.Owner, i.Fence = time.Time{}, "", i.Fence+1
			t.items[id] = i
		}
	}
	return nil
}

func (t *memoryTx) ItemStates(s encryption.ScopeID) (out []encryption.Item, err error) {
	for _, i := range t.items {
		alive := false
		for _, k := range t.keys {
			alive = alive || k.Item == i.ID && k.State != encryption.Shredded
		}
		if i.Scope == s && i.ID != encryption.ScopeItem(s) && alive {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b encryption.Item) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

func (t *memoryTx) ItemTotals(s encryption.ScopeID, n int64) (out encryption.ItemTotals, err error) {
	all, err := t.ItemStates(s)
	for _, i := range all {
		out.Items++
		p := i.Progress
		switch {
		case i.Generation >= n:
			out.Done++
		case p.TotalBytes > 0:
			out.Done += float64(min(p.Bytes, p.TotalBytes)) / float64(p.TotalBytes)
		case p.TotalFiles > 0:
			out.Done += float64(min(p.Files, p.TotalFiles)) / float64(p.TotalFiles)
		}
		if i.Generation < n {
			out.Behind++
			if i.Failed {
				out.Failed++
			}
		}
		out.Progress.Files += p.Files
		out.Progress.TotalFiles += p.TotalFiles
		out.Progress.Bytes += p.Bytes
		out.Progress.TotalBytes += p.TotalBytes
	}
	return out, err
}

func (t *memoryTx) ItemPage(s encryption.ScopeID, n int64, status encryption.ItemEncryption, after encryption.ItemID, limit int) (out []encryption.Item, err error) {
	all, err := t.ItemStates(s)
	for _, i := range all {
		is := encryption.ItemActive
		if i.Generation < n {
			if is = encryption.ItemInProgress; i.Failed {
				is = encryption.ItemFailed
			}
		}
		if i.ID > after && (status == "" || status == is) && len(out) < limit {
			out = append(out, i)
		}
	}
	return out, err
}

func (t *memoryTx) UpdateItem(i encryption.Item, fence int64) error {
	if old, ok := t.items[i.ID]; !ok || old.Fence != fence {
		return fault.New(fault.EncryptionChanged, "")
	}
	t.items[i.ID] = i
	return nil
}

func (t *memoryTx) ItemKeys(item encryption.ItemID) (out []encryption.KeyRow, err error) {
	for _, k := range t.keys {
		if k.Item == item {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b encryption.KeyRow) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

func (t *memoryTx) KeysBehind(s encryption.ScopeID, n int64) (count int, err error) {
	for _, k := range t.keys {
		if k.Scope == s && k.Generation < n && k.State != encryption.Shredded {
			count++
		}
	}
	return count, nil
}

func (t *memoryTx) KeyAlive(id encryption.KeyID) (bool, error) {
	k, ok := t.keys[id]
	return ok && k.State != encryption.Shredded, nil
}

func (t *memoryTx) UpdateKey(k encryption.KeyRow) error {
	t.keys[k.ID] = k
	return nil
}

func (t *memoryTx) DeleteKey(id encryption.KeyID) error {
	for _, o := range t.objects {
		if o.key == id {
			return fault.New(fault.Conflict, "")
		}
	}
	delete(t.keys, id)
	return nil
}

func (t *memoryTx) VersionsUsed(s encryption.ScopeID) ([]encryption.VersionUse, error) {
	out := slices.Clone(t.versions[s])
	slices.SortFunc(out, func(a, b encryption.VersionUse) int { return b.First.Compare(a.First) })
	return out, nil
}

func (t *memoryTx) UseVersion(s encryption.ScopeID, v encryption.VersionUse) error {
	all := slices.Clone(t.versions[s])
	if i := slices.IndexFunc(all, func(u encryption.VersionUse) bool { return u.KID == v.KID }); i >= 0 {
		all[i].Last = v.Last
	} else {
		all = append(all, v)
	}
	t.versions[s] = all
	return nil
}

func (t *memoryTx) Backups() ([]encryption.Backup, error) {
	return slices.SortedFunc(slices.Values(t.backups), func(a, b encryption.Backup) int {
		return cmp.Or(strings.Compare(a.Folder, b.Folder), a.Made.Compare(b.Made))
	}), nil
}

func (t *memoryTx) PutBackup(b encryption.Backup) error {
	t.DeleteBackup(b)
	t.backups = append(slices.Clip(t.backups), b)
	return nil
}

func (t *memoryTx) DeleteBackup(b encryption.Backup) error {
	t.backups = slices.DeleteFunc(slices.Clone(t.backups), func(o encryption.Backup) bool { return o.Folder == b.Folder && o.Made.Equal(b.Made) })
	return nil
}

func (t *memoryTx) VaultLoad(tenant identity.TenantID, vault string) (out []encryption.Load, err error) {
	for _, g := range t.generations {
		if s := t.scopes[g.Scope]; g.Number == s.Sealing && s.Tenant == tenant && g.KID.Vault() == vault {
			out = append(out, encryption.Load{Wrapped: len(g.Wrapped), Bound: s.Bound, KeyBound: s.KeyBound, Scopes: 1})
		}
	}
	return out, nil
}

func (t *memoryTx) TenantSettingEnabled(_, name string) (bool, error) {
	return name == encryption.SettingCustomerManagedKeys && !t.off, nil
}

func (t *memoryTx) InsertScope(s encryption.Scope) error {
	t.scopes[s.ID] = s
	return nil
}

func (t *memoryTx) InsertGeneration(g encryption.Generation) error { return t.PutGeneration(g) }

func (t *memoryTx) InsertItem(i encryption.Item) error {
	t.items[i.ID] = i
	return nil
}

func (t *memoryTx) InsertKey(k encryption.KeyRow) error {
	for _, other := range t.keys {
		if other.Item == k.Item && other.Purpose == k.Purpose && other.State == encryption.Current {
			return fault.New(fault.EncryptionChanged, "")
		}
	}
	return t.UpdateKey(k)
}

func (t *memoryTx) ShredItem(item encryption.ItemID) error {
	for id, k := range t.keys {
		if k.Item == item {
			k.State, k.Sealed = encryption.Shredded, nil
			t.keys[id] = k
		}
	}
	return nil
}

func (t *memoryTx) DeleteItemKeys(item encryption.ItemID) error {
	for id, k := range t.keys {
		if k.Item == item {
			if err := t.DeleteKey(id); err != nil {
				return err
			}
		}
	}
	delete(t.items, item)
	return nil
}

func (t *memoryTx) DeleteScope(id encryption.ScopeID) error {
	for _, i := range t.items {
		if i.Scope == id {
			return fault.New(fault.Conflict, "")
		}
	}
	for k := range t.generations {
		if k.scope == id {
			delete(t.generations, k)
		}
	}
	for k := range t.links {
		if k.scope == id {
			delete(t.links, k)
		}
	}
	delete(t.versions, id)
	delete(t.scopes, id)
	return nil
}

func (t *memoryTx) RoleAssignments(principals []identity.PrincipalID, scope rbac.Scope) (out []rbac.Assignment, err error) {
	for _, a := range t.grants {
		if slices.Contains(principals, a.Principal) && a.Scope.Contains(scope) {
			out = append(out, a)
		}
	}
	return out, nil
}

func (t *memoryTx) PutRoleAssignment(a rbac.Assignment) error {
	t.grants[a.ID] = a
	return nil
}

var errUnused = errors.New("memory: not what these tests need")

func (*memoryTx) RoleAssignmentsAt(rbac.Scope, bool) ([]rbac.Assignment, error) {
	return nil, errUnused
}
func (*memoryTx) RoleAssignment(string) (rbac.Assignment, error) {
	return rbac.Assignment{}, errUnused
}
func (*memoryTx) DeleteRoleAssignment(string) error           { return errUnused }
func (*memoryTx) DeleteRoleAssignmentsBelow(rbac.Scope) error { return errUnused }

func (t *memoryTx) ScopesAfter(after encryption.ScopeID, limit int) (out []encryption.Scope, err error) {
	for _, s := range t.scopes {
		if s.ID > after {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b encryption.Scope) int { return cmp.Compare(a.ID, b.ID) })
	return out[:min(limit, len(out))], nil
}

func (t *memoryTx) ItemsAfter(s encryption.ScopeID, after encryption.ItemID, limit int) (out []encryption.Item, err error) {
	for _, i := range t.items {
		if i.Scope == s && i.ID > after {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b encryption.Item) int { return cmp.Compare(a.ID, b.ID) })
	return out[:min(limit, len(out))], nil
}
