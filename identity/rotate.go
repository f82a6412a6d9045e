package identity

import (
	"context"
	"slices"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/internal/failpoint"
)

var afterRotate = failpoint.New("identity/rotate-signing-key/after-commit")

// SigningKeyLife is for how long a key of the issuer signs before [Issuer.Sweep] replaces
// it: far below the one to three years that NIST SP 800-57 part 1 §5.3.6 allows a private
// signature key, since nobody has to do anything for it.
const SigningKeyLife = 90 * 24 * time.Hour

// RotateSigningKey makes a new key, which signs from now on. The old one is
// published until the last token that it signed has ended.
func (i *Issuer) RotateSigningKey(ctx context.Context, caller Caller) error {
	next, err := i.ring.generate(i.directory.time())
	if err != nil {
		return err
	}
	entry := caller.Entry("identity/signingkeys/rotate", "/signingkeys/"+next.ID)
	if err := i.directory.act(ctx, caller, entry, func(tx Tx) error { return replace(tx, next) }); err != nil {
		return err
	}
	i.ring.forget()
	return afterRotate.Hit()
}

// Sweep replaces the key that signs once it has done so for [SigningKeyLife]. It is for a
// server to call now and then.
func (i *Issuer) Sweep(ctx context.Context) error {
	now := i.directory.time()
	due := func(tx Tx) (bool, error) {
		keys, err := tx.SigningKeys()
		return !slices.ContainsFunc(keys, func(k SealedSigningKey) bool {
			return k.End.IsZero() && now.Before(k.Created.Add(SigningKeyLife))
		}), err
	}
	var is bool
	err := i.directory.store.View(ctx, func(tx Tx) (err error) {
		is, err = due(tx)
		return err
	})
	if err != nil || !is {
		return err
	}
	next, err := i.ring.generate(now)
	if err != nil {
		return err
	}
	err = i.directory.store.Update(ctx, func(tx Tx) error {
		if is, err = due(tx); err != nil || !is {
			return err // another replica was faster
		}
		if err := replace(tx, next); err != nil {
			return err
		}
		return appendAudit(tx, audit.Entry{
			Operation: "identity/signingkeys/rotate", Outcome: audit.Allowed, Resource: "/signingkeys/" + next.ID, Detail: map[string]string{"because": "age"},
		})
	})
	if err != nil || !is {
		return err
	}
	i.ring.forget()
	return afterRotate.Hit()
}

// replace has a key sign in the place of the one that does.
func replace(tx Tx, next SealedSigningKey) error {
	if err := tx.PutSigningKey(next); err != nil {
		return err
	}
	if err := tx.DeleteSigningKeys(next.Created); err != nil {
		return err
	}
	// Another replica may go on signing with the old one until it looks again.
	return tx.RetireSigningKeys(next.ID, next.Created.Add(reloadTime+TokenLife+Skew))
}
