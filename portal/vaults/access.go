package vaults

import (
	"net/url"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// named returns a function from ids to names, for people; an id that the directory does
// not know, or whoever may not ask it, stays an id.
func named(c *portal.Call, ids ...string) func(string) client.Person {
	people, _ := c.Parties.People(c.Context(), ids...)
	return func(id string) client.Person {
		p := people[id]
		p.ID = id
		if p.DisplayName == "" {
			p.DisplayName = id
		}
		return p
	}
}

type approval struct {
	client.Approval
	By, Decider client.Person
	Own         bool
}

// access is the page of who may do what in a vault.
type access struct {
	pane
	Rows     []holder
	Policies []policyRow
}

type holder struct {
	Who       client.Person
	Role      string
	Scope     string
	Inherited bool // from above the vault
	ID        string
}

type policyRow struct {
	Who  client.Person
	Keys string
}

func showAccess(c *portal.Call) error {
	p, err := open(c)
	if err != nil {
		return err
	}
	d := access{pane: p}
	if p.Vault.Dormant() {
		return c.Render(p.view("access", p.Vault.Name, d, portal.Crumb{Title: "Access"}))
	}
	given, err := c.Parties.RoleAssignments(c.Context(), p.Place, p.Scope)
	if err != nil {
		return err
	}
	roles, err := c.Parties.Roles(c.Context(), p.Place, p.Scope)
	if err != nil {
		return err
	}
	var ids []string
	for _, a := range given {
		ids = append(ids, a.Properties.Principal)
	}
	for _, a := range p.Vault.Properties.Policies {
		ids = append(ids, a.ObjectID)
	}
	names := named(c, ids...)
	for _, a := range given {
		d.Rows = append(d.Rows, holder{
			Who: names(a.Properties.Principal), Role: roleName(roles, a.RoleID()), Scope: p.scopeName(a.Properties.Scope),
			Inherited: !above(p.Scope, a.Properties.Scope), ID: a.ID,
		})
	}
	for _, a := range p.Vault.Properties.Policies {
		d.Policies = append(d.Policies, policyRow{names(a.ObjectID), strings.Join(a.Permissions.Keys, ", ")})
	}
	slices.SortFunc(d.Rows, func(a, b holder) int {
		return strings.Compare(a.Who.DisplayName+"\x00"+a.Role, b.Who.DisplayName+"\x00"+b.Role)
	})
	return c.Render(p.view("access", p.Vault.Name, d, portal.Crumb{Title: "Access"}))
}

// scopeName says in a word where an assignment is given.
func (p pane) scopeName(scope string) string {
	if within, ok := strings.CutPrefix(strings.ToLower(scope), strings.ToLower(p.Resource)); ok && p.Place.HSM {
		scope = "/" + strings.TrimPrefix(scope[len(scope)-len(within):], "/") // as its own roles name it
	}
	switch {
	case p.Place.HSM && scope == "/keys":
		return "all keys"
	case strings.EqualFold(scope, p.Scope):
		return "this " + p.Noun()
	case above(p.Scope, scope):
		return "key " + scope[strings.LastIndex(scope, "/")+1:]
	case strings.Count(scope, "/") <= 2:
		return "the subscription"
	}
	return "resource group " + scope[strings.LastIndex(scope, "/")+1:]
}

func roleName(roles []client.Role, id string) string {
	for _, r := range roles {
		if r.ID == id {
			return r.Properties.Name
		}
	}
	return id
}

// encryptionUser is the role that lets the platform get, wrap and unwrap, and nothing
// else. It is offered first.
const encryptionUser = "e147488a-f6f5-4113-8e2d-b22465e65bf6"

// localEncryptionUser is the same of a managed HSM.
const localEncryptionUser = "33413926-3206-4cdd-b39a-83574fe37a17"

// steps are those of giving a right: find a principal, pick a role or permissions,
// review.
type steps struct {
	pane
	Query  string
	Found  []client.Person
	Who    client.Person
	Role   client.Role
	Roles  []client.Role
	Key    string // at which it is given; the whole vault if empty
	Keys   []client.KeyItem
	Chosen []string // permissions, in the older model
	All    []string
	Step   int
}

// permissions are those that the older model offers here: what the platform needs, what
// people who manage keys need.
var permissions = []string{"get", "wrapKey", "unwrapKey", "list", "create", "update", "rotate", "delete", "recover", "getrotationpolicy", "setrotationpolicy", "backup", "restore", "import", "encrypt", "decrypt", "sign", "verify", "purge"}

func assignSteps(c *portal.Call) error {
	p, err := open(c)
	if err != nil {
		return err
	}
	d, err := readSteps(c, p, c.R.URL.Query())
	if err != nil {
		return err
	}
	if c.Partial() {
		return c.Fragment("vaults/assign", "found", d)
	}
	return c.Render(p.view("assign", "Give access", d, portal.Crumb{Title: "Access", Path: p.Base + "/access"}, portal.Crumb{Title: "Give access"}))
}

func readSteps(c *portal.Call, p pane, q url.Values) (d steps, err error) {
	d = steps{pane: p, Query: strings.TrimSpace(q.Get("q")), Key: q.Get("key"), Chosen: q["permission"], All: permissions, Step: 1}
	if id := q.Get("principal"); id != "" {
		people, err := c.Parties.People(c.Context(), id)
		if err != nil {
			return d, err
		}
		if d.Who = people[id]; d.Who.ID == "" {
			return d, invalid("The directory has no such principal.")
		}
		d.Step = 2
	} else if d.Query != "" {
		if d.Found, err = c.Parties.FindPeople(c.Context(), d.Query); err != nil {
			return d, err
		}
	}
	if d.Step == 1 {
		return d, nil
	}
	if !p.Vault.Roles() {
		if len(d.Chosen) == 0 {
			d.Chosen = permissions[:3]
		} else if q.Has("review") {
			d.Step = 3
		}
		return d, nil
	}
	if d.Roles, err = c.Parties.Roles(c.Context(), p.Place, p.Scope); err != nil {
		return d, err
	}
	slices.SortFunc(d.Roles, func(a, b client.Role) int {
		want := encryptionUser
		if p.Place.HSM {
			want = localEncryptionUser
		}
		if first := a.ID == want; first != (b.ID == want) {
			return map[bool]int{true: -1, false: 1}[first]
		}
		return strings.Compare(a.Properties.Name, b.Properties.Name)
	})
	d.Keys, _, _ = c.Parties.ListKeys(c.Context(), p.Place, "/keys", 200) // who may not list them gives roles at the vault
	for _, r := range d.Roles {
		if r.ID == q.Get("role") {
			d.Role, d.Step = r, 3
		}
	}
	return d, nil
}

func assign(c *portal.Call) error {
	p, err := open(c)
	if err != nil {
		return err
	}
	if err := c.R.ParseForm(); err != nil {
		return invalid("The form could not be read.")
	}
	form := c.R.PostForm
	form.Set("review", "yes")
	d, err := readSteps(c, p, form)
	if err != nil {
		return err
	}
	if d.Step != 3 {
		return invalid("No principal or no role was chosen.")
	}
	if p.Vault.Roles() {
		scope := p.Scope
		if d.Key != "" {
			scope = p.KeyScope(d.Key)
		}
		if err := c.Parties.Assign(c.Context(), p.Place, scope, uuid.NewString(), d.Role.ID, d.Who.ID, d.Who.Kind()); err != nil {
			return err
		}
		return c.Done(p.Base+"/access", "%s has the role %s.", d.Who.DisplayName, d.Role.Properties.Name)
	}
	policies := slices.DeleteFunc(slices.Clone(p.Vault.Properties.Policies), func(a client.AccessPolicy) bool { return a.ObjectID == d.Who.ID })
	added := client.AccessPolicy{TenantID: p.Vault.Properties.TenantID, ObjectID: d.Who.ID}
	added.Permissions.Keys = d.Chosen
	h, err := c.Parties.PatchVault(c.Context(), p.Vault.Group(), p.Place, map[string]any{"accessPolicies": append(policies, added)})
	return p.finish(c, h, err, p.Base+"/access", "%s has an access policy.", d.Who.DisplayName)
}

// right finds the assignment or policy that a form names.
func (p pane) right(c *portal.Call) (what, id string, err error) {
	if object := c.R.FormValue("policy"); object != "" {
		return "the access policy of " + named(c, object)(object).DisplayName, object, nil
	}
	given, err := c.Parties.RoleAssignments(c.Context(), p.Place, p.Scope)
	if err != nil {
		return "", "", err
	}
	roles, err := c.Parties.Roles(c.Context(), p.Place, p.Scope)
	if err != nil {
		return "", "", err
	}
	for _, a := range given {
		if a.ID == c.R.FormValue("assignment") {
			who := named(c, a.Properties.Principal)(a.Properties.Principal)
			return roleName(roles, a.RoleID()) + " from " + who.DisplayName, a.ID, nil
		}
	}
	return "", "", invalid("There is no such role assignment any more.")
}

// mayTake reports whether the user may take a role assignment away, or an access policy.
func (p pane) mayTake(policy bool) bool {
	if policy {
		return p.Rights.ChangeVault
	}
	return p.Rights.Take
}

func confirmRemove(c *portal.Call) error {
	p, err := open(c)
	if err != nil {
		return err
	}
	what, _, err := p.right(c)
	if err != nil {
		return err
	}
	q := question{
		pane: p, Title: "Take away " + what, May: p.mayTake(c.R.FormValue("policy") != ""), Button: "Take it away", Action: p.Base + "/access/remove", Back: p.Base + "/access",
		Text:   "It holds at once. If it is the platform’s right to unwrap, what lies under the vault’s keys goes dark.",
		Hidden: map[string]string{"assignment": c.R.FormValue("assignment"), "policy": c.R.FormValue("policy")},
	}
	keys, _, err := c.Parties.ListKeys(c.Context(), p.Place, "/keys", 100)
	if err != nil {
		q.Unknown = append(q.Unknown, c.Explain(err))
	}
	for _, k := range keys {
		q.look(c, k.Name())
	}
	return c.Render(p.view("confirm", q.Title, q, portal.Crumb{Title: "Access", Path: p.Base + "/access"}, portal.Crumb{Title: "Take away"}))
}

func remove(c *portal.Call) error {
	p, err := open(c)
	if err != nil {
		return err
	}
	what, id, err := p.right(c)
	if err != nil {
		return err
	}
	if c.R.PostFormValue("policy") != "" {
		rest := slices.DeleteFunc(slices.Clone(p.Vault.Properties.Policies), func(a client.AccessPolicy) bool { return a.ObjectID == id })
		h, err := c.Parties.PatchVault(c.Context(), p.Vault.Group(), p.Place, map[string]any{"accessPolicies": rest})
		return p.finish(c, h, err, p.Base+"/access", "Taken away: %s.", what)
	}
	h, err := c.Parties.Unassign(c.Context(), p.Place, id)
	return p.finish(c, h, err, p.Base+"/access", "Taken away: %s.", what)
}
