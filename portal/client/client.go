// Package client speaks to the parties' HTTP interfaces as one user: with his tokens,
// and what they answer as Go values. It knows the wire and nothing behind it.
//
// A party that is not configured, one that does not answer and one that refuses are
// three things, and an [Error] says which.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/kluis-io/kluis/internal/trace"
)

// A Party is one interface: where it is, and the audience of tokens for it.
type Party struct {
	Name     string // for people: "platform"
	Address  string // "https://api.fabric.example.com", without a slash at the end; "" if there is none
	Audience string
}

// Parties are all that the portal can speak to. Any of them can be missing.
type Parties struct {
	Fabric  Party // the platform's control plane
	Blob    Party // the platform's data, OneLake's account
	Storage Party // storage accounts: Resource Manager of the platform
	Vaults  Party // Resource Manager of the vaults
	Keys    Party // a vault's data plane: its address is its vault's
	HSMs    Party // a managed HSM's
	Graph   Party // the directory of principals
	Posture Party // governance
	Audit   Party // the audit logs of the parties

	Subscription string // in which vaults and storage accounts lie
	VaultSuffix  string // of vaults' hosts, with the port: "vault.example.com"
	HSMSuffix    string
}

// Tokens gives a user's access tokens.
type Tokens interface {
	Token(ctx context.Context, audience string) (string, error)
	// Refused tells that a party has refused one, which may be void before its time: the
	// user's password was changed, or he was disabled. It is not given again.
	Refused(audience, token string)
}

// Clients speak as one user.
type Clients struct {
	Parties
	http   *http.Client
	tokens Tokens
}

// New returns the clients of whoever the tokens are.
func New(p Parties, h *http.Client, t Tokens) *Clients { return &Clients{p, h, t} }

// An Error is what has come of a call that did not succeed.
type Error struct {
	Party     string
	Status    int    // 0 if there was no answer
	Code      string // the party's own
	Message   string // for people, with what mends it
	RequestID string // by which the party's log knows the request
	cause     error
	absent    bool
}

func (e *Error) Error() string {
	return strings.TrimSpace(fmt.Sprintf("the %s: %d %s %s", e.Party, e.Status, e.Code, e.Message))
}

func (e *Error) Unwrap() error { return e.cause }

// Absent reports whether the party is not configured.
func (e *Error) Absent() bool { return e.absent }

// Unreachable reports whether the party gave no answer.
func (e *Error) Unreachable() bool { return e.Status == 0 && !e.absent }

// callTime bounds a call. Whoever waits for more asks again.
const callTime = 30 * time.Second

// maxAnswer bounds an answer that is kept in memory, in bytes.
const maxAnswer = 64 << 20

// Call makes one call of a party at a path and query of its interface, with in as its
// JSON body and out to take the answer's; either may be nil.
func (c *Clients) Call(ctx context.Context, p Party, method, path string, in, out any) error {
	_, err := c.Exchange(ctx, p, method, path, nil, in, out)
	return err
}

// Exchange is [Clients.Call] with headers of the request, and the answer's.
func (c *Clients) Exchange(ctx context.Context, p Party, method, path string, header http.Header, in, out any) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	resp, err := c.send(ctx, p, method, path, header, in)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, &Error{Party: p.Name, Message: "The answer broke off.", cause: err}
	}
	if resp.StatusCode >= 300 {
		return resp.Header, refusal(p, resp, text)
	}
	if out == nil || len(text) == 0 {
		return resp.Header, nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return resp.Header, &Error{Party: p.Name, Message: "The answer is not what this portal understands.", cause: err}
	}
	return resp.Header, nil
}

// Download makes one call and returns the answer's body, which the caller closes.
func (c *Clients) Download(ctx context.Context, p Party, method, path string, in any) (*http.Response, error) {
	resp, err := c.send(ctx, p, method, path, nil, in)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return nil, refusal(p, resp, text)
	}
	return resp, nil
}

// send makes a request, and a second one with another token if the party refuses the
// first one's.
func (c *Clients) send(ctx context.Context, p Party, method, path string, header http.Header, in any) (*http.Response, error) {
	if p.Address == "" {
		return nil, &Error{Party: p.Name, absent: true}
	}
	for again := false; ; again = true {
		token, err := c.tokens.Token(ctx, p.Audience)
		if err != nil {
			return nil, err
		}
		resp, err := c.sendAs(ctx, p, token, method, path, header, in)
		if err != nil || resp.StatusCode != http.StatusUnauthorized || again {
			return resp, err
		}
		resp.Body.Close()
		c.tokens.Refused(p.Audience, token)
	}
}

func (c *Clients) sendAs(ctx context.Context, p Party, token, method, path string, header http.Header, in any) (*http.Response, error) {
	var body io.Reader
	switch in := in.(type) {
	case nil:
	case []byte:
		body = bytes.NewReader(in)
	default:
		text, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.Address+path, body)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	trace.Send(ctx, req.Header)
	req.Header.Set("Authorization", "Bearer "+token)
	if in != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, &Error{Party: p.Name, Message: "No connection to it could be made, or it did not answer in time.", cause: err}
	}
	return resp, nil
}

// refusal reads an error in any of the parties' shapes.
func refusal(p Party, resp *http.Response, text []byte) *Error {
	e := &Error{Party: p.Name, Status: resp.StatusCode, RequestID: resp.Header.Get("x-ms-request-id")}
	var body struct {
		ErrorCode string          `json:"errorCode"` // Fabric's
		Message   string          `json:"message"`
		Error     json.RawMessage `json:"error"` // everybody else's
	}
	json.Unmarshal(text, &body)
	e.Code, e.Message = body.ErrorCode, body.Message
	var inner struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	if e.Code == "" && json.Unmarshal(body.Error, &inner) == nil {
		e.Code, e.Message = inner.Code, inner.Message
	}
	if e.Code == "" {
		e.Code = resp.Header.Get("x-ms-error-code")
	}
	if e.Message = strings.Join(strings.Fields(e.Message), " "); e.Message == "" { // Azure breaks lines in some
		e.Message = http.StatusText(resp.StatusCode) + "."
	}
	return e
}

// A Page is one of a listing, in any of the parties' shapes.
type Page[T any] struct {
	Value []T    `json:"value"`
	Total int    `json:"total"`
	Token string `json:"continuationToken"` // Fabric's
	Next  string `json:"nextLink"`          // everybody else's
}

// List reads a listing's pages until there are at least limit values, or all; 0 means
// all. more says whether there would be others.
func List[T any](ctx context.Context, c *Clients, p Party, path string, limit int) (all []T, more bool, err error) {
	at := path
	for {
		var page Page[T]
		if err := c.Call(ctx, p, http.MethodGet, at, nil, &page); err != nil {
			return all, false, err
		}
		all = append(all, page.Value...)
		at = page.after(path)
		if at == "" || limit > 0 && len(all) >= limit {
			return all, at != "", nil
		}
	}
}

// after returns the path of the page after this one, "" after the last.
func (p Page[T]) after(path string) string {
	switch {
	case p.Token != "":
		return WithQuery(path, "continuationToken", p.Token)
	case p.Next != "":
		if u, err := url.Parse(p.Next); err == nil {
			return u.RequestURI()
		}
	}
	return ""
}

// WithQuery returns a path with one more parameter.
func WithQuery(path, name, value string) string {
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	return path + separator + url.Values{name: {value}}.Encode()
}

// Credential lets an official SDK act as the user at one audience.
func (c *Clients) Credential(audience string) azcore.TokenCredential {
	return credential{c.tokens, audience}
}

type credential struct {
	tokens   Tokens
	audience string
}

func (c credential) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := c.tokens.Token(ctx, c.audience)
	// An SDK's client lives as long as a request of the portal's, and so does this.
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(5 * time.Minute)}, err
}

// Options are those that an official SDK's client takes here.
func (c *Clients) Options() policy.ClientOptions {
	return policy.ClientOptions{
		Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: c.Vaults.Address, Audience: c.Vaults.Audience},
		}},
		Transport: c.http,
		Retry:     policy.RetryOptions{MaxRetries: -1}, // whoever looks at the page does
	}
}
