package store

import (
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/lake"
)

// LakeItemAfter implements [lake.ScrubTx].
func (t *Tx) LakeItemAfter(after encryption.ItemID) (next encryption.ItemID, err error) {
	var id string
	err = t.row(`SELECT COALESCE(MIN(item), '') FROM lake_extent WHERE item > $1`, []any{string(after)}, &id)
	return encryption.ItemID(id), err
}

// LakeExtentsIn implements [lake.ScrubTx].
func (t *Tx) LakeExtentsIn(item encryption.ItemID, state lake.ExtentState, after lake.ExtentID, limit int) ([]lake.ExtentRow, error) {
	return many(t, scanExtent, `SELECT `+extentColumns+` FROM lake_extent WHERE item = $1 AND state = $2 AND id > $3 ORDER BY id LIMIT $4`,
		string(item), int64(state), string(after), limit)
}

// LakeBytes implements [lake.ScrubTx].
func (t *Tx) LakeBytes() (n int64, err error) {
	err = t.row(`SELECT COALESCE(SUM(size), 0) FROM lake_extent WHERE state < 2`, nil, &n)
	return n, err
}

const scrubColumns = `item, state, extent, begun, total, extents, bytes, unread, ended,
	last_begun, last_ended, last_extents, last_bytes, last_unread`

func scanScrub(scan func(...any) error) (r lake.ScrubRow, err error) {
	var begun, ended, lastBegun, lastEnded int64
	err = scan(&r.Item, &r.State, &r.Extent, &begun, &r.Total, &r.Pass.Extents, &r.Pass.Bytes, &r.Pass.Unread, &ended,
		&lastBegun, &lastEnded, &r.Last.Extents, &r.Last.Bytes, &r.Last.Unread)
	r.Pass.Begun, r.Pass.Ended = fromMicros(begun), fromMicros(ended)
	r.Last.Begun, r.Last.Ended = fromMicros(lastBegun), fromMicros(lastEnded)
	return r, err
}

// LakeScrub implements [lake.ScrubTx].
func (t *Tx) LakeScrub() (lake.ScrubRow, error) {
	r, _, err := one(t, scanScrub, `SELECT `+scrubColumns+` FROM lake_scrub WHERE one = 1`)
	return r, err
}

// PutLakeScrub implements [lake.ScrubTx].
func (t *Tx) PutLakeScrub(r lake.ScrubRow) error {
	_, err := t.exec(`INSERT INTO lake_scrub (one, `+scrubColumns+`) VALUES (1, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
		ON CONFLICT (one) DO UPDATE SET item = excluded.item, state = excluded.state, extent = excluded.extent, begun = excluded.begun,
		total = excluded.total, extents = excluded.extents, bytes = excluded.bytes, unread = excluded.unread, ended = excluded.ended,
		last_begun = excluded.last_begun, last_ended = excluded.last_ended, last_extents = excluded.last_extents,
		last_bytes = excluded.last_bytes, last_unread = excluded.last_unread`,
		string(r.Item), int64(r.State), string(r.Extent), micros(r.Pass.Begun), r.Total, r.Pass.Extents, r.Pass.Bytes, r.Pass.Unread,
		micros(r.Pass.Ended), micros(r.Last.Begun), micros(r.Last.Ended), r.Last.Extents, r.Last.Bytes, r.Last.Unread)
	return err
}

func scanDamage(scan func(...any) error) (d lake.Damage, err error) {
	var found int64
	err = scan(&d.Extent, &d.Item, &d.Tenant, &d.Owner, &found)
	d.Found = fromMicros(found)
	return d, err
}

// LakeDamage implements [lake.ScrubTx].
func (t *Tx) LakeDamage(tenant identity.TenantID, limit int) ([]lake.Damage, error) {
	return many(t, scanDamage, `SELECT extent, item, tenant, owner, found FROM lake_damage WHERE tenant = $1 ORDER BY found, extent LIMIT $2`,
		string(tenant), limit)
}

// PutLakeDamage implements [lake.ScrubTx].
func (t *Tx) PutLakeDamage(d lake.Damage) (fresh bool, err error) {
	n, err := t.exec(`INSERT INTO lake_damage (extent, item, tenant, owner, found) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (extent) DO NOTHING`,
		string(d.Extent), string(d.Item), string(d.Tenant), d.Owner, micros(d.Found))
	return n > 0, err
}

// DeleteLakeDamage implements [lake.ScrubTx].
func (t *Tx) DeleteLakeDamage() error {
	_, err := t.exec(`DELETE FROM lake_damage WHERE NOT EXISTS
		(SELECT 1 FROM lake_extent WHERE lake_extent.id = lake_damage.extent AND lake_extent.state < 2)`)
	return err
}
