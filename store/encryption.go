package store

import (
	"database/sql"
	"errors"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// Encryption returns the database as package encryption's store.
func (d Domains) Encryption() encryption.Store {
	return domain[encryption.Tx]{d.runner, func(t *Tx) encryption.Tx { return t }}
}

const scopeColumns = `id, tenant, sealing, epoch, serving, reason, detail, serving_since, serial,
	bound, key_bound, key_lost, findings, verified, path`

// scopesSelect reads scopes with their tenants' bounds.
const scopesSelect = `SELECT ` + scopeColumns + `, coalesce((SELECT value FROM tenant_setting t WHERE t.tenant = s.tenant
	AND t.name = '` + encryption.SettingBound + `'), 0) FROM scope s`

func scanScope(scan func(...any) error) (s encryption.Scope, err error) {
	var since, bound, keyBound, lost, verified, tenantBound int64
	err = scan(&s.ID, &s.Tenant, &s.Sealing, &s.Epoch, &s.Serving, &s.Reason, &s.Detail, &since, &s.Serial,
		&bound, &keyBound, &lost, &s.Findings, &verified, &s.Path, &tenantBound)
	s.ServingSince, s.KeyLost, s.Verified = fromMicros(since), fromMicros(lost), fromMicros(verified)
	s.Bound, s.KeyBound = time.Duration(bound)*time.Microsecond, time.Duration(keyBound)*time.Microsecond
	s.TenantBound = time.Duration(tenantBound) * time.Second
	return s, err
}

func (t *Tx) Scope(id encryption.ScopeID) (encryption.Scope, error) {
	about := func(encryption.Scope) (int, rowKey) { return 800, rowKey{} }
	s, ok, err := recallOne(t, rowKey{kind: scopeByID, id: string(id)}, about, func() (encryption.Scope, bool, error) {
		return one(t, scanScope, scopesSelect+` WHERE id = $1`, string(id))
	})
	if err == nil && !ok {
		return s, fault.New(fault.WorkspaceNotFound, "There is no such workspace.").About(string(id))
	}
	return s, err
}

func (t *Tx) Latched(since time.Time) ([]encryption.Scope, error) {
	return t.scopes(scopesSelect+` WHERE serving <> '' AND serving_since >= $1 ORDER BY serving_since, id`, micros(since))
}

func (t *Tx) Changing(after encryption.ScopeID, limit int) ([]encryption.Scope, error) {
	return t.scopes(scopesSelect+` WHERE id IN (SELECT g.scope FROM scope_generation g JOIN scope z ON z.id = g.scope AND z.sealing = g.number
		WHERE g.state IN ('Enabling', 'Disabling') AND g.scope > $1 ORDER BY g.scope LIMIT $2) ORDER BY id`, string(after), limit)
}

func (t *Tx) Pending() (p encryption.Pending, err error) {
	err = errors.Join(
		t.row(`SELECT count(*) FROM scope_generation g JOIN scope s ON s.id = g.scope AND s.sealing = g.number
			WHERE g.state IN ('Enabling', 'Disabling') AND s.serving = ''`, nil, &p.Changing),
		t.row(`SELECT count(*) FROM scope WHERE serving <> '' AND serving = 'Revoked'`, nil, &p.Revoked),
		t.row(`SELECT count(*) FROM scope WHERE serving <> '' AND serving = 'Unreachable'`, nil, &p.Unreachable))
	return p, err
}

func (t *Tx) scopes(query string, args ...any) (out []encryption.Scope, err error) {
	err = t.rows(query, args, func(scan func(...any) error) error {
		s, err := scanScope(scan)
		out = append(out, s)
		return err
	})
	return out, err
}

func (t *Tx) InsertScope(s encryption.Scope) error {
	_, err := t.exec(`INSERT INTO scope (`+scopeColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)`,
		string(s.ID), string(s.Tenant), s.Sealing, s.Epoch, string(s.Serving), string(s.Reason), s.Detail,
		micros(s.ServingSince), s.Serial, s.Bound.Microseconds(), s.KeyBound.Microseconds(), micros(s.KeyLost),
		string(s.Findings), micros(s.Verified), string(s.Path))
	return err
}

func (t *Tx) UpdateScope(s encryption.Scope, epoch int64) error {
	n, err := t.exec(`UPDATE scope SET sealing = $1, epoch = $2, serving = $3, reason = $4, detail = $5,
		serving_since = $6, serial = $7, bound = $8, key_bound = $9, key_lost = $10, findings = $11, verified = $12
		WHERE id = $13 AND epoch = $14`,
		s.Sealing, s.Epoch, string(s.Serving), string(s.Reason), s.Detail, micros(s.ServingSince), s.Serial,
		s.Bound.Microseconds(), s.KeyBound.Microseconds(), micros(s.KeyLost), string(s.Findings), micros(s.Verified),
		string(s.ID), epoch)
	if err == nil && n == 0 {
		err = fault.New(fault.EncryptionChanged, "The workspace's keys have changed meanwhile.").WithMend("Try again.")
	}
	if err != nil {
		return err
	}
	return t.tell(ScopeNews, string(s.ID))
}

func (t *Tx) DeleteScope(id encryption.ScopeID) error {
	t.shreds = Shredded
	for _, q := range []string{
		`DELETE FROM scope_link WHERE scope = $1`, `DELETE FROM scope_renewal WHERE scope = $1`, `DELETE FROM scope_version WHERE scope = $1`,
		`DELETE FROM scope_generation WHERE scope = $1`, `DELETE FROM scope WHERE id = $1`,
	} {
		if _, err := t.exec(q, string(id)); err != nil {
			return conflict(err, "The workspace still has items.")
		}
	}
	return nil
}

const generationColumns = `scope, number, mode, state, root_id, algorithm, key_identifier, kid, epoch, wrapped,
	sealed, reseal_only, created`

func (t *Tx) Generations(id encryption.ScopeID) (out []encryption.Generation, err error) {
	err = t.rows(`SELECT `+generationColumns+` FROM scope_generation WHERE scope = $1 ORDER BY number DESC`,
		[]any{string(id)}, func(scan func(...any) error) error {
			var g encryption.Generation
			var created int64
			err := scan(&g.Scope, &g.Number, &g.Mode, &g.State, &g.RootID, &g.Algorithm, &g.KeyIdentifier,
				&g.KID, &g.Epoch, &g.Wrapped, &g.Sealed, &g.ReSealOnly, &created)
			g.Created = fromMicros(created)
			out = append(out, g)
			return err
		})
	return out, err
}

func (t *Tx) InsertGeneration(g encryption.Generation) error {
	_, err := t.exec(`INSERT INTO scope_generation (`+generationColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`, generationValues(g)...)
	return err
}

func (t *Tx) PutGeneration(g encryption.Generation) error {
	_, err := t.exec(`INSERT INTO scope_generation (`+generationColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (scope, number) DO UPDATE SET mode = excluded.mode, state = excluded.state,
			root_id = excluded.root_id, algorithm = excluded.algorithm, key_identifier = excluded.key_identifier,
			kid = excluded.kid, epoch = excluded.epoch, wrapped = excluded.wrapped, sealed = excluded.sealed,
			reseal_only = excluded.reseal_only`, generationValues(g)...)
	return err
}

func generationValues(g encryption.Generation) []any {
	return []any{
		string(g.Scope), g.Number, string(g.Mode), string(g.State), g.RootID, string(g.Algorithm), g.KeyIdentifier,
		string(g.KID), g.Epoch, g.Wrapped, g.Sealed, g.ReSealOnly, micros(g.Created),
	}
}

func (t *Tx) DeleteGeneration(id encryption.ScopeID, number int64) error {
	t.shreds = Shredded
	_, err := t.exec(`DELETE FROM scope_generation WHERE scope = $1 AND number = $2`, string(id), number)
	return err
}

func (t *Tx) Links(id encryption.ScopeID) (out []encryption.Link, err error) {
	err = t.rows(`SELECT scope, generation, under, sealed, key_identifier FROM scope_link WHERE scope = $1 ORDER BY generation DESC`,
		[]any{string(id)}, func(scan func(...any) error) error {
			var l encryption.Link
			err := scan(&l.Scope, &l.Generation, &l.Under, &l.Sealed, &l.KeyIdentifier)
			out = append(out, l)
			return err
		})
	return out, err
}

func (t *Tx) PutLink(l encryption.Link) error {
	_, err := t.exec(`INSERT INTO scope_link (scope, generation, under, sealed, key_identifier)
		VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (scope, generation) DO UPDATE SET under = excluded.under, sealed = excluded.sealed`,
		string(l.Scope), l.Generation, l.Under, l.Sealed, l.KeyIdentifier)
	return err
}

func (t *Tx) DeleteLink(id encryption.ScopeID, generation int64) error {
	t.shreds = Shredded
	_, err := t.exec(`DELETE FROM scope_link WHERE scope = $1 AND generation = $2`, string(id), generation)
	return err
}

func (t *Tx) VersionsUsed(id encryption.ScopeID) (out []encryption.VersionUse, err error) {
	err = t.rows(`SELECT kid, first, last FROM scope_version WHERE scope = $1 ORDER BY first DESC, kid`,
		[]any{string(id)}, func(scan func(...any) error) error {
			var v encryption.VersionUse
			var first, last int64
			err := scan(&v.KID, &first, &last)
			v.First, v.Last = fromMicros(first), fromMicros(last)
			out = append(out, v)
			return err
		})
	return out, err
}

func (t *Tx) UseVersion(id encryption.ScopeID, v encryption.VersionUse) error {
	_, err := t.exec(`INSERT INTO scope_version (scope, kid, first, last) VALUES ($1, $2, $3, $4)
		ON CONFLICT (scope, kid) DO UPDATE SET last = excluded.last`,
		string(id), v.KID, micros(v.First), micros(v.Last))
	return err
}

func (t *Tx) Backups() (out []encryption.Backup, err error) {
	err = t.rows(`SELECT folder, made, begun, ended FROM backup_point ORDER BY folder, made`, nil, func(scan func(...any) error) error {
		var b encryption.Backup
		var made, begun, ended int64
		err := scan(&b.Folder, &made, &begun, &ended)
		b.Made, b.Begun, b.Ended = fromMicros(made), fromMicros(begun), fromMicros(ended)
		out = append(out, b)
		return err
	})
	return out, err
}

func (t *Tx) PutBackup(b encryption.Backup) error {
	_, err := t.exec(`INSERT INTO backup_point (folder, made, begun, ended) VALUES ($1, $2, $3, $4)
		ON CONFLICT (folder, made) DO UPDATE SET begun = excluded.begun, ended = excluded.ended`,
		b.Folder, micros(b.Made), micros(b.Begun), micros(b.Ended))
	return err
}

func (t *Tx) DeleteBackup(b encryption.Backup) error {
	_, err := t.exec(`DELETE FROM backup_point WHERE folder = $1 AND made = $2`, b.Folder, micros(b.Made))
	return err
}

func (t *Tx) VaultLoad(tenant identity.TenantID, vault string) (out []encryption.Load, err error) {
	// The vault's keys lie between two strings, in the order of bytes that both engines
	// compare in.
	err = t.rows(`SELECT length(g.wrapped), s.bound, s.key_bound, count(*) FROM scope_generation g
		JOIN scope s ON s.id = g.scope AND s.sealing = g.number
		WHERE g.kid >= $1 AND g.kid < $2 AND s.tenant = $3 GROUP BY length(g.wrapped), s.bound, s.key_bound
		ORDER BY length(g.wrapped), s.bound, s.key_bound`,
		[]any{"https://" + vault + "/", "https://" + vault + "0", string(tenant)}, func(scan func(...any) error) error {
			var l encryption.Load
			var bound, keyBound int64
			err := scan(&l.Wrapped, &bound, &keyBound, &l.Scopes)
			l.Bound, l.KeyBound = time.Duration(bound)*time.Microsecond, time.Duration(keyBound)*time.Microsecond
			out = append(out, l)
			return err
		})
	return out, err
}

func (t *Tx) Renewal(id encryption.ScopeID) (r encryption.Renewal, ok bool, err error) {
	var ends, asking int64
	err = t.row(`SELECT scope, generation, kid, epoch, serial, ends, mac, asking FROM scope_renewal WHERE scope = $1`, []any{string(id)},
		&r.Scope, &r.Generation, &r.KID, &r.Epoch, &r.Serial, &ends, &r.MAC, &asking)
	if errors.Is(err, sql.ErrNoRows) {
		return r, false, nil
	}
	r.Ends, r.Asking = fromMicros(ends), fromMicros(asking)
	return r, err == nil, err
}

func (t *Tx) PutRenewal(r encryption.Renewal) error {
	if r.MAC == nil {
		r.MAC = []byte{}
	}
	_, err := t.exec(`INSERT INTO scope_renewal (scope, generation, kid, epoch, serial, ends, mac, asking)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (scope) DO UPDATE SET generation = excluded.generation, kid = excluded.kid, epoch = excluded.epoch,
			serial = excluded.serial, ends = excluded.ends, mac = excluded.mac, asking = excluded.asking`,
		string(r.Scope), r.Generation, string(r.KID), r.Epoch, r.Serial, micros(r.Ends), r.MAC, micros(r.Asking))
	return err
}

const itemColumns = `item, scope, type, generation, failed, reason, detail, files, total_files, bytes, total_bytes,
	fence, owner, until, attempt, next_run`

func scanItem(scan func(...any) error) (i encryption.Item, err error) {
	var until, next int64
	err = scan(&i.ID, &i.Scope, &i.Type, &i.Generation, &i.Failed, &i.Reason, &i.Detail, &i.Progress.Files,
		&i.Progress.TotalFiles, &i.Progress.Bytes, &i.Progress.TotalBytes, &i.Fence, &i.Owner, &until, &i.Attempt, &next)
	i.Until, i.NextRun = fromMicros(until), fromMicros(next)
	return i, err
}

func (t *Tx) Item(id encryption.ItemID) (encryption.Item, error) {
	i, err := scanItem(func(into ...any) error {
		return t.row(`SELECT `+itemColumns+` FROM item_state WHERE item = $1`, []any{string(id)}, into...)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return i, fault.New(fault.ItemNotFound, "There is no such item.").About(string(id))
	}
	return i, err
}

func (t *Tx) InsertItem(i encryption.Item) error {
	_, err := t.exec(`INSERT INTO item_state (`+itemColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
		string(i.ID), string(i.Scope), i.Type, i.Generation, i.Failed, string(i.Reason), i.Detail, i.Progress.Files,
		i.Progress.TotalFiles, i.Progress.Bytes, i.Progress.TotalBytes, i.Fence, i.Owner, micros(i.Until), i.Attempt,
		micros(i.NextRun))
	return err
}

func (t *Tx) UpdateItem(i encryption.Item, fence int64) error {
	n, err := t.exec(`UPDATE item_state SET generation = $1, failed = $2, reason = $3, detail = $4, files = $5,
		total_files = $6, bytes = $7, total_bytes = $8, fence = $9, owner = $10, until = $11, attempt = $12,
		next_run = $13 WHERE item = $14 AND fence = $15`,
		i.Generation, i.Failed, string(i.Reason), i.Detail, i.Progress.Files, i.Progress.TotalFiles, i.Progress.Bytes,
		i.Progress.TotalBytes, i.Fence, i.Owner, micros(i.Until), i.Attempt, micros(i.NextRun), string(i.ID), fence)
	if err == nil && n == 0 {
		err = fault.New(fault.EncryptionChanged, "Another worker has taken this item over.")
	}
	return err
}

func (t *Tx) ReleaseItems() error {
	_, err := t.exec(`UPDATE item_state SET until = 0, owner = '', fence = fence + 1 WHERE until > 0`)
	return err
}

func (t *Tx) ItemStates(id encryption.ScopeID) (out []encryption.Item, err error) {
	err = t.rows(`SELECT `+itemColumns+` FROM `+livingItems+` ORDER BY item`, []any{string(id)}, func(scan func(...any) error) error {
		i, err := scanItem(scan)
		out = append(out, i)
		return err
	})
	return out, err
}

// livingItems are the rows of a scope's items that ItemStates, ItemTotals and ItemPage tell of.
const livingItems = `item_state i WHERE scope = $1 AND item <> $1
		AND EXISTS (SELECT 1 FROM item_key k WHERE k.item = i.item AND k.state <> 'shredded')`

// ItemTotals implements [encryption.Tx].
func (t *Tx) ItemTotals(id encryption.ScopeID, generation int64) (n encryption.ItemTotals, err error) {
	err = t.row(`SELECT count(*), coalesce(sum(CASE WHEN generation < $2 THEN 1 ELSE 0 END), 0),
		coalesce(sum(CASE WHEN generation < $2 THEN failed ELSE 0 END), 0),
		coalesce(sum(files), 0), coalesce(sum(total_files), 0), coalesce(sum(bytes), 0), coalesce(sum(total_bytes), 0),
		coalesce(sum(CASE WHEN generation >= $2 THEN 1.0
			WHEN total_bytes > 0 THEN (CASE WHEN bytes < total_bytes THEN bytes * 1.0 / total_bytes ELSE 1.0 END)
			WHEN total_files > 0 THEN (CASE WHEN files < total_files THEN files * 1.0 / total_files ELSE 1.0 END)
			ELSE 0.0 END), 0.0)
		FROM `+livingItems, []any{string(id), generation},
		&n.Items, &n.Behind, &n.Failed, &n.Progress.Files, &n.Progress.TotalFiles, &n.Progress.Bytes, &n.Progress.TotalBytes, &n.Done)
	return n, err
}

// ItemPage implements [encryption.Tx].
func (t *Tx) ItemPage(id encryption.ScopeID, generation int64, status encryption.ItemEncryption, after encryption.ItemID, limit int) (out []encryption.Item, err error) {
	err = t.rows(`SELECT `+itemColumns+` FROM `+livingItems+` AND item > $3
		AND ($4 = '' OR $4 = CASE WHEN generation >= $2 THEN 'Active' WHEN failed = 1 THEN 'Failed' ELSE 'InProgress' END)
		ORDER BY item LIMIT $5`, []any{string(id), generation, string(after), string(status), limit},
		func(scan func(...any) error) error {
			i, err := scanItem(scan)
			out = append(out, i)
			return err
		})
	return out, err
}

func (t *Tx) KeysBehind(id encryption.ScopeID, generation int64) (n int, err error) {
	err = t.row(`SELECT count(*) FROM item_key WHERE scope = $1 AND generation < $2 AND state <> 'shredded'`,
		[]any{string(id), generation}, &n)
	return n, err
}

// behindLimit bounds how many items ItemsBehind hands out at once.
const behindLimit = 64

func (t *Tx) ItemsBehind(id encryption.ScopeID, generation int64, now time.Time) (behind, failed int, next []encryption.Item, err error) {
	err = t.row(`SELECT count(*), coalesce(sum(failed), 0) FROM item_state WHERE scope = $1 AND generation < $2`,
		[]any{string(id), generation}, &behind, &failed)
	if err != nil || behind == 0 {
		return behind, failed, nil, err
	}
	err = t.rows(`SELECT `+itemColumns+` FROM item_state WHERE scope = $1 AND generation < $2 AND until <= $3
		AND next_run <= $3 ORDER BY next_run, item LIMIT $4`, []any{string(id), generation, micros(now), behindLimit},
		func(scan func(...any) error) error {
			i, err := scanItem(scan)
			next = append(next, i)
			return err
		})
	return behind, failed, next, err
}

const keyColumns = `id, scope, item, purpose, generation, state, sealed, created`

func (t *Tx) ItemKeys(item encryption.ItemID) (out []encryption.KeyRow, err error) {
	err = t.rows(`SELECT `+keyColumns+` FROM item_key WHERE item = $1 ORDER BY created, id`, []any{string(item)},
		func(scan func(...any) error) error {
			var k encryption.KeyRow
			var created int64
			err := scan(&k.ID, &k.Scope, &k.Item, &k.Purpose, &k.Generation, &k.State, &k.Sealed, &created)
			k.Created = fromMicros(created)
			out = append(out, k)
			return err
		})
	return out, err
}

func (t *Tx) KeyAlive(id encryption.KeyID) (bool, error) {
	alive, _, err := recallOne(t, rowKey{kind: keyAlive, id: string(id)}, nil, func() (bool, bool, error) {
		var state string
		err := t.row(`SELECT state FROM item_key WHERE id = $1`, []any{string(id)}, &state)
		if errors.Is(err, sql.ErrNoRows) {
			return false, true, nil
		}
		return state != string(encryption.Shredded), true, err
	})
	return alive, err
}

func (t *Tx) InsertKey(k encryption.KeyRow) error {
	_, err := t.exec(`INSERT INTO item_key (`+keyColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		string(k.ID), string(k.Scope), string(k.Item), string(k.Purpose), k.Generation, string(k.State), k.Sealed,
		micros(k.Created))
	if isConstraint(err) {
		return fault.Wrap(fault.EncryptionChanged, err, "The item's keys have changed meanwhile.").WithMend("Try again.")
	}
	return err
}

func (t *Tx) UpdateKey(k encryption.KeyRow) error {
	_, err := t.exec(`UPDATE item_key SET generation = $1, state = $2, sealed = $3 WHERE id = $4`,
		k.Generation, string(k.State), k.Sealed, string(k.ID))
	return err
}

func (t *Tx) DeleteKey(id encryption.KeyID) error {
	t.shreds = max(t.shreds, Retired)
	_, err := t.exec(`DELETE FROM item_key WHERE id = $1`, string(id))
	return conflict(err, "Something still lies under this key.")
}

func (t *Tx) ShredItem(item encryption.ItemID) error {
	t.shreds = Shredded
	_, err := t.exec(`UPDATE item_key SET state = 'shredded', sealed = NULL WHERE item = $1`, string(item))
	return err
}

func (t *Tx) DeleteItemKeys(item encryption.ItemID) error {
	if _, err := t.exec(`DELETE FROM item_key WHERE item = $1`, string(item)); err != nil {
		return conflict(err, "Something still lies under one of the item's keys.")
	}
	_, err := t.exec(`DELETE FROM item_state WHERE item = $1`, string(item))
	return conflict(err, "The item still has keys.")
}

// conflict gives a violated constraint the reason [fault.Conflict].
func conflict(err error, detail string) error {
	if isConstraint(err) {
		return fault.Wrap(fault.Conflict, err, detail)
	}
	return err
}

// micros and fromMicros keep times as Unix microseconds, the zero time as 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
