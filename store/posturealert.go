package store

import (
	"encoding/json"

	"github.com/kluis-io/kluis/posture/alert"
)

// Alert returns the database as the store of alerts.
func (d Domains) Alert() alert.Store {
	return domain[alert.Tx]{d.runner, func(t *Tx) alert.Tx { return t }}
}

// Alerts implements [alert.Tx].
func (t *Tx) Alerts() ([]alert.Alert, error) {
	return many(t, func(scan func(...any) error) (a alert.Alert, err error) {
		var body []byte
		if err := scan(&body); err != nil {
			return a, err
		}
		return a, json.Unmarshal(body, &a)
	}, `SELECT body FROM posture_alert ORDER BY id`)
}

// PutAlert implements [alert.Tx].
func (t *Tx) PutAlert(a alert.Alert) error {
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO posture_alert (id, body) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body`, a.ID, string(body))
	return err
}

// DropAlert implements [alert.Tx].
func (t *Tx) DropAlert(id string) error {
	_, err := t.exec(`DELETE FROM posture_alert WHERE id = $1`, id)
	return err
}
