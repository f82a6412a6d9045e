package remedy

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

const grantName = "grant"

var grantStep = stepKind{
	name: grantName, do: "Let that identity read, wrap and unwrap with the key, and no more.",
	look: (*executor).lookGrant, act: (*executor).grant, lookBack: (*executor).lookGrantBack, undo: (*executor).revoke,
}

func (x *executor) keyID() string {
	return x.run.VaultID + "/keys/" + posture.ParseKeyRef(x.run.Key).Name
}

// principal is who asks the vault.
func (x *executor) principal(ctx context.Context) (string, error) {
	if x.run.Principal != "" {
		return x.run.Principal, nil
	}
	s, err := x.subject(ctx)
	return x.asks(s), err
}

// vaultAccess is how a vault decides.
type vaultAccess struct {
	Properties struct {
		TenantID string `json:"tenantId"`
		RBAC     bool   `json:"enableRbacAuthorization"`
		Policies []struct {
			ObjectID    string `json:"objectId"`
			Permissions struct {
				Keys []string `json:"keys"`
			} `json:"permissions"`
		} `json:"accessPolicies"`
	} `json:"properties"`
}

func (x *executor) access(ctx context.Context) (v vaultAccess, err error) {
	err = x.Keys.Call(ctx, "GET", x.run.VaultID+"?api-version="+vaultVersion, nil, &v)
	return v, err
}

// needed are the permissions of an access policy.
var needed = []string{"get", "wrapKey", "unwrapKey"}

// policy returns what of the permissions needed the principal has not.
func (v vaultAccess) lacks(principal string) (missing []string) {
	missing = slices.Clone(needed)
	for _, p := range v.Properties.Policies {
		if strings.EqualFold(p.ObjectID, principal) {
			missing = slices.DeleteFunc(missing, func(n string) bool {
				return slices.ContainsFunc(p.Permissions.Keys, func(k string) bool { return strings.EqualFold(k, n) || strings.EqualFold(k, "all") })
			})
		}
	}
	return missing
}

func (x *executor) lookGrant(ctx context.Context) (presence, string, error) {
	a, err := x.principal(ctx)
	if err != nil {
		return absent, "", err
	}
	v, err := x.access(ctx)
	if err != nil {
		return absent, "", err
	}
	if !v.Properties.RBAC {
		if missing := v.lacks(a); len(missing) > 0 {
			return absent, "the access policy lacks " + strings.Join(missing, ", "), nil
		}
		return present, "an access policy of " + a, nil
	}
	all, err := x.assignments(ctx, a)
	if err != nil {
		return absent, "", err
	}
	for _, as := range all {
		if strings.EqualFold(nameOf(as.Properties.Role), encryptionUser) {
			return present, "role assignment " + as.Name, nil
		}
	}
	return absent, "no role at the key", nil
}

type roleAssignment struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Properties struct {
		Role      string `json:"roleDefinitionId"`
		Principal string `json:"principalId"`
	} `json:"properties"`
}

// assignments returns what the principal has at the key and above it.
func (x *executor) assignments(ctx context.Context, principal string) ([]roleAssignment, error) {
	var list struct {
		Value []roleAssignment `json:"value"`
	}
	q := url.Values{"api-version": {assignmentVersion}, "$filter": {"atScope()"}}
	err := x.Keys.Call(ctx, "GET", x.keyID()+"/providers/Microsoft.Authorization/roleAssignments?"+q.Encode(), nil, &list)
	return slices.DeleteFunc(list.Value, func(a roleAssignment) bool { return !strings.EqualFold(a.Properties.Principal, principal) }), err
}

// assignmentID is the same for the same principal and key, so that a grant that was made
// and not seen is not made twice.
func (x *executor) assignmentID(principal string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(strings.ToLower(x.keyID()+"#"+x.run.Resource+"#"+principal))).String()
}

func (x *executor) assignment(id string) string {
	return x.keyID() + "/providers/Microsoft.Authorization/roleAssignments/" + id + "?api-version=" + assignmentVersion
}

func (x *executor) policies(kind string) string {
	return x.run.VaultID + "/accessPolicies/" + kind + "?api-version=" + vaultVersion
}

func policyBody(tenant, principal string, keys []string) map[string]any {
	return map[string]any{"properties": map[string]any{"accessPolicies": []any{map[string]any{
		"tenantId": tenant, "objectId": principal, "permissions": map[string]any{"keys": keys},
	}}}}
}

func (x *executor) grant(ctx context.Context, s *Step) error {
	a, err := x.principal(ctx)
	if err != nil {
		return err
	}
	v, err := x.access(ctx)
	if err != nil {
		return err
	}
	principal := a
	if v.Properties.RBAC {
		s.Undo = "role " + x.assignmentID(principal)
		role := x.run.VaultID[:strings.Index(strings.ToLower(x.run.VaultID)+"/resourcegroups/", "/resourcegroups/")] + "/providers/Microsoft.Authorization/roleDefinitions/" + encryptionUser
		s.Change = map[string]any{"properties": map[string]any{"roleDefinitionId": role, "principalId": principal, "principalType": "ServicePrincipal"}}
		if err := x.save(nil); err != nil {
			return err
		}
		return x.helpGrant(x.Keys.Call(ctx, "PUT", x.assignment(x.assignmentID(principal)), s.Change, nil), principal)
	}
	missing := v.lacks(principal)
	s.Undo = "policy " + principal + " " + strings.Join(missing, ",")
	s.Change = policyBody(v.Properties.TenantID, principal, missing)
	if err := x.save(nil); err != nil {
		return err
	}
	return x.helpGrant(x.Keys.Call(ctx, "PUT", x.policies("add"), s.Change, nil), principal)
}

// helpGrant says who may do what the caller may not: duties are separated.
func (x *executor) helpGrant(err error, principal string) error {
	if fault.ReasonOf(err) != fault.Denied {
		return err
	}
	return fault.Wrap(fault.Denied, err, "The caller may not give rights at the vault: its custodian does that.").
		WithMend(`Ask for: az role assignment create --role "Key Vault Crypto Service Encryption User" --assignee-object-id ` + principal +
			` --assignee-principal-type ServicePrincipal --scope ` + x.keyID() + `  Then run the same command again.`)
}

func (x *executor) lookGrantBack(ctx context.Context, s *Step) (presence, string, error) {
	kind, rest, _ := strings.Cut(s.Undo, " ")
	switch kind {
	case "role":
		err := x.Keys.Call(ctx, "GET", x.assignment(rest), nil, nil)
		if r := fault.ReasonOf(err); r == fault.ResourceNotFound {
			return present, "the role assignment is gone", nil
		}
		return absent, "the role assignment is there", err
	case "policy":
		principal, given, _ := strings.Cut(rest, " ")
		v, err := x.access(ctx)
		if err != nil {
			return absent, "", err
		}
		missing := v.lacks(principal)
		for p := range strings.SplitSeq(given, ",") {
			if !slices.Contains(missing, p) {
				return absent, "the access policy has " + p, nil
			}
		}
		return present, "the access policy is as it was", nil
	}
	return present, "nothing was granted", nil // it was killed before it had said what it would grant
}

func (x *executor) revoke(ctx context.Context, s *Step) error {
	kind, rest, _ := strings.Cut(s.Undo, " ")
	if kind == "role" {
		return x.Keys.Call(ctx, "DELETE", x.assignment(rest), nil, nil)
	}
	principal, given, _ := strings.Cut(rest, " ")
	v, err := x.access(ctx)
	if err != nil {
		return err
	}
	return x.Keys.Call(ctx, "PUT", x.policies("remove"), policyBody(v.Properties.TenantID, principal, strings.Split(given, ",")), nil)
}
