package keyvault

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
)

// A managed HSM's own roles (learn.microsoft.com/rest/api/keyvault/access-control),
// api-versions as of its keys.
type (
	localDefinition struct {
		ID         string         `json:"id"`
		Name       rbac.RoleID    `json:"name"`
		Type       string         `json:"type"`
		Properties map[string]any `json:"properties"`
	}
	localAssignment struct {
		ID         string          `json:"id"`
		Name       string          `json:"name"`
		Type       string          `json:"type"`
		Properties assignmentProps `json:"properties"`
	}
	assignmentProps struct {
		Scope     string `json:"scope,omitempty"`
		Role      string `json:"roleDefinitionId"`
		Principal string `json:"principalId"`
	}
)

const localRolePrefix = "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/"

func showLocalRole(d rbac.RoleDefinition) localDefinition {
	return localDefinition{
		ID: localRolePrefix + string(d.ID), Name: d.ID, Type: "Microsoft.Authorization/roleDefinitions",
		Properties: map[string]any{
			"roleName": d.Name, "type": "AKVBuiltInRole", "description": d.Description, "assignableScopes": []string{"/"},
			"permissions": []any{map[string]any{
				"actions": []string{}, "notActions": []string{}, "dataActions": d.DataActions, "notDataActions": []string{},
			}},
		},
	}
}

func showLocalAssignment(v vault.Vault, as rbac.Assignment) localAssignment {
	scope := v.LocalScope(as)
	return localAssignment{
		ID: strings.TrimSuffix(scope, "/") + "/providers/Microsoft.Authorization/roleAssignments/" + as.ID, Name: as.ID,
		Type:       "Microsoft.Authorization/roleAssignments",
		Properties: assignmentProps{Scope: scope, Role: localRolePrefix + string(as.Role), Principal: string(as.Principal)},
	}
}

var principalFilter = regexp.MustCompile(`(?i)^\s*principalId\s+eq\s+'?([0-9a-f-]{36})'?\s*$`)

// localRoles serves a managed HSM's roles, and reports whether the request was for
// them.
func (c *call) localRoles() (own bool, err error) {
	path, err := url.PathUnescape(c.r.URL.EscapedPath())
	if err != nil || c.flavour != vault.ManagedHSM {
		return false, nil
	}
	const provider = "/providers/microsoft.authorization/"
	path = "/" + strings.Trim(path, "/")
	i := strings.LastIndex(strings.ToLower(path), provider)
	if i < 0 {
		return false, nil
	}
	if err := checkVersion(c.r.URL.Query().Get("api-version")); err != nil {
		return true, err
	}
	scope, err := vault.ParseLocalScope(path[:i])
	if err != nil {
		return true, err
	}
	kind, id, _ := strings.Cut(path[i+len(provider):], "/")
	switch method := c.r.Method; {
	case strings.EqualFold(kind, "roleDefinitions") && method == http.MethodGet:
		return true, c.localDefinitions(scope, id)
	case !strings.EqualFold(kind, "roleAssignments"):
		return true, fault.New(fault.NotFound, "There is nothing at this path.")
	case id == "" && method == http.MethodGet:
		return true, c.localAssignments(scope)
	case id != "" && method == http.MethodGet:
		v, as, err := c.vaults.LocalRoleAssignment(c.ctx, c.caller, c.vault, scope, id)
		return true, c.localAssignment(http.StatusOK, v, as, err)
	case id != "" && method == http.MethodPut:
		return true, c.putLocalAssignment(scope, id)
	case id != "" && method == http.MethodDelete:
		v, as, err := c.vaults.DeleteLocalRoleAssignment(c.ctx, c.caller, c.vault, scope, id)
		return true, c.localAssignment(http.StatusOK, v, as, err)
	}
	return true, fault.New(fault.MethodNotAllowed, "The method is not allowed at this path.")
}

func (c *call) localDefinitions(scope, id string) error {
	all, err := c.vaults.LocalRoles(c.ctx, c.caller, c.vault, scope)
	if err != nil {
		return err
	}
	out := []localDefinition{}
	for _, d := range all {
		if id == "" || strings.EqualFold(id, string(d.ID)) {
			out = append(out, showLocalRole(d))
		}
	}
	switch {
	case id == "":
		api.WriteJSON(c.w, http.StatusOK, map[string]any{"value": out})
	case len(out) == 0:
		return fault.New(fault.RoleDefinitionNotFound, "The managed HSM has no such role.").About(id)
	default:
		api.WriteJSON(c.w, http.StatusOK, out[0])
	}
	return nil
}

func (c *call) localAssignments(scope string) error {
	principal := ""
	if f := c.r.URL.Query().Get("$filter"); f != "" && !strings.EqualFold(strings.ReplaceAll(f, " ", ""), "atScope()") {
		m := principalFilter.FindStringSubmatch(f)
		if m == nil {
			return fault.New(fault.NotSupported, "The $filter is not supported.").WithMend("Filter by principalId eq 'ID'.")
		}
		principal = m[1]
	}
	v, all, err := c.vaults.LocalRoleAssignments(c.ctx, c.caller, c.vault, scope)
	if err != nil {
		return err
	}
	out := []localAssignment{}
	for _, as := range all {
		if principal == "" || strings.EqualFold(principal, string(as.Principal)) {
			out = append(out, showLocalAssignment(v, as))
		}
	}
	api.WriteJSON(c.w, http.StatusOK, map[string]any{"value": out})
	return nil
}

func (c *call) putLocalAssignment(scope, id string) error {
	var body struct {
		Properties assignmentProps `json:"properties"`
	}
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	role := body.Properties.Role
	role = role[strings.LastIndexByte(role, '/')+1:]
	v, as, err := c.vaults.PutLocalRoleAssignment(c.ctx, c.caller, c.vault, scope, vault.Grant{
		ID: id, Principal: identity.PrincipalID(body.Properties.Principal), Role: rbac.RoleID(role),
	})
	return c.localAssignment(http.StatusCreated, v, as, err)
}

func (c *call) localAssignment(status int, v vault.Vault, as rbac.Assignment, err error) error {
	if err == nil {
		api.WriteJSON(c.w, status, showLocalAssignment(v, as))
	}
	return err
}
