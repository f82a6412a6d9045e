package vault_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

// The validity matrix, cell by cell.
func TestPermits(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	ops := []vault.Operation{vault.Encrypt, vault.Verify, vault.WrapKey, vault.Decrypt, vault.Sign, vault.UnwrapKey}
	const yes = fault.Reason("")
	for _, state := range []struct {
		name string
		k    vault.KeyVersion
		want [6]fault.Reason // in the order of ops
	}{
		{"enabled", vault.KeyVersion{Enabled: true}, [6]fault.Reason{yes, yes, yes, yes, yes, yes}},
		{"disabled", vault.KeyVersion{}, [6]fault.Reason{yes, yes, yes, fault.KeyDisabled, fault.KeyDisabled, fault.KeyDisabled}},
		{
			"before nbf", vault.KeyVersion{Enabled: true, NotBefore: now.Add(time.Second)},
			[6]fault.Reason{fault.KeyNotYetValid, yes, fault.KeyNotYetValid, yes, fault.KeyNotYetValid, yes},
		},
		{
			"after exp", vault.KeyVersion{Enabled: true, Expires: now},
			[6]fault.Reason{fault.KeyExpired, yes, fault.KeyExpired, yes, fault.KeyExpired, yes},
		},
		{
			"disabled after exp", vault.KeyVersion{Expires: now},
			[6]fault.Reason{fault.KeyExpired, yes, fault.KeyExpired, fault.KeyDisabled, fault.KeyDisabled, fault.KeyDisabled},
		},
		{
			"within both", vault.KeyVersion{Enabled: true, NotBefore: now, Expires: now.Add(time.Second)},
			[6]fault.Reason{yes, yes, yes, yes, yes, yes},
		},
	} {
		for i, op := range ops {
			t.Run(fmt.Sprintf("%s/%s", state.name, op), func(t *testing.T) {
				k := state.k
				k.Operations = ops
				if got := fault.ReasonOf(k.Permits(op, now)); got != state.want[i] {
					t.Errorf("got %q, want %q", got, state.want[i])
				}
				k.Operations = nil
				if got := fault.ReasonOf(k.Permits(op, now)); got != fault.KeyOperationForbidden {
					t.Errorf("not in key_ops: got %q", got)
				}
			})
		}
	}
}

func TestRecoveryLevel(t *testing.T) {
	for _, c := range []struct {
		days      int
		protected bool
		want      string
	}{
		{90, false, "Recoverable+Purgeable"},
		{90, true, "Recoverable"},
		{7, false, "CustomizedRecoverable+Purgeable"},
		{89, true, "CustomizedRecoverable"},
	} {
		if got := (vault.Vault{RetentionDays: c.days, PurgeProtection: c.protected}).RecoveryLevel(); got != c.want {
			t.Errorf("%d days, protected %v: %s, want %s", c.days, c.protected, got, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]vault.Name{
		"default": "default", "Contoso-KV1": "contoso-kv1", "abc": "abc",
		"ab": "", "1abc": "", "abc-": "", "a--b": "", "a.b": "", "abcdefghijklmnopqrstuvwxy": "", "": "", "kv_1": "",
	} {
		if got, err := vault.ParseName(in); got != want || (err == nil) != (want != "") {
			t.Errorf("ParseName(%q) = %q, %v", in, got, err)
		}
	}
	for in, ok := range map[string]bool{"k": true, "Key-1": true, "": false, "a/b": false, "a_b": false, "é": false} {
		if _, err := vault.ParseKeyName(in); (err == nil) != ok {
			t.Errorf("ParseKeyName(%q): %v", in, err)
		}
	}
}
