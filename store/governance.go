package store

import "github.com/kluis-io/kluis/governance"

// Governance returns the database as the store of what governance has on record.
func (d Domains) Governance() governance.Store {
	return domain[governance.Tx]{d.runner, func(t *Tx) governance.Tx { return t }}
}
