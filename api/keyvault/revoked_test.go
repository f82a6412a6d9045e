package keyvault_test

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/api/keyvault"
	"github.com/kluis-io/kluis/api/token"
	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/enginetest"
	"github.com/kluis-io/kluis/vault/vaulttest"
)

type discard struct{}

func (discard) Record(context.Context, audit.Entry) error { return nil }

// A voided token stops at the next request. The SDK, which announces that it
// understands, learns why, and gets itself another where it still may.
func TestClaimsChallenge(t *testing.T) {
	f := vaulttest.New(t)
	v := f.Vault(t, "kv1")
	f.Key(t, "kv1", "k")
	ctx := t.Context()
	db, err := enginetest.Open(ctx, filepath.Join(t.TempDir(), "directory.db"), store.DirectorySchema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	directory := identity.NewDirectory(db.Identity(), discard{}, identity.NoRoles{}, nil)
	admin, _, err := directory.Bootstrap(ctx, vaulttest.Tenant, "test", "admin")
	if err != nil {
		t.Fatal(err)
	}
	by := identity.Caller{Tenant: vaulttest.Tenant, Principal: admin.ID}
	p, err := directory.Create(ctx, by, "", "service")
	if err != nil {
		t.Fatal(err)
	}
	secret, err := directory.AddSecret(ctx, by, p.ID, "one", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	leaked, err := directory.AddSecret(ctx, by, p.ID, "two", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	var tokens atomic.Int64
	s := vaulttest.Serve(t, func(port string) http.Handler {
		login, suffix := "https://login.localhost:"+port, "vault.localhost:"+port
		issuer, err := identity.NewIssuer(ctx, directory, identity.IssuerConfig{
			Base: login, Instance: "test", Root: envelope.NewKey(), Audiences: []string{"https://" + suffix},
		})
		if err != nil {
			t.Fatal(err)
		}
		verifier, err := identity.NewVerifier(nil, issuer.Trust(vaulttest.Tenant))
		if err != nil {
			t.Fatal(err)
		}
		authority := token.New(issuer, vaulttest.Tenant)
		vaults := keyvault.New(f.Vaults, verifier, keyvault.Config{Suffix: suffix, Authority: login})
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.Host, "login.") {
				if r.Method == http.MethodPost {
					tokens.Add(1)
				}
				authority.ServeHTTP(w, r)
				return
			}
			vaults.ServeHTTP(w, r)
		})
	})
	service := vaulttest.Caller(2)
	service.Principal = p.ID
	f.Grant(t, service, rbac.KeyVaultCryptoServiceEncryption, v.Scope())
	options := azcore.ClientOptions{
		Transport: s.Client, Retry: policy.RetryOptions{MaxRetries: -1},
		Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: "https://login.localhost:" + s.Port + "/"},
	}
	credential, err := azidentity.NewClientSecretCredential(string(vaulttest.Tenant), p.Application, secret.Text,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	k, err := azkeys.NewClient("https://kv1.vault.localhost:"+s.Port, credential, &azkeys.ClientOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	get := func() error {
		_, err := k.GetKey(ctx, "k", "", nil)
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	if err := get(); err != nil || tokens.Load() != 1 {
		t.Fatalf("%d tokens, %v", tokens.Load(), err)
	}
	if err := directory.RemoveSecret(ctx, by, p.ID, leaked.ID); err != nil {
		t.Fatal(err)
	}
	if err := get(); err != nil || tokens.Load() != 2 {
		t.Errorf("after the other secret was taken back: %d tokens, %v", tokens.Load(), err)
	}
	if err := directory.SetEnabled(ctx, by, p.ID, false); err != nil {
		t.Fatal(err)
	}
	if err := get(); err == nil || !strings.Contains(err.Error(), "invalid_client") {
		t.Errorf("a disabled principal: %v", err)
	}
}
