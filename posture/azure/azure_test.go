package azure_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/azure"
)

type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

const (
	sqlServer = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Sql/servers/sql1"
	vault     = "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv1"
	account   = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/sa1"
)

// answers are an estate's, as recorded shapes.
var answers = map[string]string{
	"/subscriptions/s": `{"subscriptionId":"s"}`,
	account + "/providers/Microsoft.Authorization/roleAssignments": `{"value":[]}`,
	sqlServer + "/encryptionProtector/current":                     `{"id":"` + sqlServer + `/encryptionProtector/current","properties":{"serverKeyType":"AzureKeyVault","uri":"https://kv1.vault.azure.net/keys/k1/v1","autoRotationEnabled":true}}`,
	account:                       `{"id":"` + account + `","type":"Microsoft.Storage/storageAccounts","properties":{"encryption":{"keySource":"Microsoft.Storage"}}}`,
	account + "/encryptionScopes": `{"value":[]}`,
	vault:                         vaultBody,
	sqlServer:                     `{"id":"` + sqlServer + `","type":"Microsoft.Sql/servers","properties":{}}`,
	vault + "/keys":               `{"value":[{"id":"` + vault + `/keys/k1","properties":{"keyUri":"https://kv1.vault.azure.net/keys/k1"}}],"nextLink":"ENDPOINT` + vault + `/keys2?p=2"}`,
	vault + "/keys2":              `{"value":[]}`,
	vault + "/keys/k1":            `{"id":"` + vault + `/keys/k1","properties":{"keyUriWithVersion":"https://kv1.vault.azure.net/keys/k1/v1","kty":"RSA","keySize":3072,"keyOps":["wrapKey","unwrapKey"],"attributes":{"enabled":true,"created":1790000000},"rotationPolicy":{"lifetimeActions":[{"trigger":{"timeAfterCreate":"P90D"},"action":{"type":"rotate"}}]}}}`,
	vault + "/providers/Microsoft.EventGrid/eventSubscriptions":  `{"value":[{"id":"` + vault + `/providers/Microsoft.EventGrid/eventSubscriptions/e","properties":{"filter":{"includedEventTypes":["Microsoft.KeyVault.KeyNearExpiry"]}}}]}`,
	vault + "/providers/Microsoft.Insights/diagnosticSettings":   `{"value":[]}`,
	vault + "/providers/Microsoft.Authorization/roleAssignments": `{"value":[{"id":"` + vault + `/providers/Microsoft.Authorization/roleAssignments/a","properties":{"principalId":"p","roleDefinitionId":"/x/8e3af657-a8ff-443c-a75c-2fe8c4bcb635","scope":"/subscriptions/s"}}]}`,
}

const vaultBody = `{"id":"` + vault + `","name":"kv1","type":"Microsoft.KeyVault/vaults","properties":{"vaultUri":"https://kv1.vault.azure.net/","enableRbacAuthorization":true,"enablePurgeProtection":true,"networkAcls":{"defaultAction":"Deny"}}}`

// serve is a Resource Manager that throttles its first answer, and pages.
func serve(t *testing.T, withGraph bool) *httptest.Server {
	var calls atomic.Int32
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t" {
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		if calls.Add(1) == 1 {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		switch {
		case r.URL.Path == "/providers/Microsoft.ResourceGraph/resources" && withGraph:
			var q struct {
				Query   string         `json:"query"`
				Options map[string]any `json:"options"`
			}
			if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Query != azure.Query() {
				t.Errorf("query %q: %v", q.Query, err)
			}
			if q.Options["$skipToken"] == nil {
				fmt.Fprintf(w, `{"totalRecords":3,"count":2,"resultTruncated":"true","$skipToken":"next","data":[%s,%s]}`, answers[account], answers[sqlServer])
				return
			}
			fmt.Fprintf(w, `{"totalRecords":3,"count":1,"resultTruncated":"false","data":[%s]}`, vaultBody)
		case strings.EqualFold(r.URL.Path, "/subscriptions/s/resources"):
			fmt.Fprintf(w, `{"value":[%s,%s,%s,{"id":"/subscriptions/s/x","type":"Microsoft.Web/certificates"}]}`, answers[account], answers[sqlServer], vaultBody)
		case answers[r.URL.Path] != "":
			fmt.Fprint(w, strings.ReplaceAll(answers[r.URL.Path], "ENDPOINT", s.URL))
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error":{"code":"NotFound"}}`)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestRead(t *testing.T) {
	for name, withGraph := range map[string]bool{"Resource Graph": true, "lists": false} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, withGraph)
			inv := &posture.Inventory{}
			err := azure.Read(t.Context(), azure.Config{
				Endpoint: s.URL, Subscriptions: []string{"s"}, Credential: token{},
				Client: policy.ClientOptions{Retry: policy.RetryOptions{RetryDelay: time.Millisecond}},
			}, inv)
			if err != nil {
				t.Fatal(err)
			}
			inv.Link()
			if len(inv.Gaps) != 0 {
				t.Errorf("gaps %v", inv.Gaps)
			}
			states := map[string]posture.State{}
			for _, r := range inv.Resources {
				states[r.ID] = r.CMK.State
			}
			if len(states) != 2 || states[sqlServer] != posture.On || states[account] != posture.Off {
				t.Errorf("states %v", states)
			}
			if len(inv.Keys) != 1 || inv.Keys[0].Newest().Bits != 3072 || inv.Keys[0].Rotation == nil || !inv.Keys[0].Rotation.Rotates {
				t.Errorf("keys %+v", inv.Keys)
			}
			found := map[string]bool{}
			for _, f := range posture.Judge(inv, nil, nil, time.Unix(1790000000, 0)).Findings {
				found[f.Control] = true
			}
			for _, want := range []string{"G15", "G17", "G5"} {
				if !found[want] {
					t.Errorf("no finding %s in %v", want, found)
				}
			}
		})
	}
}

// TestRefused checks that an estate that may not be read is an error, and no clean
// bill of health.
func TestRefused(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer s.Close()
	if err := azure.Read(t.Context(), azure.Config{Endpoint: s.URL, Subscriptions: []string{"s"}, Credential: token{}}, &posture.Inventory{}); err == nil {
		t.Error("no error")
	}
}

// What may not be read is a gap that says by which call, and passes nowhere: a whole
// subscription, one resource, and what lies around one.
func TestForbidden(t *testing.T) {
	for name, withGraph := range map[string]bool{"Resource Graph": true, "lists": false} {
		t.Run(name, func(t *testing.T) {
			whole := serve(t, withGraph)
			forbidden := []string{"/subscriptions/closed", account, vault + "/keys"}
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if slices.Contains(forbidden, r.URL.Path) {
					w.WriteHeader(http.StatusForbidden)
					fmt.Fprint(w, `{"error":{"code":"AuthorizationFailed"}}`)
					return
				}
				if strings.HasPrefix(r.URL.Path, "/subscriptions/closed/") {
					fmt.Fprint(w, `{"value":[]}`) // nothing is told of it
					return
				}
				whole.Config.Handler.ServeHTTP(w, r)
			}))
			defer s.Close()
			inv := &posture.Inventory{}
			err := azure.Read(t.Context(), azure.Config{
				Endpoint: s.URL, Subscriptions: []string{"closed", "s"}, Credential: token{},
				Client: policy.ClientOptions{Retry: policy.RetryOptions{RetryDelay: time.Millisecond}},
			}, inv)
			if err != nil {
				t.Fatal(err)
			}
			inv.Link()
			gaps := map[string]posture.Gap{}
			for _, g := range inv.Gaps {
				gaps[g.What] = g
			}
			want := []string{"subscription closed", vault + "/keys"}
			if !withGraph {
				want = append(want, account)
			}
			for _, what := range want {
				g, ok := gaps[what]
				if !ok || g.Why != "403 AuthorizationFailed" || g.Evidence == nil || !strings.HasPrefix(g.Evidence.Path, s.URL) {
					t.Errorf("%s is no gap, or one without evidence: %+v of %v", what, g, inv.Gaps)
				}
			}
			for _, r := range inv.Resources {
				if r.ID == account && !withGraph && (r.CMK.State != posture.Unknown || !strings.Contains(r.CMK.Why, "403")) {
					t.Errorf("an account that may not be read is %s: %s", r.CMK.State, r.CMK.Why)
				}
			}
			if len(inv.Resources) != 2 {
				t.Errorf("%d resources", len(inv.Resources))
			}
		})
	}
}

// A manager's refusals are told apart.
func TestManager(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		fmt.Sscan(strings.TrimPrefix(r.URL.Path, "/"), &status)
		w.WriteHeader(status)
		if status >= 300 {
			fmt.Fprintf(w, `{"error":{"code":%q,"message":"because"}}`, r.URL.Query().Get("code"))
		}
	}))
	defer s.Close()
	m := azure.NewManager(azure.Config{Endpoint: s.URL, Credential: token{}, Client: policy.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}}})
	for path, want := range map[string]fault.Reason{
		"/200": "", "/202": "", "/204": "", "/400?code=BadRequest": fault.InvalidArgument, "/400?code=KeyVaultAuthenticationFailure": fault.KEKRefused,
		"/401": fault.Unauthenticated, "/403?code=AuthorizationFailed": fault.Denied, "/404": fault.ResourceNotFound, "/409": fault.Conflict,
		"/412": fault.Conflict, "/429": fault.Throttled, "/500": fault.Unavailable,
	} {
		err := m.Call(t.Context(), "PATCH", path, map[string]string{"a": "b"}, nil)
		if fault.ReasonOf(err) != want || want != "" && !strings.Contains(err.Error(), "because") {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// TestGroups checks that groups with roles are expanded, page after page, and that one that
// may not be read is a gap.
func TestGroups(t *testing.T) {
	const scope = vault
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		page := r.URL.Query().Get("$skiptoken")
		switch path := r.URL.Path; {
		case path == "/providers/Microsoft.ResourceGraph/resources":
			fmt.Fprintf(w, `{"data":[%s,{"id":%q,"type":"Microsoft.Storage/storageAccounts","properties":{"encryption":{"keySource":"Microsoft.Keyvault","keyvaultproperties":{"keyname":"k1","keyvaulturi":"https://kv1.vault.azure.net"}}}}]}`, vaultBody, account)
		case strings.HasSuffix(path, "/roleAssignments"):
			fmt.Fprint(w, `{"value":[`)
			for i, g := range []string{"open", "shut"} {
				if i > 0 {
					fmt.Fprint(w, ",")
				}
				fmt.Fprintf(w, `{"id":"%s/providers/Microsoft.Authorization/roleAssignments/%s","properties":{"principalId":%q,"principalType":"Group","roleDefinitionId":"/r/14b46e9e-c2b7-41b4-b07b-48a6ebf60603","scope":%q}}`, scope, g, g, scope)
			}
			fmt.Fprintf(w, `,{"id":"%s/providers/Microsoft.Authorization/roleAssignments/d","properties":{"principalId":"bob","roleDefinitionId":"/r/b24988ac-6180-42a0-ab88-20f7382dd24c","scope":%q}}]}`, account, account)
		case path == "/v1.0/groups/open/transitiveMembers" && page == "":
			fmt.Fprintf(w, `{"value":[{"id":"ann"}],"@odata.nextLink":"%s/v1.0/groups/open/transitiveMembers?$skiptoken=2"}`, s.URL)
		case path == "/v1.0/groups/open/transitiveMembers":
			fmt.Fprint(w, `{"value":[{"id":"bob"}]}`)
		case strings.HasPrefix(path, "/v1.0/groups/"):
			w.WriteHeader(http.StatusForbidden)
		default:
			fmt.Fprint(w, `{"value":[]}`)
		}
	}))
	defer s.Close()
	inv := &posture.Inventory{}
	c := azure.Config{Endpoint: s.URL, Graph: s.URL, Subscriptions: []string{"s"}, Credential: token{}, Client: policy.ClientOptions{Retry: policy.RetryOptions{MaxRetries: -1}}}
	if err := azure.Read(t.Context(), c, inv); err != nil {
		t.Fatal(err)
	}
	inv.Link()
	if !slices.ContainsFunc(inv.Gaps, func(g posture.Gap) bool { return g.What == "the members of group shut" && g.Why == "403" }) {
		t.Errorf("gaps %+v", inv.Gaps)
	}
	var joined []string
	for _, f := range posture.Judge(inv, nil, nil, time.Now()).Findings {
		if f.Control == "G16" {
			joined = append(joined, f.State+" "+f.Detail)
		}
	}
	want := []string{
		"fail bob has Key Vault Crypto Officer on the vault through group open, and the data of 1 resources under its keys",
		"unknown who is in group shut was not read",
	}
	if !slices.Equal(joined, want) {
		t.Errorf("%q", joined)
	}
}
