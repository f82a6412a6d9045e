package vault_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/sqlite"
	"github.com/kluis-io/kluis/vault"
)

// A history is a random life of role assignments: rights are given and taken back,
// and in between is asked who may do what.
type history struct {
	rnd   *rand.Rand
	log   []string
	given map[string]rbac.Assignment // the model: nothing but a list
	taken map[[4]string]string       // tenant, principal, role and scope, in canonical form → id

	service *vault.Vaults
	vaults  []vault.Vault // the model's; see model_vault_test.go
	asked   int
	allowed int
}

var (
	modelTenants = []identity.TenantID{"t1", "t2"}
	modelPeople  = []identity.PrincipalID{"alice", "bob", "carol"}
	modelGroups  = []identity.PrincipalID{"ops", "auditors"}
	modelActions = []struct {
		action rbac.Action
		data   bool
	}{
		{"Microsoft.KeyVault/vaults/keys/unwrap/action", true}, {"Microsoft.KeyVault/vaults/keys/wrap/action", true},
		{"microsoft.keyvault/VAULTS/keys/read", true}, {"Microsoft.KeyVault/vaults/keys/purge/action", true},
		{"Microsoft.KeyVault/vaults/keys/delete", true}, {"Microsoft.KeyVault/vaults/keyrotationpolicies/write", true},
		{"Microsoft.KeyVault/vaults/write", false}, {"Microsoft.KeyVault/vaults/read", false},
		{"Microsoft.KeyVault/locations/deletedVaults/purge/action", false}, {rbac.RoleAssignmentsWrite, false},
		{"Microsoft.KeyVault/vaults/keys/unwrap/action", false}, {"Microsoft.KeyVault/vaults/write", true},
	}
	modelScopes = []string{
		"/", "/subscriptions/s1", "/subscriptions/s10", "/subscriptions/s1/resourceGroups/g",
		"/subscriptions/s1/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv1",
		"/subscriptions/s1/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv10",
		"/subscriptions/s1/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv1/keys/k",
		"/subscriptions/s1/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv1/keys/k1",
		"/subscriptions/s1/resourceGroups/g/providers/Microsoft.KeyVault/managedHSMs/hsm1",
		"/subscriptions/s1/resourceGroups/g/providers/Microsoft.KeyVault/managedHSMs/hsm1/keys",
		"/subscriptions/s1/resourceGroups/g/providers/Microsoft.KeyVault/managedHSMs/hsm1/keys/k",
	}
	modelRoles = slices.Concat(rbac.VaultRoles.All(), rbac.HSMRoles.All())
	strong     = []rbac.RoleDefinition{ // those that give most, so that there is something to take away
		role(rbac.VaultRoles, rbac.KeyVaultAdministrator), role(rbac.VaultRoles, rbac.KeyVaultCryptoOfficer), role(rbac.VaultRoles, rbac.Owner),
		role(rbac.HSMRoles, rbac.ManagedHSMCryptoUser), role(rbac.HSMRoles, rbac.ManagedHSMAdministrator),
	}
)

func role(defs rbac.Definitions, id rbac.RoleID) rbac.RoleDefinition {
	d, _ := defs.Lookup(id)
	return d
}

func pick[T any](r *rand.Rand, all []T) T { return all[r.IntN(len(all))] }

// spell writes a scope as some client might.
func (h *history) spell(s string) rbac.Scope {
	switch h.rnd.IntN(4) {
	case 0:
		s = strings.ToUpper(s)
	case 1:
		if s != "/" {
			s += "/"
		}
	}
	return rbac.Scope(s)
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

// may is the model's answer, put as differently from the evaluator's as possible: a
// right is there if some assignment still in the list is the caller's or one of its
// groups', in its tenant, at a prefix of the scope's segments, of a role one of
// whose patterns covers the action by its words and none of whose exceptions does.
// Only the roles given count.
func (h *history) may(roles []rbac.RoleDefinition, c identity.Caller, action rbac.Action, data bool, scope string) bool {
	segments := func(s string) []string {
		return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return r == '/' })
	}
	want := segments(scope)
	for _, as := range h.given {
		mine := as.Principal == c.Principal
		for _, g := range c.Groups {
			mine = mine || as.Principal == g
		}
		at := segments(string(as.Scope))
		above := len(at) <= len(want)
		for i := 0; above && i < len(at); i++ {
			above = at[i] == want[i]
		}
		if !mine || !above || as.Tenant != c.Tenant {
			continue
		}
		for _, d := range roles {
			if !strings.EqualFold(string(d.ID), string(as.Role)) {
				continue
			}
			in, out := d.Actions, d.NotActions
			if data {
				in, out = d.DataActions, d.NotDataActions
			}
			grants := d.Grants != nil && !data && strings.HasPrefix(strings.ToLower(string(action)), "microsoft.authorization/roleassignments/") &&
				!strings.HasSuffix(strings.ToLower(string(action)), "/read")
			if covered(in, action) && !covered(out, action) && !grants {
				return true
			}
		}
	}
	return false
}

// covered splits each pattern at its stars and looks for the parts in order.
func covered(patterns []string, action rbac.Action) bool {
	for _, p := range patterns {
		parts, rest := strings.Split(strings.ToLower(p), "*"), strings.ToLower(string(action))
		ok := strings.HasPrefix(rest, parts[0])
		if !ok {
			continue
		}
		rest = rest[len(parts[0]):]
		if len(parts) == 1 {
			if rest == "" {
				return true
			}
			continue
		}
		for _, part := range parts[1 : len(parts)-1] {
			i := strings.Index(rest, part)
			if ok = ok && i >= 0; ok {
				rest = rest[i+len(part):]
			}
		}
		if ok && strings.HasSuffix(rest, parts[len(parts)-1]) {
			return true
		}
	}
	return false
}

// tenant is t1 as a rule.
func (h *history) tenant() identity.TenantID { return modelTenants[h.rnd.IntN(8)/7] }

func (h *history) caller() identity.Caller {
	c := identity.Caller{Tenant: h.tenant(), Principal: pick(h.rnd, modelPeople)}
	for _, g := range modelGroups {
		if h.rnd.IntN(3) == 0 {
			c.Groups = append(c.Groups, g)
		}
	}
	return c
}

func (h *history) forget(id string) {
	as := h.given[id]
	delete(h.given, id)
	delete(h.taken, [4]string{string(as.Tenant), string(as.Principal), string(as.Role), string(as.Scope)})
}

// step does one thing, to the store and to the model.
func (h *history) step(tx vault.Tx, n int) error {
	switch h.rnd.IntN(16) {
	case 0, 1, 2, 7, 8, 9:
		scope := pick(h.rnd, modelScopes)
		roles := modelRoles
		if h.rnd.IntN(2) == 0 {
			roles = strong
		}
		as := rbac.Assignment{
			ID: fmt.Sprintf("a%d", n), Tenant: h.tenant(), Principal: pick(h.rnd, append(modelGroups, modelPeople...)),
			Role: pick(h.rnd, roles).ID, Scope: h.spell(scope),
		}
		h.note("give %s to %s of %s at %s", as.Role, as.Principal, as.Tenant, as.Scope)
		unique := [4]string{string(as.Tenant), string(as.Principal), string(as.Role), scope}
		err := tx.PutRoleAssignment(as)
		if _, exists := h.taken[unique]; exists != (err != nil) {
			return fmt.Errorf("giving: %v, and the model says that it exists: %t", err, exists)
		}
		if err == nil {
			as.Scope = rbac.Scope(scope)
			h.given[as.ID], h.taken[unique] = as, as.ID
		}
	case 3:
		if len(h.given) == 0 {
			return nil
		}
		id := pick(h.rnd, slices.Sorted(maps.Keys(h.given)))
		h.note("take %s", id)
		h.forget(id)
		return tx.DeleteRoleAssignment(strings.ToUpper(id))
	case 4:
		if h.rnd.IntN(4) > 0 {
			return nil
		}
		below := pick(h.rnd, modelScopes[4:])
		h.note("take all at %s", below)
		for id, as := range h.given {
			if s := string(as.Scope); s == below || strings.HasPrefix(s, below+"/") {
				h.forget(id)
			}
		}
		return tx.DeleteRoleAssignmentsBelow(h.spell(below))
	case 5, 6:
		return h.furnish(tx)
	default:
		return h.ask(tx)
	}
	return nil
}

// ask asks one question, of the roles alone or of a vault.
func (h *history) ask(tx vault.Tx) error {
	h.asked++
	if h.rnd.IntN(2) == 0 {
		return h.enter(tx)
	}
	c, a, scope := h.caller(), pick(h.rnd, modelActions), pick(h.rnd, modelScopes)
	h.note("may %s %s of %s do %s (data %t) at %s", c.Principal, c.Groups, c.Tenant, a.action, a.data, scope)
	at, err := rbac.ParseScope(string(h.spell(scope)))
	if err != nil {
		return err
	}
	_, got, err := rbac.Check(tx, rbac.VaultRoles, c, a.action, a.data, at)
	return h.agree(got, h.may(rbac.VaultRoles.All(), c, a.action, a.data, scope), err)
}

func (h *history) agree(got, want bool, err error) error {
	if got {
		h.allowed++
	}
	if err == nil && got != want {
		err = fmt.Errorf("allowed is %t, and the model says %t", got, want)
	}
	return err
}

// errBack ends a history's transaction without keeping anything of it.
var errBack = errors.New("back to the start")

// Authorization on the real store agrees with a model that is a list and a loop: of
// roles at every scope, of managed HSMs' own, of access policies and of networks.
func TestAuthorizationAgainstModel(t *testing.T) {
	histories := uint64(effort.Of(2_000, 20_000, 100_000))
	var asked, allowed atomic.Int64
	shards := uint64(runtime.GOMAXPROCS(0)) // a database takes one transaction at a time
	var all sync.WaitGroup
	for shard := range shards {
		db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "vault.db"), store.VaultSchema)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		err = db.Vault().Update(t.Context(), func(tx vault.Tx) error {
			for _, v := range modelVaults {
				err = errors.Join(err, tx.PutVault(v))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		service := vault.New(vault.Config{Store: db.Vault(), Roles: rbac.VaultRoles})
		t.Cleanup(service.Close)
		all.Go(func() {
			for seed := shard; seed < histories && !t.Failed(); seed += shards {
				h := &history{
					rnd: rand.New(rand.NewPCG(seed, 1)), service: service, vaults: slices.Clone(modelVaults),
					given: map[string]rbac.Assignment{}, taken: map[[4]string]string{},
				}
				if err := db.Vault().Update(t.Context(), h.live); !errors.Is(err, errBack) {
					t.Errorf("history %d: %v\n%s", seed, err, strings.Join(h.log, "\n"))
				}
				asked.Add(int64(h.asked))
				allowed.Add(int64(h.allowed))
			}
		})
	}
	all.Wait()
	effort.Proof(t, "histories", histories, "questions", asked.Load(), "answered-with-yes", allowed.Load(), "differences", 0)
	if a := allowed.Load(); a < asked.Load()/50 || a > asked.Load()*49/50 {
		t.Errorf("%d of %d questions were answered with yes: the histories test little", a, asked.Load())
	}
}

// live is a whole history.
func (h *history) live(tx vault.Tx) error {
	for n := range 32 {
		if err := h.step(tx, n); err != nil {
			return err
		}
	}
	for range 8 { // what it came to
		if err := h.ask(tx); err != nil {
			return err
		}
	}
	return errBack
}
