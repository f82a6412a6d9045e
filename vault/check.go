package vault

import (
	"context"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/check"
)

// What a check of this package looks at.
const (
	partVault   = "vault"
	partKey     = "key"
	partVersion = "key version"
	partPrivate = "private key"
	partFeed    = "feed"
)

// A Prover opens the private part of a key for a check, and uses it for nothing.
// It fails with [fault.Integrity] if that does not open, or is not the public
// part's. Of a key that lies in an HSM it opens the place, and does not ask the HSM.
type Prover interface {
	Prove(ref Ref, m Material) error
}

// Check checks every vault: that its keys have their versions and those their
// private parts, that these open and match, that what is deleted has a date, and
// that no change is missing from its feed. Each platform's keys have a prover of their own.
func Check(ctx context.Context, store Store, provers map[string]Prover, r *check.Report) error {
	var ids []ID
	err := store.View(ctx, func(tx Tx) (err error) {
		ids, err = tx.VaultIDs()
		return err
	})
	if err != nil {
		return err
	}
	c := &checker{ctx, store, provers, r}
	for _, id := range ids {
		if err := c.vault(id); err != nil {
			return err
		}
	}
	return nil
}

type checker struct {
	ctx     context.Context
	store   Store
	provers map[string]Prover
	report  *check.Report
}

func (c *checker) vault(id ID) error {
	c.report.Checked(partVault)
	var v Vault
	err := c.store.View(c.ctx, func(tx Tx) (err error) {
		v, err = tx.VaultByID(id)
		return err
	})
	if err != nil {
		return err
	}
	if v.Deleted.IsZero() != v.PurgeAt.IsZero() || v.PurgeAt.Before(v.Deleted) {
		c.report.Found(partVault, string(id), "When it was deleted and when it is purged do not go together.")
	}
	if err := c.feed(id); err != nil {
		return err
	}
	for _, deleted := range []bool{false, true} {
		err := check.Pages(func(after string, limit int) (page []Key, err error) {
			err = c.store.View(c.ctx, func(tx Tx) (err error) {
				page, err = tx.VaultKeys(id, deleted, after, limit)
				return err
			})
			return page, err
		}, func(k Key) string { return k.Name.Key() }, c.key)
		if err != nil {
			return err
		}
	}
	return nil
}

// feed checks that the vault's changes are numbered without a gap.
func (c *checker) feed(id ID) error {
	found := func(format string, args ...any) { c.report.Found(partFeed, string(id), format, args...) }
	c.report.Checked(partFeed)
	return c.store.View(c.ctx, func(tx Tx) error {
		newest, at, err := tx.VaultRevision(id)
		if err != nil {
			return err
		}
		for {
			changes, err := tx.VaultChanges(id, at, feedScan)
			if err != nil {
				return err
			}
			for _, ch := range changes {
				if ch.Seq != at+1 {
					found("Change %d follows on %d: somebody may have missed a revocation.", ch.Seq, at)
				}
				at = ch.Seq
			}
			if len(changes) < feedScan {
				break
			}
		}
		if at != newest {
			found("Its last change is %d, and the vault says %d.", at, newest)
		}
		return nil
	})
}

func (c *checker) key(k Key) error {
	found := func(format string, args ...any) { c.report.Found(partKey, string(k.ID), format, args...) }
	c.report.Checked(partKey)
	if k.Deleted.IsZero() != k.PurgeAt.IsZero() || k.PurgeAt.Before(k.Deleted) {
		found("When it was deleted and when it is purged do not go together.")
	}
	current, next := false, 1
	for after := 0; ; {
		var page []KeyVersion
		sealed := map[Version][]byte{}
		err := c.store.View(c.ctx, func(tx Tx) (err error) {
			if page, err = tx.VaultKeyVersions(k.ID, after, feedScan); err != nil {
				return err
			}
			for _, v := range page {
				s, err := tx.VaultKeySealed(k.ID, v.Version)
				if err != nil && fault.ReasonOf(err) != fault.KeyNotFound {
					return err
				}
				sealed[v.Version] = s
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, v := range page {
			c.report.Checked(partVersion)
			current = current || v.Version == k.Current
			if v.Ordinal != next {
				found("Its version %d is followed by %d.", next-1, v.Ordinal)
			}
			next, after = v.Ordinal+1, v.Ordinal
			c.private(k, v, sealed[v.Version])
		}
		if len(page) < feedScan {
			break
		}
	}
	if !current {
		found("Its current version %s does not exist.", k.Current)
	}
	return nil
}

func (c *checker) private(k Key, v KeyVersion, sealed []byte) {
	subject := string(k.ID) + "/" + string(v.Version)
	found := func(format string, args ...any) {
		c.report.Checked(partPrivate)
		c.report.Found(partPrivate, subject, format, args...)
	}
	prover := c.provers[v.Platform]
	switch {
	case len(sealed) == 0:
		found("It does not exist: what this version has wrapped cannot be unwrapped.")
		return
	case prover == nil:
		found("It lies on %q, and there is no such platform.", v.Platform)
		return
	}
	m := v.material()
	m.Sealed = sealed
	err := prover.Prove(Ref{Vault: k.Vault, Key: k.ID, Version: v.Version}, m)
	switch {
	case err != nil:
		found("%s", check.Text(err))
	case v.Platform == Software:
		c.report.Checked(partPrivate)
	default: // its place is known, and what lies there is the HSM's
		c.report.Skipped(partPrivate)
	}
}
