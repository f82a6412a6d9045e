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

// A Vault is one, as Resource Manager shows it.
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
	} `json:"properties"`
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

// VaultID returns the resource id of a vault.
func (c *Clients) VaultID(group, name string) string {
	return "/subscriptions/" + url.PathEscape(c.Subscription) + "/resourceGroups/" + url.PathEscape(group) +
		"/providers/Microsoft.KeyVault/vaults/" + url.PathEscape(name)
}

func (c *Clients) vaults(ctx context.Context, method, path string, in, out any) error {
	return c.Call(ctx, c.Parties.Vaults, method, WithQuery(path, "api-version", vaultVersion), in, out)
}

// AllVaults returns those of the subscription.
func (c *Clients) AllVaults(ctx context.Context) ([]Vault, error) {
	path := WithQuery("/subscriptions/"+url.PathEscape(c.Subscription)+"/providers/Microsoft.KeyVault/vaults", "api-version", vaultVersion)
	all, _, err := List[Vault](ctx, c, c.Parties.Vaults, path, 0)
	return all, err
}

// VaultNamed returns one.
func (c *Clients) VaultNamed(ctx context.Context, group, name string) (v Vault, err error) {
	err = c.vaults(ctx, http.MethodGet, c.VaultID(group, name), nil, &v)
	return v, err
}

// PutGroup makes a resource group, if there is none.
func (c *Clients) PutGroup(ctx context.Context, group, location string) error {
	path := "/subscriptions/" + url.PathEscape(c.Subscription) + "/resourceGroups/" + url.PathEscape(group)
	return c.Call(ctx, c.Parties.Vaults, http.MethodPut, WithQuery(path, "api-version", "2021-04-01"), map[string]string{"location": location}, nil)
}

// PutVault makes a vault of properties, in the directory of a tenant.
func (c *Clients) PutVault(ctx context.Context, tenant, group, name, location string, properties map[string]any) error {
	properties["tenantId"] = tenant
	properties["sku"] = map[string]string{"family": "A", "name": "standard"}
	return c.vaults(ctx, http.MethodPut, c.VaultID(group, name), map[string]any{"location": location, "properties": properties}, nil)
}

// PatchVault changes some of a vault's properties. Its answer's headers may name the
// approval that is wanted first.
func (c *Clients) PatchVault(ctx context.Context, group, name string, properties map[string]any) (http.Header, error) {
	path := WithQuery(c.VaultID(group, name), "api-version", vaultVersion)
	return c.Exchange(ctx, c.Parties.Vaults, http.MethodPatch, path, nil, map[string]any{"properties": properties}, nil)
}

// DeleteVault soft-deletes one.
func (c *Clients) DeleteVault(ctx context.Context, group, name string) (http.Header, error) {
	return c.Exchange(ctx, c.Parties.Vaults, http.MethodDelete, WithQuery(c.VaultID(group, name), "api-version", vaultVersion), nil, nil, nil)
}

// A DeletedVault is a soft-deleted one.
type DeletedVault struct {
	Name       string `json:"name"`
	Properties struct {
		VaultID         string    `json:"vaultId"`
		Location        string    `json:"location"`
		Deleted         time.Time `json:"deletionDate"`
		PurgeAt         time.Time `json:"scheduledPurgeDate"`
		PurgeProtection bool      `json:"purgeProtectionEnabled"`
	} `json:"properties"`
}

// Group returns the resource group that the vault lay in.
func (v DeletedVault) Group() string { return Vault{ID: v.Properties.VaultID}.Group() }

// DeletedVaults returns those of the subscription.
func (c *Clients) DeletedVaults(ctx context.Context) ([]DeletedVault, error) {
	path := WithQuery("/subscriptions/"+url.PathEscape(c.Subscription)+"/providers/Microsoft.KeyVault/deletedVaults", "api-version", vaultVersion)
	all, _, err := List[DeletedVault](ctx, c, c.Parties.Vaults, path, 0)
	return all, err
}

// RecoverVault brings a soft-deleted vault back as it was.
func (c *Clients) RecoverVault(ctx context.Context, tenant, group, name, location string) error {
	body := map[string]any{"location": location, "properties": map[string]any{"tenantId": tenant, "createMode": "recover", "sku": map[string]string{"family": "A", "name": "standard"}}}
	return c.vaults(ctx, http.MethodPut, c.VaultID(group, name), body, nil)
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

// RoleAssignments returns what is given at a scope, above it and below it.
func (c *Clients) RoleAssignments(ctx context.Context, scope string) ([]RoleAssignment, error) {
	path := WithQuery(scope+"/providers/Microsoft.Authorization/roleAssignments", "api-version", roleVersion)
	all, _, err := List[RoleAssignment](ctx, c, c.Parties.Vaults, path, 0)
	return all, err
}

// Assign gives a principal a role at a scope, under a fresh id.
func (c *Clients) Assign(ctx context.Context, scope, id, role, principal, kind string) error {
	path := WithQuery(scope+"/providers/Microsoft.Authorization/roleAssignments/"+url.PathEscape(id), "api-version", roleVersion)
	return c.Call(ctx, c.Parties.Vaults, http.MethodPut, path, map[string]any{"properties": map[string]string{
		"roleDefinitionId": "/subscriptions/" + c.Subscription + "/providers/Microsoft.Authorization/roleDefinitions/" + role,
		"principalId":      principal, "principalType": kind,
	}}, nil)
}

// Unassign takes a role assignment away, by its resource id.
func (c *Clients) Unassign(ctx context.Context, id string) (http.Header, error) {
	return c.Exchange(ctx, c.Parties.Vaults, http.MethodDelete, WithQuery(id, "api-version", roleVersion), nil, nil, nil)
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

// Roles returns the definitions that there are.
func (c *Clients) Roles(ctx context.Context, scope string) ([]Role, error) {
	path := WithQuery(scope+"/providers/Microsoft.Authorization/roleDefinitions", "api-version", roleVersion)
	all, _, err := List[Role](ctx, c, c.Parties.Vaults, path, 0)
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
