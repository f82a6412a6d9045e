package posture_test

import (
	"strings"
	"testing"

	"github.com/kluis-io/kluis/posture"
)

func TestRegister(t *testing.T) {
	elsewhere := strings.ReplaceAll(strings.ReplaceAll(soundAccount, `"keyname":"k1"`, `"keyname":"unread"`), "/sa1", "/sa2")
	inv := inventory(t, soundVault, soundLog, soundKey, soundRotate, soundGrant, soundAccount, elsewhere)
	scan := posture.Judge(inv, policy(t, soundPolicy), nil, now)
	if got := scan.Summary; got.Keyed != 2 || got.Followers != 2 || got.Keys != 2 || got.KeysCertain != 1 || got.Vaults != 1 || got.Logged != 1 {
		t.Errorf("%+v", got)
	}
	r := scan.Register
	if len(r.Keys) != 2 || len(r.Vaults) != 1 || len(r.Grants) != 1 {
		t.Fatalf("%+v", r)
	}
	k1, unread := r.Keys[0], r.Keys[1]
	if k1.Key != "https://kv1.vault.azure.net/keys/k1" || !k1.Read || k1.Dependants != 1 || !k1.Certain || k1.Owner != "ann" || k1.Tested != "2026-10-01" {
		t.Errorf("%+v", k1)
	}
	if v := k1.Versions[0]; k1.Rotation != posture.RotatesByPolicy || !k1.Due.Equal(v.Created.AddDate(0, 0, 180)) || v.Bits == 0 {
		t.Errorf("%+v, due %v", v, k1.Due)
	}
	if unread.Read || unread.Dependants != 1 || unread.Rotation != posture.RotationUnread || unread.Due != nil {
		t.Errorf("%+v", unread)
	}
	if v := r.Vaults[0]; v.Dependants != 2 || v.PurgeProtection == nil || !*v.PurgeProtection || v.Firewall == nil || !*v.Firewall || v.Host != "kv1.vault.azure.net" {
		t.Errorf("%+v", v)
	}

	inv = inventory(t, soundVault, soundKey, soundAccount)
	inv.Gaps = append(inv.Gaps, posture.Gap{What: "subscription t", Why: "403"})
	if k := posture.Judge(inv, nil, nil, now).Register.Keys[0]; k.Certain || k.Rotation != posture.RotationUnread {
		t.Errorf("after a gap: %+v", k)
	}

	// What a plan leaves to apply is not false.
	inv = &posture.Inventory{}
	inv.Add(map[string]any{"id": vaultID, "properties": map[string]any{"enablePurgeProtection": posture.UnknownValue, "enableSoftDelete": true}}, posture.Evidence{})
	inv.Link()
	if v := posture.Judge(inv, nil, nil, now).Register.Vaults[0]; v.PurgeProtection != nil || v.SoftDelete == nil || !*v.SoftDelete {
		t.Errorf("%+v", v)
	}
}
