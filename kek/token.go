package kek

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/kluis-io/kluis/internal/trace"
)

// A call is one question to one vault, with all the requests that it takes. It
// travels in the request's context, for the SDK between us hides who said what.
type call struct {
	renew    bool // ask for a token that no cache holds
	renewed  bool // the token shown was asked for in this call
	shown    bool // the last request carried a token
	status   int  // the vault's last status, 0 if none
	header   http.Header
	tokenErr error // why there was no token
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return new(call)
}

// credentials holds one credential a tenant, so that vaults of a tenant share
// tokens.
type credentials struct {
	make func(tenant string) (azcore.TokenCredential, error)
	mu   sync.Mutex
	of   map[string]azcore.TokenCredential
}

func (c *credentials) get(tenant string, renew bool) (azcore.TokenCredential, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cred, ok := c.of[tenant]; ok && !renew {
		return cred, nil
	}
	cred, err := c.make(tenant)
	if err != nil {
		return nil, err
	}
	c.of[tenant] = cred
	return cred, nil
}

// pinned is the credential that the SDK is given for one vault host and tenant. It
// asks for a token for our audience in the scope's tenant, whatever the SDK read in
// the vault's challenge, and passes on none of the claims that a vault may demand:
// they are the other side's wishes towards our directory.
type pinned struct {
	credentials      *credentials
	tenant, audience string
}

func (p pinned) GetToken(ctx context.Context, asked policy.TokenRequestOptions) (azcore.AccessToken, error) {
	call := callOf(ctx)
	renew := call.renew || asked.Claims != ""
	opts := policy.TokenRequestOptions{
		Scopes:    []string{p.audience + "/.default"},
		TenantID:  p.tenant,
		EnableCAE: asked.EnableCAE,
	}
	if renew {
		// A new credential has an empty cache, but for a managed identity's, which is
		// the process's own; claims make the SDK pass that over too.
		opts.Claims = fmt.Sprintf(`{"access_token":{"nbf":{"essential":true,"value":"%d"}}}`, time.Now().Unix())
	}
	cred, err := p.credentials.get(p.tenant, renew)
	if err != nil {
		call.tokenErr = err
		return azcore.AccessToken{}, err
	}
	ctx, span := trace.Start(ctx, "get token", trace.Client)
	token, err := cred.GetToken(ctx, opts)
	span.End(err)
	call.tokenErr = err
	call.renewed = err == nil && renew
	return token, err
}

// checkChallenge reads a vault's 401 before the SDK does, and refuses what asks for
// a token that is not for this vault in this tenant. It takes the shape that
// vaults send and nothing else: the SDK's own reader can be made to panic.
func checkChallenge(res *http.Response, tenant, audience string) error {
	values := res.Header.Values("WWW-Authenticate")
	if len(values) == 0 {
		return nil // nothing for the SDK to act on
	}
	if len(values) > 1 || !challengeForm.MatchString(values[0]) {
		return fmt.Errorf("%w: challenge", ErrMalformed)
	}
	params := make(map[string]string)
	for _, m := range challengeParam.FindAllStringSubmatch(values[0], -1) {
		if _, twice := params[m[1]]; twice {
			return fmt.Errorf("%w: challenge", ErrMalformed)
		}
		params[m[1]] = m[2]
	}
	asked, ok := strings.CutPrefix(params["authorization"], "https://")
	_, asked, found := strings.Cut(asked, "/")
	if !ok || !found {
		return fmt.Errorf("%w: challenge", ErrMalformed)
	}
	if asked, _, _ = strings.Cut(asked, "/"); !strings.EqualFold(asked, tenant) {
		return ErrForeignTenant
	}
	resource := params["resource"]
	if s, ok := params["scope"]; ok {
		scope := strings.TrimSuffix(s, "/.default")
		if resource != "" && !sameResource(resource, scope) {
			return ErrForeignAudience
		}
		resource = scope
	}
	if !sameResource(resource, audience) {
		return ErrForeignAudience
	}
	return nil
}

func sameResource(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, "/"), strings.TrimSuffix(b, "/"))
}

var (
	challengeForm  = regexp.MustCompile(`^Bearer( \w+="[^"\s]*"(,|$))+$`)
	challengeParam = regexp.MustCompile(`(\w+)="([^"]*)"`)
	entraCode      = regexp.MustCompile(`\bAADSTS[0-9]{4,8}\b`)
	oauthCode      = regexp.MustCompile(`^[a-z_]{1,40}$`)
)

// directoryAnswer reads why a directory gave no token.
func directoryAnswer(err error) Answer {
	a := Answer{From: Directory, Err: err}
	var failed *azidentity.AuthenticationFailedError
	if !errors.As(err, &failed) || failed.RawResponse == nil {
		return a
	}
	a.Err = nil // its text holds the whole answer
	a.Status = failed.RawResponse.StatusCode
	a.RetryAfter = retryAfter(failed.RawResponse.Header)
	body, readErr := runtime.Payload(failed.RawResponse)
	if readErr != nil {
		return a
	}
	var reply struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &reply) != nil {
		return a
	}
	if oauthCode.MatchString(reply.Error) {
		a.Code = reply.Error
	}
	if m := entraCode.FindString(reply.Description); m != "" && known(m) {
		a.Code = m
	}
	return a
}

// known reports whether the table has a row for a directory's code.
func known(code string) bool {
	return slices.ContainsFunc(table, func(r rule) bool { return slices.Contains(r.codes, code) })
}
