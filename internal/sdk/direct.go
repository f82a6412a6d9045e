package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// HSMURI returns the address of one of the server's managed HSMs.
func (t Target) HSMURI(name string) string {
	u, err := url.Parse(t.Endpoints["vault"])
	if err != nil {
		return ""
	}
	host := name + ".managedhsm." + t.Domain
	if p := u.Port(); p != "" {
		host += ":" + p
	}
	return "https://" + host + "/"
}

// The scopes of tokens for what no official client calls.
const (
	VaultScope = "https://vault.azure.net/.default"
	HSMScope   = "https://managedhsm.azure.net/.default"
)

// Call makes one call that no official client knows, with a token of the scope, in
// as its JSON body and out to take the answer's; either may be nil. An out that is an
// [io.Writer] takes the answer's bytes. A refusal is
// the SDKs' own *azcore.ResponseError.
func (o *Officer) Call(ctx context.Context, scope, method, address string, in, out any) error {
	token, err := o.cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	if err != nil {
		return err
	}
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token.Token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := o.clients.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if !runtime.HasStatusCode(resp, http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent) {
		return runtime.NewResponseError(resp)
	}
	if w, ok := out.(io.Writer); ok {
		_, err := io.Copy(w, resp.Body)
		return err
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil || out == nil || len(text) == 0 {
		return err
	}
	return json.Unmarshal(text, out)
}

// ManagementScope is that of tokens for Resource Manager, whoever serves it.
const ManagementScope = "https://management.azure.com/.default"

// Manage makes one call of Resource Manager, at a resource's id.
func (o *Officer) Manage(ctx context.Context, method, id, apiVersion string, in, out any) error {
	return o.Call(ctx, ManagementScope, method, o.Target().ResourceManager(id)+id+"?api-version="+apiVersion, in, out)
}
