package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/go-jose/go-jose/v4"
)

// TestCredentials lets each kind of credential get a token, and checks what it showed
// the directory for it.
func TestCredentials(t *testing.T) {
	const tenant, client = "72f988bf-86f1-41af-91ab-2d7cd011db47", "61d6811f-7544-4e75-a1e6-1c59c0383311"
	dir := t.TempDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "platform"}, NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pair := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	write := func(name string, text []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	pairFile, tokenFile := write("pair.pem", pair), write("token", []byte("what the cluster's issuer says"))

	var shown url.Values
	directory := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		origin := "https://" + r.Host + "/" + tenant
		switch {
		case strings.HasSuffix(r.URL.Path, "/openid-configuration"):
			fmt.Fprintf(w, `{"issuer":"%[1]s/v2.0","authorization_endpoint":"%[1]s/authorize","token_endpoint":"%[1]s/oauth2/v2.0/token"}`, origin)
		case r.URL.Path == "/managed" && r.Header.Get("X-IDENTITY-HEADER") == "header":
			shown = r.URL.Query()
			fmt.Fprintf(w, `{"access_token":"T","expires_on":"%d","resource":"r","token_type":"Bearer"}`, time.Now().Add(time.Hour).Unix())
		case r.URL.Path == "/"+tenant+"/oauth2/v2.0/token" && r.ParseForm() == nil:
			shown = r.PostForm
			fmt.Fprint(w, `{"access_token":"T","expires_in":3600,"token_type":"Bearer"}`)
		default:
			http.NotFound(w, r)
		}
	}))
	defer directory.Close()

	for _, test := range []struct {
		credential credential
		env        map[string]string
		want       map[string]string
	}{
		{credential: credential{ClientID: client, Secret: "hush"}, want: map[string]string{"client_id": client, "client_secret": "hush"}},
		{credential: credential{ClientID: client, Kind: clientCertificate, File: pairFile}, want: map[string]string{"client_id": client}},
		{credential: credential{ClientID: client, Kind: workloadIdentity, File: tokenFile}, want: map[string]string{
			"client_id": client, "client_assertion": "what the cluster's issuer says"}},
		{credential: credential{Kind: managedIdentityOf}, want: map[string]string{"resource": "https://vault.example"},
			env: map[string]string{"IDENTITY_ENDPOINT": directory.URL + "/managed", "IDENTITY_HEADER": "header"}},
		{credential: credential{ClientID: client, Kind: managedIdentityOf}, want: map[string]string{"client_id": client},
			env: map[string]string{"IDENTITY_ENDPOINT": directory.URL + "/managed", "IDENTITY_HEADER": "header"}},
		{credential: credential{Kind: defaultChain}, want: map[string]string{"client_id": client, "client_secret": "of the environment"},
			env: map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": client, "AZURE_CLIENT_SECRET": "of the environment"}},
	} {
		t.Run(string(test.credential.Kind), func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			c := test.credential
			c.Tenant = tenant
			tokens, err := c.tokens(directory.URL, directory.Client().Transport)
			if err != nil {
				t.Fatal(err)
			}
			shown = nil
			token, err := tokens.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://vault.example/.default"}, TenantID: tenant})
			if err != nil || token.Token != "T" {
				t.Fatalf("%v, %v", token, err)
			}
			for name, want := range test.want {
				if got := shown.Get(name); got != want {
					t.Errorf("%s is %q", name, got)
				}
			}
			if c.Kind == clientCertificate {
				assertion, err := jose.ParseSignedCompact(shown.Get("client_assertion"), []jose.SignatureAlgorithm{jose.RS256, jose.PS256})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := assertion.Verify(&key.PublicKey); err != nil {
					t.Error(err)
				}
			}
		})
	}

	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []credential{
		{Kind: "password"}, {Kind: clientCertificate, ClientID: client, File: filepath.Join(dir, "none")},
		{Kind: clientCertificate, ClientID: client, File: tokenFile},
		{Kind: clientCertificate, ClientID: client, File: write("no-certificate.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: foreign}))},
	} {
		bad.Tenant = tenant
		if _, err := bad.tokens(directory.URL, directory.Client().Transport); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}
