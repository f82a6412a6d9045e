package store

import (
	"encoding/json"

	"github.com/kluis-io/kluis/governance"
)

// Governance returns the database as the store of what governance has on record.
func (d Domains) Governance() governance.Store {
	return domain[governance.Tx]{d.runner, func(t *Tx) governance.Tx { return t }}
}

// Exceptions implements [governance.Tx].
func (t *Tx) Exceptions() ([]governance.Exception, error) {
	return many(t, func(scan func(...any) error) (e governance.Exception, err error) {
		var body []byte
		if err := scan(&body); err != nil {
			return e, err
		}
		return e, json.Unmarshal(body, &e)
	}, `SELECT body FROM posture_exception ORDER BY id`)
}

// PutException implements [governance.Tx].
func (t *Tx) PutException(e governance.Exception) error {
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO posture_exception (id, body) VALUES ($1, $2)`, e.ID, string(body))
	return conflict(err, "The exception is there already.")
}

// DropException implements [governance.Tx].
func (t *Tx) DropException(id string) error {
	_, err := t.exec(`DELETE FROM posture_exception WHERE id = $1`, id)
	return err
}
