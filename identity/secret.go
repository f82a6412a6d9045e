package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"time"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/fault"
)

// maxSecrets bounds how many secrets a principal may have at once: enough to
// exchange one without a gap, few enough to compare with all.
const maxSecrets = 8

// defaultSecretLife is how long a secret lives if its maker does not say; at
// most maxSecretLife. Both as in Entra's portal.
const (
	defaultSecretLife = 180 * 24 * time.Hour
	maxSecretLife     = 730 * 24 * time.Hour
)

// A Secret is a client secret in the moment of its making, the only one in which
// its text exists here.
type Secret struct {
	ID        string // UUID
	Principal PrincipalID
	Tenant    TenantID
	Name      string // for people
	Text      string // 32 random bytes, after a prefix by which scanners find leaked ones
	Created   time.Time
	Expires   time.Time
}

// A StoredSecret is what the directory keeps of a [Secret].
//
// Hash is plain SHA-256. A slow, salted hash protects secrets that people choose,
// because those can be guessed; these are always 256 random bits of our own,
// which no dictionary holds and no speed of guessing reaches. In return a token
// request costs no memory-hard function, which strangers could make us run.
type StoredSecret struct {
	ID        string
	Tenant    TenantID
	Principal PrincipalID
	Name      string
	Hash      [sha256.Size]byte
	Created   time.Time
	Expires   time.Time
}

const secretPrefix = "kluis_"

func hashSecret(text string) [sha256.Size]byte { return sha256.Sum256([]byte(text)) }

func (d *Directory) newSecret(p Principal, name string, life time.Duration) Secret {
	var b [32]byte
	rand.Read(b[:])
	if life == 0 {
		life = defaultSecretLife
	}
	now := d.time()
	return Secret{
		ID: uuid.NewString(), Principal: p.ID, Tenant: p.Tenant, Name: name,
		Text:    secretPrefix + base64.RawURLEncoding.EncodeToString(b[:]),
		Created: now, Expires: now.Add(life),
	}
}

func (s Secret) stored() StoredSecret {
	return StoredSecret{
		ID: s.ID, Tenant: s.Tenant, Principal: s.Principal, Name: s.Name,
		Hash: hashSecret(s.Text), Created: s.Created, Expires: s.Expires,
	}
}

// matches reports whether the text is one of the secrets in force. It compares
// with every secret, and with a stand-in where there is none, so that time says
// nothing about which clients exist.
func matches(text string, secrets []StoredSecret, now time.Time) bool {
	hash := hashSecret(text)
	ok := subtle.ConstantTimeCompare(hash[:], make([]byte, sha256.Size)) // no text hashes to zero
	for _, s := range secrets {
		same := subtle.ConstantTimeCompare(hash[:], s.Hash[:])
		if now.Before(s.Expires) {
			ok |= same
		}
	}
	return ok == 1
}

// AddSecret gives a principal one more secret. Its others and its tokens stay.
// life may be 0, for the default of 180 days, up to 730 days.
func (d *Directory) AddSecret(ctx context.Context, caller Caller, id PrincipalID, name string, life time.Duration) (Secret, error) {
	return d.secret(ctx, caller, "identity/secrets/add", id, name, life, func(tx Tx, p Principal) error {
		held, err := tx.ClientSecrets(p.Tenant, p.ID)
		if err != nil {
			return err
		}
		if len(held) >= maxSecrets {
			return fault.New(fault.Conflict, "The principal has as many secrets as it may have.").WithMend("Remove or reset its secrets first.")
		}
		return nil
	})
}

// ResetSecret replaces all of a principal's secrets by a new one, and voids its
// tokens.
func (d *Directory) ResetSecret(ctx context.Context, caller Caller, id PrincipalID, name string, life time.Duration) (Secret, error) {
	return d.secret(ctx, caller, "identity/secrets/reset", id, name, life, func(tx Tx, p Principal) error {
		if err := tx.DeleteClientSecrets(p.Tenant, p.ID); err != nil {
			return err
		}
		p.Generation++
		return tx.SetPrincipal(p)
	})
}

func (d *Directory) secret(ctx context.Context, caller Caller, operation string, id PrincipalID, name string, life time.Duration, first func(Tx, Principal) error) (Secret, error) {
	if life < 0 || life > maxSecretLife || len(name) > 256 || !printable(name) {
		err := fault.New(fault.InvalidArgument, "A secret lives for at most 730 days, and its name has at most 256 printable bytes.")
		return Secret{}, d.refuse(ctx, caller.Entry(operation, d.path(caller, id)), err)
	}
	s := d.newSecret(Principal{ID: id, Tenant: caller.Tenant}, name, life)
	err := d.change(ctx, caller, operation, id, func(tx Tx, p Principal) error {
		if p.Type != ServicePrincipal {
			return fault.New(fault.NotSupported, "Only applications have client secrets.").WithMend("Reset the user's password.")
		}
		if err := first(tx, p); err != nil {
			return err
		}
		return tx.PutClientSecret(s.stored())
	})
	if err != nil {
		return Secret{}, err
	}
	return s, nil
}

// RemoveSecret takes one secret from a principal, and voids its tokens.
func (d *Directory) RemoveSecret(ctx context.Context, caller Caller, id PrincipalID, secret string) error {
	return d.change(ctx, caller, "identity/secrets/remove", id, func(tx Tx, p Principal) error {
		if err := tx.DeleteClientSecret(p.Tenant, p.ID, secret); err != nil {
			return err
		}
		p.Generation++
		return tx.SetPrincipal(p)
	})
}
