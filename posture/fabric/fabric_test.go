package fabric_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/fabric"
)

type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func TestRead(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/admin/workspaces" || r.URL.Query().Get("include") != "encryption" || r.Header.Get("Authorization") != "Bearer t" {
			t.Errorf("%s", r.URL)
		}
		if r.URL.Query().Get("continuationToken") == "" {
			fmt.Fprint(w, `{"workspaces":[{"id":"w1","name":"a","type":"Workspace","encryption":{"status":"Active","keyIdentifier":"https://kv1.vault.azure.net/keys/k1"}}],"continuationToken":"2"}`)
			return
		}
		fmt.Fprint(w, `{"workspaces":[{"id":"w2","name":"b","type":"Workspace","encryption":{"status":"Disabled"}}]}`)
	}))
	defer s.Close()
	inv := &posture.Inventory{}
	if err := fabric.Read(t.Context(), fabric.Config{Endpoint: s.URL, Credential: token{}}, inv); err != nil {
		t.Fatal(err)
	}
	inv.Link()
	if len(inv.Resources) != 2 || inv.Resources[0].CMK.State != posture.On || inv.Resources[1].CMK.State != posture.Off {
		t.Errorf("%+v", inv.Resources)
	}
}
