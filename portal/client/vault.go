package client

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The api-versions that this portal speaks.
const (
	vaultVersion = "2023-07-01"
	roleVersion  = "2022-04-01"
	keyVersion   = "7.4"
)

// A Place is where keys are: a vault, or a managed HSM.
type Place struct {
	Name string
	HSM  bool
}

// A Vault is one, or a managed HSM, as Resource Manager shows it.
type Vault struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Location   string `json:"location"`
	Properties struct {
		TenantID        string         `json:"tenantId"`
		RetentionDays   int            `json:"softDeleteRetentionInDays"`
		PurgeProtection bool           `json:"enablePurgeProtection"`
		RBAC            bool           `json:"enableRbacAuthorization"`
		Policies        []AccessPolicy `json:"accessPolicies"`
		PublicAccess    string         `json:"publicNetworkAccess"`
		Network         NetworkRules   `json:"networkAcls"`
		TrustedServices []string       `json:"trustedServices"`
		RequireApproval bool           `json:"requireApproval"`
		SeparateDuties  bool           `json:"separationOfDuties"`
		Admins          []string       `json:"initialAdminObjectIds"` // of a managed HSM
		Domain          *struct {
			Status string `json:"activationStatus"`
		} `json:"securityDomainProperties"`
	} `json:"properties"`
}

// Place returns where its keys are.
func (v Vault) Place() Place {
	return Place{v.Name, strings.Contains(strings.ToLower(v.ID), "/managedhsms/")}
}

// Roles reports whether roles say who may do what with its keys, and not access policies.
func (v Vault) Roles() bool { return v.Properties.RBAC || v.Place().HSM }

// Dormant reports whether it is a managed HSM that has not been activated.
func (v Vault) Dormant() bool {
	return v.Properties.Domain != nil && v.Properties.Domain.Status != "Active"
}

// Group returns the resource group that the vault lies in.
func (v Vault) Group() string {
	seg := strings.Split(v.ID, "/")
	if len(seg) < 5 {
		return ""
	}
	return seg[4]
}

// An AccessPolicy gives a principal permissions on a vault's keys.
type AccessPolicy struct {
	TenantID    string `json:"tenantId"`
	ObjectID    string `json:"objectId"`
	Permissions struct {
		Keys []string `json:"keys"`
	} `json:"permissions"`
}

// NetworkRules say from where keys may be reached.
type NetworkRules struct {
	Default string   `json:"defaultAction"` // Allow or Deny
	Bypass  string   `json:"bypass"`        // AzureServices or None
	Ranges  []IPRule `json:"ipRules"`
}

// An IPRule is an address or a range of them.
type IPRule struct {
	Value string `json:"value"`
}

// provider is where in a group the kind of place stands.
func (p Place) provider() string {
	if p.HSM {
		return "/providers/Microsoft.KeyVault/managedHSMs"
	}
	return "/providers/Microsoft.KeyVault/vaults"
}

func (c *Clients) subscription() string { return "/subscriptions/" + url.PathEscape(c.Subscription) }

// VaultID returns the resource id of a vault or managed HSM.
func (c *Clients) VaultID(group string, p Place) string {
	return c.subscription() + "/resourceGroups/" + url.PathEscape(group) + p.provider() + "/" + url.PathEscape(p.Name)
}

func (c *Clients) vaults(ctx context.Context, method, path string, in, out any) error {
	return c.Call(ctx, c.Parties.Vaults, method, WithQuery(path, "api-version", vaultVersion), in, out)
}

// AllVaults returns the vaults of the subscription, or its managed HSMs.
func (c *Clients) AllVaults(ctx context.Context, hsms bool) ([]Vault, error) {
	path := WithQuery(c.subscription()+Place{HSM: hsms}.provider(), "api-version", vaultVersion)
	all, _, err := List[Vault](ctx, c, c.Parties.Vaults, path, 0)
	return all, err
}

// VaultNamed returns one.
func (c *Clients) VaultNamed(ctx context.Context, group string, p Place) (v Vault, err error) {
	err = c.vaults(ctx, http.MethodGet, c.VaultID(group, p), nil, &v)
	return v, err
}

// PutGroup makes a resource group, if there is none.
func (c *Clients) PutGroup(ctx context.Context, group, location string) error {
	path := "/subscriptions/" + url.PathEscape(c.Subscription) + "/resourceGroups/" + url.PathEscape(group)
	return c.Call(ctx, c.Parties.Vaults, http.MethodPut, WithQuery(path, "api-version", "2021-04-01"), map[string]string{"location": location}, nil)
}

// PutVault makes a vault or managed HSM of properties, in the directory of a tenant.
func (c *Clients) PutVault(ctx context.Context, tenant, group string, p Place, location string, properties map[string]any) error {
	properties["tenantId"] = tenant
	sku := map[string]string{"family": "A", "name": "standard"}
	body := map[string]any{"location": location, "properties": properties}
	if p.HSM {
		body["sku"] = map[string]string{"family": "B", "name": "Standard_B1"}
	} else {
		properties["sku"] = sku
	}
	return c.vaults(ctx, http.MethodPut, c.VaultID(group, p), body, nil)
}

// PatchVault changes some of a vault's properties. Its answer's headers may name the
// approval that is wanted first.
func (c *Clients) PatchVault(ctx context.Context, group string, p Place, properties map[string]any) (http.Header, error) {
	path := WithQuery(c.VaultID(group, p), "api-version", vaultVersion)
	return c.Exchange(ctx, c.Parties.Vaults, http.MethodPatch, path, nil, map[string]any{"properties": properties}, nil)
}

// DeleteVault soft-deletes one.
func (c *Clients) DeleteVault(ctx context.Context, group string, p Place) (http.Header, error) {
	return c.Exchange(ctx, c.Parties.Vaults, http.MethodDelete, WithQuery(c.VaultID(group, p), "api-version", vaultVersion), nil, nil, nil)
}

// A DeletedVault is a soft-deleted one, or a managed HSM.
type DeletedVault struct {
	ID         string `json:"id"` // of what is deleted, not of what it was
	Name       string `json:"name"`
	Properties struct {
		VaultID         string    `json:"vaultId"`
		HSMID           string    `json:"mhsmId"`
		Location        string    `json:"location"`
		Deleted         time.Time `json:"deletionDate"`
		PurgeAt         time.Time `json:"scheduledPurgeDate"`
		PurgeProtection bool      `json:"purgeProtectionEnabled"`
		RequireApproval bool      `json:"requireApproval"`
	} `json:"properties"`
}

// Vault returns what it was, as far as that is told.
func (v DeletedVault) Vault() Vault {
	was := Vault{ID: v.Properties.VaultID + v.Properties.HSMID, Name: v.Name, Location: v.Properties.Location}
	was.Properties.PurgeProtection, was.Properties.RequireApproval = v.Properties.PurgeProtection, v.Properties.RequireApproval
	return was
}

// DeletedVaults returns the soft-deleted vaults of the subscription, or its managed HSMs.
func (c *Clients) DeletedVaults(ctx context.Context, hsms bool) ([]DeletedVault, error) {
	kind := "deletedVaults"
	if hsms {
		kind = "deletedManagedHSMs"
	}
	path := WithQuery(c.subscription()+"/providers/Microsoft.KeyVault/"+kind, "api-version", vaultVersion)
	all, _, err := List[DeletedVault](ctx, c, c.Parties.Vaults, path, 0)
	return all, err
}

// DeletedUsage returns who has used the keys of a soft-deleted vault or managed HSM.
func (c *Clients) DeletedUsage(ctx context.Context, v DeletedVault) ([]Usage, error) {
	var page Page[Usage]
	err := c.vaults(ctx, http.MethodGet, v.ID+"/usage", nil, &page)
	return page.Value, err
}

// PurgeVault destroys a soft-deleted vault or managed HSM, with its keys. Its answer's
// headers may name the approval that is wanted first.
func (c *Clients) PurgeVault(ctx context.Context, v DeletedVault) (http.Header, error) {
	return c.Exchange(ctx, c.Parties.Vaults, http.MethodPost, WithQuery(v.ID+"/purge", "api-version", vaultVersion), nil, nil, nil)
}

// RecoverVault brings a soft-deleted vault or managed HSM back as it was.
func (c *Clients) RecoverVault(ctx context.Context, tenant, group string, p Place, location string) error {
	return c.PutVault(ctx, tenant, group, p, location, map[string]any{"createMode": "recover"})
}

// A RoleAssignment gives a principal a role at a scope, and below it.
type RoleAssignment struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Properties struct {
		Role          string    `json:"roleDefinitionId"`
		Principal     string    `json:"principalId"`
		PrincipalType string    `json:"principalType"`
		Scope         string    `json:"scope"`
		Created       time.Time `json:"createdOn"`
		CreatedBy     string    `json:"createdBy"`
	} `json:"properties"`
}

// RoleID returns the id of the assignment's role.
func (a RoleAssignment) RoleID() string {
	return a.Properties.Role[strings.LastIndex(a.Properties.Role, "/")+1:]
}

// authorization is the party that keeps the roles at a scope of a vault, which is a
// resource id, or of a managed HSM, which is "/" or "/keys/NAME"; and a path there.
func (c *Clients) authorization(p Place, path string) (Party, string) {
	if p.HSM {
		return c.PlaceOf(p), WithQuery(path, "api-version", keyVersion)
	}
	return c.Parties.Vaults, WithQuery(path, "api-version", roleVersion)
}

const authorization = "/providers/Microsoft.Authorization/"

// RoleAssignments returns what is given at a scope, above it and below it.
func (c *Clients) RoleAssignments(ctx context.Context, p Place, scope string) ([]RoleAssignment, error) {
	party, path := c.authorization(p, strings.TrimSuffix(scope, "/")+authorization+"roleAssignments")
	all, _, err := List[RoleAssignment](ctx, c, party, path, 0)
	return all, err
}

// Assign gives a principal a role at a scope, under a fresh id.
func (c *Clients) Assign(ctx context.Context, p Place, scope, id, role, principal, kind string) error {
	party, path := c.authorization(p, strings.TrimSuffix(scope, "/")+authorization+"roleAssignments/"+url.PathEscape(id))
	properties := map[string]string{"roleDefinitionId": c.subscription() + authorization + "roleDefinitions/" + role, "principalId": principal, "principalType": kind}
	if p.HSM {
		properties = map[string]string{"roleDefinitionId": "Microsoft.KeyVault" + authorization + "roleDefinitions/" + role, "principalId": principal}
	}
	return c.Call(ctx, party, http.MethodPut, path, map[string]any{"properties": properties}, nil)
}

// Unassign takes a role assignment away, by its resource id.
func (c *Clients) Unassign(ctx context.Context, p Place, id string) (http.Header, error) {
	party, path := c.authorization(p, id)
	return c.Exchange(ctx, party, http.MethodDelete, path, nil, nil, nil)
}

// A Role is a role definition.
type Role struct {
	ID         string `json:"name"`
	Properties struct {
		Name        string `json:"roleName"`
		Description string `json:"description"`
		Permissions []struct {
			Actions        []string `json:"actions"`
			NotActions     []string `json:"notActions"`
			DataActions    []string `json:"dataActions"`
			NotDataActions []string `json:"notDataActions"`
		} `json:"permissions"`
	} `json:"properties"`
}

// Roles returns the definitions that there are at a scope.
func (c *Clients) Roles(ctx context.Context, p Place, scope string) ([]Role, error) {
	party, path := c.authorization(p, strings.TrimSuffix(scope, "/")+authorization+"roleDefinitions")
	all, _, err := List[Role](ctx, c, party, path, 0)
	return all, err
}

// A Person is a principal of the directory: a user, or an application's.
type Person struct {
	Type        string `json:"@odata.type"`
	ID          string `json:"id"`
	DisplayName string `json:"displayName"`
	UserName    string `json:"userPrincipalName"`
	AppID       string `json:"appId"`
}

// Kind returns what role assignments call such a principal.
func (p Person) Kind() string {
	if p.UserName != "" {
		return "User"
	}
	return "ServicePrincipal"
}

// FindPeople returns principals whose names begin with a text.
func (c *Clients) FindPeople(ctx context.Context, text string) (all []Person, err error) {
	for _, kind := range []string{"servicePrincipals", "users"} {
		filter := "startswith(displayName,'" + strings.ReplaceAll(text, "'", "''") + "')"
		found, _, err := List[Person](ctx, c, c.Graph, WithQuery("/v1.0/"+kind, "$filter", filter), 0)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// People returns the principals of ids, by id; who is not in the directory is not in it.
func (c *Clients) People(ctx context.Context, ids ...string) (map[string]Person, error) {
	out := map[string]Person{}
	var want []string
	for _, id := range ids {
		if _, twice := out[id]; !twice && id != "" && len(want) < 100 {
			out[id] = Person{}
			want = append(want, id)
		}
	}
	clear(out)
	if len(want) == 0 {
		return out, nil
	}
	var page Page[Person]
	if err := c.Call(ctx, c.Graph, http.MethodPost, "/v1.0/directoryObjects/getByIds", map[string]any{"ids": want}, &page); err != nil {
		return out, err
	}
	for _, p := range page.Value {
		out[p.ID] = p
	}
	return out, nil
}
