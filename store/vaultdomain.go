package store

import (
	"encoding/json"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

// VaultSecurityDomain implements [vault.Tx].
func (t *Tx) VaultSecurityDomain(id vault.ID) (vault.SecurityDomain, error) {
	d := vault.SecurityDomain{Vault: id}
	var officers string
	var taken, restored int64
	err := t.row(`SELECT domain, sealed, quorum, officers, taken, restored, certificate, transfer FROM vault_security_domain WHERE vault = $1`,
		[]any{string(id)}, &d.ID, &d.Sealed, &d.Quorum, &officers, &taken, &restored, &d.Certificate, &d.Transfer)
	if err != nil {
		return d, found(err, fault.NotFound)
	}
	d.Taken, d.Restored = fromMicros(taken), fromMicros(restored)
	return d, json.Unmarshal([]byte(officers), &d.Officers)
}

// PutVaultSecurityDomain implements [vault.Tx].
func (t *Tx) PutVaultSecurityDomain(d vault.SecurityDomain) error {
	_, err := t.exec(`INSERT INTO vault_security_domain (vault, domain, sealed, quorum, officers, taken, restored, certificate, transfer)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (vault) DO UPDATE SET
		domain = excluded.domain, sealed = excluded.sealed, quorum = excluded.quorum, officers = excluded.officers, taken = excluded.taken,
		restored = excluded.restored, certificate = excluded.certificate, transfer = excluded.transfer`,
		string(d.Vault), d.ID, octets(d.Sealed), d.Quorum, jsonColumn(d.Officers), micros(d.Taken), micros(d.Restored), octets(d.Certificate), octets(d.Transfer))
	return err
}
