package arm

import (
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
)

// serveRoles serves what lies below a scope's Microsoft.Authorization provider.
func (c *call) serveRoles(scope rbac.Scope, rest []string) error {
	kind, id := "", ""
	if len(rest) > 0 {
		kind = fold(rest[0])
	}
	if len(rest) == 2 {
		id = rest[1]
	}
	switch {
	case kind == "roledefinitions" && len(rest) == 1:
		return c.on(methods{"GET": func() error { return c.listDefinitions(scope) }})
	case kind == "roledefinitions" && len(rest) == 2:
		return c.on(methods{"GET": func() error { return c.getDefinition(scope, id) }})
	case kind == "roleassignments" && len(rest) == 1:
		return c.on(methods{"GET": func() error { return c.listAssignments(scope) }})
	case kind == "roleassignments" && len(rest) == 2:
		return c.on(methods{
			"GET":    func() error { return c.getAssignment(scope, id) },
			"PUT":    func() error { return c.putAssignment(scope, id) },
			"DELETE": func() error { return c.deleteAssignment(scope, id) },
		})
	}
	return fault.New(fault.NotFound, "There is no such resource type here.")
}

func definition(d rbac.RoleDefinition) resource {
	list := func(s []string) []string {
		if s == nil {
			return []string{}
		}
		return s
	}
	return resource{
		ID:   "/providers/Microsoft.Authorization/roleDefinitions/" + rbac.Scope(d.ID),
		Name: d.ID, Type: "Microsoft.Authorization/roleDefinitions",
		Properties: map[string]any{
			"roleName": d.Name, "type": "BuiltInRole", "description": d.Description, "assignableScopes": []string{"/"},
			"permissions": []any{map[string]any{
				"actions": list(d.Actions), "notActions": list(d.NotActions),
				"dataActions": list(d.DataActions), "notDataActions": list(d.NotDataActions),
			}},
		},
	}
}

var (
	roleName    = regexp.MustCompile(`(?i)^roleName\s+eq\s+'([^']*)'$`)
	roleType    = regexp.MustCompile(`(?i)^type\s+eq\s+'BuiltInRole'$`)
	principalIs = regexp.MustCompile(`(?i)^(?:principalId\s+eq\s+'([^']*)'|assignedTo\('([^']*)'\))$`)
)

// conditions splits a $filter at its "and"s.
func (c *call) conditions() []string {
	var all []string
	for _, s := range regexp.MustCompile(`(?i)\s+and\s+`).Split(c.r.URL.Query().Get("$filter"), -1) {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	return all
}

func noFilter(s string) error {
	return fault.New(fault.NotSupported, "The $filter is not supported.").About(s)
}

func (c *call) listDefinitions(rbac.Scope) error {
	name := ""
	for _, s := range c.conditions() {
		m := roleName.FindStringSubmatch(s)
		switch {
		case m != nil:
			name = m[1]
		case roleType.MatchString(s), strings.EqualFold(s, "atScopeAndBelow()"):
		default:
			return noFilter(s)
		}
	}
	out := []any{}
	for _, d := range c.roles().RoleDefinitions() {
		if name == "" || strings.EqualFold(d.Name, name) {
			out = append(out, definition(d))
		}
	}
	return c.list(out)
}

func (c *call) getDefinition(_ rbac.Scope, id string) error {
	for _, d := range c.roles().RoleDefinitions() {
		if strings.EqualFold(string(d.ID), id) {
			return c.write(http.StatusOK, definition(d), nil)
		}
	}
	return fault.New(fault.RoleDefinitionNotFound, "The specified role definition does not exist.")
}

func assignment(a rbac.Assignment) resource {
	at := strings.TrimSuffix(string(a.Scope), "/")
	sub := ""
	if s := strings.SplitN(at, "/", 4); len(s) >= 3 {
		sub = "/subscriptions/" + s[2]
	}
	return resource{
		ID:   rbac.Scope(at + "/providers/Microsoft.Authorization/roleAssignments/" + a.ID),
		Name: a.ID, Type: "Microsoft.Authorization/roleAssignments",
		Properties: map[string]any{
			"roleDefinitionId": sub + "/providers/Microsoft.Authorization/roleDefinitions/" + string(a.Role),
			"principalId":      a.Principal, "principalType": a.PrincipalType, "scope": a.Scope, "condition": nil,
			"createdOn": a.Created.Format(time.RFC3339Nano), "updatedOn": a.Created.Format(time.RFC3339Nano),
			"createdBy": a.CreatedBy, "updatedBy": a.CreatedBy,
		},
	}
}

// listAssignments lists what is given at the scope and above and, unless the
// filter says atScope(), below it. Groups are not resolved: assignedTo finds what
// was given to the principal itself.
func (c *call) listAssignments(scope rbac.Scope) error {
	below, principal := true, ""
	for _, s := range c.conditions() {
		m := principalIs.FindStringSubmatch(s)
		switch {
		case m != nil:
			principal = m[1] + m[2]
		case strings.EqualFold(s, "atScope()"):
			below = false
		default:
			return noFilter(s)
		}
	}
	all, err := c.roles().RoleAssignments(c.ctx, c.caller, scope, below)
	if err != nil {
		return err
	}
	out := []any{}
	for _, a := range all {
		if principal == "" || strings.EqualFold(string(a.Principal), principal) {
			out = append(out, assignment(a))
		}
	}
	return c.list(out)
}

func (c *call) getAssignment(scope rbac.Scope, id string) error {
	a, err := c.roles().RoleAssignment(c.ctx, c.caller, scope, id)
	return c.write(http.StatusOK, assignment(a), err)
}

func (c *call) putAssignment(scope rbac.Scope, id string) error {
	var body struct {
		Properties struct {
			Role          string                 `json:"roleDefinitionId"`
			Principal     identity.PrincipalID   `json:"principalId"`
			PrincipalType identity.PrincipalType `json:"principalType"`
			Condition     string                 `json:"condition"`
		} `json:"properties"`
	}
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	p := body.Properties
	a, created, err := c.grant(vault.Grant{
		ID: id, Scope: scope, Principal: p.Principal, PrincipalType: p.PrincipalType,
		Role: rbac.RoleID(p.Role[strings.LastIndexByte(p.Role, '/')+1:]), Condition: p.Condition,
	})
	return c.write(madeOr200(created), assignment(a), err)
}

func (c *call) deleteAssignment(scope rbac.Scope, id string) error {
	a, err := c.roles().DeleteRoleAssignment(c.ctx, c.caller, scope, id)
	if err != nil {
		return c.gone(err, fault.RoleAssignmentNotFound)
	}
	return c.write(http.StatusOK, assignment(a), nil)
}
