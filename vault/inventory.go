package vault

import "context"

// A Holding is one key version that a store holds, soft-deleted ones included.
type Holding struct {
	Vault    Name    `json:"vault"`
	Key      KeyName `json:"key"`
	Version  Version `json:"version"`
	Platform string  `json:"platform"` // where the private part lies: [Software] is in the store
}

// Inventory returns every key version in a store, for a backup's manifest.
func Inventory(ctx context.Context, store Store) (all []Holding, err error) {
	err = store.View(ctx, func(tx Tx) error {
		ids, err := tx.VaultIDs()
		for _, id := range ids {
			v, err := tx.VaultByID(id)
			if err != nil {
				return err
			}
			err = eachKey(tx, id, func(k Key) error {
				for ordinal := 0; ; {
					versions, err := tx.VaultKeyVersions(k.ID, ordinal, keyPage)
					if err != nil || len(versions) == 0 {
						return err
					}
					for _, one := range versions {
						ordinal = one.Ordinal
						all = append(all, Holding{v.Name, k.Name, one.Version, one.Platform})
					}
				}
			})
			if err != nil {
				return err
			}
		}
		return err
	})
	return all, err
}

// keyPage is how many keys of a vault, or versions of a key, are read at once.
const keyPage = 256

// eachKey calls fn with every key of a vault: the live ones by name, then the
// soft-deleted.
func eachKey(tx Tx, id ID, fn func(Key) error) error {
	for _, deleted := range []bool{false, true} {
		for after := ""; ; {
			keys, err := tx.VaultKeys(id, deleted, after, keyPage)
			if err != nil {
				return err
			}
			for _, k := range keys {
				if err := fn(k); err != nil {
					return err
				}
				after = k.Name.Key()
			}
			if len(keys) < keyPage {
				break
			}
		}
	}
	return nil
}
