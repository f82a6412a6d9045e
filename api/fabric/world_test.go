package fabric_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/api/fabric"
	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/kek/kektest"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
	"github.com/kluis-io/kluis/workspace"
)

// people are who a token's text stands for.
var people = map[string]identity.PrincipalID{
	"creator": "00000000-0000-4000-8000-000000000001",
	"admin":   "00000000-0000-4000-8000-000000000002",
	"viewer":  "00000000-0000-4000-8000-000000000003",
	"nobody":  "00000000-0000-4000-8000-000000000004",
}

const subscription = "22222222-2222-4222-8222-222222222222"

type tokens struct{}

func (tokens) Verify(_ context.Context, token string, audiences ...string) (identity.Caller, error) {
	if token == "panic" {
		panic("on purpose")
	}
	p, ok := people[token]
	if !ok || audiences[0] != fabric.Audience {
		return identity.Caller{}, fault.New(fault.Unauthenticated, "The token does not hold.")
	}
	return identity.Caller{Tenant: identity.TenantID(kektest.Tenant), Principal: p, Type: identity.User}, nil
}

type root struct{}

func (root) ID() string       { return "root-1" }
func (root) Instance() string { return "instance" }
func (root) Derive(purpose string) *envelope.Key {
	k := envelope.Key(sha256.Sum256([]byte("root " + purpose)))
	return &k
}

type recorder struct{ log audit.Store }

func (r recorder) Record(ctx context.Context, e audit.Entry) error {
	return r.log.Update(ctx, func(tx audit.Tx) error { return tx.AppendAudit(e) })
}

// A world is the API over a platform with a vault beside it, in fake time.
type world struct {
	*testing.T
	http.Handler
	vault *kektest.Vault
	ws    *workspace.Workspaces
	keys  encryption.Store

	accounts *account.Accounts
}

// busy has an item be worked on by somebody else for a while, so that no change of the
// workspace's key is done before.
func (w *world) busy(item string, d time.Duration) {
	w.Helper()
	if err := w.keys.Update(w.Context(), func(tx encryption.Tx) error {
		i, err := tx.Item(encryption.ItemID(item))
		if err != nil {
			return err
		}
		i.Owner, i.Until = "another", time.Now().Add(d)
		return tx.UpdateItem(i, i.Fence)
	}); err != nil {
		w.Fatal(err)
	}
}

func run(t *testing.T, c fabric.Config, fn func(w *world)) {
	t.Helper()
	runWith(t, c, workspace.Config{}, fn)
}

// runWith runs fn over workspaces that are configured otherwise than by default.
func runWith(t *testing.T, c fabric.Config, wc workspace.Config, fn func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		db, err := enginetest.Open(t.Context(), filepath.Join(dir, "platform.db"),
			store.Schema{"audit", "rbac", "encryption", "workspace", "account"})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		log := recorder{db.Audit()}
		w := &world{T: t, vault: kektest.NewVault(t, "contoso"), keys: db.Encryption()}
		ring := encryption.NewKeyring(encryption.Config{
			Store: db.Encryption(), Root: root{}, Vault: w.vault, Recorder: log, Policy: w.vault.Policy(),
			Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		wc.Store, wc.Keys, wc.Audit = db.Workspace(), ring, log
		w.ws = workspace.New(wc)
		scopes := encryption.NewScopes(ring, rbac.PlatformRoles, w.ws.Supported, w.ws)
		scopes.Guard(w.ws)
		w.accounts = account.New(account.Config{
			Store: db.Account(), Root: root{}, Keys: ring, Encryption: scopes, Audit: log,
			Subscriptions: []account.Subscription{{ID: subscription, Tenant: identity.TenantID(kektest.Tenant)}},
			Principal:     func(identity.TenantID) identity.PrincipalID { return "platform" },
		})
		c.Accounts = w.accounts
		w.Handler = fabric.New(w.ws, scopes, tokens{}, c)
		for who, role := range map[string]rbac.RoleID{"creator": rbac.WorkspaceCreator, "admin": rbac.TenantAdministrator} {
			if err := db.Workspace().Update(t.Context(), func(tx workspace.Tx) error {
				return tx.PutRoleAssignment(rbac.Assignment{
					ID: who, Tenant: identity.TenantID(kektest.Tenant), Principal: people[who], Role: role, Scope: "/",
				})
			}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{}, 2)
		go func() { ring.Run(ctx); done <- struct{}{} }()
		go func() { scopes.Run(ctx); done <- struct{}{} }()
		fn(w)
		stop()
		<-done
		<-done
		time.Sleep(time.Minute)
	})
}

// do sends a request and returns the answer. Every answer that is not a success
// must be of the shape that Fabric's clients need.
func (w *world) do(who, method, path, body string) *httptest.ResponseRecorder {
	w.Helper()
	r := httptest.NewRequest(method, "https://api.fabric.localhost:8443"+path, strings.NewReader(body))
	if who != "" {
		r.Header.Set("Authorization", "Bearer "+who)
	}
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, r)
	if rec.Code >= 300 {
		checkError(w.T, rec)
	}
	return rec
}

func checkError(t *testing.T, rec *httptest.ResponseRecorder) {
	t.Helper()
	var e struct{ RequestID, ErrorCode, Message string }
	if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil || e.ErrorCode == "" || e.Message == "" || e.RequestID == "" {
		t.Errorf("%d: an error that clients cannot read: %q", rec.Code, rec.Body)
	}
	if got := rec.Header().Get("x-ms-public-api-error-code"); got != e.ErrorCode {
		t.Errorf("the header says %q and the body %q", got, e.ErrorCode)
	}
}

// want sends a request and demands a status, and for an error a code.
func (w *world) want(status int, code, who, method, path, body string) *httptest.ResponseRecorder {
	w.Helper()
	rec := w.do(who, method, path, body)
	if rec.Code != status || code != "" && rec.Header().Get("x-ms-public-api-error-code") != code {
		w.Fatalf("%s %s by %s: %d %s, want %d %s", method, path, who, rec.Code, rec.Body, status, code)
	}
	return rec
}

// get sends a request that must succeed and returns the decoded body.
func (w *world) get(who, method, path, body string) (v map[string]any) {
	w.Helper()
	rec := w.do(who, method, path, body)
	if rec.Code/100 != 2 {
		w.Fatalf("%s %s by %s: %d %s", method, path, who, rec.Code, rec.Body)
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		w.Fatalf("%s %s: %v in %q", method, path, err, rec.Body)
	}
	return v
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// golden compares a body with one written by hand, in which every id is ID.
func golden(t *testing.T, what string, body []byte, want string) {
	t.Helper()
	var g, v any
	if err := json.Unmarshal(uuid.ReplaceAll(body, []byte("ID")), &g); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &v); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(v, g); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}
