package identity

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
)

// signingBits is the size of the issuer's RSA keys. They live for months and
// protect nothing that outlives a token.
const signingBits = 2048

// reloadTime is how old an issuer's view of its keys may be.
const reloadTime = time.Minute

// A SealedSigningKey is one key of the issuer as the store keeps it.
type SealedSigningKey struct {
	ID      string // kid, a UUID
	Created time.Time
	End     time.Time // when the last token it signed has ended; zero for the key that signs
	Sealed  []byte    // PKCS #8, sealed under the issuer's root
}

// A keyring is an issuer's keys, opened. The one without an end signs; all verify.
type keyring struct {
	store Store
	root  *envelope.Key
	bind  envelope.Context

	mu     sync.Mutex
	loaded time.Time
	keys   []signingKey
}

type signingKey struct {
	id     string
	end    time.Time
	key    *rsa.PrivateKey
	signer jose.Signer
}

func newKeyring(store Store, instance string, root *envelope.Key) *keyring {
	return &keyring{store: store, root: root, bind: envelope.NewContext("kluis/v1/issuer-signing-key", instance)}
}

func (r *keyring) context(id string) envelope.Context { return r.bind.With(id) }

// generate makes a key. It takes a tenth of a second, and so is never done in a
// transaction.
func (r *keyring) generate(now time.Time) (SealedSigningKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, signingBits)
	if err != nil {
		return SealedSigningKey{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return SealedSigningKey{}, err
	}
	defer clear(der)
	id := uuid.NewString()
	return SealedSigningKey{ID: id, Created: now, Sealed: envelope.Seal(r.root, r.context(id), der)}, nil
}

func (r *keyring) open(s SealedSigningKey) (signingKey, error) {
	der, err := envelope.Open(r.root, r.context(s.ID), s.Sealed)
	if err != nil {
		return signingKey{}, fault.Wrap(fault.Integrity, err, "A signing key of the issuer does not open under this root.").About(s.ID)
	}
	defer clear(der)
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return signingKey{}, fault.Wrap(fault.Integrity, errors.New("not PKCS #8"), "A signing key of the issuer is damaged.").About(s.ID)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return signingKey{}, fault.New(fault.Integrity, "A signing key of the issuer is of another kind.").About(s.ID)
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: s.ID}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return signingKey{}, fmt.Errorf("identity: %w", err)
	}
	return signingKey{id: s.ID, end: s.End, key: key, signer: signer}, nil
}

// current returns the keys that have not ended, the newest first. A view that is
// old, or that lacks the id kid, is renewed, but at most once a second.
func (r *keyring) current(ctx context.Context, now time.Time, kid string) ([]signingKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	age := now.Sub(r.loaded)
	if r.keys == nil || age < 0 || age >= reloadTime || (age >= time.Second && kid != "" && !r.has(kid)) {
		if err := r.load(ctx); err != nil {
			return nil, err
		}
		r.loaded = now
	}
	var live []signingKey
	for _, k := range r.keys {
		if k.end.IsZero() || now.Before(k.end) {
			live = append(live, k)
		}
	}
	return live, nil
}

func (r *keyring) has(kid string) bool {
	for _, k := range r.keys {
		if k.id == kid {
			return true
		}
	}
	return false
}

func (r *keyring) load(ctx context.Context) error {
	ctx, cancel := detach(ctx)
	defer cancel()
	var sealed []SealedSigningKey
	err := r.store.View(ctx, func(tx Tx) (err error) {
		sealed, err = tx.SigningKeys()
		return err
	})
	if err != nil {
		return err
	}
	keys := make([]signingKey, 0, len(sealed))
	for _, s := range sealed {
		k, err := r.open(s)
		if err != nil {
			return err
		}
		keys = append(keys, k)
	}
	r.keys = keys
	return nil
}

// forget makes the next use read the database.
func (r *keyring) forget() {
	r.mu.Lock()
	r.keys = nil
	r.mu.Unlock()
}
