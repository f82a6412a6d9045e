package vault

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// TagDrill marks a version that a revocation drill has taken away: from when to when, as
// ISO 8601 has it: "2026-11-23T09:00:00Z/2026-11-23T09:10:00Z". Who disables a version and
// gives it this tag in one call tells the vault to enable it again at the end of that
// time, should nobody have changed the version or deleted the key before.
const TagDrill = "kluis-drill"

// maxDrill is the longest time that a drill may take a key away. A tag that says more is
// a tag and nothing else.
const maxDrill = 24 * time.Hour

// A Drill is the vault's order to give a version back. It stands as long as the version is
// as the drill has left it.
type Drill struct {
	Key     KeyID
	Version Version
	Taken   time.Time // the version's Updated
	Until   time.Time
}

// drill returns until when an update has a version taken away by a drill, zero if it does
// not.
func (u KeyUpdate) drill(now time.Time) time.Time {
	if u.Enabled == nil || *u.Enabled || u.Tags == nil {
		return time.Time{}
	}
	_, end, _ := strings.Cut((*u.Tags)[TagDrill], "/")
	until, err := time.Parse(time.RFC3339, end)
	if err != nil || !until.After(now) || until.After(now.Add(maxDrill)) {
		return time.Time{}
	}
	return until
}

// order keeps the order that an update gives, in place of the one before: no update
// leaves that standing.
func (u KeyUpdate) order(tx Tx, a *act, kv KeyVersion) error {
	until := u.drill(kv.Updated)
	if until.IsZero() {
		return tx.DropVaultDrill(kv.Key, kv.Version)
	}
	a.note("drillUntil", until.UTC().Format(time.RFC3339))
	return tx.PutVaultDrill(Drill{Key: kv.Key, Version: kv.Version, Taken: kv.Updated, Until: until})
}

// sweepDrills gives back what drills have taken away and left so. One that fails does not
// keep the others waiting, and is tried again by the next call.
func (v *Vaults) sweepDrills(ctx context.Context, now time.Time) error {
	var due []Drill
	err := v.store.View(ctx, func(tx Tx) (err error) {
		due, err = tx.DueVaultDrills(now, sweepBatch)
		return err
	})
	for _, d := range due {
		err = errors.Join(err, v.endDrill(ctx, d))
	}
	return err
}

// errVoid says that there is nothing to give back: the order is dropped and no act made.
var errVoid = errors.New("the version is not as the drill has left it")

func (v *Vaults) endDrill(ctx context.Context, d Drill) error {
	a := begin(identity.Caller{}, "KeyUpdate", "")
	a.note("policy", "drill ended")
	err := v.store.Update(ctx, func(tx Tx) error {
		a.touched = a.touched[:0]
		k, err := tx.VaultKeyByID(d.Key)
		if err != nil {
			return err
		}
		kv, err := tx.VaultKeyVersion(d.Key, d.Version)
		if err != nil {
			return err
		}
		vault, err := tx.VaultByID(k.Vault)
		if err != nil {
			return err
		}
		if !vault.live() || !k.Deleted.IsZero() || kv.Enabled || !kv.Updated.Equal(d.Taken) {
			return errVoid
		}
		kv.Enabled, kv.Updated, kv.Tags = true, v.clock(), cloneTags(kv.Tags)
		delete(kv.Tags, TagDrill)
		if err := tx.SetVaultKeyVersion(kv); err != nil {
			return err
		}
		if err := tx.DropVaultDrill(d.Key, d.Version); err != nil {
			return err
		}
		a.entry.Tenant, a.entry.Resource = string(vault.Tenant), string(vault.KeyScope(k.Name))
		a.note("vault", string(vault.ID))
		a.note("version", string(kv.Version))
		a.note("enabled", "true")
		if err := v.changed(tx, a, Change{Vault: vault.ID, Key: k.Name, Version: kv.Version, Kind: KeyEnabled}); err != nil {
			return err
		}
		return appendEntry(tx, a.done())
	})
	switch {
	case err == nil:
		v.tell(a.touched)
		v.tells(context.WithoutCancel(ctx))
	case errors.Is(err, errVoid):
		return v.store.Update(ctx, func(tx Tx) error { return tx.DropVaultDrill(d.Key, d.Version) })
	case fault.ReasonOf(err) == fault.KeyNotFound: // it was purged, and the order with it
		return nil
	}
	return err
}
