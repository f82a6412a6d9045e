package identity_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
)

const (
	portal   = "portal"
	callback = "https://portal.example:8443/signin/callback"
	password = "correct horse battery staple"
	verifier = "dBjftJeZ4CVP-mBypeKxzVZ1pWaV3LVZmNzTz8bPvnQ0123456789"
)

var portalClient = identity.Client{ID: portal, Name: "kluis portal", Redirects: []string{callback}, SignedOut: []string{"https://portal.example:8443/"}}

func (w *world) user(t *testing.T, name string) identity.Principal {
	t.Helper()
	p, err := w.directory.CreateUser(t.Context(), w.caller, name, "", password)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func signInRequest() identity.SignInRequest {
	sum := sha256.Sum256([]byte(verifier))
	return identity.SignInRequest{
		Tenant: tenantA, Client: portal, Redirect: callback, Scope: "openid profile offline_access " + scope,
		Challenge: base64.RawURLEncoding.EncodeToString(sum[:]), Method: "S256", Nonce: "n-1",
		From: identity.Caller{Address: netip.MustParseAddr("192.0.2.7"), Request: "r-1"},
	}
}

func (w *world) code(t *testing.T, name string) string {
	t.Helper()
	code, err := w.issuer.SignIn(t.Context(), signInRequest(), name, password)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func redeem(code string) identity.GrantRequest {
	return identity.GrantRequest{Tenant: tenantA, Client: portal, Text: code, Redirect: callback, Verifier: verifier}
}

func (w *world) mustRedeem(t *testing.T, code string) identity.Grant {
	t.Helper()
	g, err := w.issuer.Redeem(t.Context(), redeem(code))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (w *world) refresh(t *testing.T, token, scope string) (identity.Grant, error) {
	t.Helper()
	return w.issuer.Refresh(t.Context(), identity.GrantRequest{Tenant: tenantA, Client: portal, Text: token, Scope: scope})
}

func payload(t *testing.T, token string) map[string]any {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSignIn(t *testing.T) {
	w := newWorld(t)
	user := w.user(t, "Alice@Example.com")
	code := w.code(t, " ALICE@example.com ")
	if len(w.recorder.entries) != 0 {
		t.Errorf("a sign-in is recorded apart from its transaction: %+v", w.recorder.entries)
	}
	g := w.mustRedeem(t, code)
	c, err := w.verifier.Verify(t.Context(), g.Access.Text, audience)
	if err != nil || c.Principal != user.ID || c.Type != identity.User || c.Application != portal || c.Tenant != tenantA {
		t.Errorf("the caller is %+v, %v", c, err)
	}
	id := payload(t, g.ID)
	for name, want := range map[string]any{
		"iss": w.issuer.Name(tenantA), "aud": portal, "sub": string(user.ID), "nonce": "n-1", "preferred_username": "alice@example.com",
	} {
		if id[name] != want {
			t.Errorf("%s of the ID token is %v, not %v", name, id[name], want)
		}
	}
	if _, err := w.verifier.Verify(t.Context(), g.ID, audience); fault.ReasonOf(err) != fault.Unauthenticated {
		t.Errorf("an ID token opens a service: %v", err)
	}

	next, err := w.refresh(t, g.Refresh, "https://management.example/.default openid offline_access")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.verifier.Verify(t.Context(), next.Access.Text, "https://management.example"); err != nil || next.Refresh == g.Refresh {
		t.Errorf("a token for another service: %v, rotated %t", err, next.Refresh != g.Refresh)
	}
	if _, err := w.refresh(t, next.Refresh, "https://evil.example/.default"); fault.ReasonOf(err) != fault.InvalidScope {
		t.Errorf("a token for a stranger: %v", err)
	}
	if _, err := w.refresh(t, next.Refresh, ""); err != nil {
		t.Errorf("a scope that was refused has used up the token: %v", err)
	}
	// Tokens outlive neither the principal's standing nor the working day.
	w.now = w.now.Add(identity.SignInLife)
	if _, err := w.refresh(t, next.Refresh, ""); fault.ReasonOf(err) != fault.InvalidGrant {
		t.Errorf("after its end: %v", err)
	}
}

func TestSignInRefuses(t *testing.T) {
	w := newWorld(t)
	user := w.user(t, "alice")
	off := w.user(t, "bob")
	if err := w.directory.SetEnabled(t.Context(), w.caller, off.ID, false); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for name, c := range map[string]struct{ user, password, resource string }{
		"a wrong password": {"alice", password + "!", "/tenants/" + string(tenantA) + "/principals/" + string(user.ID)},
		"an unknown name":  {"carol", password, "/tenants/" + string(tenantA) + "/signins"},
		"no name":          {"", password, "/tenants/" + string(tenantA) + "/signins"},
		"a hostile name":   {"' OR 1=1 --", password, "/tenants/" + string(tenantA) + "/signins"},
		"a disabled user":  {"bob", password, "/tenants/" + string(tenantA) + "/principals/" + string(off.ID)},
		"an application":   {w.admin.Application, w.secret.Text, "/tenants/" + string(tenantA) + "/signins"},
		"no password":      {"alice", "", "/tenants/" + string(tenantA) + "/principals/" + string(user.ID)},
	} {
		_, err := w.issuer.SignIn(t.Context(), signInRequest(), c.user, c.password)
		if fault.ReasonOf(err) != fault.Unauthenticated {
			t.Errorf("%s: %v", name, err)
			continue
		}
		texts = append(texts, fault.As(err).Public())
		e := w.recorder.last()
		if e.Operation != "identity/users/signin" || e.Outcome != audit.Denied || e.Resource != c.resource || e.Principal != "" || e.Address != "192.0.2.7" {
			t.Errorf("%s: recorded %+v", name, e)
		}
	}
	for _, s := range texts {
		if s != texts[0] {
			t.Errorf("%q tells something that %q does not", s, texts[0])
		}
	}
	for name, c := range map[string]struct {
		change func(*identity.SignInRequest)
		want   fault.Reason
	}{
		"an unknown client":   {func(r *identity.SignInRequest) { r.Client = "other" }, fault.InvalidArgument},
		"another address":     {func(r *identity.SignInRequest) { r.Redirect = callback + "/" }, fault.InvalidArgument},
		"a loopback address":  {func(r *identity.SignInRequest) { r.Redirect = "http://localhost:1" }, fault.InvalidArgument},
		"no challenge":        {func(r *identity.SignInRequest) { r.Challenge = "" }, fault.InvalidArgument},
		"a plain challenge":   {func(r *identity.SignInRequest) { r.Method = "plain" }, fault.InvalidArgument},
		"a short challenge":   {func(r *identity.SignInRequest) { r.Challenge = r.Challenge[:40] }, fault.InvalidArgument},
		"not OpenID Connect":  {func(r *identity.SignInRequest) { r.Scope = scope }, fault.InvalidScope},
		"an unknown audience": {func(r *identity.SignInRequest) { r.Scope = "openid https://evil.example/.default" }, fault.InvalidScope},
		"an unknown tenant":   {func(r *identity.SignInRequest) { r.Tenant = tenantB }, fault.TenantNotFound},
	} {
		r := signInRequest()
		c.change(&r)
		if _, err := w.issuer.SignIn(t.Context(), r, "alice", password); fault.ReasonOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.recorder.fail = fault.New(fault.Internal, "full")
	if _, err := w.issuer.SignIn(t.Context(), signInRequest(), "carol", password); fault.ReasonOf(err) != fault.AuditFailed {
		t.Errorf("a failure that cannot be recorded: %v", err)
	}
}

func TestSignInIsThrottled(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice")
	try := func(address, name, password string) fault.Reason {
		r := signInRequest()
		r.From.Address = netip.MustParseAddr(address)
		_, err := w.issuer.SignIn(t.Context(), r, name, password)
		return fault.ReasonOf(err)
	}
	for _, name := range []string{"alice", "nobody"} { // who exists cannot be told
		for n := range 11 {
			want := fault.Unauthenticated
			if n == 10 {
				want = fault.Throttled
			}
			if got := try("192.0.2.1", name, "wrong"); got != want {
				t.Fatalf("attempt %d as %s: %s", n, name, got)
			}
		}
	}
	if got := try("192.0.2.1", "alice", password); got != fault.Throttled {
		t.Errorf("the right password, after guessing: %q", got)
	}
	if got := try("192.0.2.2", "alice", password); got != "" {
		t.Errorf("the user, from where nobody guesses: %q", got)
	}
	w.now = w.now.Add(time.Minute)
	for range 15 { // successes do not count
		if got := try("192.0.2.1", "alice", password); got != "" {
			t.Errorf("later: %q", got)
		}
	}
}

// What replicas bear is counted for all of them together.
func TestReplicasThrottleTogether(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice")
	replicas := []*identity.Issuer{w.issuer, w.open(t), w.open(t)}
	for n := range 12 {
		want := fault.Unauthenticated
		if n >= 10 {
			want = fault.Throttled
		}
		if _, err := replicas[n%3].SignIn(t.Context(), signInRequest(), "alice", "wrong"); fault.ReasonOf(err) != want {
			t.Errorf("attempt %d: %v", n, err)
		}
	}
}

// Strangers everywhere use up what is borne of a name: its user gets in all the same from
// where he has signed in before, and nobody else can use up what that is allowed.
func TestNobodyLocksAnotherOut(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice")
	w.user(t, "bob")
	try := func(n int, device, name, password string) fault.Reason {
		r := signInRequest()
		r.Device, r.From.Address = device, netip.AddrFrom4([4]byte{10, 0, byte(n / 200), byte(n % 200)})
		_, err := w.issuer.SignIn(t.Context(), r, name, password)
		return fault.ReasonOf(err)
	}
	if got := try(0, "", "Alice ", password); got != "" {
		t.Fatal(got)
	}
	device := w.issuer.Device(tenantA, "Alice ")
	throttled := 0
	for n := range 150 {
		if try(n, "", "alice", "wrong") == fault.Throttled {
			throttled++
		}
	}
	if throttled != 50 {
		t.Errorf("strangers were refused %d times of 150", throttled)
	}
	if got := try(200, "", "alice", password); got != fault.Throttled {
		t.Errorf("from an address that nobody knows: %q", got)
	}
	if got := try(0, device, "alice", password); got != "" {
		t.Errorf("where she has signed in before: %q", got)
	}
	for name, wrong := range map[string]string{"another's": w.issuer.Device(tenantA, "bob"), "another tenant's": w.issuer.Device(tenantB, "alice"), "forged": device[:len(device)-2] + "xx", "no device": "."} {
		if got := try(201, wrong, "alice", password); got != fault.Throttled {
			t.Errorf("%s: %q", name, got)
		}
	}
	for n := range 11 { // guessing with it is slow, too
		want := fault.Unauthenticated
		if n == 10 {
			want = fault.Throttled
		}
		if got := try(300+n, device, "alice", "wrong"); got != want {
			t.Errorf("attempt %d with the device: %q", n, got)
		}
	}
	w.now = w.now.Add(time.Minute)
	if got := try(0, device, "alice", password); got != "" {
		t.Errorf("a minute later: %q", got)
	}
}

func TestChangePassword(t *testing.T) {
	const fresh = "seven green bottles on a wall"
	w := newWorld(t)
	alice := w.user(t, "alice")
	w.user(t, "bob")
	caller := identity.Caller{Tenant: tenantA, Principal: alice.ID, Type: identity.User, Address: netip.MustParseAddr("192.0.2.9")}
	here, elsewhere := w.mustRedeem(t, w.code(t, "alice")), w.mustRedeem(t, w.code(t, "alice"))
	application := w.caller
	for name, c := range map[string]struct {
		caller       identity.Caller
		current, new string
		want         fault.Reason
	}{
		"a wrong one":       {caller, "wrong", fresh, fault.InvalidArgument},
		"too short":         {caller, password, "short", fault.InvalidArgument},
		"with the name":     {caller, password, "alice and the white rabbit", fault.InvalidArgument},
		"the same":          {caller, password, password, fault.InvalidArgument},
		"an application's":  {application, password, fresh, fault.NotSupported},
		"said to be a user": {identity.Caller{Tenant: tenantA, Principal: application.Principal, Type: identity.User}, password, fresh, fault.NotSupported},
		"nobody's":          {identity.Caller{Tenant: tenantA, Principal: "none", Type: identity.User}, password, fresh, fault.PrincipalNotFound},
	} {
		err := w.issuer.ChangePassword(t.Context(), c.caller, c.current, c.new)
		if fault.ReasonOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if e := w.recorder.last(); e.Operation != "identity/passwords/change" || e.Outcome == audit.Allowed {
			t.Errorf("%s: recorded %+v", name, e)
		}
	}
	if err := w.issuer.ChangePassword(t.Context(), caller, password, fresh); err != nil {
		t.Fatal(err)
	}
	for name, g := range map[string]identity.Grant{"here": here, "elsewhere": elsewhere} {
		if _, err := w.verifier.Verify(t.Context(), g.Access.Text, audience); err == nil {
			t.Errorf("the access token of %s still holds", name)
		}
		if _, err := w.issuer.Refresh(t.Context(), identity.GrantRequest{Tenant: tenantA, Client: portal, Text: g.Refresh}); fault.ReasonOf(err) != fault.InvalidGrant {
			t.Errorf("the sign-in %s: %v", name, err)
		}
	}
	if _, err := w.issuer.SignIn(t.Context(), signInRequest(), "alice", password); fault.ReasonOf(err) != fault.Unauthenticated {
		t.Errorf("the old password: %v", err)
	}
	if _, err := w.issuer.SignIn(t.Context(), signInRequest(), "alice", fresh); err != nil {
		t.Errorf("the new password: %v", err)
	}
	w.code(t, "bob")

	// Who has somebody's session, and guesses his password, gets no further than at the form.
	caller.Address = netip.MustParseAddr("192.0.2.10")
	for n := range 11 {
		want := fault.InvalidArgument
		if n == 10 {
			want = fault.Throttled
		}
		if err := w.issuer.ChangePassword(t.Context(), caller, "wrong", password); fault.ReasonOf(err) != want {
			t.Errorf("attempt %d: %v", n, err)
		}
	}
}

func TestCodes(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*identity.GrantRequest)
		after  time.Duration
		want   fault.Reason
		ends   bool // the sign-in: nobody can redeem the code any more
	}{
		"as it is":           {func(*identity.GrantRequest) {}, 59 * time.Second, "", true},
		"late":               {func(*identity.GrantRequest) {}, time.Minute, fault.InvalidGrant, true},
		"no verifier":        {func(r *identity.GrantRequest) { r.Verifier = "" }, 0, fault.InvalidGrant, true},
		"another verifier":   {func(r *identity.GrantRequest) { r.Verifier = "x" + verifier[1:] }, 0, fault.InvalidGrant, true},
		"another address":    {func(r *identity.GrantRequest) { r.Redirect = "" }, 0, fault.InvalidGrant, true},
		"another client":     {func(r *identity.GrantRequest) { r.Client = "tool" }, 0, fault.InvalidGrant, false},
		"an unknown client":  {func(r *identity.GrantRequest) { r.Client = "other" }, 0, fault.InvalidClient, false},
		"another tenant":     {func(r *identity.GrantRequest) { r.Tenant = tenantB }, 0, fault.InvalidGrant, false},
		"no code":            {func(r *identity.GrantRequest) { r.Text = "" }, 0, fault.InvalidGrant, false},
		"a forged code":      {func(r *identity.GrantRequest) { r.Text = r.Text[:len(r.Text)-2] + "xx" }, 0, fault.InvalidGrant, false},
		"as a refresh token": {func(r *identity.GrantRequest) { r.Text = strings.Replace(r.Text, "code", "refresh", 1) }, 0, fault.InvalidGrant, false},
	} {
		w := newWorld(t)
		w.user(t, "alice")
		r := redeem(w.code(t, "alice"))
		good := r
		c.change(&r)
		w.now = w.now.Add(c.after)
		if _, err := w.issuer.Redeem(t.Context(), r); fault.ReasonOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := w.issuer.Redeem(t.Context(), good); (err != nil) != c.ends {
			t.Errorf("%s: afterwards the code gives %v", name, err)
		}
	}
}

func TestCodeUsedTwiceEndsTheSignIn(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice")
	code := w.code(t, "alice")
	g := w.mustRedeem(t, code)
	if _, err := w.issuer.Redeem(t.Context(), redeem(code)); fault.ReasonOf(err) != fault.InvalidGrant {
		t.Fatal(err)
	}
	if _, err := w.refresh(t, g.Refresh, ""); fault.ReasonOf(err) != fault.InvalidGrant {
		t.Errorf("the refresh token of a stolen code: %v", err)
	}
}

func TestRefreshTokens(t *testing.T) {
	w := newWorld(t)
	user := w.user(t, "alice")
	first := w.mustRedeem(t, w.code(t, "alice"))
	second, err := w.refresh(t, first.Refresh, "")
	if err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(20 * time.Second)
	if again, err := w.refresh(t, first.Refresh, ""); err != nil || again.Refresh != second.Refresh {
		t.Errorf("a request that was under way at the same time: %v", err)
	}
	third, err := w.refresh(t, second.Refresh, "")
	if err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(30 * time.Second)
	if _, err := w.refresh(t, second.Refresh, ""); fault.ReasonOf(err) != fault.InvalidGrant {
		t.Errorf("an exchanged token, later: %v", err)
	}
	if _, err := w.refresh(t, third.Refresh, ""); fault.ReasonOf(err) != fault.InvalidGrant {
		t.Errorf("the newest of a family of which one is stolen: %v", err)
	}

	for name, end := range map[string]func(*testing.T) error{
		"disabled": func(t *testing.T) error { return w.directory.SetEnabled(t.Context(), w.caller, user.ID, false) },
		"reset": func(t *testing.T) error {
			if err := w.directory.SetEnabled(t.Context(), w.caller, user.ID, true); err != nil {
				return err
			}
			return w.directory.ResetPassword(t.Context(), w.caller, user.ID, password)
		},
	} {
		if err := w.directory.SetEnabled(t.Context(), w.caller, user.ID, true); err != nil {
			t.Fatal(err)
		}
		g := w.mustRedeem(t, w.code(t, "alice"))
		if err := end(t); err != nil {
			t.Fatal(err)
		}
		if _, err := w.refresh(t, g.Refresh, ""); fault.ReasonOf(err) != fault.InvalidGrant {
			t.Errorf("%s: the refresh token gives %v", name, err)
		}
		if got := w.reason(t, g.Access.Text); got != fault.Unauthenticated {
			t.Errorf("%s: the access token gives %q", name, got)
		}
	}
}

func TestSignOut(t *testing.T) {
	w := newWorld(t)
	w.user(t, "alice")
	g := w.mustRedeem(t, w.code(t, "alice"))
	for name, hint := range map[string]string{"nothing": "", "an access token": g.Access.Text, "another's": g.ID[:len(g.ID)-4] + "AAAA"} {
		if _, err := w.issuer.SignOut(t.Context(), tenantA, hint, identity.Caller{}); fault.ReasonOf(err) != fault.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.issuer.SignOut(t.Context(), tenantB, g.ID, identity.Caller{}); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("in another tenant: %v", err)
	}
	w.now = w.now.Add(2 * time.Hour) // the ID token has expired
	c, err := w.issuer.SignOut(t.Context(), tenantA, g.ID, identity.Caller{})
	if err != nil || c.ID != portal {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := w.refresh(t, g.Refresh, ""); fault.ReasonOf(err) != fault.InvalidGrant {
		t.Errorf("the refresh token gives %v", err)
	}
}

func TestUsers(t *testing.T) {
	w := newWorld(t)
	alice := w.user(t, "alice")
	for name, c := range map[string]struct {
		user, password string
		want           fault.Reason
	}{
		"the name is taken":     {"ALICE", password, fault.PrincipalExists},
		"no name":               {"", password, fault.InvalidArgument},
		"a name with a space":   {"al ice", password, fault.InvalidArgument},
		"a short password":      {"bob", "fourteen chars", fault.InvalidArgument},
		"a dull password":       {"bob", strings.Repeat("ab", 12), fault.InvalidArgument},
		"a password of oneself": {"bobby", "the password of Bobby", fault.InvalidArgument},
		"a long password":       {"bob", strings.Repeat("abcdefgh", 33), fault.InvalidArgument},
		"broken text":           {"bob", "a password that is \xff not text", fault.InvalidArgument},
	} {
		if _, err := w.directory.CreateUser(t.Context(), w.caller, c.user, "", c.password); fault.ReasonOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := identity.Caller{Tenant: tenantA, Principal: alice.ID, Type: identity.User}
	if _, err := w.directory.CreateUser(t.Context(), other, "bob", "", password); fault.ReasonOf(err) != fault.Denied {
		t.Errorf("by who is no administrator: %v", err)
	}
	if _, err := w.directory.AddSecret(t.Context(), w.caller, alice.ID, "", 0); fault.ReasonOf(err) != fault.NotSupported {
		t.Errorf("a client secret for a user: %v", err)
	}
	if err := w.directory.ResetPassword(t.Context(), w.caller, w.admin.ID, password); fault.ReasonOf(err) != fault.NotSupported {
		t.Errorf("a password for an application: %v", err)
	}
	w.roles[alice.ID] = true
	if err := w.directory.ResetPassword(t.Context(), w.caller, alice.ID, password); fault.ReasonOf(err) != fault.PrincipalProtected {
		t.Errorf("a reset by who lacks the user's roles: %v", err)
	}
	found, err := w.directory.Principals(t.Context(), w.caller, identity.Filter{Type: identity.User, Prefix: "ALI"})
	if err != nil || len(found) != 1 || found[0].ID != alice.ID || found[0].Application != "" {
		t.Errorf("found %+v, %v", found, err)
	}
}

// A code or refresh token has one writing, and none is taken that was not made here.
func FuzzTicket(f *testing.F) {
	key := []byte("a key that is known to the test.")
	genuine := identity.NewTicket("11111111-1111-4111-8111-111111111111", key)
	f.Add(genuine)
	f.Add(strings.Replace(genuine, "code", "refresh", 1))
	f.Add(genuine + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		if again, ok := identity.Ticket(text, key); ok && (again != text || text != genuine) {
			t.Fatalf("%q is taken, and is %q", text, again)
		}
	})
}
