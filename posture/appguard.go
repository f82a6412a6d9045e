package posture

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/rbac"
)

// Roles that read secrets, which package rbac has no use for:
// https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/security
const (
	secretsUser    = "4633458b-17de-408a-b874-0445c86b69e6"
	secretsOfficer = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
)

var secretReaders = []string{secretsUser, secretsOfficer, string(rbac.KeyVaultAdministrator)}

// app judges how an app uses secrets and identities.
func (j *judge) app(r *Resource) {
	a := r.app
	say := func(control, state, detail string) {
		f := Finding{Detail: detail, State: state, Evidence: r.Evidence, Reversible: true, object: r}
		if state == "unknown" {
			f.Severity = Medium
		}
		j.say(control, r.ID, r.Type, f)
	}
	switch {
	case len(a.inline) > 0:
		say("APP-SECRETS", "fail", "these settings hold a secret: "+listed(a.inline))
	case !a.read && len(a.later) == 0:
		say("APP-SECRETS", "unknown", "its settings were not read")
	case len(a.later) > 0:
		say("APP-SECRETS", "unknown", "known after apply: "+listed(a.later))
	}
	if why := a.identityLack(r.Identity); why != "" {
		say("APP-IDENTITY", "fail", why)
		return
	}
	for _, s := range a.secrets {
		if state, why := j.mayRead(r, s); state != "" {
			say("APP-VAULT", state, why)
		}
	}
}

func listed(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// identityLack says which identity that its settings need the app has not.
func (a *app) identityLack(i Identity) string {
	typ := strings.ToLower(i.Type)
	has := func(id string) bool {
		_, ok := i.UserAssigned[strings.ToLower(id)]
		return ok
	}
	switch {
	case len(a.secrets)+len(a.byID) == 0:
		return ""
	case typ == "" || typ == "none":
		return "its settings lead to a vault or an account by its identity, and it has none"
	case a.refAs != "" && !has(a.refAs):
		return "it reads its secrets as " + a.refAs + ", which is not assigned to it"
	case a.refAs == "" && len(a.secrets) > 0 && !strings.Contains(typ, "systemassigned"):
		return "it reads its secrets as its system-assigned identity, which it has not; keyVaultReferenceIdentity names no other"
	}
	for _, id := range a.asOther {
		if strings.HasPrefix(id, "/") && !has(id) {
			return "it connects as " + id + ", which is not assigned to it"
		}
	}
	return ""
}

// mayRead says why the app may not read a secret, or that nobody knows; its state is
// empty where it may.
func (j *judge) mayRead(r *Resource, s SecretRef) (state, why string) {
	where := fmt.Sprintf("the secret %s in %s (setting %s)", s.Name, s.Vault, s.Setting)
	principal := r.Identity.PrincipalID
	if r.app.refAs != "" {
		principal = r.Identity.UserAssigned[strings.ToLower(r.app.refAs)]
	}
	v := j.inv.vaultBy[s.Vault]
	switch {
	case v == nil:
		return "unknown", "the vault was not read: " + where
	case principal == "":
		return "unknown", "the principal of its identity is not told: " + where
	case v.Deleted:
		return "fail", "the vault is deleted: " + where
	case !v.knows(vaultRBAC):
		return "unknown", "how its vault grants was not read: " + where
	}
	if !v.RBAC {
		for _, p := range v.Policies {
			if strings.EqualFold(p.principal, principal) && (slices.Contains(p.secrets, "get") || slices.Contains(p.secrets, "all")) {
				return "", ""
			}
		}
		return "fail", "its identity may not read " + where
	}
	read, may := false, false
	j.covering(v.ID+"/secrets/"+s.Name, func(g grant) {
		read = true
		may = may || strings.EqualFold(g.principal, principal) && slices.Contains(secretReaders, g.role)
	})
	switch {
	case may:
		return "", ""
	case !read:
		return "unknown", "no role assignment was read: " + where
	}
	return "fail", "its identity may not read " + where
}
