// Package fabric reads Fabric's workspaces with their encryption, from the admin
// interface's list: Fabric's own, or kluis's. The caller is a Fabric administrator
// or a service principal that may read the tenant.
package fabric

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
)

// Config says where the list is, and as whom it is read.
type Config struct {
	Endpoint   string // "https://api.fabric.microsoft.com"
	Credential azcore.TokenCredential
	Client     policy.ClientOptions
}

const audience = "https://api.fabric.microsoft.com/.default"

// Read adds the tenant's workspaces.
// https://learn.microsoft.com/rest/api/fabric/admin/workspaces/list-workspaces
func Read(ctx context.Context, c Config, inv *posture.Inventory) error {
	endpoint := strings.TrimSuffix(c.Endpoint, "/")
	auth := runtime.NewBearerTokenPolicy(c.Credential, []string{audience},
		&policy.BearerTokenOptions{InsecureAllowCredentialWithHTTP: strings.HasPrefix(endpoint, "http://127.0.0.1:")})
	pipeline := runtime.NewPipeline("kluis-posture", "v1", runtime.PipelineOptions{PerRetry: []policy.Policy{auth}}, &c.Client)
	for token := ""; ; {
		q := url.Values{"include": {"encryption"}}
		if token != "" {
			q.Set("continuationToken", token)
		}
		at := endpoint + "/v1/admin/workspaces?" + q.Encode()
		req, err := runtime.NewRequest(ctx, http.MethodGet, at)
		if err != nil {
			return err
		}
		resp, err := pipeline.Do(req)
		if err != nil {
			return err
		}
		if !runtime.HasStatusCode(resp, http.StatusOK) {
			return runtime.NewResponseError(resp)
		}
		var page struct {
			Workspaces []json.RawMessage `json:"workspaces"`
			Token      string            `json:"continuationToken"`
		}
		if err := runtime.UnmarshalAsJSON(resp, &page); err != nil {
			return err
		}
		for _, raw := range page.Workspaces {
			var body map[string]any
			if err := json.Unmarshal(raw, &body); err != nil {
				return fault.Wrap(fault.Internal, err, "the list of workspaces holds something else")
			}
			sum := sha256.Sum256(raw)
			inv.Add(body, posture.Evidence{Source: "fabric", Time: time.Now().UTC(), SHA256: hex.EncodeToString(sum[:]), Path: at})
		}
		if page.Token == "" {
			return nil
		}
		if page.Token == token {
			inv.Gaps = append(inv.Gaps, posture.Gap{What: at, Why: "the list leads back to itself"})
			return nil
		}
		token = page.Token
	}
}
