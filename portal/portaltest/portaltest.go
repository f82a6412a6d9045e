// Package portaltest lets tests use the portal as people do: against a server of the
// real binary, in headless Chromium, as each of the principals that a first start
// makes. It takes pictures of pages, and has axe-core look at them.
//
// Signing in here takes a principal's secret in place of a person's password, behind
// the same interface: what the portal does as him is the same.
package portaltest

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// Main runs a package's tests, and removes what they have built. Its TestMain calls it.
func Main(m *testing.M) { devtest.Main(m) }

// Slow skips a test that needs a server and a browser, unless CI=true.
func Slow(t testing.TB) {
	t.Helper()
	if os.Getenv("CI") != "true" {
		t.Skip("SKIPPED, SET CI=true TO RUN: a server and a browser take their time")
	}
}

// Serve starts a dev mode server, and returns what it says about itself.
func Serve(t testing.TB, more ...string) sdk.Target {
	t.Helper()
	target, _ := devtest.Serve(t, more...)
	return target
}

// Parties returns where a server's interfaces are.
func Parties(target sdk.Target) client.Parties {
	e := target.Endpoints
	suffix := func(service string) string {
		u, err := url.Parse(e["login"])
		if err != nil {
			return ""
		}
		return strings.Replace(u.Host, "login.", service+".", 1)
	}
	const management = "https://management.azure.com"
	return client.Parties{
		Fabric:       client.Party{Name: "platform", Address: e["fabric"], Audience: "https://api.fabric.microsoft.com"},
		Blob:         client.Party{Name: "platform's data", Address: e["blob"], Audience: "https://storage.azure.com"},
		Storage:      client.Party{Name: "platform's Resource Manager", Address: e["arm"], Audience: management},
		Vaults:       client.Party{Name: "vaults' Resource Manager", Address: e["arm"], Audience: management},
		Keys:         client.Party{Name: "vault", Audience: "https://vault.azure.net"},
		HSMs:         client.Party{Name: "managed HSM", Audience: "https://managedhsm.azure.net"},
		Graph:        client.Party{Name: "directory", Address: e["graph"], Audience: "https://graph.microsoft.com"},
		Posture:      client.Party{Name: "governance", Address: e["posture"], Audience: e["posture"]},
		Audit:        client.Party{Name: "audit log", Address: e["audit"], Audience: e["audit"]},
		Subscription: target.SubscriptionID, VaultSuffix: suffix("vault"), HSMSuffix: suffix("managedhsm"),
	}
}

// Open serves a portal of sections for a server's principals, and returns its address.
// Whoever's name stands in the cookie "as" has signed in.
func Open(t testing.TB, c *sdk.Clients, parties client.Parties, sections ...portal.Section) string {
	t.Helper()
	p, err := portal.New(portal.Config{Parties: parties, HTTP: c.HTTP, Sessions: principals{c}, Version: "test"}, sections...)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewTLSServer(p)
	t.Cleanup(s.Close)
	return s.URL
}

// principals signs in whoever a cookie names.
type principals struct{ clients *sdk.Clients }

// As is the cookie that names who has signed in.
const As = "as"

func (p principals) Session(_ http.ResponseWriter, r *http.Request) portal.Session {
	c, err := r.Cookie(As)
	if err != nil {
		return nil
	}
	return principal{p.clients, c.Value}
}

func (principals) Begin(w http.ResponseWriter, _ *http.Request, _ string) {
	http.Error(w, "sign in", http.StatusUnauthorized)
}

func (principals) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: As, Path: "/", MaxAge: -1})
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// Tokens are a principal's.
func Tokens(c *sdk.Clients, name string) client.Tokens { return principal{c, name} }

type principal struct {
	clients *sdk.Clients
	name    string
}

func (p principal) User() portal.User {
	return portal.User{Name: p.name, ID: p.clients.Target.Principals[p.name].ObjectID, Tenant: p.clients.Target.TenantID}
}

var credentials sync.Map // by who and where

func (principal) Refused(string, string) {}

func (p principal) Token(ctx context.Context, audience string) (string, error) {
	key := p.clients.Target.Authority + " " + p.name
	cred, known := credentials.Load(key)
	if !known {
		made, err := p.clients.Credential(p.name)
		if err != nil {
			return "", portal.ErrSignIn
		}
		cred, _ = credentials.LoadOrStore(key, made)
	}
	token, err := cred.(azcore.TokenCredential).GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{audience + "/.default"}})
	return token.Token, err
}

// The script that looks for barriers to people with disabilities: the npm package
// axe-core.
//
//go:embed js
var scripts embed.FS

var axeSource = sync.OnceValues(func() (string, error) {
	lock, err := scripts.ReadFile("js/package-lock.json")
	if err != nil {
		return "", err
	}
	dir, leave, err := devtest.Shared()
	if err != nil {
		return "", err
	}
	defer leave()
	sum := sha256.Sum256(lock)
	kept := filepath.Join(dir, "axe-"+hex.EncodeToString(sum[:8])+".js")
	if text, err := os.ReadFile(kept); err == nil {
		return string(text), nil
	}
	text, err := installAxe()
	if err == nil {
		err = os.WriteFile(kept+".new", text, 0o600)
	}
	if err == nil {
		err = os.Rename(kept+".new", kept)
	}
	return string(text), err
})

func installAxe() ([]byte, error) {
	dir, err := os.MkdirTemp("", "kluis-axe-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := scripts.ReadFile("js/" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
		}
		if err != nil {
			return nil, err
		}
	}
	install := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
}

// axe returns axe-core's source, which all packages of the tree share.
func axe(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		effort.Missing(t, "npm", "whether pages are accessible")
	}
	text, err := axeSource()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// violation is one kind of barrier that axe-core has found.
type violation struct {
	ID    string `json:"id"`
	Help  string `json:"help"`
	Nodes []struct {
		HTML    string `json:"html"`
		Failure string `json:"failureSummary"`
	} `json:"nodes"`
}

func (v violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", v.ID, v.Help)
	for i, n := range v.Nodes {
		if i == 3 {
			fmt.Fprintf(&b, "\n  and %d more", len(v.Nodes)-i)
			break
		}
		fmt.Fprintf(&b, "\n  %s\n    %s", n.HTML, strings.ReplaceAll(n.Failure, "\n", " "))
	}
	return b.String()
}

func violations(text string) (all []violation, err error) {
	err = json.Unmarshal([]byte(text), &all)
	return all, err
}
