package kek_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/kek/kektest"
)

func TestRoundTrip(t *testing.T) {
	s := kektest.New(t)
	c := s.Client()
	id := s.Create("orders")
	s.State(s.Newest("orders"), func(k *kek.KeyInfo) {
		k.Expires = time.Date(2036, 1, 2, 3, 4, 5, 0, time.UTC)
		k.NotBefore = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
		k.Tags = map[string]string{"kluis-lease": "30s"}
		k.RecoveryLevel = "CustomizedRecoverable"
	})
	first, err := c.Latest(t.Context(), kektest.Tenant, id)
	if err != nil {
		t.Fatal(err)
	}
	want, err := s.Latest(t.Context(), kektest.Tenant, id) // the vault in memory is the oracle
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("Latest (-in memory +over the wire):\n%s", diff)
	}
	wrapped, err := c.Wrap(t.Context(), kektest.Tenant, first.KID, first.Algorithm, share)
	if err != nil || len(wrapped) != 256 {
		t.Fatalf("Wrap = %d bytes, %v", len(wrapped), err)
	}

	second := s.Rotate("orders")
	if got, err := c.Latest(t.Context(), kektest.Tenant, id); err != nil || got.KID != second || got.Modulus == first.Modulus {
		t.Errorf("after a rotation, Latest = %v, %v", got.KID, err)
	}
	if got, err := c.Get(t.Context(), kektest.Tenant, first.KID); err != nil || !cmp.Equal(got, first) {
		t.Errorf("after a rotation, Get of the old version = %+v, %v", got, err)
	}
	if got, err := c.Unwrap(t.Context(), kektest.Tenant, first.KID, kek.RSAOAEP256, wrapped); err != nil || !bytes.Equal(got, share) {
		t.Errorf("Unwrap = %q, %v", got, err)
	}
	if got, err := c.Unwrap(t.Context(), kektest.Tenant, second, kek.RSAOAEP256, wrapped); got != nil || fault.ReasonOf(err) != fault.KEKUnreachable {
		t.Errorf("Unwrap with another version = %q, %v", got, err)
	}

	// One challenge and one token served all of that, for our audience and nothing else.
	if n := s.Steps(kektest.Challenge); n != 1 {
		t.Errorf("%d challenges", n)
	}
	issued := s.Issued()
	if len(issued) != 1 || issued[0].Tenant != kektest.Tenant || !strings.HasPrefix(issued[0].Scope, s.Audience()+"/.default") {
		t.Errorf("issued %+v", issued)
	}
}

func TestValidityMatrix(t *testing.T) {
	s := kektest.New(t)
	c := s.Client()
	s.Create("k")
	kid := s.Newest("k")
	wrapped, err := c.Wrap(t.Context(), kektest.Tenant, kid, kek.RSAOAEP256, share)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name         string
		edit         func(*kek.KeyInfo)
		usable       fault.Reason // the closer reason
		wrap, unwrap bool
	}{
		{"as made", func(*kek.KeyInfo) {}, "", true, true},
		{"disabled still wraps", func(k *kek.KeyInfo) { k.Enabled = false }, fault.KeyDisabled, true, false},
		{"expired still unwraps", func(k *kek.KeyInfo) { k.Enabled, k.Expires = true, time.Now().Add(-time.Hour) }, fault.KeyExpired, false, true},
		{"not yet valid still unwraps", func(k *kek.KeyInfo) { k.Expires, k.NotBefore = time.Time{}, time.Now().Add(time.Hour) }, fault.KeyNotYetValid, false, true},
		{"lacks unwrap", func(k *kek.KeyInfo) { k.NotBefore, k.Ops = time.Time{}, []string{"wrapKey"} }, fault.KeyOperationForbidden, true, false},
	} {
		s.State(kid, tc.edit)
		info, err := c.Get(t.Context(), kektest.Tenant, kid)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if err := info.Usable(time.Now()); (err != nil) != (tc.usable != "") || err != nil && (!errors.Is(err, tc.usable) || !errors.Is(err, fault.KEKUnsuitable)) {
			t.Errorf("%s: Usable = %v, want %q", tc.name, err, tc.usable)
		}
		_, err = c.Wrap(t.Context(), kektest.Tenant, kid, kek.RSAOAEP256, share)
		if (err == nil) != tc.wrap {
			t.Errorf("%s: Wrap: %v", tc.name, err)
		}
		_, err = c.Unwrap(t.Context(), kektest.Tenant, kid, kek.RSAOAEP256, wrapped)
		if (err == nil) != tc.unwrap {
			t.Errorf("%s: Unwrap: %v", tc.name, err)
		}
	}
}

// TestLies has a vault lie about keys and wraps, where [TestAnswers] has it lie
// about unwraps. None of it may pass.
func TestLies(t *testing.T) {
	s := kektest.New(t)
	c := s.Client()
	id := s.Create("k")
	kid := s.Newest("k")
	bare := func(key string) kektest.Lie {
		return kektest.Raw(200, fmt.Sprintf(`{"key":{"kid":%q,"kty":"RSA","n":"AQAB","e":"AQAB"}}`, key))
	}
	for _, tc := range []struct {
		name   string
		at     kektest.Step
		lie    kektest.Lie
		reason fault.Reason
	}{
		{"get: another kid", kektest.Get, kektest.WrongKID(), ""}, // of Latest any version is right; Get refuses
		{"get: no kid", kektest.Get, kektest.NoKID(), fault.KEKIntegrity},
		{"get: another vault's kid", kektest.Get, bare("https://other.vault.localhost/keys/k/" + version), fault.KEKIntegrity},
		{"get: another key's kid", kektest.Get, bare("https://" + s.Host() + "/keys/other/" + version), fault.KEKIntegrity},
		{"get: versionless kid", kektest.Get, bare(id.URL()), fault.KEKIntegrity},
		{"get: http kid", kektest.Get, bare("http://" + s.Host() + "/keys/k/" + version), fault.KEKIntegrity},
		{"get: nothing", kektest.Get, kektest.Raw(200, "{}"), fault.KEKIntegrity},
		{"get: null", kektest.Get, kektest.Raw(200, "null"), fault.KEKIntegrity},
		{"get: garbage", kektest.Get, kektest.Garbage(), fault.KEKUnreachable},
		{"wrap: another kid", kektest.Wrap, kektest.WrongKID(), fault.KEKIntegrity},
		{"wrap: the share itself", kektest.Wrap, kektest.Result(share), fault.KEKIntegrity},
		{"wrap: too short", kektest.Wrap, kektest.Result(make([]byte, 255)), fault.KEKIntegrity},
		{"wrap: not base64", kektest.Wrap, kektest.Raw(200, fmt.Sprintf(`{"kid":%q,"value":"!"}`, kid)), fault.KEKUnreachable},
		{"wrap: a number", kektest.Wrap, kektest.Raw(200, fmt.Sprintf(`{"kid":%q,"value":7}`, kid)), fault.KEKUnreachable},
	} {
		s.Always(tc.at, tc.lie)
		var errs []error
		if tc.at == kektest.Get {
			_, latest := c.Latest(t.Context(), kektest.Tenant, id)
			_, get := c.Get(t.Context(), kektest.Tenant, kid)
			if tc.reason == "" {
				if latest != nil || fault.ReasonOf(get) != fault.KEKIntegrity {
					t.Errorf("%s: Latest %v, Get %v", tc.name, latest, get)
				}
			} else {
				errs = append(errs, latest, get)
			}
		} else {
			_, err := c.Wrap(t.Context(), kektest.Tenant, kid, kek.RSAOAEP256, share)
			errs = append(errs, err)
		}
		for _, err := range errs {
			if fault.ReasonOf(err) != tc.reason || !kek.Alert(err) {
				t.Errorf("%s: %v, want %s and an alert", tc.name, err, tc.reason)
			}
		}
		s.Always(tc.at, nil)
	}

	// Another key's modulus shows in the fingerprint, and another share's bytes are
	// for the caller's commitment to catch: they have the right form.
	honest, err := c.Get(t.Context(), kektest.Tenant, kid)
	if err != nil {
		t.Fatal(err)
	}
	s.Script(kektest.Get, s.OtherKey())
	if got, err := c.Get(t.Context(), kektest.Tenant, kid); err != nil || got.Modulus == honest.Modulus {
		t.Errorf("another key: %v, %v", got.Modulus, err)
	}
	s.Script(kektest.Unwrap, kektest.OtherShare())
	wrapped, _ := c.Wrap(t.Context(), kektest.Tenant, kid, kek.RSAOAEP256, share)
	if got, err := c.Unwrap(t.Context(), kektest.Tenant, kid, kek.RSAOAEP256, wrapped); err != nil || bytes.Equal(got, share) {
		t.Errorf("another share: %q, %v", got, err)
	}
}

func TestHSMKeyWraps(t *testing.T) {
	s := kektest.New(t)
	c := s.Client()
	s.Create("k")
	kid := s.Newest("k")
	s.Script(kektest.Get, kektest.Raw(200, fmt.Sprintf(
		`{"key":{"kid":%q,"kty":"oct-HSM","key_ops":["wrapKey","unwrapKey"]},"attributes":{"enabled":true,"recoveryLevel":"Recoverable+Purgeable"}}`, kid)))
	info, err := c.Get(t.Context(), kektest.Tenant, kid)
	if err != nil || info.Algorithm != kek.A256KW || info.Usable(time.Now()) != nil || !info.SoftDelete() || info.PurgeProtected() {
		t.Errorf("Get = %+v, %v", info, err)
	}
	result := func(n int) kektest.Lie {
		return kektest.Raw(200, fmt.Sprintf(`{"kid":%q,"value":%q}`, kid, strings.Repeat("A", (n*8+5)/6)))
	}
	s.Script(kektest.Wrap, result(40), result(256))
	if got, err := c.Wrap(t.Context(), kektest.Tenant, kid, kek.A256KW, share); err != nil || len(got) != 40 {
		t.Errorf("Wrap = %d bytes, %v", len(got), err)
	}
	if _, err := c.Wrap(t.Context(), kektest.Tenant, kid, kek.A256KW, share); fault.ReasonOf(err) != fault.KEKIntegrity {
		t.Errorf("Wrap of 256 bytes with A256KW: %v", err)
	}
}

func TestBadArgumentsAreNotSent(t *testing.T) {
	s := kektest.New(t)
	c := s.Client()
	s.Create("k")
	kid := s.Newest("k")
	ctx := t.Context()
	for name, f := range map[string]func() error{
		"short share":    func() error { _, err := c.Wrap(ctx, kektest.Tenant, kid, kek.RSAOAEP256, share[:31]); return err },
		"RSA-OAEP":       func() error { _, err := c.Wrap(ctx, kektest.Tenant, kid, "RSA-OAEP", share); return err },
		"RSA1_5":         func() error { _, err := c.Unwrap(ctx, kektest.Tenant, kid, "RSA1_5", make([]byte, 256)); return err },
		"short wrap":     func() error { _, err := c.Unwrap(ctx, kektest.Tenant, kid, kek.RSAOAEP256, share); return err },
		"no tenant":      func() error { _, err := c.Get(ctx, "", kid); return err },
		"hostile tenant": func() error { _, err := c.Get(ctx, "../common", kid); return err },
		"foreign kid":    func() error { _, err := c.Get(ctx, kektest.Tenant, "https://evil.example/keys/k/"+version); return err },
		"malformed kid":  func() error { _, err := c.Wrap(ctx, kektest.Tenant, "k", kek.RSAOAEP256, share); return err },
		"no identifier":  func() error { _, err := c.Latest(ctx, kektest.Tenant, kek.KeyIdentifier{}); return err },
		"feed of nothing": func() error {
			_, err := c.Changes(ctx, kektest.Tenant, kek.KeyIdentifier{}, "", 0)
			return err
		},
	} {
		if r := fault.ReasonOf(f()); r != fault.InvalidArgument && r != fault.InvalidKeyID {
			t.Errorf("%s: %s", name, r)
		}
	}
	for _, step := range []kektest.Step{kektest.Challenge, kektest.Get, kektest.Wrap, kektest.Unwrap} {
		if n := s.Steps(step); n != 0 {
			t.Errorf("%d requests reached %s", n, step)
		}
	}
}

// TestFakeVaultGetsNoToken is threat T7: a vault, under a host that the policy
// allows, asks for a token that is of use elsewhere.
func TestFakeVaultGetsNoToken(t *testing.T) {
	s := kektest.New(t)
	s.Create("k")
	kid := s.Newest("k")
	ours, audience := s.Authority(), s.Audience()
	bearer := func(authority, resource string) string {
		return fmt.Sprintf(`Bearer authorization="%s", resource="%s"`, authority, resource)
	}
	for _, tc := range []struct {
		header string
		err    error
	}{
		{bearer(ours, "https://management.azure.com"), kek.ErrForeignAudience},
		{bearer(ours, "https://graph.microsoft.com/"), kek.ErrForeignAudience},
		{bearer(ours, "https://vault.azure.net"), kek.ErrForeignAudience},
		{bearer(ours, audience+".evil.example"), kek.ErrForeignAudience},
		{bearer(ours, audience+"@evil.example"), kek.ErrForeignAudience},
		{bearer(ours, strings.Replace(audience, "https", "http", 1)), kek.ErrForeignAudience},
		{bearer(ours, ""), kek.ErrForeignAudience},
		{fmt.Sprintf(`Bearer authorization="%s", scope="https://management.azure.com/.default"`, ours), kek.ErrForeignAudience},
		{fmt.Sprintf(`Bearer authorization="%s", resource="%s", scope="https://management.azure.com/.default"`, ours, audience), kek.ErrForeignAudience},
		{fmt.Sprintf(`Bearer authorization="%s", resource="https://management.azure.com", scope="%s/.default"`, ours, audience), kek.ErrForeignAudience},
		{bearer("https://login.localhost/00000000-0000-0000-0000-00000000beef", audience), kek.ErrForeignTenant},
		{bearer("https://login.localhost/common", audience), kek.ErrForeignTenant},
		{bearer("https://login.localhost/", audience), kek.ErrForeignTenant},
		{bearer("https://login.localhost/x/"+kektest.Tenant, audience), kek.ErrForeignTenant},
		{bearer("https://login.localhost", audience), kek.ErrMalformed}, // the SDK's own parser panics here
		{bearer("", audience), kek.ErrMalformed},
		{bearer("http://login.localhost/"+kektest.Tenant, audience), kek.ErrMalformed},
		{bearer(ours, audience) + ` error="x"`, kek.ErrMalformed},
		{bearer(ours, audience) + `, resource="https://management.azure.com"`, kek.ErrMalformed},
		{"Bearer", kek.ErrMalformed},
		{"Basic realm=\"x\"", kek.ErrMalformed},
		{`Bearer authorization=` + ours + `, resource=` + audience, kek.ErrMalformed},
		{strings.Repeat("Bearer ", 1000), kek.ErrMalformed},
	} {
		s.Always(kektest.Challenge, kektest.Ask(tc.header))
		c := kek.NewClient(s.Config())
		_, err := c.Get(t.Context(), kektest.Tenant, kid)
		if !errors.Is(err, tc.err) || fault.ReasonOf(err) != fault.KEKUnreachable || !kek.Alert(err) {
			t.Errorf("%.150q: %v; want %v", tc.header, err, tc.err)
		}
		id, _ := kek.ParseKeyIdentifier(kid.Key(), s.Policy())
		if _, err := c.Changes(t.Context(), kektest.Tenant, id, "", 0); !errors.Is(err, tc.err) {
			t.Errorf("%.150q: feed: %v; want %v", tc.header, err, tc.err)
		}
		// What was refused is not remembered: the honest vault is then asked as ever.
		s.Always(kektest.Challenge, nil)
		before := len(s.Issued())
		if before != 0 {
			t.Fatalf("%.150q: %d tokens were asked for: %+v", tc.header, before, s.Issued())
		}
		c.Close()
	}
	c := s.Client()
	s.Script(kektest.Challenge, kektest.Ask(bearer(ours, "https://management.azure.com")))
	if _, err := c.Get(t.Context(), kektest.Tenant, kid); !errors.Is(err, kek.ErrForeignAudience) {
		t.Error(err)
	}
	if _, err := c.Get(t.Context(), kektest.Tenant, kid); err != nil {
		t.Errorf("a refused challenge poisoned the client: %v", err)
	}
}

func TestForeignTenantsKey(t *testing.T) {
	s := kektest.New(t)
	s.Create("k")
	const other = "11111111-0000-4000-8000-000000000000"
	_, err := s.Client().Get(t.Context(), other, s.Newest("k"))
	if !errors.Is(err, kek.ErrForeignTenant) || len(s.Issued()) != 0 {
		t.Errorf("%v; issued %v", err, s.Issued())
	}
	if f := fault.As(err); !strings.Contains(f.Public(), "directory") {
		t.Errorf("no help in %q", f.Public())
	}
}

// TestStaleTokenIsNoRefusal: a vault that turns down tokens from a cache is asked
// again with a fresh one before its 401 counts.
func TestStaleTokenIsNoRefusal(t *testing.T) {
	s := kektest.New(t)
	c := s.Client()
	s.Create("k")
	kid := s.Newest("k")
	get := func() error { _, err := c.Get(t.Context(), kektest.Tenant, kid); return err }
	if err := get(); err != nil {
		t.Fatal(err)
	}
	s.ForgetTokens()
	if err := get(); err != nil {
		t.Errorf("with a stale token: %v", err)
	}
	if issued := s.Issued(); len(issued) != 2 || issued[1].Claims == "" {
		t.Errorf("issued %+v", issued)
	}
	// Also for a vault that this process has not met yet, whose tenant's token is old.
	s.ForgetTokens()
	id, _ := kek.ParseKeyIdentifier(kid.Key(), s.Policy())
	if _, err := c.Changes(t.Context(), kektest.Tenant, id, "", 0); err != nil {
		t.Errorf("feed with a stale token: %v", err)
	}
	if err := get(); err != nil {
		t.Error(err)
	}
	// A claims challenge asks for the same, and its claims go nowhere.
	s.Script(kektest.Get, kektest.Ask(fmt.Sprintf(`Bearer authorization="%s", resource="%s", error="insufficient_claims", claims="eyJldmlsIjoxfQ=="`, s.Authority(), s.Audience())))
	before := len(s.Issued())
	if err := get(); err != nil {
		t.Errorf("after a claims challenge: %v", err)
	}
	issued := s.Issued()
	if len(issued) != before+1 || strings.Contains(issued[before].Claims, "evil") {
		t.Errorf("issued %+v", issued[before:])
	}
	// The directory's word at the renewal counts.
	s.ForgetTokens()
	s.Always(kektest.Token, kektest.OAuth(401, "invalid_client", ""))
	if err := get(); fault.ReasonOf(err) != fault.KEKTokenRefused {
		t.Errorf("refused at renewal: %v", err)
	}
	s.Always(kektest.Token, kektest.OAuth(503, "", ""))
	if err := get(); fault.ReasonOf(err) != fault.KEKUnreachable || kek.Alert(err) {
		t.Errorf("directory out at renewal: %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	s := kektest.New(t)
	config := s.Config()
	config.Timeout = time.Minute
	c := kek.NewClient(config)
	t.Cleanup(c.Close)
	s.Create("k")
	kid := s.Newest("k")
	wrapped, err := c.Wrap(t.Context(), kektest.Tenant, kid, kek.RSAOAEP256, share)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		s.ForgetTokens() // each round begins with 16 callers who all hold a stale token
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if got, err := c.Unwrap(t.Context(), kektest.Tenant, kid, kek.RSAOAEP256, wrapped); err != nil || !bytes.Equal(got, share) {
					t.Errorf("Unwrap = %q, %v", got, err)
				}
			})
		}
		wg.Wait()
	}
}

// TestHoneypot is threat T6: whatever a name resolves to and wherever a vault
// points, nothing on our own network is reached.
func TestHoneypot(t *testing.T) {
	var hits atomic.Int64
	pot := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	pot.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			hits.Add(1)
		}
	}
	pot.StartTLS()
	t.Cleanup(pot.Close)
	at := netip.MustParseAddrPort(pot.Listener.Addr().String())
	loopback := []string{"127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "127.8.8.8", "10.0.0.1", "192.168.1.1",
		"169.254.169.254", "fe80::1", "fd00:ec2::254", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "168.63.129.16", "224.0.0.1"}
	for _, a := range loopback {
		var looked int
		c := kek.NewClient(kek.Config{
			Policy:  kek.Policy{Suffixes: []string{fmt.Sprintf(".vault.example:%d", at.Port())}},
			Timeout: 2 * time.Second,
			// A name that rebinds: refused, whichever look-up gives the address.
			Resolve: func(context.Context, string) ([]netip.Addr, error) {
				looked++
				return []netip.Addr{netip.MustParseAddr(a), netip.MustParseAddr(a)}, nil
			},
		})
		kid := kek.KID(fmt.Sprintf("https://acme.vault.example:%d/keys/k/%s", at.Port(), version))
		_, err := c.Get(t.Context(), kektest.Tenant, kid)
		if !errors.Is(err, kek.ErrAddress) || fault.ReasonOf(err) != fault.KEKUnreachable || !kek.Alert(err) || looked == 0 {
			t.Errorf("%s: %v", a, err)
		}
		if f := fault.As(err); strings.Contains(f.Public(), a) || f.Detail != "The vault did not answer." {
			t.Errorf("%s: %q tells about our network", a, f.Public())
		}
	}

	s := kektest.New(t)
	id := s.Create("k")
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, step := range []kektest.Step{kektest.Challenge, kektest.Get, kektest.Wrap, kektest.Changes} {
			c := s.Client()
			s.Always(step, kektest.Redirect(status, pot.URL+"/latest/meta-data"))
			_, latest := c.Latest(t.Context(), kektest.Tenant, id)
			_, wrap := c.Wrap(t.Context(), kektest.Tenant, s.Newest("k"), kek.RSAOAEP256, share)
			_, feed := c.Changes(t.Context(), kektest.Tenant, id, "", 0)
			if latest == nil && wrap == nil && feed == nil {
				t.Errorf("%d at %s passes", status, step)
			}
			s.Always(step, nil)
		}
	}
	t.Setenv("HTTPS_PROXY", pot.URL)
	t.Setenv("HTTP_PROXY", pot.URL)
	if _, err := s.Client().Latest(t.Context(), kektest.Tenant, id); err != nil {
		t.Errorf("with a proxy in the environment: %v", err)
	}
	if n := hits.Load(); n != 0 {
		t.Errorf("the honeypot was hit %d times", n)
	}
}

func TestDialable(t *testing.T) {
	for a, want := range map[string]string{ // "": nobody; "inside": operator's own network; "any"
		"20.1.2.3": "any", "2603:1030::1": "any", "2a00:1450::1": "any",
		"127.0.0.1": "inside", "127.255.255.254": "inside", "::1": "inside", "10.9.8.7": "inside", "172.31.0.1": "inside",
		"192.168.0.1": "inside", "fd12::1": "inside",
		"0.0.0.0": "", "0.1.2.3": "", "::": "", "169.254.169.254": "", "fe80::1": "", "224.0.0.1": "", "ff02::1": "",
		"255.255.255.255": "", "240.0.0.1": "", "100.64.0.1": "", "198.18.0.1": "", "192.0.0.192": "", "192.0.2.1": "",
		"168.63.129.16": "", "::ffff:127.0.0.1": "", "::ffff:20.1.2.3": "", "::20.1.2.3": "", "64:ff9b::a00:1": "",
		"2002:a00:1::": "", "2001::1": "", "2001:db8::1": "", "fec0::1": "", "fe80::1%eth0": "",
	} {
		ip := netip.MustParseAddr(a)
		if got := kek.Dialable(ip, false); got != (want == "any") {
			t.Errorf("%s outside: %v", a, got)
		}
		if got := kek.Dialable(ip, true); got != (want != "") {
			t.Errorf("%s inside: %v", a, got)
		}
	}
}

func TestRecoveryLevels(t *testing.T) {
	for level, want := range map[string][2]bool{ // soft delete, purge protection
		"":                                  {false, false},
		"Purgeable":                         {false, false},
		"Recoverable+Purgeable":             {true, false},
		"Recoverable":                       {true, true},
		"Recoverable+ProtectedSubscription": {true, true},
		"CustomizedRecoverable+Purgeable":   {true, false},
		"CustomizedRecoverable":             {true, true},
		"CustomizedRecoverable+ProtectedSubscription": {true, true},
		"Recoverable+Novel":                           {true, false},
	} {
		k := kek.KeyInfo{RecoveryLevel: level}
		if k.SoftDelete() != want[0] || k.PurgeProtected() != want[1] {
			t.Errorf("%q: %v, %v; want %v", level, k.SoftDelete(), k.PurgeProtected(), want)
		}
	}
}

// TestFingerprint is the example of RFC 7638, 3.1.
func TestFingerprint(t *testing.T) {
	const n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
	want := decode(t, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")
	if got := kek.FingerprintOf(decode(t, n), decode(t, "AQAB")); !bytes.Equal(got[:], want) {
		t.Errorf("FingerprintOf = %v", got)
	}
	if got := kek.FingerprintOf(append([]byte{0}, decode(t, n)...), decode(t, "AAEAAQ")); !bytes.Equal(got[:], want) {
		t.Errorf("FingerprintOf with leading zeros = %v", got)
	}
}
