package identity_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
)

// A recorder keeps what is recorded outside of transactions.
type recorder struct {
	mu      sync.Mutex
	entries []audit.Entry
	fail    error
}

func (r *recorder) Record(_ context.Context, e audit.Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return r.fail
	}
	r.entries = append(r.entries, e)
	return nil
}

func (r *recorder) last() audit.Entry { return r.entries[len(r.entries)-1] }

// roles says of every principal in it that the caller does not cover it.
type roles map[identity.PrincipalID]bool

func (r roles) Covers(_ context.Context, _ identity.Caller, p identity.PrincipalID) (bool, error) {
	return !r[p], nil
}

type world struct {
	store     *enginetest.DB
	directory *identity.Directory
	issuer    *identity.Issuer
	verifier  *identity.Verifier
	recorder  *recorder
	roles     roles
	now       time.Time
	root      *envelope.Key

	admin  identity.Principal
	secret identity.Secret
	caller identity.Caller
}

func newWorld(t *testing.T) *world {
	t.Helper()
	db, err := enginetest.Open(t.Context(), filepath.Join(t.TempDir(), "directory.db"), store.DirectorySchema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{store: db, recorder: &recorder{}, roles: roles{}, now: epoch, root: envelope.NewKey()}
	w.directory = identity.NewDirectory(db.Identity(), w.recorder, w.roles, func() time.Time { return w.now })
	w.admin, w.secret, err = w.directory.Bootstrap(t.Context(), tenantA, "Contoso", "admin")
	if err != nil {
		t.Fatal(err)
	}
	w.caller = identity.Caller{Tenant: tenantA, Principal: w.admin.ID, Application: w.admin.Application, Type: identity.ServicePrincipal}
	w.issuer = w.open(t)
	if w.verifier, err = identity.NewVerifier(func() time.Time { return w.now }, w.issuer.Trust(tenantA)); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) open(t *testing.T) *identity.Issuer {
	t.Helper()
	i, err := identity.NewIssuer(t.Context(), w.directory, identity.IssuerConfig{
		Base: "https://login.example:8443", Instance: "i", Root: w.root, Audiences: []string{audience, "https://management.example/"},
		Clients: []identity.Client{portalClient, {ID: "tool", Loopback: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (w *world) token(t *testing.T, client, secret, scope string) (identity.Token, error) {
	t.Helper()
	return w.issuer.ClientCredentials(t.Context(), identity.TokenRequest{Tenant: tenantA, Client: client, Secret: secret, Scope: scope})
}

const scope = audience + "/.default"

func (w *world) mustToken(t *testing.T, client, secret string) string {
	t.Helper()
	token, err := w.token(t, client, secret, scope)
	if err != nil {
		t.Fatal(err)
	}
	return token.Text
}

func (w *world) reason(t *testing.T, token string) fault.Reason {
	t.Helper()
	_, err := w.verifier.Verify(t.Context(), token, audience)
	return fault.ReasonOf(err)
}

func TestClientCredentials(t *testing.T) {
	w := newWorld(t)
	app, secret := w.admin.Application, w.secret.Text
	token, err := w.token(t, strings.ToUpper(app), secret, scope+" openid offline_access profile")
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.verifier.Verify(t.Context(), token.Text, audience)
	if err != nil || c.Tenant != tenantA || c.Principal != w.admin.ID || c.Application != app || c.Type != identity.ServicePrincipal {
		t.Errorf("the caller is %+v, %v", c, err)
	}
	if e := w.recorder.last(); e.Operation != "identity/tokens/issue" || e.Outcome != audit.Allowed || e.Principal != string(w.admin.ID) {
		t.Errorf("recorded %+v", e)
	}
	for _, s := range []string{"https://management.example/.default", "https://management.example//.default", audience + "//.default"} {
		if _, err := w.token(t, app, secret, s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for name, c := range map[string]struct {
		tenant                identity.TenantID
		client, secret, scope string
		want                  fault.Reason
	}{
		"unknown tenant":    {tenantB, app, secret, scope, fault.TenantNotFound},
		"unknown client":    {tenantA, object, secret, scope, fault.InvalidClient},
		"no client":         {tenantA, "", secret, scope, fault.InvalidClient},
		"client by name":    {tenantA, "admin", secret, scope, fault.InvalidClient},
		"client by object":  {tenantA, string(w.admin.ID), secret, scope, fault.InvalidClient},
		"wrong secret":      {tenantA, app, secret + "x", scope, fault.InvalidClient},
		"no secret":         {tenantA, app, "", scope, fault.InvalidClient},
		"its hash":          {tenantA, app, hash(secret), scope, fault.InvalidClient},
		"unknown audience":  {tenantA, app, secret, "https://evil.example/.default", fault.InvalidScope},
		"audience's prefix": {tenantA, app, secret, "https://vault.example/.default", fault.InvalidScope},
		"no scope":          {tenantA, app, secret, "", fault.InvalidScope},
		"only the default":  {tenantA, app, secret, "/.default", fault.InvalidScope},
		"two audiences":     {tenantA, app, secret, scope + " " + scope, fault.InvalidScope},
		"a delegated scope": {tenantA, app, secret, audience + "/user_impersonation", fault.InvalidScope},
	} {
		token, err := w.issuer.ClientCredentials(t.Context(), identity.TokenRequest{Tenant: c.tenant, Client: c.client, Secret: c.secret, Scope: c.scope})
		if fault.ReasonOf(err) != c.want || token.Text != "" {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if e := w.recorder.last(); e.Outcome == audit.Allowed || e.Reason != c.want {
			t.Errorf("%s: recorded %+v", name, e)
		}
	}
	_, unknown := w.token(t, object, secret, scope)
	_, wrong := w.token(t, app, "wrong", scope)
	if unknown.Error() != wrong.Error() {
		t.Errorf("an unknown client (%v) can be told from a wrong secret (%v)", unknown, wrong)
	}
	w.now = w.secret.Expires
	if _, err := w.token(t, app, secret, scope); fault.ReasonOf(err) != fault.InvalidClient {
		t.Errorf("an expired secret: %v", err)
	}
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return string(sum[:])
}

func TestNoRecordNoToken(t *testing.T) {
	w := newWorld(t)
	w.recorder.fail = errors.New("disk full")
	token, err := w.token(t, w.admin.Application, w.secret.Text, scope)
	if fault.ReasonOf(err) != fault.AuditFailed || token.Text != "" {
		t.Errorf("%+v, %v", token, err)
	}
	if _, err := w.token(t, w.admin.Application, "wrong", scope); fault.ReasonOf(err) != fault.AuditFailed {
		t.Errorf("a refusal: %v", err)
	}
}

// What voids a principal's tokens does so at once, cached ones included.
func TestRevokedTokens(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	p, err := w.directory.Create(ctx, w.caller, "", "worker")
	if err != nil {
		t.Fatal(err)
	}
	first, err := w.directory.AddSecret(ctx, w.caller, p.ID, "first", 0)
	if err != nil {
		t.Fatal(err)
	}
	token := w.mustToken(t, p.Application, first.Text)
	if r := w.reason(t, token); r != "" {
		t.Fatal(r)
	}
	second, err := w.directory.AddSecret(ctx, w.caller, p.ID, "second", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if r := w.reason(t, token); r != "" {
		t.Errorf("adding a secret voids tokens: %s", r)
	}
	if err := w.directory.SetEnabled(ctx, w.caller, p.ID, false); err != nil {
		t.Fatal(err)
	}
	if r := w.reason(t, token); r != fault.Unauthenticated {
		t.Errorf("after disabling: %q", r)
	}
	if _, err := w.token(t, p.Application, first.Text, scope); fault.ReasonOf(err) != fault.InvalidClient {
		t.Errorf("a token for a disabled principal: %v", err)
	}
	if err := w.directory.SetEnabled(ctx, w.caller, p.ID, true); err != nil {
		t.Fatal(err)
	}
	if r := w.reason(t, token); r != fault.Unauthenticated {
		t.Errorf("the old token after enabling again: %q", r)
	}
	token = w.mustToken(t, p.Application, second.Text)
	if r := w.reason(t, token); r != "" {
		t.Errorf("a new token after enabling again: %q", r)
	}
	third, err := w.directory.ResetSecret(ctx, w.caller, p.ID, "third", 0)
	if err != nil {
		t.Fatal(err)
	}
	if r := w.reason(t, token); r != fault.Unauthenticated {
		t.Errorf("after a reset: %q", r)
	}
	for _, old := range []string{first.Text, second.Text} {
		if _, err := w.token(t, p.Application, old, scope); fault.ReasonOf(err) != fault.InvalidClient {
			t.Errorf("an old secret after a reset: %v", err)
		}
	}
	token = w.mustToken(t, p.Application, third.Text)
	if err := w.directory.RemoveSecret(ctx, w.caller, p.ID, third.ID); err != nil {
		t.Fatal(err)
	}
	if r := w.reason(t, token); r != fault.Unauthenticated {
		t.Errorf("after the secret was removed: %q", r)
	}
}

// Another replica's change is seen within half a second.
func TestStandingElsewhere(t *testing.T) {
	w := newWorld(t)
	elsewhere := identity.NewDirectory(w.store.Identity(), w.recorder, w.roles, func() time.Time { return w.now })
	p, err := elsewhere.Create(t.Context(), w.caller, "", "worker")
	if err != nil {
		t.Fatal(err)
	}
	s, err := elsewhere.AddSecret(t.Context(), w.caller, p.ID, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	token := w.mustToken(t, p.Application, s.Text)
	if r := w.reason(t, token); r != "" {
		t.Fatal(r)
	}
	if err := elsewhere.SetEnabled(t.Context(), w.caller, p.ID, false); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(500 * time.Millisecond)
	if r := w.reason(t, token); r != fault.Unauthenticated {
		t.Errorf("%q", r)
	}
	w.store.Close()
	w.now = w.now.Add(time.Second)
	if r := w.reason(t, token); r != fault.Unavailable {
		t.Errorf("when the directory cannot answer: %q", r)
	}
}

func TestDirectoryAuthorises(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	worker, err := w.directory.Create(ctx, w.caller, identity.FabricPlatformCMK, "anything")
	if err != nil || worker.Name != "Fabric Platform CMK" {
		t.Fatalf("%+v, %v", worker, err)
	}
	plain := identity.Caller{Tenant: tenantA, Principal: worker.ID}
	foreign := identity.Caller{Tenant: tenantB, Principal: w.admin.ID} // another issuer claims the administrator's id
	for name, c := range map[string]struct {
		want fault.Reason
		act  func() error
	}{
		"create without the role":   {fault.Denied, func() error { _, err := w.directory.Create(ctx, plain, "", "x"); return err }},
		"create by nobody":          {fault.Denied, func() error { _, err := w.directory.Create(ctx, identity.Caller{}, "", "x"); return err }},
		"create by a foreign admin": {fault.Denied, func() error { _, err := w.directory.Create(ctx, foreign, "", "x"); return err }},
		"create twice":              {fault.PrincipalExists, func() error { _, err := w.directory.Create(ctx, w.caller, identity.FabricPlatformCMK, ""); return err }},
		"create with a bad id":      {fault.InvalidArgument, func() error { _, err := w.directory.Create(ctx, w.caller, "app", ""); return err }},
		"create with a bad name":    {fault.InvalidArgument, func() error { _, err := w.directory.Create(ctx, w.caller, "", "a\x00b"); return err }},
		"secret without the role":   {fault.Denied, func() error { _, err := w.directory.AddSecret(ctx, plain, w.admin.ID, "", 0); return err }},
		"own secret without it":     {fault.Denied, func() error { _, err := w.directory.AddSecret(ctx, plain, worker.ID, "", 0); return err }},
		"reset without the role":    {fault.Denied, func() error { _, err := w.directory.ResetSecret(ctx, plain, w.admin.ID, "", 0); return err }},
		"reset by a foreign admin":  {fault.Denied, func() error { _, err := w.directory.ResetSecret(ctx, foreign, w.admin.ID, "", 0); return err }},
		"secret for nobody":         {fault.PrincipalNotFound, func() error { _, err := w.directory.AddSecret(ctx, w.caller, object, "", 0); return err }},
		"secret for ever":           {fault.InvalidArgument, func() error { _, err := w.directory.AddSecret(ctx, w.caller, worker.ID, "", 1e6*time.Hour); return err }},
		"disable without the role":  {fault.Denied, func() error { return w.directory.SetEnabled(ctx, plain, w.admin.ID, false) }},
		"disable the last admin":    {fault.Conflict, func() error { return w.directory.SetEnabled(ctx, w.caller, w.admin.ID, false) }},
		"revoke the last admin": {fault.Conflict, func() error {
			return w.directory.Revoke(ctx, w.caller, w.admin.ID, identity.DirectoryAdministrator)
		}},
		"grant without the role":  {fault.Denied, func() error { return w.directory.Grant(ctx, plain, worker.ID, identity.DirectoryAdministrator) }},
		"grant an unknown role":   {fault.RoleDefinitionNotFound, func() error { return w.directory.Grant(ctx, w.caller, worker.ID, "Owner") }},
		"read by nobody":          {fault.Denied, func() error { _, err := w.directory.Principal(ctx, identity.Caller{}, worker.ID); return err }},
		"read across tenants":     {fault.PrincipalNotFound, func() error { _, err := w.directory.Principal(ctx, foreign, worker.ID); return err }},
		"rotate without the role": {fault.Denied, func() error { return w.issuer.RotateSigningKey(ctx, plain) }},
		"bootstrap twice": {fault.Conflict, func() error {
			_, _, err := w.directory.Bootstrap(ctx, tenantA, "again", "me")
			return err
		}},
	} {
		if err := c.act(); fault.ReasonOf(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}

	w.roles[worker.ID] = true
	for name, act := range map[string]func() error{
		"add":     func() error { _, err := w.directory.AddSecret(ctx, w.caller, worker.ID, "", 0); return err },
		"reset":   func() error { _, err := w.directory.ResetSecret(ctx, w.caller, worker.ID, "", 0); return err },
		"enable":  func() error { return w.directory.SetEnabled(ctx, w.caller, worker.ID, true) },
		"disable": func() error { return w.directory.SetEnabled(ctx, w.caller, worker.ID, false) },
	} {
		if err := act(); fault.ReasonOf(err) != fault.PrincipalProtected {
			t.Errorf("%s on a principal with roles that the administrator lacks: %v", name, err)
		}
		if e := w.recorder.last(); e.Reason != fault.PrincipalProtected || e.Outcome != audit.Failed {
			t.Errorf("%s: recorded %+v", name, e)
		}
	}
	found, err := w.directory.Principals(ctx, plain, identity.Filter{Application: strings.ToUpper(identity.FabricPlatformCMK)})
	if err != nil || len(found) != 1 || found[0].ID != worker.ID || found[0].Generation != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	if err := w.directory.Grant(ctx, w.caller, worker.ID, identity.DirectoryAdministrator); err != nil {
		t.Fatal(err)
	}
	if err := w.directory.Revoke(ctx, plain, w.admin.ID, identity.DirectoryAdministrator); err != nil {
		t.Errorf("a second administrator takes the first one's role: %v", err)
	}
}

func TestSecretsAreBounded(t *testing.T) {
	w := newWorld(t)
	var err error
	n := 1 // the first administrator's own
	for ; err == nil && n < 100; n++ {
		_, err = w.directory.AddSecret(t.Context(), w.caller, w.admin.ID, "", 0)
	}
	if fault.ReasonOf(err) != fault.Conflict || n != 9 {
		t.Errorf("secret %d: %v", n, err)
	}
}

func TestSigningKeys(t *testing.T) {
	w := newWorld(t)
	old := w.mustToken(t, w.admin.Application, w.secret.Text)
	first := w.issuer.KeyIDs()
	if again := w.open(t); len(first) != 1 || again.KeyIDs()[0] != first[0] {
		t.Fatalf("reopened, the issuer has %v and not %v", again.KeyIDs(), first)
	}
	replica := w.open(t) // knows the first key only
	w.now = w.now.Add(2 * time.Second)
	if err := w.issuer.RotateSigningKey(t.Context(), w.caller); err != nil {
		t.Fatal(err)
	}
	next := w.mustToken(t, w.admin.Application, w.secret.Text)
	elsewhere, err := identity.NewVerifier(func() time.Time { return w.now }, replica.Trust(tenantA))
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"old": old, "new": next} {
		if r := w.reason(t, token); r != "" {
			t.Errorf("the %s key's token: %s", name, r)
		}
		if _, err := elsewhere.Verify(t.Context(), token, audience); err != nil {
			t.Errorf("the %s key's token at a replica: %v", name, err)
		}
	}
	var set struct {
		Keys []struct{ Kid, Kty, Use, D string }
	}
	raw, err := w.issuer.KeySet(t.Context())
	if err != nil || json.Unmarshal(raw, &set) != nil || len(set.Keys) != 2 || set.Keys[0].Kty != "RSA" || strings.Contains(string(raw), `"d"`) {
		t.Errorf("the key set is %s, %v", raw, err)
	}
	if keys, err := identity.ParseKeySet(raw); err != nil || len(keys) != 2 {
		t.Errorf("the key set reads as %v, %v", keys, err)
	}
	w.now = w.now.Add(2 * time.Hour)
	if keys, err := w.issuer.Keys(t.Context(), ""); err != nil || len(keys) != 1 || keys[0].ID == first[0] {
		t.Errorf("two hours later: %v, %v", keys, err)
	}

	_, err = identity.NewIssuer(t.Context(), w.directory, identity.IssuerConfig{Base: "https://x", Instance: "i", Root: envelope.NewKey()})
	if fault.ReasonOf(err) != fault.Integrity {
		t.Errorf("under another root: %v", err)
	}
	_, err = identity.NewIssuer(t.Context(), w.directory, identity.IssuerConfig{Base: "https://x", Instance: "j", Root: w.root})
	if fault.ReasonOf(err) != fault.Integrity {
		t.Errorf("in another installation: %v", err)
	}
}

// A key signs for its life, and is then replaced without anybody asking: once, by whichever
// replica looks first.
func TestSigningKeyAges(t *testing.T) {
	w := newWorld(t)
	first := w.issuer.KeyIDs()[0]
	signs := func() string { // the key of a token of now
		t.Helper()
		text := w.mustToken(t, w.admin.Application, w.secret.Text)
		if r := w.reason(t, text); r != "" {
			t.Fatalf("a token: %s", r)
		}
		parsed, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.RS256})
		if err != nil {
			t.Fatal(err)
		}
		return parsed.Signatures[0].Header.KeyID
	}
	sweep := func(i *identity.Issuer) {
		t.Helper()
		if err := i.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	began := w.now
	w.now = began.Add(identity.SigningKeyLife - time.Minute)
	sweep(w.issuer)
	if got := signs(); got != first {
		t.Fatalf("before its time the key %s has become %s", first, got)
	}
	replica := w.open(t)
	w.now = began.Add(identity.SigningKeyLife)
	old := w.mustToken(t, w.admin.Application, w.secret.Text)
	sweep(w.issuer)
	second := signs()
	sweep(replica)
	sweep(w.issuer)
	if got := signs(); second == first || got != second {
		t.Errorf("%s was replaced by %s, and that by %s", first, second, got)
	}
	if r := w.reason(t, old); r != "" {
		t.Errorf("a token that the replaced key signed: %s", r)
	}
}

func TestManagedIdentity(t *testing.T) {
	w := newWorld(t)
	header := strings.Repeat("h", 32)
	if _, err := identity.NewManagedIdentity(w.issuer, tenantA, "short", w.admin.Application); err == nil {
		t.Error("a short header is accepted")
	}
	m, err := identity.NewManagedIdentity(w.issuer, tenantA, header, w.admin.Application)
	if err != nil {
		t.Fatal(err)
	}
	other, err := w.directory.Create(t.Context(), w.caller, "", "other")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		header, client, resource string
		want                     fault.Reason
	}{
		"by default":       {header, "", audience, ""},
		"by name":          {header, w.admin.Application, audience + "/", ""},
		"wrong header":     {header + "x", "", audience, fault.Unauthenticated},
		"no header":        {"", "", audience, fault.Unauthenticated},
		"another client":   {header, other.Application, audience, fault.InvalidClient},
		"another audience": {header, "", "https://evil.example", fault.InvalidScope},
	} {
		token, err := m.Token(t.Context(), identity.Caller{}, c.header, c.client, c.resource)
		if fault.ReasonOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if c.want != "" {
			continue
		}
		if caller, err := w.verifier.Verify(t.Context(), token.Text, audience); err != nil || caller.Principal != w.admin.ID {
			t.Errorf("%s: %+v, %v", name, caller, err)
		}
	}
}
