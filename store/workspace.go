package store

import (
	"cmp"
	"database/sql"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/workspace"
)

// Workspace returns the database as package workspace's store.
func (d Domains) Workspace() workspace.Store {
	return domain[workspace.Tx]{d.recall, func(t *Tx) workspace.Tx { return t }}
}

// TenantSettings implements [workspace.Tx].
func (t *Tx) TenantSettings(tenant identity.TenantID) (out []workspace.SettingRow, err error) {
	err = t.rows(`SELECT tenant, name, enabled, value, changed, changed_by FROM tenant_setting WHERE tenant = $1 ORDER BY name`,
		[]any{string(tenant)}, func(scan func(...any) error) error {
			var s workspace.SettingRow
			var changed int64
			err := scan(&s.Tenant, &s.Name, &s.Enabled, &s.Value, &changed, &s.ChangedBy)
			s.Changed = fromMicros(changed)
			out = append(out, s)
			return err
		})
	return out, err
}

// PutTenantSetting implements [workspace.Tx].
func (t *Tx) PutTenantSetting(s workspace.SettingRow) error {
	_, err := t.exec(`INSERT INTO tenant_setting (tenant, name, enabled, value, changed, changed_by) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (tenant, name) DO UPDATE SET enabled = excluded.enabled, value = excluded.value, changed = excluded.changed,
		changed_by = excluded.changed_by`,
		string(s.Tenant), s.Name, s.Enabled, s.Value, micros(s.Changed), string(s.ChangedBy))
	return err
}

// TenantSettingEnabled implements [workspace.Tx] and [encryption.Tx].
func (t *Tx) TenantSettingEnabled(tenant, name string) (enabled bool, err error) {
	err = t.row(`SELECT enabled FROM tenant_setting WHERE tenant = $1 AND name = $2`, []any{tenant, name}, &enabled)
	if errors.Is(err, sql.ErrNoRows) {
		return workspace.SettingDefault(name), nil
	}
	return enabled, err
}

const workspaceColumns = `id, tenant, name, canonical, capacity, deleted, created, coalesce(description_key, ''), description,
	domain, label`

func scanWorkspace(scan func(...any) error) (w workspace.WorkspaceRow, err error) {
	var created int64
	err = scan(&w.ID, &w.Tenant, &w.Name, &w.Canonical, &w.Capacity, &w.Deleted, &created, &w.DescriptionKey, &w.Description,
		&w.Domain, &w.Label)
	w.Created = fromMicros(created)
	return w, err
}

// workspaceErr gives a missing or doubled row its reason.
func workspaceErr(err error, subject string) error {
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fault.New(fault.WorkspaceNotFound, "There is no such workspace.").About(subject)
	case isConstraint(err):
		return workspace.ErrNameTaken
	}
	return err
}

// Workspace implements [workspace.Tx].
func (t *Tx) Workspace(id encryption.ScopeID) (workspace.WorkspaceRow, error) {
	return t.recallWorkspace(rowKey{kind: workspaceByID, id: string(id)}, string(id),
		`SELECT `+workspaceColumns+` FROM workspace WHERE id = $1`, string(id))
}

func (t *Tx) recallWorkspace(k rowKey, subject, query string, args ...any) (workspace.WorkspaceRow, error) {
	about := func(w workspace.WorkspaceRow) (int, rowKey) { return 500 + len(w.Description), rowKey{} }
	w, ok, err := recallOne(t, k, about, func() (workspace.WorkspaceRow, bool, error) { return one(t, scanWorkspace, query, args...) })
	if err == nil && !ok {
		err = sql.ErrNoRows
	}
	return w, workspaceErr(err, subject)
}

// WorkspaceNamed implements [workspace.Tx].
func (t *Tx) WorkspaceNamed(tenant identity.TenantID, canonical string) (workspace.WorkspaceRow, error) {
	return t.recallWorkspace(rowKey{workspaceByName, string(tenant), canonical}, "",
		`SELECT `+workspaceColumns+` FROM workspace WHERE tenant = $1 AND canonical = $2 AND deleted = 0`, string(tenant), canonical)
}

// InsertWorkspace implements [workspace.Tx].
func (t *Tx) InsertWorkspace(w workspace.WorkspaceRow) error {
	_, err := t.exec(`INSERT INTO workspace (id, tenant, name, canonical, capacity, deleted, created, description_key, description,
		domain, label) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		string(w.ID), string(w.Tenant), w.Name, w.Canonical, string(w.Capacity), w.Deleted, micros(w.Created),
		nullable(w.DescriptionKey), w.Description, string(w.Domain), string(w.Label))
	return workspaceErr(err, "")
}

// UpdateWorkspace implements [workspace.Tx].
func (t *Tx) UpdateWorkspace(w workspace.WorkspaceRow) error {
	n, err := t.exec(`UPDATE workspace SET name = $1, canonical = $2, capacity = $3, deleted = $4, description_key = $5,
		description = $6, domain = $7, label = $8 WHERE id = $9`,
		w.Name, w.Canonical, string(w.Capacity), w.Deleted, nullable(w.DescriptionKey), w.Description, string(w.Domain),
		string(w.Label), string(w.ID))
	if err == nil && n == 0 {
		err = sql.ErrNoRows
	}
	return workspaceErr(err, string(w.ID))
}

// DeleteWorkspace implements [workspace.Tx].
func (t *Tx) DeleteWorkspace(id encryption.ScopeID) error {
	_, err := t.exec(`DELETE FROM workspace WHERE id = $1`, string(id))
	return conflict(err, "The workspace still has items.")
}

// TenantWorkspaces implements [workspace.Tx].
func (t *Tx) TenantWorkspaces(tenant identity.TenantID, after encryption.ScopeID, limit int) (out []workspace.WorkspaceRow, err error) {
	err = t.rows(`SELECT `+workspaceColumns+` FROM workspace WHERE tenant = $1 AND id > $2 AND deleted = 0 ORDER BY id LIMIT $3`,
		[]any{string(tenant), string(after), unlimited(limit)}, func(scan func(...any) error) error {
			w, err := scanWorkspace(scan)
			out = append(out, w)
			return err
		})
	return out, err
}

// WorkspacesAssigned implements [workspace.Tx].
func (t *Tx) WorkspacesAssigned(tenant identity.TenantID, principals []identity.PrincipalID, after encryption.ScopeID, limit int) (out []workspace.WorkspaceRow, err error) {
	// A workspace's scope key is "/workspaces/" and its id, from the 13th character on.
	for _, p := range principals {
		err = t.rows(`SELECT `+workspaceColumns+` FROM workspace WHERE tenant = $1 AND id > $2 AND deleted = 0
			AND id IN (SELECT substr(scope_key, 13) FROM role_assignment
				WHERE principal = $3 AND tenant = $1 AND scope_key LIKE '/workspaces/%')
			ORDER BY id LIMIT $4`, []any{string(tenant), string(after), string(p), unlimited(limit)},
			func(scan func(...any) error) error {
				w, err := scanWorkspace(scan)
				out = append(out, w)
				return err
			})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b workspace.WorkspaceRow) int { return cmp.Compare(a.ID, b.ID) })
	out = slices.CompactFunc(out, func(a, b workspace.WorkspaceRow) bool { return a.ID == b.ID })
	return out[:min(len(out), unlimited(limit))], nil
}

// WorkspacesDeleted implements [workspace.Tx].
func (t *Tx) WorkspacesDeleted() (out []encryption.ScopeID, err error) {
	err = t.rows(`SELECT id FROM workspace WHERE deleted = 1 ORDER BY id`, nil, func(scan func(...any) error) error {
		var id encryption.ScopeID
		err := scan(&id)
		out = append(out, id)
		return err
	})
	return out, err
}

// ItemList implements [workspace.Tx].
func (t *Tx) ItemList(ws encryption.ScopeID) (workspace.List, error) {
	about := func(workspace.List) (int, rowKey) { return 300, rowKey{} }
	l, _, err := recallOne(t, rowKey{kind: itemList, id: string(ws)}, about, func() (workspace.List, bool, error) {
		l, err := t.readItemList(ws)
		return l, err == nil, err
	})
	return l, err
}

func (t *Tx) readItemList(ws encryption.ScopeID) (workspace.List, error) {
	l := workspace.List{Workspace: ws}
	var salt, next []byte
	err := t.row(`SELECT key, salt, coalesce(next_key, ''), next_salt, seals FROM item_list WHERE workspace = $1`,
		[]any{string(ws)}, &l.Key, &salt, &l.NextKey, &next, &l.Seals)
	if err != nil {
		return l, workspaceErr(err, string(ws))
	}
	if copy(l.Salt[:], salt) != len(l.Salt) || len(salt) != len(l.Salt) ||
		l.NextKey != "" && (copy(l.NextSalt[:], next) != len(l.NextSalt) || len(next) != len(l.NextSalt)) {
		return l, fault.New(fault.Integrity, "A list of items has a salt of the wrong length.").About(string(ws))
	}
	return l, nil
}

// PutItemList implements [workspace.Tx].
func (t *Tx) PutItemList(l workspace.List) error {
	var next []byte
	if l.NextKey != "" {
		next = l.NextSalt[:]
	}
	_, err := t.exec(`INSERT INTO item_list (workspace, key, salt, next_key, next_salt, seals) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (workspace) DO UPDATE SET key = excluded.key, salt = excluded.salt, next_key = excluded.next_key,
		next_salt = excluded.next_salt, seals = excluded.seals`,
		string(l.Workspace), string(l.Key), l.Salt[:], nullable(l.NextKey), next, l.Seals)
	return err
}

// CountItemListSeal implements [workspace.Tx].
func (t *Tx) CountItemListSeal(ws encryption.ScopeID) error {
	_, err := t.exec(`UPDATE item_list SET seals = seals + 1 WHERE workspace = $1`, string(ws))
	return err
}

// DeleteItemList implements [workspace.Tx].
func (t *Tx) DeleteItemList(ws encryption.ScopeID) error {
	_, err := t.exec(`DELETE FROM item_list WHERE workspace = $1`, string(ws))
	return err
}

const itemEntryColumns = `id, workspace, type, state, since, key, lookup, revision, record, created, changed, folder, label`

func scanItemEntry(scan func(...any) error) (e workspace.Entry, err error) {
	var since, created, changed, revision int64
	var lookup []byte
	err = scan(&e.ID, &e.Workspace, &e.Type, &e.State, &since, &e.Key, &lookup, &revision, &e.Record, &created, &changed,
		&e.Folder, &e.Label)
	e.Since, e.Created, e.Changed = fromMicros(since), fromMicros(created), fromMicros(changed)
	e.Revision = uint64(revision)
	if err == nil && len(lookup) != len(e.Lookup) {
		err = fault.New(fault.Integrity, "An item has a look-up code of the wrong length.").About(string(e.ID))
	}
	copy(e.Lookup[:], lookup)
	return e, err
}

func (t *Tx) itemEntry(k rowKey, query string, args []any, subject string) (workspace.Entry, error) {
	about := func(e workspace.Entry) (int, rowKey) { return 400 + len(e.Record), rowKey{} }
	e, ok, err := recallOne(t, k, about, func() (workspace.Entry, bool, error) { return one(t, scanItemEntry, query, args...) })
	if err == nil && !ok {
		return e, fault.New(fault.ItemNotFound, "There is no such item in this workspace.").About(subject)
	}
	return e, err
}

func (t *Tx) itemEntries(query string, args ...any) (out []workspace.Entry, err error) {
	err = t.rows(query, args, func(scan func(...any) error) error {
		e, err := scanItemEntry(scan)
		out = append(out, e)
		return err
	})
	return out, err
}

// InsertItemEntry implements [workspace.Tx].
func (t *Tx) InsertItemEntry(e workspace.Entry) error {
	_, err := t.exec(`INSERT INTO item_entry (`+itemEntryColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		string(e.ID), string(e.Workspace), string(e.Type), string(e.State), micros(e.Since), string(e.Key), e.Lookup[:],
		int64(e.Revision), e.Record, micros(e.Created), micros(e.Changed), string(e.Folder), string(e.Label))
	if isConstraint(err) {
		return workspace.ErrItemNameTaken
	}
	return err
}

// ItemEntry implements [workspace.Tx].
func (t *Tx) ItemEntry(id encryption.ItemID) (workspace.Entry, error) {
	return t.itemEntry(rowKey{kind: itemEntryByID, id: string(id)},
		`SELECT `+itemEntryColumns+` FROM item_entry WHERE id = $1`, []any{string(id)}, string(id))
}

// ItemEntryByLookup implements [workspace.Tx].
func (t *Tx) ItemEntryByLookup(ws encryption.ScopeID, lookups ...[32]byte) (e workspace.Entry, err error) {
	for _, l := range lookups {
		e, err = t.itemEntry(rowKey{itemEntryByLookup, string(ws), string(l[:])},
			`SELECT `+itemEntryColumns+` FROM item_entry WHERE workspace = $1 AND lookup = $2 AND state <> 'deleted'`, []any{string(ws), l[:]}, "")
		if fault.ReasonOf(err) != fault.ItemNotFound {
			return e, err
		}
	}
	return e, err
}

// ItemEntries implements [workspace.Tx].
func (t *Tx) ItemEntries(ws encryption.ScopeID, itemType workspace.ItemType, after encryption.ItemID, limit int) ([]workspace.Entry, error) {
	return t.itemEntries(`SELECT `+itemEntryColumns+` FROM item_entry WHERE workspace = $1 AND id > $2 AND state = 'live'
		AND ($3 = type OR $3 = '' AND type <> $4) ORDER BY id LIMIT $5`,
		string(ws), string(after), string(itemType), string(workspace.FolderType), unlimited(limit))
}

// ItemEntriesDeleted implements [workspace.Tx].
func (t *Tx) ItemEntriesDeleted(ws encryption.ScopeID, after encryption.ItemID, limit int) ([]workspace.Entry, error) {
	return t.itemEntries(`SELECT `+itemEntryColumns+` FROM item_entry WHERE workspace = $1 AND id > $2 AND state = 'deleted'
		ORDER BY id LIMIT $3`, string(ws), string(after), unlimited(limit))
}

// ItemEntriesInFolder implements [workspace.Tx].
func (t *Tx) ItemEntriesInFolder(folder workspace.FolderID, limit int) ([]workspace.Entry, error) {
	return t.itemEntries(`SELECT `+itemEntryColumns+` FROM item_entry WHERE folder = $1 AND state <> 'deleted' ORDER BY id LIMIT $2`,
		string(folder), unlimited(limit))
}

// ItemEntriesUnder implements [workspace.Tx].
func (t *Tx) ItemEntriesUnder(ws encryption.ScopeID, key encryption.KeyID, limit int) ([]workspace.Entry, error) {
	return t.itemEntries(`SELECT `+itemEntryColumns+` FROM item_entry WHERE key = $1 AND workspace = $2 ORDER BY id LIMIT $3`,
		string(key), string(ws), unlimited(limit))
}

// ItemEntriesIn implements [workspace.Tx].
func (t *Tx) ItemEntriesIn(ws encryption.ScopeID, state workspace.EntryState, before time.Time, limit int) ([]workspace.Entry, error) {
	if ws != "" {
		return t.itemEntries(`SELECT `+itemEntryColumns+` FROM item_entry WHERE workspace = $1 ORDER BY id LIMIT $2`,
			string(ws), unlimited(limit))
	}
	return t.itemEntries(`SELECT `+itemEntryColumns+` FROM item_entry WHERE state = $1 AND state <> 'live' AND since < $2
		ORDER BY since LIMIT $3`, string(state), micros(before), unlimited(limit))
}

// UpdateItemEntry implements [workspace.Tx].
func (t *Tx) UpdateItemEntry(e workspace.Entry, revision uint64) error {
	n, err := t.exec(`UPDATE item_entry SET state = $1, since = $2, key = $3, lookup = $4, revision = $5, record = $6, changed = $7,
		folder = $8, label = $9 WHERE id = $10 AND revision = $11`,
		string(e.State), micros(e.Since), string(e.Key), e.Lookup[:], int64(e.Revision), e.Record, micros(e.Changed),
		string(e.Folder), string(e.Label), string(e.ID), int64(revision))
	switch {
	case isConstraint(err):
		return workspace.ErrItemNameTaken
	case err == nil && n == 0:
		return fault.New(fault.EncryptionChanged, "The item was changed meanwhile.").WithMend("Try again.")
	}
	return err
}

// DeleteItemEntry implements [workspace.Tx].
func (t *Tx) DeleteItemEntry(id encryption.ItemID) error {
	for _, of := range []string{
		`DELETE FROM item_definition WHERE item = $1`,
		`DELETE FROM item_job_log WHERE item = $1`,
		`DELETE FROM item_job WHERE item = $1`,
		`DELETE FROM item_entry WHERE id = $1`,
	} {
		if _, err := t.exec(of, string(id)); err != nil {
			return err
		}
	}
	return nil
}

// ItemDefinition implements [workspace.Tx].
func (t *Tx) ItemDefinition(item encryption.ItemID) (d workspace.DefinitionRow, ok bool, err error) {
	err = t.row(`SELECT item, key, sealed FROM item_definition WHERE item = $1`, []any{string(item)}, &d.Item, &d.Key, &d.Sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return d, false, nil
	}
	return d, err == nil, err
}

// PutItemDefinition implements [workspace.Tx].
func (t *Tx) PutItemDefinition(d workspace.DefinitionRow) error {
	_, err := t.exec(`INSERT INTO item_definition (item, key, sealed) VALUES ($1, $2, $3)
		ON CONFLICT (item) DO UPDATE SET key = excluded.key, sealed = excluded.sealed`,
		string(d.Item), string(d.Key), d.Sealed)
	return err
}

// nullable keeps an absent key as NULL, which no foreign key looks up.
func nullable(id encryption.KeyID) any {
	if id == "" {
		return nil
	}
	return string(id)
}

// unlimited makes a limit of 0 the highest there is.
func unlimited(limit int) int {
	if limit <= 0 {
		return math.MaxInt32
	}
	return limit
}
