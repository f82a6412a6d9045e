package store

import (
	"encoding/json"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

// VaultDiagnosticSettings implements [vault.Tx].
func (t *Tx) VaultDiagnosticSettings(id vault.ID) (all []vault.DiagnosticSetting, err error) {
	err = t.rows(`SELECT name, sink, logs, updated FROM vault_diagnostic_setting WHERE vault = $1 ORDER BY name_key`, []any{string(id)},
		func(scan func(...any) error) error {
			d := vault.DiagnosticSetting{Vault: id}
			var logs string
			var updated int64
			if err := scan(&d.Name, (*string)(&d.Sink), &logs, &updated); err != nil {
				return err
			}
			d.Updated = fromMicros(updated)
			all = append(all, d)
			return json.Unmarshal([]byte(logs), &all[len(all)-1].Logs)
		})
	return all, err
}

// PutVaultDiagnosticSetting implements [vault.Tx].
func (t *Tx) PutVaultDiagnosticSetting(d vault.DiagnosticSetting) error {
	_, err := t.exec(`INSERT INTO vault_diagnostic_setting (vault, name_key, name, sink, logs, updated) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (vault, name_key) DO UPDATE SET sink = excluded.sink, logs = excluded.logs, updated = excluded.updated`,
		string(d.Vault), strings.ToLower(d.Name), d.Name, string(d.Sink), jsonColumn(d.Logs), micros(d.Updated))
	return err
}

// DropVaultDiagnosticSetting implements [vault.Tx].
func (t *Tx) DropVaultDiagnosticSetting(id vault.ID, name string) error {
	n, err := t.exec(`DELETE FROM vault_diagnostic_setting WHERE vault = $1 AND name_key = $2`, string(id), strings.ToLower(name))
	if err == nil && n == 0 {
		return fault.New(fault.ResourceNotFound, "There is no such diagnostic setting.").About(name)
	}
	return err
}
