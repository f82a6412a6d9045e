// Package history answers, from the vault's audit log alone, who could use a key at
// some time in the past.
//
// It replays the entries that changed rights and states: role assignments given and
// taken, keys and vaults deleted, recovered and purged, versions disabled and
// enabled. What it says is as good as the log that it reads: verify that first
// ([audit.Verify]).
//
// The log does not hold everything. Groups are told by their own id, since their
// members are the directory's. Roles mean what this release's definitions say.
// Access policies, network rules, a key's key_ops and a token's end are not looked
// at: who is named could unwrap as far as roles and the key's state go.
package history

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
)

// Unwrap is the data action of unwrapping with a key.
const Unwrap rbac.Action = "Microsoft.KeyVault/vaults/keys/unwrap/action"

// A Log is read a page at a time, as [audit.Log] can be.
type Log interface {
	Entries(context.Context, audit.Query) ([]audit.Numbered, error)
}

// A Question asks who could do an action with a key at a time.
type Question struct {
	Vault   vault.Name
	Key     vault.KeyName
	Version vault.Version // "" for the newest of that time
	At      time.Time
	Action  rbac.Action // data action, such as [Unwrap]
}

// An Answer is what the log says.
type Answer struct {
	Key     rbac.Scope    `json:"key"`
	Version vault.Version `json:"version,omitempty"`
	At      time.Time     `json:"at"`

	// Blocked says why nobody could, whatever their roles: [fault.VaultNotFound],
	// [fault.VaultDeleted], [fault.KeyNotFound], [fault.KeyDeleted],
	// [fault.KeyDisabled]; "" if the key was usable.
	Blocked fault.Reason `json:"blocked,omitempty"`

	// Holders are the rights by which the action was allowed, or would have been but
	// for Blocked, by principal and then by time.
	Holders []Holder `json:"holders"`
}

// A Holder is a principal with an assignment that allows the action.
type Holder struct {
	Principal  identity.PrincipalID `json:"principal"`
	Assignment string               `json:"assignment"`
	Role       rbac.RoleID          `json:"role"`
	RoleName   string               `json:"roleName"`
	Scope      rbac.Scope           `json:"scope"`
	Since      time.Time            `json:"since"`
	GivenBy    identity.PrincipalID `json:"givenBy,omitempty"` // "" if at the set-up
}

// page is how many entries are read at once.
const page = 1000

// Who replays the log up to a time.
func Who(ctx context.Context, log Log, roles rbac.Definitions, q Question) (Answer, error) {
	s := newState()
	query := audit.Query{Until: q.At.Add(time.Microsecond), Limit: page}
	for {
		entries, err := log.Entries(ctx, query)
		if err != nil {
			return Answer{}, err
		}
		for _, e := range entries {
			s.apply(e.Entry)
		}
		if len(entries) < page {
			return s.answer(roles, q), nil
		}
		query.After = &entries[len(entries)-1].Sequence
	}
}

// A state is what was in force at some point of the log. Scopes are in canonical
// form.
type state struct {
	assignments map[string]rbac.Assignment
	vaults      map[string]*vaultState
	byName      map[vault.Name]string // scope
}

type vaultState struct {
	scope   rbac.Scope
	tenant  identity.TenantID
	deleted bool
	keys    map[string]*keyState // by canonical name
}

type keyState struct {
	scope    rbac.Scope
	deleted  bool
	newest   vault.Version
	disabled map[vault.Version]bool // every version has an entry
}

func newState() *state {
	return &state{assignments: map[string]rbac.Assignment{}, vaults: map[string]*vaultState{}, byName: map[vault.Name]string{}}
}

// apply follows one entry.
func (s *state) apply(e audit.Entry) {
	if e.Outcome != audit.Allowed {
		return
	}
	scope := rbac.Scope(e.Resource)
	switch e.Operation {
	case "RoleAssignmentPut":
		id := e.Detail["assigned"]
		if _, known := s.assignments[id]; !known && id != "" {
			s.assignments[id] = rbac.Assignment{
				ID: id, Tenant: identity.TenantID(e.Tenant), Principal: identity.PrincipalID(e.Detail["principal"]),
				Role: rbac.RoleID(e.Detail["role"]), Scope: scope, Created: e.Time, CreatedBy: identity.PrincipalID(e.Principal),
			}
		}
	case "RoleAssignmentDelete":
		delete(s.assignments, e.Detail["assigned"])
	case "ResourceGroupDelete":
		s.drop(scope)
	case "VaultPut", "VaultRecover":
		s.vault(scope, e).deleted = false
	case "VaultDelete":
		s.vault(scope, e).deleted = true
	case "VaultPurge":
		s.drop(scope)
		delete(s.vaults, scope.Key())
	case "KeyCreate", "KeyImport", "KeyRestore", "KeyRotate", "KeyUpdate":
		k := s.key(scope, e)
		if k == nil {
			return
		}
		v := vault.Version(e.Detail["version"])
		if e.Operation != "KeyUpdate" {
			k.deleted, k.newest = false, v
		}
		k.disabled[v] = e.Detail["enabled"] == "false"
	case "KeyDelete", "KeyRecover":
		if k := s.key(scope, e); k != nil {
			k.deleted = e.Operation == "KeyDelete"
		}
	case "KeyPurge":
		s.drop(scope)
		if v, name, ok := s.split(scope, e); ok {
			delete(v.keys, name)
		}
	}
}

// drop forgets the assignments at a scope and below it.
func (s *state) drop(scope rbac.Scope) {
	for id, a := range s.assignments {
		if scope.Contains(a.Scope) {
			delete(s.assignments, id)
		}
	}
}

func (s *state) vault(scope rbac.Scope, e audit.Entry) *vaultState {
	v := s.vaults[scope.Key()]
	if v == nil {
		v = &vaultState{scope: scope, tenant: identity.TenantID(e.Tenant), keys: map[string]*keyState{}}
		s.vaults[scope.Key()] = v
		key := scope.Key()
		s.byName[vault.Name(key[strings.LastIndexByte(key, '/')+1:])] = key
	}
	return v
}

// split takes a key's scope apart.
func (s *state) split(scope rbac.Scope, e audit.Entry) (*vaultState, string, bool) {
	at, name, ok := strings.Cut(scope.Key(), "/keys/")
	if !ok {
		return nil, "", false
	}
	return s.vault(rbac.Scope(at), e), name, true
}

func (s *state) key(scope rbac.Scope, e audit.Entry) *keyState {
	v, name, ok := s.split(scope, e)
	if !ok {
		return nil
	}
	k := v.keys[name]
	if k == nil {
		k = &keyState{scope: scope, disabled: map[vault.Version]bool{}}
		v.keys[name] = k
	}
	return k
}

func (s *state) answer(roles rbac.Definitions, q Question) Answer {
	a := Answer{At: q.At, Version: q.Version, Holders: []Holder{}}
	v := s.vaults[s.byName[vault.Name(strings.ToLower(string(q.Vault)))]]
	if v == nil {
		a.Blocked = fault.VaultNotFound
		return a
	}
	a.Key = v.scope + "/keys/" + rbac.Scope(q.Key)
	k := v.keys[q.Key.Key()]
	if k != nil {
		a.Version = cmp.Or(q.Version, k.newest)
		a.Key = k.scope
	}
	switch {
	case v.deleted:
		a.Blocked = fault.VaultDeleted
	case k == nil:
		a.Blocked = fault.KeyNotFound
	case k.deleted:
		a.Blocked = fault.KeyDeleted
	default:
		if disabled, known := k.disabled[a.Version]; !known {
			a.Blocked = fault.KeyNotFound
		} else if disabled {
			a.Blocked = fault.KeyDisabled
		}
	}
	for _, as := range s.assignments {
		if as.Tenant != v.tenant {
			continue
		}
		if _, ok := rbac.Allowed(roles, []rbac.Assignment{as}, q.Action, true, a.Key); !ok {
			continue
		}
		def, _ := roles.Lookup(as.Role)
		a.Holders = append(a.Holders, Holder{
			Principal: as.Principal, Assignment: as.ID, Role: as.Role, RoleName: def.Name, Scope: as.Scope,
			Since: as.Created, GivenBy: as.CreatedBy,
		})
	}
	slices.SortFunc(a.Holders, func(x, y Holder) int {
		return cmp.Or(strings.Compare(string(x.Principal), string(y.Principal)), x.Since.Compare(y.Since), strings.Compare(x.Assignment, y.Assignment))
	})
	return a
}
