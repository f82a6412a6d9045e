package encryption

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
)

// A Finding is something about a customer's key that its people should mend, though
// it serves.
type Finding string

// The findings.
const (
	RecoveryNotProtected Finding = "RecoveryNotProtected" // soft delete and purge protection are no longer both stated
	VersionNotUsable     Finding = "VersionNotUsable"     // the newest version cannot wrap; the one before stays
	KeyExpired           Finding = "KeyExpired"           // it still unwraps: expiry revokes nothing
	KeyExpiresSoon       Finding = "KeyExpiresSoon"       // within 30 days
	BoundTagUnreadable   Finding = "BoundTagUnreadable"   // the strictest bound is taken
)

// Findings is a set of them, as stored: sorted, with spaces between.
type Findings string

// List returns the findings of the set.
func (f Findings) List() (all []Finding) {
	for _, s := range strings.Fields(string(f)) {
		all = append(all, Finding(s))
	}
	return all
}

func (f Findings) has(one Finding) bool { return slices.Contains(f.List(), one) }

// BoundTag is the tag by which a key's owner caps the kill-switch bound of what the
// key protects, in whole seconds.
const BoundTag = "kluis-kill-switch-bound"

// MinBound is the least that a scope's own kill-switch bound can be: below that the
// vault would be asked all the time.
const MinBound = 5 * time.Second

const (
	expiresSoon = 30 * 24 * time.Hour
	verifyEvery = 24 * time.Hour
)

// inspect returns what is wrong with a key, by what its vault states, and the bound
// that its owner sets; 0 if he sets none.
func inspect(key kek.KeyInfo, now time.Time) (Findings, time.Duration) {
	var all []string
	add := func(f Finding, is bool) {
		if is {
			all = append(all, string(f))
		}
	}
	add(RecoveryNotProtected, !key.SoftDelete() || !key.PurgeProtected())
	expired := !key.Expires.IsZero() && !now.Before(key.Expires)
	add(KeyExpired, expired)
	add(KeyExpiresSoon, !expired && !key.Expires.IsZero() && key.Expires.Sub(now) < expiresSoon)
	add(VersionNotUsable, !expired && key.Usable(now) != nil)
	var bound time.Duration
	if text, ok := key.Tags[BoundTag]; ok {
		seconds, err := strconv.ParseUint(text, 10, 31)
		add(BoundTagUnreadable, err != nil)
		bound = max(time.Duration(seconds)*time.Second, MinBound)
		if err != nil {
			bound = MinBound // nothing fails open
		}
	}
	slices.Sort(all)
	return Findings(strings.Join(all, " ")), bound
}

// note stores what is wrong with a scope's key and how long its owner lets a lease
// be, if that is news, and at least once a day that it was looked at.
func (k *Keyring) note(ctx context.Context, s Scope, latest kek.KeyInfo) {
	findings, bound := inspect(latest, k.now())
	if findings == s.Findings && bound == s.KeyBound && k.now().Sub(s.Verified) < verifyEvery {
		return
	}
	err := k.store.Update(ctx, func(tx Tx) error {
		now, err := tx.Scope(s.ID)
		if err != nil {
			return err
		}
		if now.Epoch != s.Epoch {
			return keysChanged() // it may be another key's by now
		}
		was := now.Findings
		now.Findings, now.KeyBound, now.Verified = findings, bound, k.now()
		if err := tx.UpdateScope(now, now.Epoch); err != nil || was == findings {
			return err
		}
		for _, f := range findings.List() {
			if !was.has(f) {
				e := k.entry(ctx, "RaiseKeyFinding", s)
				e.Detail = map[string]string{"finding": string(f), "kid": string(latest.KID)}
				if err := tx.AppendAudit(e); err != nil {
					return err
				}
			}
		}
		for _, f := range was.List() {
			if !findings.has(f) {
				e := k.entry(ctx, "ClearKeyFinding", s)
				e.Detail = map[string]string{"finding": string(f), "kid": string(latest.KID)}
				if err := tx.AppendAudit(e); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil && !errors.Is(err, fault.EncryptionChanged) {
		k.log.ErrorContext(ctx, "noting what is wrong with a key", "workspace", string(s.ID), "error", err)
	}
}

// Verify looks at the keys of scopes that nobody has used for a day, as is done at
// every renewal for those in use: new versions are followed, and what is wrong with
// a key is noted. Call it every hour or so.
func (k *Keyring) Verify(ctx context.Context) error {
	var due []ScopeID
	for after, more := ScopeID(""), true; more; {
		err := k.store.View(ctx, func(tx Tx) error {
			page, err := tx.ScopesAfter(after, verifyPage)
			more = len(page) == verifyPage
			for _, s := range page {
				after = s.ID
				if s.Serving == Serves && k.now().Sub(s.Verified) >= verifyEvery {
					due = append(due, s.ID)
				}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	// Other processes do the same: each goes its own way, and leaves out what is done.
	rand.Shuffle(len(due), func(i, j int) { due[i], due[j] = due[j], due[i] })
	for _, id := range due {
		v, err := k.view(ctx, id)
		if err != nil || k.now().Sub(v.scope.Verified) < verifyEvery {
			continue // deleted since, or looked at
		}
		if g, err := v.sealing(); err != nil || g.Mode != CustomerManaged {
			continue
		}
		if _, err := k.Use(audit.WithJob(ctx), id); err != nil && ctx.Err() != nil {
			return ctx.Err() // what else went wrong is in the scope's state
		}
	}
	return nil
}

// verifyPage is how many scopes one transaction looks at.
const verifyPage = 500

// serve clears all that is about not serving.
func (s *Scope) serve() {
	s.Serving, s.Reason, s.Detail, s.ServingSince, s.KeyLost = Serves, "", "", time.Time{}, time.Time{}
}
