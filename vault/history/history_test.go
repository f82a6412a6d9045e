package history_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/history"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A moment is who could unwrap at a time, as the vault itself answered then.
type moment struct {
	at    time.Time
	after string
	could []identity.PrincipalID
}

// TestWhoIsTheVault makes random histories and asks the vault after each step, with
// a real unwrap by each principal. Afterwards the log must say the same of each
// moment.
func TestWhoIsTheVault(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { replay(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func replay(t *testing.T, random *rand.Rand) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1")
	b := f.Key(t, "kv1", "tde")
	first := b.Version.Version
	_, wrapped, err := f.Vaults.Use(t.Context(), f.Officer, "kv1", "tde", "", vault.WrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: []byte("x")})
	check(t, err)
	people := []identity.Caller{vaulttest.Caller(11), vaulttest.Caller(12), vaulttest.Caller(13)}
	scopes := []rbac.Scope{
		"/subscriptions/" + vaulttest.Subscription, "/subscriptions/" + vaulttest.Subscription + "/resourceGroups/" + vaulttest.Group,
		v.Scope(), v.KeyScope("tde"), v.KeyScope("other"),
	}
	roles := []rbac.RoleID{rbac.KeyVaultCryptoServiceEncryption, rbac.KeyVaultCryptoUser, rbac.KeyVaultReader, rbac.Reader, rbac.KeyVaultAdministrator}
	var given []rbac.Assignment
	var moments []moment
	ctx := t.Context()
	enabled := func(on bool) error {
		_, err := f.Vaults.UpdateKey(ctx, f.Officer, "kv1", "TDE", first, vault.KeyUpdate{Enabled: &on})
		return err
	}
	steps := map[string]func() error{
		"grant": func() error {
			a, _, err := f.Vaults.PutRoleAssignment(ctx, f.Officer, vault.Grant{
				ID: vaulttest.ID(2_000_000 + len(moments)), Scope: scopes[random.IntN(len(scopes))], Role: roles[random.IntN(len(roles))],
				Principal: people[random.IntN(len(people))].Principal, PrincipalType: identity.ServicePrincipal,
			})
			if err == nil {
				given = append(given, a)
			}
			return err
		},
		"ungrant": func() error {
			if len(given) == 0 {
				return nil
			}
			i := random.IntN(len(given))
			a := given[i]
			given = slices.Delete(given, i, i+1)
			_, err := f.Vaults.DeleteRoleAssignment(ctx, f.Officer, a.Scope, a.ID)
			return err
		},
		"disable": func() error { return enabled(false) },
		"enable":  func() error { return enabled(true) },
		"rotate":  func() error { _, err := f.Vaults.RotateKey(ctx, f.Officer, "kv1", "tde"); return err },
		"delete":  func() error { _, err := f.Vaults.DeleteKey(ctx, f.Officer, "kv1", "tde"); return err },
		"recover": func() error { _, err := f.Vaults.RecoverKey(ctx, f.Officer, "kv1", "tde"); return err },
		"delete vault": func() error {
			_, err := f.Vaults.DeleteVault(ctx, f.Officer, vaulttest.Path("kv1"))
			return err
		},
		"recover vault": func() error {
			_, _, err := f.Vaults.PutVault(ctx, f.Officer, vaulttest.Path("kv1"), vault.Spec{Recover: true})
			return err
		},
	}
	names := make([]string, 0, len(steps)+6)
	for n := range steps {
		names = append(names, n)
	}
	names = append(names, "grant", "grant", "grant", "enable", "recover", "recover vault")
	slices.Sort(names)
	for i := range 45 {
		name := names[random.IntN(len(names))]
		err := steps[name]()
		switch fault.ReasonOf(err) {
		case "", fault.KeyNotFound, fault.KeyDeleted, fault.DeletedKeyNotFound, fault.VaultNotFound, fault.VaultDeleted, fault.RoleAssignmentExists,
			fault.RoleAssignmentNotFound, fault.ResourceNotFound, fault.Conflict:
		default:
			t.Fatalf("%s: %v", name, err)
		}
		m := moment{at: time.Now().UTC().Truncate(time.Microsecond), after: fmt.Sprintf("step %d, %s: %v", i, name, err)}
		for _, c := range people {
			_, _, err := f.Vaults.Use(ctx, c, "kv1", "tde", first, vault.UnwrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: wrapped.Value})
			switch fault.ReasonOf(err) {
			case "":
				m.could = append(m.could, c.Principal)
			case fault.Denied, fault.KeyDisabled, fault.KeyNotFound, fault.VaultNotFound:
			default:
				t.Fatal(err)
			}
		}
		moments = append(moments, m)
	}
	some := 0
	for _, m := range moments {
		a, err := history.Who(ctx, f.Log, rbac.VaultRoles, history.Question{Vault: "KV1", Key: "Tde", Version: first, At: m.at, Action: history.Unwrap})
		check(t, err)
		var could []identity.PrincipalID
		for _, h := range a.Holders {
			if a.Blocked == "" && h.Principal != f.Officer.Principal && !slices.Contains(could, h.Principal) {
				could = append(could, h.Principal)
			}
		}
		if !slices.Equal(could, m.could) {
			t.Errorf("after %s: the log says %v (%s), the vault said %v", m.after, could, a.Blocked, m.could)
		}
		some += len(could)
	}
	if some == 0 {
		t.Error("nobody could ever unwrap: the history shows nothing")
	}
}

func TestPurgeTakesRolesAway(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1")
	f.Key(t, "kv1", "tde")
	who := vaulttest.Caller(11)
	f.Grant(t, who, rbac.KeyVaultCryptoUser, v.KeyScope("tde"))
	ask := func() history.Answer {
		t.Helper()
		a, err := history.Who(t.Context(), f.Log, rbac.VaultRoles, history.Question{Vault: "kv1", Key: "tde", At: time.Now(), Action: history.Unwrap})
		check(t, err)
		a.Holders = slices.DeleteFunc(a.Holders, func(h history.Holder) bool { return h.Principal == f.Officer.Principal })
		return a
	}
	a := ask()
	if len(a.Holders) != 1 || a.Blocked != "" || a.Version == "" || a.Key != v.KeyScope("tde") {
		t.Fatalf("%+v", a)
	}
	if h := a.Holders[0]; h.Principal != who.Principal || h.RoleName != "Key Vault Crypto User" || h.GivenBy != f.Officer.Principal || h.Since.IsZero() {
		t.Errorf("%+v", h)
	}
	before := time.Now()
	_, err := f.Vaults.DeleteKey(t.Context(), f.Officer, "kv1", "tde")
	check(t, err)
	if a := ask(); a.Blocked != fault.KeyDeleted || len(a.Holders) != 1 {
		t.Errorf("deleted: %+v", a)
	}
	check(t, f.Vaults.PurgeKey(t.Context(), f.Officer, "kv1", "tde"))
	f.Key(t, "kv1", "tde")
	if a := ask(); a.Blocked != "" || len(a.Holders) != 0 {
		t.Errorf("purged and made again: %+v", a)
	}
	_, err = f.Vaults.DeleteVault(t.Context(), f.Officer, vaulttest.Path("kv1"))
	check(t, err)
	if a := ask(); a.Blocked != fault.VaultDeleted {
		t.Errorf("vault deleted: %+v", a)
	}
	check(t, f.Vaults.PurgeVault(t.Context(), f.Officer, vaulttest.Subscription, "kv1"))
	if a := ask(); a.Blocked != fault.VaultNotFound || len(a.Holders) != 0 {
		t.Errorf("vault purged: %+v", a)
	}
	a, err = history.Who(t.Context(), f.Log, rbac.VaultRoles, history.Question{Vault: "kv1", Key: "tde", At: before, Action: history.Unwrap})
	check(t, err)
	if len(a.Holders) != 2 || a.Holders[1].Principal != who.Principal || a.Blocked != "" {
		t.Errorf("long ago: %+v", a)
	}
	if es, err := f.Log.Entries(t.Context(), audit.Query{Operation: "VaultPurge"}); err != nil || len(es) != 1 || es[0].Resource != string(v.Scope()) {
		t.Errorf("the purge is recorded as %+v, %v", es, err)
	}
}
