package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
)

// A KeyPermission is what an access policy gives, in Azure's words
// (learn.microsoft.com/rest/api/keyvault/keyvault/vaults/create-or-update#keypermissions).
type KeyPermission string

// keyPermissions are all that there are; "all" stands for them but for purge, which
// Azure wants said.
var keyPermissions = []KeyPermission{
	"get", "list", "update", "create", "import", "delete", "recover", "backup", "restore",
	"decrypt", "encrypt", "unwrapKey", "wrapKey", "verify", "sign",
	"release", "rotate", "getrotationpolicy", "setrotationpolicy", "purge",
}

// An AccessPolicy gives a principal, or a group, permissions in a vault of the
// access policy model; one that names an application gives them only to a user who
// comes through it. Permissions other than those on keys are kept and shown, since
// clients send them, and give nothing.
type AccessPolicy struct {
	Tenant       string   `json:"tenantId"`
	Object       string   `json:"objectId"`
	Application  string   `json:"applicationId,omitempty"`
	Keys         []string `json:"keys,omitempty"` // see [KeyPermission]; in its spelling, "all" written out
	Secrets      []string `json:"secrets,omitempty"`
	Certificates []string `json:"certificates,omitempty"`
	Storage      []string `json:"storage,omitempty"`
}

// The bounds of access policies (Azure subscription and service limits).
const (
	maxAccessPolicies    = 1024
	maxPolicyPermissions = 64
)

// checkPolicies returns the policies in their canonical form.
func checkPolicies(tenant identity.TenantID, policies []AccessPolicy) ([]AccessPolicy, error) {
	if len(policies) > maxAccessPolicies {
		return nil, fault.New(fault.InvalidArgument, fmt.Sprintf("A vault has at most %d access policies.", maxAccessPolicies))
	}
	out := []AccessPolicy{}
	for _, p := range policies {
		p.Tenant, p.Object, p.Application = strings.ToLower(p.Tenant), strings.ToLower(p.Object), strings.ToLower(p.Application)
		switch {
		case p.Tenant != string(tenant):
			return nil, fault.New(fault.InvalidArgument, "An access policy's tenantId is not the vault's.")
		case !uuidPattern.MatchString(p.Object) || p.Application != "" && !uuidPattern.MatchString(p.Application):
			return nil, fault.New(fault.InvalidArgument, "An access policy's objectId, and applicationId if there is one, are UUIDs.")
		}
		for _, other := range [][]string{p.Secrets, p.Certificates, p.Storage} {
			if len(other) > maxPolicyPermissions || slices.ContainsFunc(other, func(s string) bool { return len(s) > 32 }) {
				return nil, fault.New(fault.InvalidArgument, "An access policy has too many permissions, or one that is too long.")
			}
		}
		keys, err := checkPermissions(p.Keys)
		if err != nil {
			return nil, err
		}
		p.Keys = keys
		out = append(out, p)
	}
	return out, nil
}

func checkPermissions(given []string) ([]string, error) {
	if len(given) > maxPolicyPermissions {
		return nil, fault.New(fault.InvalidArgument, "An access policy has too many permissions.")
	}
	var out []string
	add := func(p KeyPermission) {
		if !slices.Contains(out, string(p)) {
			out = append(out, string(p))
		}
	}
	for _, g := range given {
		if strings.EqualFold(g, "all") {
			for _, p := range keyPermissions {
				if p != "purge" {
					add(p)
				}
			}
			continue
		}
		p, ok := parsePermission(g)
		if !ok {
			return nil, fault.New(fault.InvalidArgument, "An access policy holds a permission on keys that there is not.").About(clip(g))
		}
		add(p)
	}
	return out, nil
}

func parsePermission(s string) (KeyPermission, bool) {
	i := slices.IndexFunc(keyPermissions, func(p KeyPermission) bool { return strings.EqualFold(string(p), s) })
	if i < 0 {
		return "", false
	}
	return keyPermissions[i], true
}

// permission returns what a data action takes in the access policy model, "" if no
// policy can give it. Reading is one action for role definitions and two
// permissions here: operation, as the audit log calls it, says which.
func permission(action rbac.Action, operation string) KeyPermission {
	name := strings.TrimPrefix(strings.ToLower(string(action)), "microsoft.keyvault/vaults/")
	switch name {
	case "keys/read":
		if strings.HasPrefix(operation, "KeyList") {
			return "list"
		}
		return "get"
	case "keyrotationpolicies/read":
		return "getrotationpolicy"
	case "keyrotationpolicies/write":
		return "setrotationpolicy"
	case "keys/wrap/action":
		return "wrapKey"
	case "keys/unwrap/action":
		return "unwrapKey"
	}
	p, _ := parsePermission(strings.TrimSuffix(strings.TrimPrefix(name, "keys/"), "/action"))
	return p
}

// policy returns the access policy that gives the caller a permission.
func (v Vault) policy(c identity.Caller, p KeyPermission) (AccessPolicy, bool) {
	if p == "" || !of(c, v.Tenant) {
		return AccessPolicy{}, false
	}
	i := slices.IndexFunc(v.AccessPolicies, func(a AccessPolicy) bool {
		return a.Tenant == string(c.Tenant) && slices.Contains(c.Subjects(), identity.PrincipalID(a.Object)) &&
			(a.Application == "" || strings.EqualFold(a.Application, c.Application)) && slices.Contains(a.Keys, string(p))
	})
	if i < 0 {
		return AccessPolicy{}, false
	}
	return v.AccessPolicies[i], true
}

// byPolicy reports whether the vault authorises by access policies.
func (v Vault) byPolicy() bool { return !v.RBAC && v.Flavour != ManagedHSM }

// admit authorises a data action at the vault or at one of its keys, by whichever
// model the vault has, after its network has let the caller in.
func (v *Vaults) admit(tx Tx, a *act, vault Vault, action rbac.Action, scope rbac.Scope) error {
	if of(a.caller, vault.Tenant) {
		if err := v.admits(vault, a.caller); err != nil {
			return err
		}
	}
	if vault.Flavour == ManagedHSM && of(a.caller, vault.Tenant) {
		return v.authoriseLocal(tx, a, vault, localAction(action), scope)
	}
	if !vault.byPolicy() || !of(a.caller, vault.Tenant) {
		return v.authorise(tx, a, vault.Tenant, action, true, scope)
	}
	p := permission(action, a.entry.Operation)
	by, ok := vault.policy(a.caller, p)
	if !ok {
		return fault.New(fault.AccessPolicyDenied, fmt.Sprintf(
			"The user, group or application 'appid=%s;oid=%s' does not have keys %s permission on key vault '%s;location=%s'.",
			a.caller.Application, a.caller.Principal, p, vault.Name, vault.Location)).
			WithMend("Give it the permission by an access policy of the vault.")
	}
	a.note("policy", by.Object)
	return nil
}

// mayRead reports whether the caller holds the right to read a key, or the vault's
// keys if scope is the vault's, wherever it calls from.
func (v *Vaults) mayRead(tx Tx, c identity.Caller, vault Vault, scope rbac.Scope) (bool, error) {
	if vault.byPolicy() {
		_, get := vault.policy(c, "get")
		_, list := vault.policy(c, "list")
		return get || list, nil
	}
	if vault.Flavour == ManagedHSM && of(c, vault.Tenant) {
		_, ok, err := rbac.Check(tx, rbac.HSMRoles, c, localAction(actionKeyRead), true, scope)
		return ok, err
	}
	_, ok, err := v.allowed(tx, c, vault.Tenant, actionKeyRead, true, scope)
	return ok, err
}

// accessChanged puts on the feed what a change of a vault's settings means to
// whoever is concerned: those who lost their right to read the vault hear of it
// too, because the change names them.
func (v *Vaults) accessChanged(tx Tx, a *act, old, vault Vault) error {
	if !old.Network.equal(vault.Network) || !slices.Equal(old.TrustedServices, vault.TrustedServices) {
		if err := v.changed(tx, a, Change{Vault: vault.ID, Kind: NetworkRulesChanged}); err != nil {
			return err
		}
	}
	concerned := policiesChanged(old.AccessPolicies, vault.AccessPolicies)
	switched := old.RBAC != vault.RBAC
	if switched {
		for _, p := range slices.Concat(old.AccessPolicies, vault.AccessPolicies) {
			concerned = append(concerned, identity.PrincipalID(p.Object))
		}
		held, err := tx.RoleAssignmentsAt(vault.Scope(), true)
		if err != nil {
			return err
		}
		for _, as := range held {
			if as.Tenant == vault.Tenant {
				concerned = append(concerned, as.Principal)
			}
		}
	}
	if len(concerned) == 0 {
		return nil
	}
	slices.Sort(concerned)
	for _, p := range append(slices.Compact(concerned), "") { // and once for the vault
		if err := v.changed(tx, a, Change{Vault: vault.ID, Principal: p, Kind: AccessPolicyChanged}); err != nil {
			return err
		}
	}
	return nil
}

// policiesChanged returns the principals whose policies differ.
func policiesChanged(old, now []AccessPolicy) (concerned []identity.PrincipalID) {
	of := func(all []AccessPolicy) map[string][]string {
		m := map[string][]string{}
		for _, p := range all {
			for _, k := range p.Keys {
				m[p.Object] = append(m[p.Object], p.Application+"/"+k)
			}
		}
		for _, list := range m {
			slices.Sort(list)
		}
		return m
	}
	before, after := of(old), of(now)
	for object, list := range before {
		if !slices.Equal(list, after[object]) {
			concerned = append(concerned, identity.PrincipalID(object))
		}
	}
	for object := range after {
		if before[object] == nil {
			concerned = append(concerned, identity.PrincipalID(object))
		}
	}
	return concerned
}

// A PolicyChange says what becomes of the policies that a vault has for the
// principals concerned.
type PolicyChange string

// The changes.
const (
	AddPolicies     PolicyChange = "add"     // permissions beside those that there are
	ReplacePolicies PolicyChange = "replace" // in place of those that there are
	RemovePolicies  PolicyChange = "remove"  // permissions from those that there are
)

const actionAccessPolicyWrite rbac.Action = "Microsoft.KeyVault/vaults/accessPolicies/write"

// ChangePolicies changes the access policies of some principals at a live vault, and
// leaves the others' alone.
func (v *Vaults) ChangePolicies(ctx context.Context, c identity.Caller, p Path, how PolicyChange, policies []AccessPolicy) (vault Vault, err error) {
	a := begin(c, "VaultPatch", p.vault().Scope())
	err = v.write(ctx, a, func(tx Tx) error {
		if vault, err = v.liveAt(tx, a, p, actionAccessPolicyWrite); err != nil {
			return err
		}
		given, err := checkPolicies(vault.Tenant, policies)
		if err != nil {
			return err
		}
		next := slices.Clone(vault.AccessPolicies)
		for _, g := range given {
			at := slices.IndexFunc(next, func(p AccessPolicy) bool { return p.Object == g.Object && p.Application == g.Application })
			switch {
			case how == RemovePolicies && at >= 0:
				if next[at] = next[at].without(g); next[at].empty() {
					next = slices.Delete(next, at, at+1)
				}
			case how == RemovePolicies:
			case how == ReplacePolicies && at >= 0:
				next[at] = g
			case how == AddPolicies && at >= 0:
				next[at] = next[at].with(g)
			case how == AddPolicies || how == ReplacePolicies:
				next = append(next, g)
			default:
				return fault.New(fault.InvalidArgument, "Access policies are changed by add, replace or remove.")
			}
		}
		if vault.AccessPolicies, err = checkPolicies(vault.Tenant, next); err != nil {
			return err
		}
		return v.putVault(tx, a, &vault, v.clock(), VaultUpdated)
	})
	return vault, err
}

func (p AccessPolicy) empty() bool {
	return len(p.Keys)+len(p.Secrets)+len(p.Certificates)+len(p.Storage) == 0
}

func (p AccessPolicy) with(o AccessPolicy) AccessPolicy {
	join := func(a, b []string) []string { return append(minus(a, b), b...) }
	p.Keys, p.Secrets = join(p.Keys, o.Keys), join(p.Secrets, o.Secrets)
	p.Certificates, p.Storage = join(p.Certificates, o.Certificates), join(p.Storage, o.Storage)
	return p
}

func (p AccessPolicy) without(o AccessPolicy) AccessPolicy {
	p.Keys, p.Secrets = minus(p.Keys, o.Keys), minus(p.Secrets, o.Secrets)
	p.Certificates, p.Storage = minus(p.Certificates, o.Certificates), minus(p.Storage, o.Storage)
	return p
}

// minus returns what of a is not in b.
func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool {
		return slices.ContainsFunc(b, func(t string) bool { return strings.EqualFold(s, t) })
	})
}
