package storetest

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

// Vault checks an implementation of [vault.Store]. open returns a new, empty one.
func Vault(t *testing.T, open func(t *testing.T) vault.Store) {
	at := time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)
	vaultNamed := func(n int) vault.Vault {
		return vault.Vault{
			ID: vault.ID(fmt.Sprintf("v%d", n)), Name: vault.Name(fmt.Sprintf("kv%d", n)), Tenant: "t", Subscription: "s",
			ResourceGroup: "G", Location: "l", RetentionDays: 7, RBAC: true, Created: at, Updated: at.Add(time.Second),
		}
	}
	keyNamed := func(v vault.Vault, n int) vault.Key {
		return vault.Key{
			ID: vault.KeyID(fmt.Sprintf("%s-k%d", v.ID, n)), Vault: v.ID, Name: vault.KeyName(fmt.Sprintf("Key%d", n)),
			Current: "a", Created: at,
		}
	}
	version := func(k vault.Key, ordinal int) vault.KeyVersion {
		return vault.KeyVersion{
			Key: k.ID, Version: vault.Version(fmt.Sprintf("version%d", ordinal)), Ordinal: ordinal, Type: vault.EC, Bits: 256,
			Curve: vault.P256, Platform: vault.Software, Notice: at, Public: []byte{1, 2}, Operations: []vault.Operation{vault.WrapKey}, Enabled: true, NotBefore: at, Created: at, Updated: at,
			Tags: map[string]string{"a": "b"},
		}
	}
	same := func(t *testing.T, got, want any) {
		t.Helper()
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
			t.Error(d)
		}
	}
	fails := func(t *testing.T, err error, want fault.Reason) {
		t.Helper()
		if fault.ReasonOf(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}

	t.Run("subscriptions and groups", func(t *testing.T) {
		s := open(t)
		g := vault.ResourceGroup{Subscription: "s1", Name: "Group", Location: "l", Tags: map[string]string{"a": "b"}, Created: at}
		update(t, s, func(tx vault.Tx) error {
			for _, sub := range []vault.Subscription{{ID: "S2", Tenant: "t"}, {ID: "s1", Tenant: "t", Name: "old"}, {ID: "s1", Tenant: "t", Name: "new"}, {ID: "s3", Tenant: "u"}} {
				if err := tx.PutVaultSubscription(sub); err != nil {
					return err
				}
			}
			if err := tx.PutVaultGroup(vault.ResourceGroup{Subscription: "s1", Name: "group", Location: "x"}); err != nil {
				return err
			}
			return tx.PutVaultGroup(g)
		})
		view(t, s, func(tx vault.Tx) error {
			all, err := tx.VaultSubscriptions("t")
			same(t, all, []vault.Subscription{{ID: "s1", Tenant: "t", Name: "new"}, {ID: "s2", Tenant: "t"}})
			_, missing := tx.VaultSubscription("none")
			fails(t, missing, fault.SubscriptionNotFound)
			one, gerr := tx.VaultGroup("S1", "GROUP")
			same(t, one, g)
			groups, lerr := tx.VaultGroups("s1")
			same(t, groups, []vault.ResourceGroup{g})
			_, missing = tx.VaultGroup("s1", "none")
			fails(t, missing, fault.ResourceGroupNotFound)
			return firstError(err, gerr, lerr)
		})
		update(t, s, func(tx vault.Tx) error { return tx.DropVaultGroup("s1", "group") })
		fails(t, s.Update(t.Context(), func(tx vault.Tx) error { return tx.DropVaultGroup("s1", "group") }), fault.ResourceGroupNotFound)
	})

	t.Run("vaults", func(t *testing.T) {
		s := open(t)
		v := vaultNamed(1)
		v.PurgeProtection, v.Tags = true, map[string]string{"a": "b"}
		v.AccessPolicies = []vault.AccessPolicy{{Tenant: "t", Object: "o", Keys: []string{"get"}}}
		v.Network = vault.Network{Closed: true, Deny: true, Bypass: true, Allowed: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}}
		v.TrustedServices, v.RequireApproval, v.SeparateDuties = []string{"s"}, true, true
		update(t, s, func(tx vault.Tx) error { return firstError(tx.PutVault(v), tx.PutVault(vaultNamed(2))) })
		taken := vaultNamed(3)
		taken.Name = "KV1"
		fails(t, s.Update(t.Context(), func(tx vault.Tx) error { return tx.PutVault(taken) }), fault.VaultExists)
		v.Deleted, v.PurgeAt = at, at.Add(time.Hour)
		update(t, s, func(tx vault.Tx) error { return tx.PutVault(v) })
		view(t, s, func(tx vault.Tx) error {
			byName, err := tx.Vault("KV1")
			same(t, byName, v)
			byID, ierr := tx.VaultByID("v1")
			same(t, byID, v)
			all, lerr := tx.Vaults("t")
			same(t, all, []vault.Vault{v, vaultNamed(2)})
			early, eerr := tx.DueVaults(at, 10)
			same(t, len(early), 0)
			due, derr := tx.DueVaults(v.PurgeAt, 10)
			same(t, due, []vault.Vault{v})
			ids, xerr := tx.VaultIDs()
			same(t, ids, []vault.ID{"v1", "v2"})
			_, missing := tx.Vault("none")
			fails(t, missing, fault.VaultNotFound)
			return firstError(err, ierr, lerr, eerr, derr, xerr)
		})
	})

	t.Run("diagnostic settings", func(t *testing.T) {
		s := open(t)
		d := vault.DiagnosticSetting{Vault: "v1", Name: "Audit", Sink: "/a", Logs: []vault.LogSetting{{Category: "AuditEvent", Enabled: true}}, Updated: at}
		changed := d
		changed.Name, changed.Sink = "AUDIT", "/b"
		update(t, s, func(tx vault.Tx) error {
			return firstError(tx.PutVault(vaultNamed(1)), tx.PutVault(vaultNamed(2)), tx.PutVaultDiagnosticSetting(d), tx.PutVaultDiagnosticSetting(changed))
		})
		d.Sink = "/b" // the name stays as it was given
		view(t, s, func(tx vault.Tx) error {
			all, err := tx.VaultDiagnosticSettings("v1")
			same(t, all, []vault.DiagnosticSetting{d})
			others, oerr := tx.VaultDiagnosticSettings("v2")
			same(t, len(others), 0)
			return firstError(err, oerr)
		})
		update(t, s, func(tx vault.Tx) error { return tx.DropVaultDiagnosticSetting("v1", "audit") })
		fails(t, s.Update(t.Context(), func(tx vault.Tx) error { return tx.DropVaultDiagnosticSetting("v1", "audit") }), fault.ResourceNotFound)
		update(t, s, func(tx vault.Tx) error { return firstError(tx.PutVaultDiagnosticSetting(d), tx.DropVault("v1")) })
	})

	t.Run("security domains", func(t *testing.T) {
		s := open(t)
		v := vaultNamed(1)
		v.Flavour, v.Activated = vault.ManagedHSM, at
		none := vault.SecurityDomain{Vault: "v1", Certificate: []byte{1}, Transfer: []byte{2}}
		d := vault.SecurityDomain{Vault: "v1", ID: "d", Sealed: []byte{3}, Quorum: 2, Officers: []string{"a", "b", "c"}, Taken: at, Restored: at.Add(time.Second)}
		update(t, s, func(tx vault.Tx) error { return firstError(tx.PutVault(v), tx.PutVaultSecurityDomain(none)) })
		view(t, s, func(tx vault.Tx) error {
			got, err := tx.VaultSecurityDomain("v1")
			same(t, got.Certificate, none.Certificate)
			same(t, got.Transfer, none.Transfer)
			same(t, len(got.Sealed)+len(got.ID), 0)
			live, lerr := tx.VaultByID("v1")
			same(t, live, v)
			return firstError(err, lerr)
		})
		update(t, s, func(tx vault.Tx) error { return tx.PutVaultSecurityDomain(d) })
		view(t, s, func(tx vault.Tx) error {
			got, err := tx.VaultSecurityDomain("v1")
			same(t, len(got.Certificate)+len(got.Transfer), 0)
			got.Certificate, got.Transfer = nil, nil
			same(t, got, d)
			_, nerr := tx.VaultSecurityDomain("v2")
			fails(t, nerr, fault.NotFound)
			return err
		})
		update(t, s, func(tx vault.Tx) error { return tx.DropVault("v1") })
		view(t, s, func(tx vault.Tx) error {
			_, err := tx.VaultSecurityDomain("v1")
			fails(t, err, fault.NotFound)
			return nil
		})
	})

	t.Run("keys", func(t *testing.T) {
		s := open(t)
		v := vaultNamed(1)
		k, gone := keyNamed(v, 1), keyNamed(v, 2)
		gone.Deleted, gone.PurgeAt = at, at.Add(time.Hour)
		update(t, s, func(tx vault.Tx) error {
			err := firstError(tx.PutVault(v), tx.PutVault(vaultNamed(2)), tx.PutVaultKey(k), tx.PutVaultKey(gone), tx.PutVaultKey(keyNamed(vaultNamed(2), 1)))
			for i := range 3 {
				err = firstError(err, tx.AddVaultKeyVersion(version(k, i+1), []byte{byte(i)}))
			}
			return err
		})
		view(t, s, func(tx vault.Tx) error {
			one, err := tx.VaultKey("v1", "kEY1")
			same(t, one, k)
			live, lerr := tx.VaultKeys("v1", false, "", 10)
			same(t, live, []vault.Key{k})
			deleted, derr := tx.VaultKeys("v1", true, "", 10)
			same(t, deleted, []vault.Key{gone})
			after, aerr := tx.VaultKeys("v1", true, gone.Name.Key(), 10)
			same(t, len(after), 0)
			due, xerr := tx.DueVaultKeys(gone.PurgeAt, 10)
			same(t, due, []vault.Key{gone})
			versions, verr := tx.VaultKeyVersions(k.ID, 1, 1)
			same(t, versions, []vault.KeyVersion{version(k, 2)})
			sealed, serr := tx.VaultKeySealed(k.ID, "version3")
			same(t, sealed, []byte{2})
			_, missing := tx.VaultKey("v1", "none")
			fails(t, missing, fault.KeyNotFound)
			_, missing = tx.VaultKeyVersion(k.ID, "none")
			fails(t, missing, fault.KeyNotFound)
			_, missing = tx.VaultKeySealed(k.ID, "none")
			fails(t, missing, fault.KeyNotFound)
			return firstError(err, lerr, derr, aerr, xerr, verr, serr)
		})
		changed := version(k, 2)
		changed.Enabled, changed.Tags, changed.Expires, changed.Notice = false, nil, at.Add(time.Hour), time.Time{}
		update(t, s, func(tx vault.Tx) error { return tx.SetVaultKeyVersion(changed) })
		view(t, s, func(tx vault.Tx) error {
			got, err := tx.VaultKeyVersion(k.ID, changed.Version)
			same(t, got, changed)
			return err
		})
		fails(t, s.Update(t.Context(), func(tx vault.Tx) error { return tx.SetVaultKeyVersion(version(k, 9)) }), fault.KeyNotFound)

		// A name holds one key; dropped, nothing of it is left.
		again := keyNamed(v, 7)
		again.Name = "KEY1"
		if err := s.Update(t.Context(), func(tx vault.Tx) error { return tx.PutVaultKey(again) }); err == nil {
			t.Error("two keys of one name")
		}
		update(t, s, func(tx vault.Tx) error { return tx.DropVaultKey(k.ID) })
		view(t, s, func(tx vault.Tx) error {
			_, missing := tx.VaultKeySealed(k.ID, "version1")
			fails(t, missing, fault.KeyNotFound)
			versions, err := tx.VaultKeyVersions(k.ID, 0, 10)
			same(t, len(versions), 0)
			return err
		})
		update(t, s, func(tx vault.Tx) error { return tx.DropVault("v2") })
		view(t, s, func(tx vault.Tx) error {
			_, missing := tx.VaultKey("v2", "key1")
			fails(t, missing, fault.KeyNotFound)
			return nil
		})
	})

	t.Run("changes", func(t *testing.T) {
		s := open(t)
		update(t, s, func(tx vault.Tx) error { return firstError(tx.PutVault(vaultNamed(1)), tx.PutVault(vaultNamed(2))) })
		change := func(n int) vault.Change {
			return vault.Change{Vault: "v1", Key: "k", Version: "v", Principal: "p", Kind: vault.KeyRotated, Time: at.Add(time.Duration(n) * time.Minute)}
		}
		update(t, s, func(tx vault.Tx) error {
			var err error
			for i := range 5 {
				err = firstError(err, tx.AppendVaultChange(change(i+1)))
			}
			return firstError(err, tx.AppendVaultChange(vault.Change{Vault: "v2", Kind: vault.VaultUpdated, Time: at}), tx.PutVault(vaultNamed(1)))
		})
		fails(t, s.Update(t.Context(), func(tx vault.Tx) error { return tx.AppendVaultChange(vault.Change{Vault: "none"}) }), fault.VaultNotFound)
		revision := func(want ...int64) {
			t.Helper()
			view(t, s, func(tx vault.Tx) error {
				newest, dropped, err := tx.VaultRevision("v1")
				if !slices.Equal([]int64{newest, dropped}, want) {
					t.Errorf("revision %d, dropped %d, want %v", newest, dropped, want)
				}
				return err
			})
		}
		seqs := func(after int64, limit int, want ...int64) {
			t.Helper()
			view(t, s, func(tx vault.Tx) error {
				all, err := tx.VaultChanges("v1", after, limit)
				var got []int64
				for _, c := range all {
					got = append(got, c.Seq)
					w := change(int(c.Seq))
					w.Seq = c.Seq
					same(t, c, w)
				}
				same(t, got, want)
				return err
			})
		}
		revision(5, 0)
		seqs(0, 10, 1, 2, 3, 4, 5)
		seqs(2, 2, 3, 4)
		update(t, s, func(tx vault.Tx) error { return tx.TrimVaultChanges("v1", 2, at) })
		revision(5, 2)
		seqs(0, 10, 3, 4, 5)
		update(t, s, func(tx vault.Tx) error { return tx.TrimVaultChanges("v1", 0, at.Add(5*time.Minute)) })
		revision(5, 4)
		update(t, s, func(tx vault.Tx) error { return tx.TrimVaultChanges("v1", 1, at) })
		revision(5, 4)
		seqs(0, 10, 5)
		view(t, s, func(tx vault.Tx) error {
			_, _, missing := tx.VaultRevision("none")
			fails(t, missing, fault.VaultNotFound)
			return nil
		})
	})

	t.Run("rotation, notices, usage and remains", func(t *testing.T) {
		s := open(t)
		v := vaultNamed(1)
		k := keyNamed(v, 1)
		k.Current = "version2"
		outside := version(k, 2)
		outside.Platform, outside.Notice = "token", at.Add(time.Hour)
		update(t, s, func(tx vault.Tx) error {
			return firstError(tx.PutVault(v), tx.PutVaultKey(k), tx.AddVaultKeyVersion(version(k, 1), []byte{1}), tx.AddVaultKeyVersion(outside, []byte{2}))
		})
		p := vault.RotationPolicy{Rotate: &vault.Trigger{AfterCreate: "P30D"}, Expiry: "P90D", Created: at, Updated: at}
		due := at.Add(time.Minute)
		update(t, s, func(tx vault.Tx) error {
			return firstError(tx.PutVaultRotation(k.ID, vault.RotationPolicy{}, at), tx.PutVaultRotation(k.ID, p, due))
		})
		rotations := func(by time.Time, after vault.KeyID, want ...vault.Key) {
			t.Helper()
			view(t, s, func(tx vault.Tx) error {
				all, err := tx.DueVaultRotations(by, after, 10)
				same(t, all, slices.Clip(want))
				return err
			})
		}
		view(t, s, func(tx vault.Tx) error {
			got, when, err := tx.VaultRotation(k.ID)
			same(t, got, p)
			same(t, when, due)
			_, _, missing := tx.VaultRotation("none")
			fails(t, missing, fault.NotFound)
			byID, ierr := tx.VaultKeyByID(k.ID)
			same(t, byID, k)
			near, nerr := tx.DueVaultNotices(at, 10)
			same(t, near, []vault.KeyVersion{version(k, 1)})
			both, berr := tx.DueVaultNotices(at.Add(time.Hour), 10)
			same(t, len(both), 2)
			return firstError(err, ierr, nerr, berr)
		})
		rotations(due, "", k)
		rotations(due.Add(-1), "")
		rotations(due, k.ID)
		disabled := outside
		disabled.Enabled = false
		update(t, s, func(tx vault.Tx) error { return tx.SetVaultKeyVersion(disabled) })
		rotations(due, "")

		drill := vault.Drill{Key: k.ID, Version: "version1", Taken: at, Until: at.Add(time.Hour)}
		drills := func(by time.Time, want ...vault.Drill) {
			t.Helper()
			view(t, s, func(tx vault.Tx) error {
				all, err := tx.DueVaultDrills(by, 10)
				same(t, all, slices.Clip(want))
				return err
			})
		}
		update(t, s, func(tx vault.Tx) error {
			return firstError(tx.PutVaultDrill(vault.Drill{Key: k.ID, Version: "version1", Taken: at.Add(-1), Until: at}), tx.PutVaultDrill(drill),
				tx.PutVaultDrill(vault.Drill{Key: k.ID, Version: "version2", Taken: at, Until: at}), tx.DropVaultDrill("none", "version2"))
		})
		drills(at.Add(time.Minute), vault.Drill{Key: k.ID, Version: "version2", Taken: at, Until: at})
		update(t, s, func(tx vault.Tx) error { return tx.DropVaultDrill(k.ID, "version2") })
		drills(at.Add(time.Minute))
		drills(at.Add(time.Hour), drill)

		u := vault.Usage{Version: "version1", Principal: "p", Operation: vault.WrapKey, Count: 1, Last: at}
		later := u
		later.Count, later.Last = 3, at.Add(time.Second)
		other := u
		other.Operation, other.Last = vault.UnwrapKey, at.Add(time.Minute)
		update(t, s, func(tx vault.Tx) error {
			return firstError(tx.CountVaultUse(k.ID, u), tx.CountVaultUse(k.ID, later), tx.CountVaultUse(k.ID, other))
		})
		view(t, s, func(tx vault.Tx) error {
			all, err := tx.VaultUsage(k.ID, 10)
			other.Count, other.First = 1, other.Last
			later.Count, later.First = 4, at
			same(t, all, []vault.Usage{other, later})
			return err
		})

		remains := func(want ...vault.Remains) {
			t.Helper()
			view(t, s, func(tx vault.Tx) error {
				all, err := tx.VaultRemains(at, 10)
				same(t, all, slices.Clip(want))
				return err
			})
		}
		remains()
		gone := k
		gone.Deleted, gone.PurgeAt = at, at
		update(t, s, func(tx vault.Tx) error { return tx.PutVaultKey(gone) })
		view(t, s, func(tx vault.Tx) error {
			none, err := tx.DueVaultNotices(at.Add(time.Hour), 10)
			same(t, len(none), 0)
			return err
		})
		update(t, s, func(tx vault.Tx) error { return tx.DropVaultKey(k.ID) })
		drills(at.Add(time.Hour))
		left := vault.Remains{
			Ref: vault.Ref{Vault: v.ID, Key: k.ID, Version: "version2"}, Platform: "token",
			Material: vault.Material{Type: vault.EC, Bits: 256, Curve: vault.P256, Public: []byte{1, 2}, Sealed: []byte{2}},
		}
		remains(left)
		update(t, s, func(tx vault.Tx) error { return tx.DropVaultRemains(left.Ref) })
		remains()

		// A place is reserved until a key takes it, or it is given up.
		left.Due = at.Add(time.Microsecond)
		taken := left
		taken.Key = "other"
		update(t, s, func(tx vault.Tx) error { return firstError(tx.AddVaultRemains(left), tx.AddVaultRemains(taken)) })
		remains()
		update(t, s, func(tx vault.Tx) error { return tx.TakeVaultRemains(taken.Ref) })
		fails(t, s.Update(t.Context(), func(tx vault.Tx) error { return tx.TakeVaultRemains(taken.Ref) }), fault.NotFound)
		left.Due = at
		update(t, s, func(tx vault.Tx) error { return tx.AddVaultRemains(left) })
		remains(left)
		left.Due = time.Time{}
		update(t, s, func(tx vault.Tx) error { return tx.AddVaultRemains(left) })
		remains(left)
		fails(t, s.Update(t.Context(), func(tx vault.Tx) error { return tx.TakeVaultRemains(left.Ref) }), fault.NotFound)
	})

	t.Run("nothing of a failed transaction stays", func(t *testing.T) {
		s := open(t)
		fails(t, s.Update(t.Context(), func(tx vault.Tx) error {
			if err := tx.PutVault(vaultNamed(1)); err != nil {
				return err
			}
			return fault.New(fault.Conflict, "no")
		}), fault.Conflict)
		view(t, s, func(tx vault.Tx) error {
			_, missing := tx.Vault("kv1")
			fails(t, missing, fault.VaultNotFound)
			return nil
		})
	})
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
