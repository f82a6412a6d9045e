package vault_test

import (
	"strings"
	"testing"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

// A service that is to come with a certificate reaches no key without it, whatever token it
// shows and wherever the vault lets it in from; a use that was decided once for the one
// connection is not allowed on the other. Nobody else is asked.
func TestClients(t *testing.T) {
	f := vaulttest.New(t, func(c *vault.Config) {
		c.Clients = map[string]string{strings.ToUpper(identity.FabricPlatformCMK): "platform.example", "no-such-service": ""}
	})
	f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	platform := vaulttest.Caller(2)
	platform.Application = strings.ToUpper(identity.FabricPlatformCMK)
	f.Grant(t, platform, rbac.KeyVaultCryptoServiceEncryption, vault.Subscription{ID: vaulttest.Subscription}.Scope())
	with := func(c identity.Caller, name string) identity.Caller {
		c.Certificate = name
		return c
	}
	for range 2 {
		for name, c := range map[string]struct {
			caller identity.Caller
			want   fault.Reason
		}{
			"its own":     {with(platform, "PLATFORM.example"), ""},
			"none":        {platform, fault.ConnectionDenied},
			"another's":   {with(platform, "other.example"), fault.ConnectionDenied},
			"not asked":   {f.Officer, ""},
			"nobody asks": {with(f.Officer, "other.example"), ""},
		} {
			_, _, err := f.Vaults.Use(t.Context(), c.caller, "kv1", "k", "", vault.WrapKey, vault.Input{Algorithm: vault.RSAOAEP256, Value: make([]byte, 32)})
			if fault.ReasonOf(err) != c.want {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
		}
	}
	denied := 0
	for _, e := range f.Entries(t, "KeyWrap") {
		if e.Reason == fault.ConnectionDenied {
			denied++
		}
	}
	if denied != 4 {
		t.Errorf("%d refusals are recorded, want 4", denied)
	}
}
