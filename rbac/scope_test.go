package rbac_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/rbac"
)

func TestParseScope(t *testing.T) {
	for in, want := range map[string]rbac.Scope{
		"/":                      "/",
		"/workspaces/W":          "/workspaces/W",
		"/workspaces/W/":         "/workspaces/W",
		"/subscriptions/a.b-c_d": "/subscriptions/a.b-c_d",
	} {
		if got, err := rbac.ParseScope(in); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, bad := range malformed {
		if got, err := rbac.ParseScope(bad); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
}

// malformed are scopes that somebody might read in two ways.
var malformed = []string{
	"", "//", "///", "workspaces/W", "/workspaces//W", "/workspaces/W//", "//workspaces/W", "/subscriptions/x/../y",
	"/subscriptions/x/..", "/./x", "/subscriptions/x/.", "/a/%2e%2e/b", "/a%2fb", `/a\b`, "/a?b", "/a#b", "/a b", "/a\x00b", "/a\nb",
	"/wor\u212aspaces/W", "/\uff0fx", "/é", "/*", "/a/*", "/" + strings.Repeat("a", 1024), strings.Repeat("/a", 25),
}

func TestMalformedScopesGiveNothing(t *testing.T) {
	for _, bad := range malformed {
		for _, c := range []struct{ at, scope rbac.Scope }{
			{"/", rbac.Scope(bad)}, {rbac.Scope(bad), "/workspaces/W"}, {rbac.Scope(bad), rbac.Scope(bad)},
		} {
			held := []rbac.Assignment{{Role: rbac.Owner, Scope: c.at}}
			if _, ok := rbac.Allowed(rbac.VaultRoles, held, "a/read", false, c.scope); ok {
				t.Errorf("an assignment at %q allows at %q", c.at, c.scope)
			}
		}
	}
}

func FuzzScope(f *testing.F) {
	for _, s := range append(malformed, "/", "/a", "/a/b", "/A/b/", "/workspaces/W") {
		f.Add(s, "/a")
		f.Add("/a", s)
	}
	f.Fuzz(func(t *testing.T, above, below string) {
		a, errA := rbac.ParseScope(above)
		b, errB := rbac.ParseScope(below)
		if errA == nil {
			if again, err := rbac.ParseScope(a.Key()); err != nil || again.Key() != a.Key() || !a.Contains(a) {
				t.Fatalf("%q is not canonical: %q, %v", a, again, err)
			}
			if anc := a.Ancestors(); anc[0] != a.Key() || anc[len(anc)-1] != "/" {
				t.Fatalf("ancestors of %q: %q", a, anc)
			}
		}
		if errA != nil || errB != nil {
			return
		}
		at, of := strings.Split(a.Key(), "/"), strings.Split(b.Key(), "/")
		want := a == "/" || len(at) <= len(of) && strings.EqualFold(strings.Join(at, "/"), strings.Join(of[:len(at)], "/"))
		if got := a.Contains(b); got != want {
			t.Fatalf("%q contains %q: %t", a, b, got)
		}
	})
}

func FuzzMatch(f *testing.F) {
	for _, p := range []string{"*", "a*b", "**", "", "Microsoft.KeyVault/vaults/*/read", "*/read", "a*a*a*b"} {
		f.Add(p, "Microsoft.KeyVault/vaults/keys/read")
		f.Add(p, "aaaaab")
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 64 || len(s) > 256 || !ascii(pattern) || !ascii(s) {
			rbac.Match(pattern, s)
			return
		}
		re := regexp.MustCompile("(?is)^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$")
		if got, want := rbac.Match(pattern, s), re.MatchString(s); got != want {
			t.Fatalf("%q against %q: %t", s, pattern, got)
		}
	})
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
