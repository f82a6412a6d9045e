package storetest

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

// Identity checks an implementation of [identity.Store]. open returns a new,
// empty one.
func Identity(t *testing.T, open func(t *testing.T) identity.Store) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)
	const tenant, other identity.TenantID = "tenant", "other"
	principal := func(t identity.TenantID, id identity.PrincipalID, app, name string) identity.Principal {
		return identity.Principal{
			ID: id, Tenant: t, Type: identity.ServicePrincipal, Application: app, Name: name, Enabled: true, Generation: 1,
			Created: at, CreatedBy: "maker",
		}
	}
	p1, p2, q1 := principal(tenant, "p1", "app1", "One"), principal(tenant, "p2", "app2", "Two"), principal(other, "q1", "app1", "One")
	fill := func(t *testing.T) identity.Store {
		s := open(t)
		update(t, s, func(tx identity.Tx) error {
			for _, id := range []identity.TenantID{tenant, other} {
				if err := tx.PutDirectoryTenant(identity.Tenant{ID: id, Name: "name", Created: at}); err != nil {
					return err
				}
			}
			for _, p := range []identity.Principal{p2, p1, q1} {
				if err := tx.PutPrincipal(p); err != nil {
					return err
				}
			}
			return tx.AppendAudit(audit.Entry{Time: at, Operation: "test", Outcome: audit.Allowed})
		})
		return s
	}
	expect := func(t *testing.T, what string, want, got any, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	refuse := func(t *testing.T, s identity.Store, what string, want fault.Reason, fn func(tx identity.Tx) error) {
		t.Helper()
		if err := s.Update(t.Context(), fn); fault.ReasonOf(err) != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}

	t.Run("tenants", func(t *testing.T) {
		s := fill(t)
		view(t, s, func(tx identity.Tx) error {
			got, err := tx.DirectoryTenant(tenant)
			expect(t, "one", identity.Tenant{ID: tenant, Name: "name", Created: at}, got, err)
			return nil
		})
		refuse(t, s, "a missing one", fault.TenantNotFound, func(tx identity.Tx) error { _, err := tx.DirectoryTenant("none"); return err })
		refuse(t, s, "one twice", fault.Conflict, func(tx identity.Tx) error { return tx.PutDirectoryTenant(identity.Tenant{ID: tenant, Created: at}) })
	})
	t.Run("principals", func(t *testing.T) {
		s := fill(t)
		view(t, s, func(tx identity.Tx) error {
			got, err := tx.Principal(tenant, "p1")
			expect(t, "one", p1, got, err)
			for what, c := range map[string]struct {
				filter identity.Filter
				limit  int
				want   []identity.Principal
			}{
				"all of a tenant":          {identity.Filter{}, 10, []identity.Principal{p1, p2}},
				"at most one":              {identity.Filter{}, 1, []identity.Principal{p1}},
				"by application":           {identity.Filter{Application: "app2"}, 10, []identity.Principal{p2}},
				"by name":                  {identity.Filter{Name: "One"}, 10, []identity.Principal{p1}},
				"by both, of different":    {identity.Filter{Application: "app2", Name: "One"}, 10, nil},
				"by a name with a pattern": {identity.Filter{Name: "O%"}, 10, nil},
			} {
				got, err := tx.Principals(tenant, c.filter, c.limit)
				expect(t, what, c.want, got, err)
			}
			return nil
		})
		refuse(t, s, "of another tenant", fault.PrincipalNotFound, func(tx identity.Tx) error { _, err := tx.Principal(other, "p1"); return err })
		refuse(t, s, "an application twice", fault.PrincipalExists, func(tx identity.Tx) error {
			return tx.PutPrincipal(principal(tenant, "p9", "app1", ""))
		})
		refuse(t, s, "changing a missing one", fault.PrincipalNotFound, func(tx identity.Tx) error {
			return tx.SetPrincipal(principal(other, "p1", "app1", ""))
		})
	})
	t.Run("changes", func(t *testing.T) {
		s := fill(t)
		var before int64
		view(t, s, func(tx identity.Tx) (err error) { before, err = tx.PrincipalChanges(); return err })
		off, on := p1, p2
		off.Enabled, on.Generation = false, 7
		update(t, s, func(tx identity.Tx) error {
			if err := tx.SetPrincipal(off); err != nil {
				return err
			}
			return tx.SetPrincipal(on)
		})
		view(t, s, func(tx identity.Tx) error {
			after, err := tx.PrincipalChanges()
			if err != nil || after <= before {
				t.Errorf("changes went from %d to %d: %v", before, after, err)
			}
			got, err := tx.PrincipalGenerations()
			want := map[identity.TenantID]map[identity.PrincipalID]int64{tenant: {"p2": 7}, other: {"q1": 1}}
			expect(t, "generations", want, got, err)
			one, err := tx.Principal(tenant, "p1")
			expect(t, "the disabled one", off, one, err)
			return nil
		})
	})
	t.Run("client secrets", func(t *testing.T) {
		s := fill(t)
		secret := func(id string, p identity.PrincipalID, created time.Time) identity.StoredSecret {
			return identity.StoredSecret{ID: id, Tenant: tenant, Principal: p, Name: "n", Hash: [32]byte{1, 31: 2}, Created: created, Expires: at.Add(time.Hour)}
		}
		s1, s2, s3 := secret("s1", "p1", at.Add(time.Second)), secret("s2", "p1", at), secret("s3", "p2", at)
		update(t, s, func(tx identity.Tx) error {
			for _, x := range []identity.StoredSecret{s1, s2, s3} {
				if err := tx.PutClientSecret(x); err != nil {
					return err
				}
			}
			return nil
		})
		view(t, s, func(tx identity.Tx) error {
			got, err := tx.ClientSecrets(tenant, "p1")
			expect(t, "of p1", []identity.StoredSecret{s2, s1}, got, err)
			got, err = tx.ClientSecrets(other, "p1")
			expect(t, "of p1 in another tenant", []identity.StoredSecret(nil), got, err)
			return nil
		})
		update(t, s, func(tx identity.Tx) error { return tx.DeleteClientSecret(tenant, "p1", "s1") })
		refuse(t, s, "another's secret", fault.NotFound, func(tx identity.Tx) error { return tx.DeleteClientSecret(tenant, "p1", "s3") })
		update(t, s, func(tx identity.Tx) error { return tx.DeleteClientSecrets(tenant, "p1") })
		view(t, s, func(tx identity.Tx) error {
			got, err := tx.ClientSecrets(tenant, "p1")
			expect(t, "of p1, all deleted", []identity.StoredSecret(nil), got, err)
			got, err = tx.ClientSecrets(tenant, "p2")
			expect(t, "of p2", []identity.StoredSecret{s3}, got, err)
			return nil
		})
	})
	t.Run("users", func(t *testing.T) {
		s := fill(t)
		user := principal(tenant, "u1", "", "Ann")
		user.Type, user.UserName = identity.User, "ann@example.com"
		same := principal(other, "u2", "", "Ann")
		same.Type, same.UserName = identity.User, "ann@example.com"
		update(t, s, func(tx identity.Tx) error {
			if err := tx.PutPrincipal(user); err != nil {
				return err
			}
			return tx.PutPrincipal(same)
		})
		refuse(t, s, "a name twice", fault.PrincipalExists, func(tx identity.Tx) error {
			twin := user
			twin.ID = "u3"
			return tx.PutPrincipal(twin)
		})
		view(t, s, func(tx identity.Tx) error {
			for what, c := range map[string]struct {
				filter identity.Filter
				want   []identity.Principal
			}{
				"by kind":              {identity.Filter{Type: identity.User}, []identity.Principal{user}},
				"by the other kind":    {identity.Filter{Type: identity.ServicePrincipal, Prefix: "o"}, []identity.Principal{p1}},
				"by name":              {identity.Filter{UserName: "ann@example.com"}, []identity.Principal{user}},
				"by a beginning":       {identity.Filter{Prefix: "aN"}, []identity.Principal{user}},
				"by a pattern":         {identity.Filter{Prefix: "A%"}, nil},
				"by its own id":        {identity.Filter{Type: identity.ServicePrincipal, Application: "u1"}, nil},
				"by more than a name":  {identity.Filter{Prefix: "Anna"}, nil},
				"by an absent one":     {identity.Filter{UserName: "ann"}, nil},
				"by kind and a prefix": {identity.Filter{Type: identity.User, Prefix: "T"}, nil},
			} {
				got, err := tx.Principals(tenant, c.filter, 10)
				expect(t, what, c.want, got, err)
			}
			return nil
		})
		password := identity.StoredPassword{Tenant: tenant, Principal: "u1", Hash: "h1", Since: at}
		update(t, s, func(tx identity.Tx) error { return tx.SetPassword(password) })
		password.Hash, password.Since = "h2", at.Add(time.Second)
		update(t, s, func(tx identity.Tx) error { return tx.SetPassword(password) })
		view(t, s, func(tx identity.Tx) error {
			got, err := tx.Password(tenant, "u1")
			expect(t, "the password", password, got, err)
			got, err = tx.Password(other, "u1")
			expect(t, "of another tenant's", identity.StoredPassword{}, got, err)
			return nil
		})
	})
	t.Run("sign-ins", func(t *testing.T) {
		s := fill(t)
		signIn := identity.StoredSignIn{
			ID: "i1", Tenant: tenant, Principal: "p1", Client: "c", Generation: 3, Redirect: "r", Scope: "openid", Challenge: "x", Nonce: "n",
			Created: at, Expires: at.Add(time.Hour), Rotated: at,
		}
		later := signIn
		later.ID, later.Expires = "i2", at.Add(2*time.Hour)
		update(t, s, func(tx identity.Tx) error {
			if err := tx.PutSignIn(signIn); err != nil {
				return err
			}
			return tx.PutSignIn(later)
		})
		signIn.Serial, signIn.Rotated = 4_000_000_000, at.Add(time.Minute)
		update(t, s, func(tx identity.Tx) error { return tx.SetSignIn(signIn) })
		view(t, s, func(tx identity.Tx) error {
			got, err := tx.SignIn(tenant, "i1")
			expect(t, "one", signIn, got, err)
			if _, err := tx.SignIn(other, "i1"); fault.ReasonOf(err) != fault.NotFound {
				t.Errorf("of another tenant: %v", err)
			}
			return nil
		})
		update(t, s, func(tx identity.Tx) error { return tx.DeleteSignIn(other, "i2") })
		update(t, s, func(tx identity.Tx) error { return tx.DeleteSignIns(at.Add(time.Hour + time.Microsecond)) })
		view(t, s, func(tx identity.Tx) error {
			if _, err := tx.SignIn(tenant, "i1"); fault.ReasonOf(err) != fault.NotFound {
				t.Errorf("one that has expired: %v", err)
			}
			got, err := tx.SignIn(tenant, "i2")
			expect(t, "the other", later, got, err)
			return nil
		})
		update(t, s, func(tx identity.Tx) error { return tx.DeleteSignIn(tenant, "i2") })
		refuse(t, s, "a deleted one", fault.NotFound, func(tx identity.Tx) error { _, err := tx.SignIn(tenant, "i2"); return err })
	})
	t.Run("throttles", func(t *testing.T) {
		s := fill(t)
		one, two := identity.Throttle{Key: [32]byte{1}, Whole: at}, identity.Throttle{Key: [32]byte{2}, Whole: at.Add(time.Second)}
		update(t, s, func(tx identity.Tx) error {
			for _, r := range []identity.Throttle{{Key: one.Key, Whole: at.Add(time.Hour)}, one, two} {
				if err := tx.PutThrottle(r); err != nil {
					return err
				}
			}
			return nil
		})
		whole := func(want ...time.Time) {
			t.Helper()
			view(t, s, func(tx identity.Tx) error {
				for i, r := range []identity.Throttle{one, two} {
					got, err := tx.Throttle(r.Key)
					expect(t, "when it is whole", want[i], got, err)
				}
				return nil
			})
		}
		whole(one.Whole, two.Whole)
		update(t, s, func(tx identity.Tx) error { return tx.DeleteThrottles(at.Add(-1)) })
		whole(one.Whole, two.Whole)
		update(t, s, func(tx identity.Tx) error { return tx.DeleteThrottles(at) })
		whole(time.Time{}, two.Whole)
	})
	t.Run("directory roles", func(t *testing.T) {
		s := fill(t)
		const role = identity.DirectoryAdministrator
		update(t, s, func(tx identity.Tx) error {
			for _, id := range []identity.PrincipalID{"p2", "p1", "p2"} {
				if err := tx.PutDirectoryRole(tenant, id, role); err != nil {
					return err
				}
			}
			return tx.PutDirectoryRole(other, "q1", role)
		})
		update(t, s, func(tx identity.Tx) error { return tx.DeleteDirectoryRole(other, "p1", role) })
		view(t, s, func(tx identity.Tx) error {
			got, err := tx.DirectoryRoleHolders(tenant, role)
			expect(t, "holders", []identity.PrincipalID{"p1", "p2"}, got, err)
			return nil
		})
		update(t, s, func(tx identity.Tx) error { return tx.DeleteDirectoryRole(tenant, "p1", role) })
		view(t, s, func(tx identity.Tx) error {
			got, err := tx.DirectoryRoleHolders(tenant, role)
			expect(t, "who is left", []identity.PrincipalID{"p2"}, got, err)
			return nil
		})
	})
	t.Run("signing keys", func(t *testing.T) {
		s := fill(t)
		k1 := identity.SealedSigningKey{ID: "k1", Created: at, Sealed: []byte("one")}
		k2 := identity.SealedSigningKey{ID: "k2", Created: at.Add(time.Second), Sealed: []byte("two")}
		update(t, s, func(tx identity.Tx) error {
			if err := tx.PutSigningKey(k1); err != nil {
				return err
			}
			if err := tx.PutSigningKey(k2); err != nil {
				return err
			}
			return tx.RetireSigningKeys("k2", at.Add(time.Hour))
		})
		update(t, s, func(tx identity.Tx) error { return tx.RetireSigningKeys("k2", at.Add(2*time.Hour)) }) // keeps the first end
		update(t, s, func(tx identity.Tx) error { return tx.DeleteSigningKeys(at.Add(time.Hour)) })         // ends then, not before
		k1.End = at.Add(time.Hour)
		view(t, s, func(tx identity.Tx) error {
			got, err := tx.SigningKeys()
			expect(t, "both", []identity.SealedSigningKey{k2, k1}, got, err)
			return nil
		})
		update(t, s, func(tx identity.Tx) error { return tx.DeleteSigningKeys(at.Add(time.Hour + time.Microsecond)) })
		view(t, s, func(tx identity.Tx) error {
			got, err := tx.SigningKeys()
			expect(t, "the live one", []identity.SealedSigningKey{k2}, got, err)
			return nil
		})
	})
}
