package deploytest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/kluis-io/kluis/internal/sdk"
)

// PlatformSecret has a directory's administrator make a secret for the service principal
// Fabric Platform CMK, as he would for any application.
func PlatformSecret(ctx context.Context, target sdk.Target) (string, error) {
	c, err := sdk.New(target)
	if err != nil {
		return "", err
	}
	cred, err := c.Credential("admin")
	if err != nil {
		return "", err
	}
	token, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://graph.microsoft.com/.default"}})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(map[string]any{"passwordCredential": map[string]string{"displayName": "the platform"}})
	if err != nil {
		return "", err
	}
	address := target.Endpoints["graph"] + "/v1.0/servicePrincipals/" + target.Platform.ObjectID + "/addPassword"
	req, err := http.NewRequestWithContext(ctx, "POST", address, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token.Token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var made struct {
		SecretText string `json:"secretText"`
	}
	if err := json.Unmarshal(text, &made); err != nil || made.SecretText == "" {
		return "", fmt.Errorf("making a secret: %s %s", resp.Status, text)
	}
	return made.SecretText, nil
}
