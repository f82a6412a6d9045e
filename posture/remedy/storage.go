package remedy

import (
	"cmp"
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// The first case is the benchmark's own (CIS Azure Foundations 4.0, 2.1.1.2.1): a storage
// account, whose plan takes an identity, a grant and the key, in this order.
const (
	storageControl = "CMK/Microsoft.Storage/storageAccounts"

	accountVersion    = "2022-09-01"
	vaultVersion      = "2022-07-01"
	assignmentVersion = "2022-04-01"

	// Key Vault Crypto Service Encryption User: get, wrap, unwrap, and no more.
	encryptionUser = "e147488a-f6f5-4113-8e2d-b22465e65bf6"

	grantName = "grant"
)

var storageSteps = []stepKind{
	{
		name: "identity", do: "Give the account an identity that asks the vault.",
		look: (*executor).lookIdentity, act: (*executor).setIdentity, lookBack: (*executor).lookIdentityBack, undo: (*executor).resetIdentity,
	},
	{
		name: grantName, do: "Let that identity read, wrap and unwrap with the key, and no more.",
		look: (*executor).lookGrant, act: (*executor).grant, lookBack: (*executor).lookGrantBack, undo: (*executor).revoke,
	},
	{
		name: "key", do: "Put the account under the key, without a version, and wait until all of its data is.",
		look: (*executor).lookKey, act: (*executor).setKey, lookBack: (*executor).lookKeyBack, undo: (*executor).resetKey,
	},
}

// An account is as much of a storage account's JSON as the steps concern.
type account struct {
	ID       string         `json:"id"`
	SKU      map[string]any `json:"sku"`
	Identity *struct {
		Type         string                    `json:"type"`
		PrincipalID  string                    `json:"principalId"`
		UserAssigned map[string]userAssignment `json:"userAssignedIdentities"`
	} `json:"identity"`
	Properties struct {
		Encryption encryption `json:"encryption"`
	} `json:"properties"`
}

type userAssignment struct {
	PrincipalID string `json:"principalId"`
}

type encryption struct {
	Services any    `json:"services,omitempty"`
	Source   string `json:"keySource"`
	Key      *struct {
		Vault   string `json:"keyvaulturi"`
		Name    string `json:"keyname"`
		Version string `json:"keyversion"`
		Current string `json:"currentVersionedKeyIdentifier"`
	} `json:"keyvaultproperties"`
	Identity *struct {
		UserAssigned string `json:"userAssignedIdentity"`
	} `json:"identity"`
	Kluis *struct {
		State string `json:"state"`
	} `json:"kluis"` // of a kluis server alone: how far its data is
}

func parseAccount(text json.RawMessage) (a account, err error) {
	if err := json.Unmarshal(text, &a); err != nil || a.ID == "" {
		return a, fault.New(fault.Internal, "The answer is no storage account.")
	}
	return a, nil
}

// identityType is the account's, "None" if it has none.
func (a account) identityType() string {
	if a.Identity == nil || a.Identity.Type == "" {
		return "None"
	}
	return strings.ReplaceAll(a.Identity.Type, " ", "")
}

// asks returns who asks the vault: the identity that the encryption names, or the
// account's own.
func (a account) asks() string {
	if a.Identity == nil {
		return ""
	}
	if e := a.Properties.Encryption.Identity; e != nil && e.UserAssigned != "" {
		for id, u := range a.Identity.UserAssigned {
			if strings.EqualFold(id, e.UserAssigned) {
				return u.PrincipalID
			}
		}
	}
	return a.Identity.PrincipalID
}

// key returns the key that the account names, without version; "" for the platform's.
func (e encryption) key() string {
	if !strings.EqualFold(e.Source, "Microsoft.Keyvault") || e.Key == nil {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(e.Key.Vault, "/") + "/keys/" + e.Key.Name)
}

// settled reports whether the data has followed, as far as that is told.
func (e encryption) settled() bool {
	return e.Kluis == nil || e.Kluis.State == "" || e.Kluis.State == "Active" || e.Kluis.State == "Disabled"
}

// like reports whether two images agree in what the steps change.
func (a account) like(o account) bool {
	x, y := a.Properties.Encryption, o.Properties.Encryption
	version := func(e encryption) string {
		if e.Key == nil || e.key() == "" {
			return ""
		}
		return e.Key.Version
	}
	return a.identityType() == o.identityType() && x.key() == y.key() && version(x) == version(y)
}

func (x *executor) at() string { return x.run.Resource + "?api-version=" + accountVersion }

func (x *executor) image(ctx context.Context) (raw json.RawMessage, err error) {
	err = x.Data.Call(ctx, "GET", x.at(), nil, &raw)
	return raw, err
}

func (x *executor) account(ctx context.Context) (account, error) {
	raw, err := x.image(ctx)
	if err != nil {
		return account{}, err
	}
	return parseAccount(raw)
}

func (x *executor) patch(ctx context.Context, s *Step, body any) error {
	s.Change = body
	return x.Data.Call(ctx, "PATCH", x.at(), body, nil)
}

// check looks whether the account is still the platform's, and the vault and its key fit.
func (x *executor) check(ctx context.Context) error {
	a, err := x.account(ctx)
	if err != nil {
		return err
	}
	if key := a.Properties.Encryption.key(); key != "" {
		return fault.New(fault.PreconditionFailed, "The account is under a customer's key by now.").About(key).WithMend("Scan again.")
	}
	var vault struct {
		Properties struct {
			SoftDelete *bool `json:"enableSoftDelete"`
			Purge      bool  `json:"enablePurgeProtection"`
		} `json:"properties"`
	}
	if err := x.Keys.Call(ctx, "GET", x.run.VaultID+"?api-version="+vaultVersion, nil, &vault); err != nil {
		return err
	}
	if p := vault.Properties; p.SoftDelete != nil && !*p.SoftDelete || !p.Purge {
		return fault.New(fault.PreconditionFailed, "The vault lacks soft delete or purge protection: a key could be lost for good, and the data with it.").
			About(x.run.VaultID).WithMend("az keyvault update --name " + nameOf(x.run.VaultID) + " --enable-purge-protection true")
	}
	var key struct {
		Properties struct {
			Kty        string   `json:"kty"`
			Ops        []string `json:"keyOps"`
			Attributes struct {
				Enabled bool  `json:"enabled"`
				Expires int64 `json:"exp"`
			} `json:"attributes"`
		} `json:"properties"`
	}
	if err := x.Keys.Call(ctx, "GET", x.keyID()+"?api-version="+vaultVersion, nil, &key); err != nil {
		return err
	}
	p := key.Properties
	can := func(op string) bool {
		return slices.ContainsFunc(p.Ops, func(o string) bool { return strings.EqualFold(o, op) })
	}
	switch {
	case !p.Attributes.Enabled:
		return x.unfit("The key is disabled.")
	case p.Attributes.Expires > 0 && x.time().Unix() >= p.Attributes.Expires:
		return x.unfit("The key has expired.")
	case !can("wrapKey") || !can("unwrapKey"):
		return x.unfit("The key may not wrap and unwrap.")
	case !strings.HasPrefix(strings.ToUpper(p.Kty), "RSA") && !strings.EqualFold(p.Kty, "oct-HSM"):
		return x.unfit("The key is of type " + p.Kty + ", which cannot protect an account.")
	}
	return nil
}

func (x *executor) unfit(why string) error {
	return fault.New(fault.PreconditionFailed, why).About(x.run.Key).WithMend("Name another key with --key.")
}

// undisturbed looks whether the account is what the run made of it, or what it was
// before: what somebody else has done since is not undone.
func (x *executor) undisturbed(ctx context.Context) error {
	a, err := x.account(ctx)
	if err != nil {
		return err
	}
	now := a.Properties.Encryption.key()
	if now == x.res.Properties.Encryption.key() || now == strings.ToLower(x.run.Key) {
		return nil
	}
	return fault.New(fault.Conflict, "The account was put under another key since: "+now+".").About(x.run.Resource).
		WithMend("Decide which of the two is right, and change it by hand.")
}

func (x *executor) lookIdentity(ctx context.Context) (presence, string, error) {
	a, err := x.account(ctx)
	if err != nil || a.asks() == "" {
		return absent, "no identity", err
	}
	return present, "principal " + a.asks(), nil
}

func (x *executor) setIdentity(ctx context.Context, s *Step) error {
	identity := map[string]any{"type": "SystemAssigned"}
	if x.res.Identity != nil && len(x.res.Identity.UserAssigned) > 0 {
		identity["type"], identity["userAssignedIdentities"] = "SystemAssigned,UserAssigned", keysOnly(x.res.Identity.UserAssigned)
	}
	return x.patch(ctx, s, map[string]any{"identity": identity})
}

func keysOnly(m map[string]userAssignment) map[string]any {
	out := map[string]any{}
	for id := range m {
		out[id] = map[string]any{}
	}
	return out
}

func (x *executor) lookIdentityBack(ctx context.Context, _ *Step) (presence, string, error) {
	a, err := x.account(ctx)
	if err != nil || a.identityType() != x.res.identityType() {
		return absent, "", err
	}
	return present, "identity " + a.identityType(), nil
}

func (x *executor) resetIdentity(ctx context.Context, s *Step) error {
	identity := map[string]any{"type": x.res.identityType()}
	if x.res.Identity != nil && len(x.res.Identity.UserAssigned) > 0 {
		identity["userAssignedIdentities"] = keysOnly(x.res.Identity.UserAssigned)
	}
	return x.patch(ctx, s, map[string]any{"identity": identity})
}

func (x *executor) keyID() string {
	return x.run.VaultID + "/keys/" + posture.ParseKeyRef(x.run.Key).Name
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
	a, err := x.account(ctx)
	if err != nil {
		return absent, "", err
	}
	v, err := x.access(ctx)
	if err != nil {
		return absent, "", err
	}
	if !v.Properties.RBAC {
		if missing := v.lacks(a.asks()); len(missing) > 0 {
			return absent, "the access policy lacks " + strings.Join(missing, ", "), nil
		}
		return present, "an access policy of " + a.asks(), nil
	}
	all, err := x.assignments(ctx, a.asks())
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
	a, err := x.account(ctx)
	if err != nil {
		return err
	}
	v, err := x.access(ctx)
	if err != nil {
		return err
	}
	principal := a.asks()
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

func (x *executor) lookKey(ctx context.Context) (presence, string, error) {
	a, err := x.account(ctx)
	e := a.Properties.Encryption
	switch {
	case err != nil || e.key() != strings.ToLower(x.run.Key) || e.Key.Version != "":
		return absent, "key source " + e.Source, err
	case !e.settled():
		return coming, "the data is on its way: " + e.Kluis.State, nil
	}
	return present, "under " + cmp.Or(e.Key.Current, x.run.Key), nil
}

func (x *executor) setKey(ctx context.Context, s *Step) error {
	e := map[string]any{"keySource": "Microsoft.Keyvault", "keyvaultproperties": x.keyProperties(x.run.Key, "")}
	if old := x.res.Properties.Encryption.Identity; old != nil && old.UserAssigned != "" {
		e["identity"] = map[string]any{"userAssignedIdentity": old.UserAssigned}
	}
	return x.patch(ctx, s, map[string]any{"properties": map[string]any{"encryption": e}})
}

func (x *executor) keyProperties(key, version string) map[string]any {
	ref := posture.ParseKeyRef(key)
	return map[string]any{"keyvaulturi": "https://" + ref.Vault, "keyname": ref.Name, "keyversion": version}
}

func (x *executor) lookKeyBack(ctx context.Context, _ *Step) (presence, string, error) {
	a, err := x.account(ctx)
	e := a.Properties.Encryption
	switch {
	case err != nil || e.key() != x.res.Properties.Encryption.key():
		return absent, "key source " + e.Source, err
	case !e.settled():
		return coming, "the data is on its way: " + e.Kluis.State, nil
	}
	return present, "key source " + e.Source, nil
}

func (x *executor) resetKey(ctx context.Context, s *Step) error {
	before := x.res.Properties.Encryption
	e := map[string]any{"keySource": before.Source}
	if before.key() != "" {
		e["keyvaultproperties"] = x.keyProperties(before.key(), before.Key.Version)
	}
	return x.patch(ctx, s, map[string]any{"properties": map[string]any{"encryption": e}})
}
