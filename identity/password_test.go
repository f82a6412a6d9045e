package identity_test

import (
	"strings"
	"testing"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

func TestPasswordHash(t *testing.T) {
	hash, ok, err := identity.HashPassword("e\u0301 is one letter, or two", "\u00e9 is one letter, or two")
	if err != nil || !ok || !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("%q matches: %t, %v", hash, ok, err)
	}
	parts := strings.Split(hash, "$")
	for name, bad := range map[string]string{
		"nothing": "", "another kind": strings.Replace(hash, "argon2id", "argon2i", 1), "another version": strings.Replace(hash, "v=19", "v=16", 1),
		"too much memory": strings.Replace(hash, "m=19456", "m=4194304", 1), "no lanes": strings.Replace(hash, "p=1", "p=0", 1),
		"too many passes": strings.Replace(hash, "t=2", "t=300", 1), "a short salt": strings.Replace(hash, parts[4], parts[4][:8], 1),
		"a short hash": strings.Join(parts[:5], "$") + "$" + parts[5][:10], "no hash": strings.Join(parts[:5], "$"),
	} {
		if ok, err := identity.MatchesPassword("", bad); ok || fault.ReasonOf(err) != fault.Integrity {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
	}
	if ok, err := identity.MatchesPassword("another one", hash); ok || err != nil {
		t.Errorf("a wrong password: %t, %v", ok, err)
	}
}
