package clients_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/go-jose/go-jose/v4"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/sdk"
)

// realm is an OpenID Connect issuer that is none of Entra's kind: its tokens know no
// tenant and no object id.
type realm struct {
	*httptest.Server
	signer jose.Signer
	caFile string
}

func newRealm(t *testing.T) *realm {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := &realm{caFile: filepath.Join(t.TempDir(), "ca.pem")}
	r.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/.well-known/openid-configuration":
			json.NewEncoder(w).Encode(map[string]string{"issuer": r.URL, "jwks_uri": r.URL + "/certs"})
		case "/certs":
			json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k1", Algorithm: "ES256", Use: "sig"}}})
		default:
			http.NotFound(w, req)
		}
	}))
	t.Cleanup(r.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})
	if err := os.WriteFile(r.caFile, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return r
}

// GetToken gives a token of the realm, whatever is asked for.
func (r *realm) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	now := time.Now()
	body, err := json.Marshal(map[string]any{
		"iss": r.URL, "aud": "kluis", "sub": "alice@example.com", "azp": "portal", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	if err != nil {
		return azcore.AccessToken{}, err
	}
	jws, err := r.signer.Sign(body)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	text, err := jws.CompactSerialize()
	return azcore.AccessToken{Token: text, ExpiresOn: now.Add(time.Hour)}, err
}

// A server takes the tokens of an issuer that its configuration names, whose keys it
// fetches, and of no other.
func TestSecondIssuer(t *testing.T) {
	foreign := newRealm(t)
	alice := string(identity.SubjectID(foreign.URL, "alice@example.com"))
	config := filepath.Join(t.TempDir(), "kluis.yaml")
	text := fmt.Sprintf("issuers:\n- issuer: %s\n  audience: kluis\n  ca: %s\n", foreign.URL, foreign.caFile)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, away := serve(t, "--config", config)
	_, aloof := serve(t)
	use := func(at sdk.Target) error {
		clients, err := sdk.New(at)
		if err != nil {
			t.Fatal(err)
		}
		k, err := azkeys.NewClient(at.Endpoints["vault"], foreign, &azkeys.ClientOptions{ClientOptions: clients.Options()})
		if err != nil {
			t.Fatal(err)
		}
		_, err = k.CreateKey(t.Context(), "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil)
		return err
	}
	if err := use(away); err == nil || !strings.Contains(err.Error(), "ForbiddenByRbac") || !strings.Contains(err.Error(), alice) {
		t.Errorf("a known stranger: %v", err)
	}
	if err := use(aloof); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("where the issuer is not trusted: %v", err)
	}
	clients, err := sdk.New(away)
	if err != nil {
		t.Fatal(err)
	}
	officer, err := clients.Officer()
	if err != nil {
		t.Fatal(err)
	}
	scope := "/subscriptions/" + away.SubscriptionID + "/resourceGroups/kluis/providers/Microsoft.KeyVault/vaults/default"
	_, err = officer.Roles.Create(t.Context(), scope, "88888888-0000-4000-8000-000000000001", armauthorization.RoleAssignmentCreateParameters{
		Properties: &armauthorization.RoleAssignmentProperties{
			PrincipalID: &alice, PrincipalType: to.Ptr(armauthorization.PrincipalTypeUser),
			RoleDefinitionID: to.Ptr(scope + "/providers/Microsoft.Authorization/roleDefinitions/14b46e9e-c2b7-41b4-b07b-48a6ebf60603"),
		},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := use(away); err != nil {
		t.Errorf("with a role: %v", err)
	}
}
