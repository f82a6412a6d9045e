package vault

import (
	"context"
	"strconv"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// Keys are resources of the management plane too
// (learn.microsoft.com/rest/api/keyvault/keyvault/keys): it tells what they are and
// makes those that are missing, under management actions, and uses none.
const (
	actionKeyResourceRead     rbac.Action = "Microsoft.KeyVault/vaults/keys/read"
	actionKeyResourceWrite    rbac.Action = "Microsoft.KeyVault/vaults/keys/write"
	actionKeyResourceVersions rbac.Action = "Microsoft.KeyVault/vaults/keys/versions/read"
)

// A KeyResource is a key as the management plane shows it: a version, which is the
// current one unless another was asked for, and the key's rotation policy.
type KeyResource struct {
	Bundle
	Rotation RotationPolicy
}

// KeyResource returns a live key; the current version if version is "".
func (v *Vaults) KeyResource(ctx context.Context, c identity.Caller, p Path, name KeyName, version Version) (r KeyResource, err error) {
	scope := p.vault().KeyScope(name)
	action := actionKeyResourceRead
	if version != "" {
		action = actionKeyResourceVersions
	}
	a := begin(c, "KeyGet", scope)
	err = v.read(ctx, a, func(tx Tx) error {
		vault, err := v.liveFor(tx, a, p, action, scope)
		if err != nil {
			return err
		}
		if r.Bundle, err = find(tx, a, vault, name, version); err != nil {
			return err
		}
		r.Rotation, err = policyOf(tx, vault, r.Key.ID)
		return err
	})
	return r, err
}

// KeyResources lists the live keys by name, and returns the marker of the next page,
// "" at the end.
func (v *Vaults) KeyResources(ctx context.Context, c identity.Caller, p Path, page Page) (all []Bundle, next string, err error) {
	a := begin(c, "KeyList", p.vault().Scope())
	err = v.read(ctx, a, func(tx Tx) error {
		vault, err := v.liveAt(tx, a, p, actionKeyResourceRead)
		if err == nil {
			all, next, err = page.keys(tx, vault, false)
		}
		return err
	})
	return all, next, err
}

// KeyVersionResources lists a live key's versions in the order of their creation.
func (v *Vaults) KeyVersionResources(ctx context.Context, c identity.Caller, p Path, name KeyName, page Page) (all []Bundle, next string, err error) {
	scope := p.vault().KeyScope(name)
	a := begin(c, "KeyListVersions", scope)
	err = v.read(ctx, a, func(tx Tx) error {
		vault, err := v.liveFor(tx, a, p, actionKeyResourceVersions, scope)
		if err == nil {
			all, next, err = page.versions(tx, vault, name)
		}
		return err
	})
	return all, next, err
}

// EnsureKey makes a key that is not there. One that is there is returned as it is,
// whatever the specification says.
func (v *Vaults) EnsureKey(ctx context.Context, c identity.Caller, p Path, name KeyName, spec KeySpec, policy *RotationPolicy) (r KeyResource, err error) {
	scope := p.vault().KeyScope(name)
	a := begin(c, "KeyCreate", scope)
	enter := func(tx Tx) (Vault, error) { return v.liveFor(tx, a, p, actionKeyResourceWrite, scope) }
	there := false
	err = v.store.View(ctx, func(tx Tx) error {
		vault, err := enter(tx)
		if err != nil {
			return err
		}
		switch r.Bundle, err = find(tx, a, vault, name, ""); fault.ReasonOf(err) {
		case "":
			there = true
			r.Rotation, err = policyOf(tx, vault, r.Key.ID)
			return err
		case fault.KeyNotFound: // a deleted one is told of by what follows
			return nil
		}
		return err
	})
	switch {
	case err != nil:
		return r, v.refused(ctx, a, err)
	case there:
		a.note("existed", strconv.FormatBool(true))
		return r, v.record(ctx, a.done())
	}
	r.Bundle, err = v.make(ctx, a, name, making{
		enter: enter,
		plan: func(_ Tx, vault Vault, existing *Key) (KeySpec, error) {
			if existing != nil {
				return KeySpec{}, fault.New(fault.Conflict, "Another request made the key at the same time.").WithMend("Try again.")
			}
			spec := spec
			if err := spec.check(vault.Flavour); err != nil || policy == nil {
				return spec, err
			}
			policy.Created = v.clock()
			policy.Updated = policy.Created
			return spec, policy.check(vault.Flavour)
		},
		key: generate, policy: policy,
	})
	if err != nil {
		return r, err
	}
	r.Rotation = defaultPolicy(r.Vault.Flavour)
	if policy != nil {
		r.Rotation = *policy
	}
	return r, nil
}
