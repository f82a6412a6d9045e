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
			for _, deleted := range []bool{false, true} {
				if err := inventory(tx, v, deleted, &all); err != nil {
					return err
				}
			}
		}
		return err
	})
	return all, err
}

const inventoryPage = 256

func inventory(tx Tx, v Vault, deleted bool, all *[]Holding) error {
	for after := ""; ; {
		keys, err := tx.VaultKeys(v.ID, deleted, after, inventoryPage)
		if err != nil || len(keys) == 0 {
			return err
		}
		for _, k := range keys {
			after = k.Name.Key()
			for ordinal := 0; ; {
				versions, err := tx.VaultKeyVersions(k.ID, ordinal, inventoryPage)
				if err != nil {
					return err
				}
				if len(versions) == 0 {
					break
				}
				for _, one := range versions {
					ordinal = one.Ordinal
					*all = append(*all, Holding{v.Name, k.Name, one.Version, one.Platform})
				}
			}
		}
	}
}
