package vault

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault/securitydomain"
)

// The actions on a managed HSM's security domain.
const (
	actionDomainTake     rbac.Action = "Microsoft.KeyVault/managedHsm/securitydomain/download/action"
	actionDomainRead     rbac.Action = "Microsoft.KeyVault/managedHsm/securitydomain/download/read"
	actionDomainTransfer rbac.Action = "Microsoft.KeyVault/managedHsm/securitydomain/transferkey/read"
	actionDomainRestore  rbac.Action = "Microsoft.KeyVault/managedHsm/securitydomain/upload/action"
)

// A SecurityDomain is what the backups of a managed HSM's keys are sealed under. It
// lies sealed under the vault's root, and outside in shares: whoever brings a quorum of
// these to a new managed HSM, in this installation or another, restores the backups
// there.
//
// A managed HSM does no key operation before its domain was taken out or brought in:
// no key is made of which nobody could restore a backup when the installation is lost.
type SecurityDomain struct {
	Vault    ID
	ID       string    // UUID, the same wherever the domain is; "" if there is none yet
	Sealed   []byte    // its key
	Quorum   int       // of the latest shares
	Officers []string  // the thumbprints of the certificates that those were encrypted to
	Taken    time.Time // when they were made; zero if never
	Restored time.Time // when the domain was brought in; zero if it was made here

	Certificate []byte // of the transfer key, DER; nil if none was asked for
	Transfer    []byte // its private part, sealed
}

// domainSecret is what is shared.
type domainSecret struct {
	Version int
	ID      string
	HSM     Name // where it was taken out; for people
	Key     []byte
}

// An openDomain is a security domain's key. A nil one stands for none.
type openDomain struct {
	id  string
	key *envelope.Key
}

func (d *openDomain) close() {
	if d != nil {
		d.key.Clear()
	}
}

func (d *openDomain) context() envelope.Context {
	return envelope.NewContext(domainBackupPurpose, d.id)
}

func (v *Vaults) domainContext(vault ID, domain string) envelope.Context {
	return envelope.NewContext("kluis/v1/vault-security-domain", v.instance, string(vault), domain)
}

func (v *Vaults) transferContext(vault ID) envelope.Context {
	return envelope.NewContext("kluis/v1/vault-transfer-key", v.instance, string(vault))
}

// activated refuses what a managed HSM does only once its security domain was taken
// out or brought in.
func (v Vault) activated() error {
	if v.Flavour != ManagedHSM || !v.Activated.IsZero() {
		return nil
	}
	return fault.New(fault.HSMNotActivated, fmt.Sprintf("Managed HSM %s is not activated: its security domain was neither downloaded nor restored.", v.Name)).
		WithMend("Download the security domain, or restore one: see 'kluis vault security-domain --help'.").About(string(v.Name))
}

// openDomain opens a managed HSM's security domain; nil if it has none.
func (v *Vaults) openDomain(tx Tx, vault Vault) (*openDomain, error) {
	if vault.Flavour != ManagedHSM {
		return nil, nil
	}
	d, err := tx.VaultSecurityDomain(vault.ID)
	if fault.ReasonOf(err) == fault.NotFound || err == nil && d.ID == "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if v.domains == nil {
		return nil, fault.New(fault.NotSupported, "Security domains are not configured.")
	}
	key, err := envelope.Open(v.domains, v.domainContext(vault.ID, d.ID), d.Sealed)
	defer clear(key)
	if err != nil || len(key) != envelope.KeySize {
		return nil, fault.Wrap(fault.Integrity, err, "The security domain does not open.")
	}
	o := &openDomain{id: d.ID, key: new(envelope.Key)}
	copy(o.key[:], key)
	return o, nil
}

// enterDomain finds a live managed HSM, active or not, authorises an action on its
// security domain, and returns what is kept of that.
func (v *Vaults) enterDomain(tx Tx, a *act, name Name, action rbac.Action) (Vault, SecurityDomain, error) {
	vault, err := liveVault(tx, name)
	if err == nil && vault.Flavour != ManagedHSM {
		err = fault.New(fault.NotFound, "Only managed HSMs have security domains.")
	}
	if err != nil {
		return vault, SecurityDomain{}, err
	}
	a.entry.Resource = string(vault.Scope())
	a.note("vault", string(vault.ID))
	if err := v.admit(tx, a, vault, action, vault.Scope()); err != nil {
		return vault, SecurityDomain{}, err
	}
	if v.domains == nil {
		return vault, SecurityDomain{}, fault.New(fault.NotSupported, "Security domains are not configured.")
	}
	d, err := tx.VaultSecurityDomain(vault.ID)
	if fault.ReasonOf(err) == fault.NotFound {
		return vault, SecurityDomain{Vault: vault.ID}, nil
	}
	return vault, d, err
}

// SecurityDomainOf returns a managed HSM with what is known of its security domain.
func (v *Vaults) SecurityDomainOf(ctx context.Context, c identity.Caller, name Name) (vault Vault, d SecurityDomain, err error) {
	a := begin(c, "SecurityDomainGet", "")
	err = v.read(ctx, a, func(tx Tx) error {
		vault, d, err = v.enterDomain(tx, a, name, actionDomainRead)
		return err
	})
	d.Sealed, d.Transfer = nil, nil
	return vault, d, err
}

// TakeSecurityDomain returns a managed HSM's security domain in shares, one encrypted
// to each officer's certificate, of which quorum give it back; see package
// securitydomain. The first time makes the domain and activates the HSM. Earlier
// shares stay good.
//
// Who holds a quorum opens every backup of the HSM's keys: where the vault requires
// approval, a second administrator must have agreed to these very officers.
func (v *Vaults) TakeSecurityDomain(ctx context.Context, c identity.Caller, name Name, officers []*x509.Certificate, quorum int) ([]byte, error) {
	a := begin(c, "SecurityDomainDownload", "")
	var vault Vault
	var old SecurityDomain
	var domain *openDomain
	defer func() { domain.close() }()
	err := v.store.View(ctx, func(tx Tx) (err error) {
		if vault, old, err = v.enterDomain(tx, a, name, actionDomainTake); err != nil {
			return err
		}
		if err := securitydomain.Check(officers, quorum); err != nil {
			return err
		}
		domain, err = v.openDomain(tx, vault)
		return err
	})
	if err != nil {
		return nil, v.refused(ctx, a, err)
	}
	next := old
	if domain == nil {
		domain = &openDomain{id: uuid.NewString(), key: envelope.NewKey()}
		next.ID, next.Sealed = domain.id, envelope.Seal(v.domains, v.domainContext(vault.ID, domain.id), domain.key[:])
	}
	next.Quorum, next.Officers = quorum, nil
	for _, o := range officers {
		next.Officers = append(next.Officers, securitydomain.Thumbprint(o))
	}
	secret, err := json.Marshal(domainSecret{Version: 1, ID: domain.id, HSM: vault.Name, Key: domain.key[:]})
	defer clear(secret)
	if err != nil {
		return nil, v.refused(ctx, a, err)
	}
	text, err := securitydomain.Make(secret, officers, quorum)
	if err != nil {
		return nil, v.refused(ctx, a, err)
	}
	err = v.write(ctx, a, func(tx Tx) error {
		now, cur, err := v.enterDomain(tx, a, name, actionDomainTake)
		if err != nil {
			return err
		}
		if now.ID != vault.ID || cur.ID != old.ID {
			return fault.New(fault.Conflict, "The security domain was made or brought in at the same time.").WithMend("Try again.")
		}
		if err := v.consent(tx, a, now, actionDomainTake, true, now.Scope(), next.Officers, quorum); err != nil {
			return err
		}
		next.Taken = v.clock()
		a.note("domain", next.ID)
		a.note("quorum", strconv.Itoa(quorum))
		a.note("officers", strings.Join(next.Officers, " "))
		return v.activateWith(tx, a, now, next)
	})
	if err != nil {
		clear(text)
		return nil, err
	}
	return text, nil
}

// activateWith keeps a security domain, and activates its managed HSM if it is not.
func (v *Vaults) activateWith(tx Tx, a *act, vault Vault, d SecurityDomain) error {
	d.Certificate, d.Transfer = nil, nil // which brings in one, once
	if vault.Activated.IsZero() {
		vault.Activated = v.clock()
		vault.Updated = vault.Activated
		if err := tx.PutVault(vault); err != nil {
			return err
		}
		a.note("activated", "true")
		if err := v.changed(tx, a, Change{Vault: vault.ID, Kind: VaultUpdated}); err != nil {
			return err
		}
	}
	return tx.PutVaultSecurityDomain(d)
}

// transferBits is the size of the transfer key.
const transferBits = 3072

// TransferKey returns the certificate of the key to which a security domain is
// encrypted on its way into a managed HSM that is not active yet. The key is made
// when it is first asked for, and gone once a domain has come in.
func (v *Vaults) TransferKey(ctx context.Context, c identity.Caller, name Name) (*x509.Certificate, error) {
	a := begin(c, "SecurityDomainTransferKey", "")
	var vault Vault
	var d SecurityDomain
	prepare := func(tx Tx) (err error) {
		if vault, d, err = v.enterDomain(tx, a, name, actionDomainTransfer); err != nil {
			return err
		}
		return vault.restorable()
	}
	if err := v.store.View(ctx, prepare); err != nil {
		return nil, v.refused(ctx, a, err)
	}
	if len(d.Certificate) == 0 {
		made := d
		id := vault.ID
		err := v.load.make(ctx, vault, RSA, func() (err error) {
			made.Certificate, made.Transfer, err = v.newTransferKey(vault)
			return err
		})
		if err != nil {
			return nil, v.refused(ctx, a, err)
		}
		err = v.write(ctx, a, func(tx Tx) error {
			if err := prepare(tx); err != nil {
				return err
			}
			if vault.ID != id {
				return fault.New(fault.Conflict, "The managed HSM was replaced at the same time.").WithMend("Try again.")
			}
			if len(d.Certificate) > 0 { // of another request
				return nil
			}
			d.Certificate, d.Transfer = made.Certificate, made.Transfer
			return tx.PutVaultSecurityDomain(d)
		})
		if err != nil {
			return nil, err
		}
	} else if err := v.record(ctx, a.done()); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(d.Certificate)
}

// restorable refuses to bring a security domain into an HSM that has one.
func (v Vault) restorable() error {
	if v.Activated.IsZero() {
		return nil
	}
	return fault.New(fault.Conflict, fmt.Sprintf("Managed HSM %s is active, and keeps its security domain.", v.Name)).
		WithMend("Restore into a new managed HSM.").About(string(v.Name))
}

func (v *Vaults) newTransferKey(vault Vault) (certificate, sealed []byte, err error) {
	key, err := rsa.GenerateKey(rand.Reader, transferBits)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, err
	}
	now := v.clock()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "kluis transfer key of " + string(vault.Name)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0), KeyUsage: x509.KeyUsageKeyEncipherment,
	}
	if certificate, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key); err != nil {
		return nil, nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	defer clear(private)
	if err != nil {
		return nil, nil, err
	}
	return certificate, envelope.Seal(v.domains, v.transferContext(vault.ID), private), nil
}

// RestoreSecurityDomain brings a security domain that was encrypted to the transfer
// key into a managed HSM that is not active, and activates it: backups made under the
// domain can be restored from then on.
func (v *Vaults) RestoreSecurityDomain(ctx context.Context, c identity.Caller, name Name, text []byte) error {
	a := begin(c, "SecurityDomainUpload", "")
	var vault Vault
	var d SecurityDomain
	prepare := func(tx Tx) (err error) {
		if vault, d, err = v.enterDomain(tx, a, name, actionDomainRestore); err != nil {
			return err
		}
		if err := vault.restorable(); err != nil {
			return err
		}
		if len(d.Certificate) == 0 {
			return fault.New(fault.Conflict, "The managed HSM waits for no security domain.").WithMend("Fetch its transfer key, and encrypt the domain to that.")
		}
		return nil
	}
	if err := v.store.View(ctx, prepare); err != nil {
		return v.refused(ctx, a, err)
	}
	secret, err := v.receive(vault, d, text)
	defer clear(secret.Key)
	if err != nil {
		return v.refused(ctx, a, err)
	}
	was := d.Certificate
	return v.write(ctx, a, func(tx Tx) error {
		if err := prepare(tx); err != nil {
			return err
		}
		if !bytes.Equal(d.Certificate, was) {
			return fault.New(fault.Conflict, "The managed HSM was replaced at the same time.").WithMend("Try again.")
		}
		if err := v.consent(tx, a, vault, actionDomainRestore, true, vault.Scope(), secret.ID); err != nil {
			return err
		}
		d.ID, d.Sealed = secret.ID, envelope.Seal(v.domains, v.domainContext(vault.ID, secret.ID), secret.Key)
		d.Restored = v.clock()
		a.note("domain", d.ID)
		a.note("from", string(secret.HSM))
		return v.activateWith(tx, a, vault, d)
	})
}

// receive opens what was encrypted to the transfer key.
func (v *Vaults) receive(vault Vault, d SecurityDomain, text []byte) (s domainSecret, err error) {
	private, err := envelope.Open(v.domains, v.transferContext(vault.ID), d.Transfer)
	defer clear(private)
	if err != nil {
		return s, fault.Wrap(fault.Integrity, err, "The transfer key does not open.")
	}
	key, err := x509.ParsePKCS8PrivateKey(private)
	if err != nil {
		return s, fault.Wrap(fault.Integrity, err, "The transfer key is damaged.")
	}
	certificate, err := x509.ParseCertificate(d.Certificate)
	if err != nil {
		return s, fault.Wrap(fault.Integrity, err, "The transfer key's certificate is damaged.")
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok || !rsaKey.PublicKey.Equal(certificate.PublicKey) {
		return s, fault.New(fault.Integrity, "The transfer key is not its certificate's.")
	}
	plain, err := securitydomain.Unwrap(text, certificate, rsaKey)
	defer clear(plain)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(plain, &s); err != nil || s.Version != 1 || len(s.Key) != envelope.KeySize || !uuidPattern.MatchString(s.ID) || !namePattern.MatchString(string(s.HSM)) {
		return s, fault.New(fault.InvalidArgument, "The file holds a security domain that this release does not know.")
	}
	return s, nil
}
