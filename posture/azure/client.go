package azure

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/kluis-io/kluis/fault"
)

// A client makes calls of one endpoint, as one principal. The pipeline waits and tries
// again where it is throttled.
type client struct {
	endpoint string
	pipeline runtime.Pipeline
}

func newClient(c Config) *client {
	endpoint := strings.TrimSuffix(c.Endpoint, "/")
	audience := c.Audience
	if audience == "" {
		audience = endpoint
	}
	auth := runtime.NewBearerTokenPolicy(c.Credential, []string{strings.TrimSuffix(audience, "/") + "/.default"},
		&policy.BearerTokenOptions{InsecureAllowCredentialWithHTTP: strings.HasPrefix(endpoint, "http://127.0.0.1:")})
	return &client{endpoint, runtime.NewPipeline("kluis-posture", "v1", runtime.PipelineOptions{PerRetry: []policy.Policy{auth}}, &c.Client)}
}

// call makes one call, and reads the answer into out, unless that is nil.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	req, err := runtime.NewRequest(ctx, method, c.endpoint+path)
	if err != nil {
		return err
	}
	req.Raw().Header.Set("Accept", "application/json")
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		if err := req.SetBody(readSeekCloser{bytes.NewReader(text)}, "application/json"); err != nil {
			return err
		}
	}
	resp, err := c.pipeline.Do(req)
	if err != nil {
		return err
	}
	if !runtime.HasStatusCode(resp, http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent) {
		return runtime.NewResponseError(resp)
	}
	text, err := runtime.Payload(resp)
	if err != nil || out == nil {
		return err
	}
	if raw, ok := out.(*json.RawMessage); ok {
		*raw = text
		return nil
	}
	return json.Unmarshal(text, out)
}

type readSeekCloser struct{ *bytes.Reader }

func (readSeekCloser) Close() error { return nil }

// A Manager changes resources through the same interface that [Read] reads. It is what
// package remedy needs.
type Manager struct{ client *client }

// NewManager returns a manager; of the configuration it takes endpoint, audience,
// credential and client.
func NewManager(c Config) *Manager { return &Manager{newClient(c)} }

// Call makes one call. What is refused is a fault, with its reason.
func (m *Manager) Call(ctx context.Context, method, path string, in, out any) error {
	err := m.client.call(ctx, method, path, in, out)
	var refused *azcore.ResponseError
	if !errors.As(err, &refused) {
		return err
	}
	reason, why := fault.Unavailable, message(refused.RawResponse)
	switch refused.StatusCode {
	case http.StatusBadRequest:
		reason = fault.InvalidArgument
		if strings.HasPrefix(refused.ErrorCode, "KeyVault") { // the vault said no to the service
			reason = fault.KEKRefused
		}
	case http.StatusUnauthorized:
		reason = fault.Unauthenticated
	case http.StatusForbidden:
		reason = fault.Denied
		if strings.HasPrefix(why, "CustomerManagedKeyRefused") { // so does Fabric
			reason = fault.KEKRefused
		}
	case http.StatusNotFound:
		reason = fault.ResourceNotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		reason = fault.Conflict
	case http.StatusTooManyRequests:
		reason = fault.Throttled
	}
	text := fmt.Sprintf("%s %s: %d %s", method, pathOnly(path), refused.StatusCode, refused.ErrorCode)
	if why != "" {
		text += ": " + why
	}
	return fault.New(reason, text)
}

func pathOnly(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return path
}

// message returns what an answer says for people, in Resource Manager's shape or Fabric's.
func message(resp *http.Response) string {
	if resp == nil {
		return ""
	}
	text, err := runtime.Payload(resp)
	var body struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
		Code    string `json:"errorCode"`
		Message string `json:"message"`
	}
	if err != nil || json.Unmarshal(text, &body) != nil {
		return ""
	}
	if body.Code != "" {
		return body.Code + ": " + body.Message
	}
	return body.Error.Message
}
