package vault

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// A Duration is a span of calendar time in ISO 8601's form, without a time of day:
// P2Y, P18M, P90D. "" is none.
type Duration string

var durationPattern = regexp.MustCompile(`^P(?:(\d{1,4})Y)?(?:(\d{1,4})M)?(?:(\d{1,4})W)?(?:(\d{1,5})D)?$`)

// ParseDuration checks a duration, and that it is not empty.
func ParseDuration(s string) (Duration, error) {
	d := Duration(strings.ToUpper(s))
	if !durationPattern.MatchString(string(d)) || !d.After(time.Time{}).After(time.Time{}) {
		return "", fault.New(fault.InvalidArgument, "A duration is an ISO 8601 one of years, months, weeks and days, such as P90D or P2Y.")
	}
	return d, nil
}

func (d Duration) parts() (years, months, days int) {
	m := durationPattern.FindStringSubmatch(string(d))
	if m == nil {
		return 0, 0, 0
	}
	n := func(i int) int { v, _ := strconv.Atoi(m[i]); return v }
	return n(1), n(2), 7*n(3) + n(4)
}

// After returns the time that lies d after t.
func (d Duration) After(t time.Time) time.Time {
	y, m, n := d.parts()
	return t.AddDate(y, m, n)
}

// Before returns the time that lies d before t.
func (d Duration) Before(t time.Time) time.Time {
	y, m, n := d.parts()
	return t.AddDate(-y, -m, -n)
}

// A Trigger says when something is done about a key's current version. One of the
// two is set.
type Trigger struct {
	AfterCreate  Duration `json:"timeAfterCreate,omitempty"`
	BeforeExpiry Duration `json:"timeBeforeExpiry,omitempty"`
}

// at returns when, zero if never.
func (t *Trigger) at(k KeyVersion) time.Time {
	switch {
	case t == nil:
	case t.AfterCreate != "":
		return t.AfterCreate.After(k.Created)
	case !k.Expires.IsZero():
		return t.BeforeExpiry.Before(k.Expires)
	}
	return time.Time{}
}

// A RotationPolicy says when a key gets a new version by itself
// (learn.microsoft.com/azure/key-vault/keys/how-to-configure-key-rotation).
type RotationPolicy struct {
	Rotate  *Trigger
	Notify  *Trigger // when [KeyNearExpiry] is told; managed HSMs have none
	Expiry  Duration // of versions that a rotation makes
	Created time.Time
	Updated time.Time
}

// defaultNotice is how long before the expiry it is told of.
const defaultNotice Duration = "P30D"

// Bounds of policies, in days.
const (
	minRotation    = 7 // after creation, and before expiry
	minExpiry      = 28
	minHSMRotation = 28 // after creation
)

// defaultPolicy is what a key has that was given none.
func defaultPolicy(f Flavour) RotationPolicy {
	if f == ManagedHSM {
		return RotationPolicy{}
	}
	return RotationPolicy{Notify: &Trigger{BeforeExpiry: defaultNotice}}
}

// check checks a policy and fills in what Azure adds.
func (p *RotationPolicy) check(f Flavour) error {
	bad := func(format string, args ...any) error {
		return fault.New(fault.InvalidArgument, fmt.Sprintf(format, args...))
	}
	// Spans are compared from one day on, so that months and years have a length.
	from := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	expiry := p.Expiry.After(from)
	if p.Expiry != "" && expiry.Before(from.AddDate(0, 0, minExpiry)) {
		return bad("expiryTime must be at least %d days.", minExpiry)
	}
	for _, t := range []*Trigger{p.Rotate, p.Notify} {
		switch {
		case t == nil:
			continue
		case (t.AfterCreate == "") == (t.BeforeExpiry == ""):
			return bad("A trigger has either timeAfterCreate or timeBeforeExpiry.")
		case t == p.Rotate && t.BeforeExpiry != "" && p.Expiry == "":
			return bad("timeBeforeExpiry needs an expiryTime in the policy.")
		}
	}
	if p.Notify != nil && p.Notify.AfterCreate != "" {
		return bad("Notify has a timeBeforeExpiry only.")
	}
	if f == ManagedHSM && p.Notify != nil {
		return fault.New(fault.NotSupported, "A managed HSM's rotation policy has no action of type Notify.")
	}
	if r := p.Rotate; r != nil {
		least := minRotation
		if f == ManagedHSM {
			least = minHSMRotation
		}
		at := r.AfterCreate.After(from)
		if r.BeforeExpiry != "" {
			at = r.BeforeExpiry.Before(expiry)
		}
		if at.Before(from.AddDate(0, 0, least)) {
			return bad("A key is rotated at the earliest %d days after it was created.", least)
		}
		if p.Expiry != "" && at.After(expiry.AddDate(0, 0, -minRotation)) {
			return bad("A key is rotated at the latest %d days before it expires.", minRotation)
		}
	}
	if f != ManagedHSM && p.Notify == nil {
		p.Notify = &Trigger{BeforeExpiry: defaultNotice}
	}
	return nil
}

// KeyRotationPolicy returns a live key's policy; Azure's default if it was given
// none.
func (v *Vaults) KeyRotationPolicy(ctx context.Context, c identity.Caller, vaultName Name, name KeyName) (Bundle, RotationPolicy, error) {
	a := begin(c, "KeyRotationPolicyGet", "")
	var b Bundle
	var p RotationPolicy
	err := v.read(ctx, a, func(tx Tx) (err error) {
		if b.Vault, err = v.enter(tx, a, vaultName, name, actionRotationRead); err != nil {
			return err
		}
		if b, err = find(tx, a, b.Vault, name, ""); err != nil {
			return err
		}
		p, err = policyOf(tx, b.Vault, b.Key.ID)
		return err
	})
	return b, p, err
}

// SetKeyRotationPolicy replaces a live key's policy. It does not touch the versions
// that there are.
func (v *Vaults) SetKeyRotationPolicy(ctx context.Context, c identity.Caller, vaultName Name, name KeyName, p RotationPolicy) (Bundle, RotationPolicy, error) {
	a := begin(c, "KeyRotationPolicySet", "")
	var b Bundle
	err := v.write(ctx, a, func(tx Tx) (err error) {
		if b.Vault, err = v.enter(tx, a, vaultName, name, actionRotationWrite); err != nil {
			return err
		}
		if b, err = find(tx, a, b.Vault, name, ""); err != nil {
			return err
		}
		if err := p.check(b.Vault.Flavour); err != nil {
			return err
		}
		old, err := policyOf(tx, b.Vault, b.Key.ID)
		if err != nil {
			return err
		}
		p.Created, p.Updated = old.Created, v.clock()
		if p.Created.IsZero() {
			p.Created = p.Updated
		}
		if n := b.Version.Notice; !n.IsZero() && !n.Equal(b.Version.Expires) { // not told yet
			b.Version.Notice = noticeAt(p, b.Version)
			if err := tx.SetVaultKeyVersion(b.Version); err != nil {
				return err
			}
		}
		if err := tx.PutVaultRotation(b.Key.ID, p, p.Rotate.at(b.Version)); err != nil {
			return err
		}
		return v.changed(tx, a, Change{Vault: b.Vault.ID, Key: b.Key.Name, Kind: KeyUpdated})
	})
	return b, p, err
}

// policyOf returns a key's policy, the default if it has none.
func policyOf(tx Tx, vault Vault, key KeyID) (RotationPolicy, error) {
	p, _, err := tx.VaultRotation(key)
	if fault.ReasonOf(err) == fault.NotFound {
		return defaultPolicy(vault.Flavour), nil
	}
	return p, err
}

// noticeAt returns when to tell that a version nears its expiry.
func noticeAt(p RotationPolicy, k KeyVersion) time.Time {
	if k.Expires.IsZero() {
		return time.Time{}
	}
	near := defaultNotice.Before(k.Expires)
	if p.Notify != nil {
		near = p.Notify.at(k)
	}
	return near
}

// schedule sets what is done by itself about a version that is about to be the
// current one, or whose expiry has changed: when it is told of, and when it is
// rotated.
func schedule(tx Tx, vault Vault, k *KeyVersion, current bool) error {
	p, _, err := tx.VaultRotation(k.Key)
	has := err == nil
	if !has {
		if fault.ReasonOf(err) != fault.NotFound {
			return err
		}
		p = defaultPolicy(vault.Flavour)
	}
	k.Notice = noticeAt(p, *k)
	if has && current {
		return tx.PutVaultRotation(k.Key, p, p.Rotate.at(*k))
	}
	return nil
}
