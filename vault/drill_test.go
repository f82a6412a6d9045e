package vault_test

import (
	"testing"
	"time"

	"github.com/kluis-io/kluis/drill"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// The vault gives back what a drill has taken away and left so, when the drill said that
// it would be over, and nothing that anybody has touched since.
func TestDrillEnds(t *testing.T) {
	if drill.Mark != vault.TagDrill {
		t.Fatal("drills and vaults do not mean the same tag")
	}
	off, on := new(false), new(true)
	for name, c := range map[string]struct {
		length time.Duration // that the drill says
		tag    string        // in place of what it says
		then   func(*testing.T, *vaulttest.Fixture)
		want   bool // is the key enabled after an hour
		marked bool
	}{
		"left":     {length: 10 * time.Minute, want: true},
		"not over": {length: 2 * time.Hour, marked: true},
		"too long": {length: 25 * time.Hour, marked: true},
		"over":     {length: -time.Minute, marked: true},
		"no times": {tag: "yes", marked: true},
		"revoked meanwhile": {length: 10 * time.Minute, then: func(t *testing.T, f *vaulttest.Fixture) {
			change(t, f, vault.KeyUpdate{Enabled: off})
		}},
		"given back, and revoked": {length: 10 * time.Minute, then: func(t *testing.T, f *vaulttest.Fixture) {
			change(t, f, vault.KeyUpdate{Enabled: on})
			change(t, f, vault.KeyUpdate{Enabled: off})
		}},
		"tagged meanwhile": {length: 10 * time.Minute, then: func(t *testing.T, f *vaulttest.Fixture) {
			change(t, f, vault.KeyUpdate{Tags: &map[string]string{"a": "b"}})
		}},
		"deleted meanwhile": {length: 10 * time.Minute, then: func(t *testing.T, f *vaulttest.Fixture) {
			if _, err := f.Vaults.DeleteKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
				t.Fatal(err)
			}
			f.Advance(time.Hour)
			if err := f.Vaults.Sweep(t.Context(), f.Now()); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Vaults.RecoverKey(t.Context(), f.Officer, "kv1", "k"); err != nil {
				t.Fatal(err)
			}
		}, marked: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := vaulttest.New(t)
			f.Vault(t, "kv1")
			f.Key(t, "kv1", "k")
			mark := c.tag
			if mark == "" {
				mark = f.Now().Format(time.RFC3339) + "/" + f.Now().Add(c.length).Format(time.RFC3339)
			}
			change(t, f, vault.KeyUpdate{Enabled: off, Tags: &map[string]string{"env": "prod", vault.TagDrill: mark}})
			if c.then != nil {
				c.then(t, f)
			}
			for range 2 { // the second finds nothing to do
				f.Advance(30*time.Minute + time.Second)
				if err := f.Vaults.Sweep(t.Context(), f.Now()); err != nil {
					t.Fatal(err)
				}
			}
			b, err := f.Vaults.Key(t.Context(), f.Officer, "kv1", "k", "")
			if _, marked := b.Version.Tags[vault.TagDrill]; err != nil || b.Version.Enabled != c.want || marked != c.marked {
				t.Errorf("%v, enabled %t, tags %v", err, b.Version.Enabled, b.Version.Tags)
			}
			own := 0
			for _, e := range f.Entries(t, "KeyUpdate") {
				if e.Detail["policy"] == "drill ended" {
					own++
				}
			}
			if (own == 1) != c.want || own > 1 {
				t.Errorf("the log has it %d times", own)
			}
		})
	}
}

func change(t *testing.T, f *vaulttest.Fixture, u vault.KeyUpdate) {
	t.Helper()
	f.Advance(time.Second)
	if _, err := f.Vaults.UpdateKey(t.Context(), f.Officer, "kv1", "k", "", u); err != nil {
		t.Fatal(err)
	}
}
