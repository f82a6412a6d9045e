package kek

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/trace"
)

// defaultTimeout bounds one question to a vault, tokens and challenges included.
const defaultTimeout = 5 * time.Second

// again sends a question once more whose connection broke. It goes on for about a second,
// in which a load balancer notices that a server is gone.
var again = policy.RetryOptions{
	MaxRetries: 3,
	RetryDelay: 100 * time.Millisecond,
	ShouldRetry: func(_ *http.Response, err error) bool {
		for _, broken := range []error{
			syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.ECONNABORTED, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF,
		} {
			if errors.Is(err, broken) {
				return true
			}
		}
		return false
	},
}

// maxConns bounds what is kept for vaults: tenants choose the hosts' first labels.
const maxConns = 4096

// A Config is what a [Client] needs. All of it is the operator's, none a tenant's.
type Config struct {
	// Policy says at which hosts keys may lie.
	Policy Policy
	// Credential returns the platform's credential in a tenant. It is called once a
	// tenant, and again when a vault turned down a token that may have come from the
	// credential's cache: it must then return a new one. It must not block. The
	// directory's address is the credential's own business, never taken from a vault.
	Credential func(tenant string) (azcore.TokenCredential, error)
	// Audience returns the resource for which tokens for a vault host are asked.
	// Nil or "" means [Policy.Audience].
	Audience func(host string) string
	// Roots are the certificate authorities that vaults' certificates may come from.
	// Nil means the system's.
	Roots *x509.CertPool
	// AllowPrivate says for which hosts (without a port) loopback and private addresses
	// are right: the operator's own vaults, and private endpoints. Nil means none.
	AllowPrivate func(host string) bool
	// Certificate is what is shown to vaults that ask for one of its authority; nil if there
	// is none. It is called for each connection.
	Certificate func() (*tls.Certificate, error)
	// Resolve looks a host up. Nil means the system's resolver, with every name under
	// ".localhost" loopback.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Timeout bounds one question to a vault. 0 means 5 s.
	Timeout time.Duration
}

// A Client asks vaults. It is safe for concurrent use, keeps connections and
// tokens, and no answer.
//
// Its errors are [*fault.Error] with one of the five KEK reasons of the table of
// answers, or [fault.InvalidKeyID] and [fault.InvalidArgument] for what was not
// sent at all. A question whose connection broke before any answer came is sent again, as
// HTTP allows for what may be done twice (RFC 9110, 9.2.2): a vault's replica, or a
// proxy before it, was being replaced. An answer ends it, whatever it says, and so does
// silence: whether and when to ask again then is the caller's.
type Client struct {
	config      Config
	http        *http.Client
	credentials *credentials

	mu    sync.Mutex
	conns map[connKey]*conn
}

type connKey struct{ tenant, host string }

// A conn is what is kept for one vault host and tenant.
type conn struct {
	client           *Client
	tenant, audience string
	keys             *azkeys.Client
	feed             *feed
}

// NewClient returns a client.
func NewClient(config Config) *Client {
	if config.Timeout == 0 {
		config.Timeout = defaultTimeout
	}
	d := dialer{resolve: config.Resolve, allowPrivate: config.AllowPrivate}
	if d.resolve == nil {
		d.resolve = resolve
	}
	return &Client{
		config:      config,
		http:        newHTTP(config.Roots, config.Certificate, d),
		credentials: &credentials{make: config.Credential, of: make(map[string]azcore.TokenCredential)},
		conns:       make(map[connKey]*conn),
	}
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Policy returns the policy that the client goes by.
func (c *Client) Policy() Policy { return c.config.Policy }

// Latest asks for the newest version of a key.
func (c *Client) Latest(ctx context.Context, tenant string, id KeyIdentifier) (KeyInfo, error) {
	if id.IsZero() {
		return KeyInfo{}, invalid("", "There is no key identifier.", form)
	}
	return ask(ctx, c, tenant, id.host, OpGet, id.URL(), func(ctx context.Context, keys *azkeys.Client) (KeyInfo, error) {
		res, err := keys.GetKey(ctx, id.name, "", nil)
		if err != nil {
			return KeyInfo{}, err
		}
		info := keyInfo(res.KeyBundle)
		kid, err := ParseKID(string(info.KID), c.config.Policy)
		if err != nil || kid.Vault() != id.host || !strings.EqualFold(kid.Name(), id.name) {
			return KeyInfo{}, ErrWrongKID
		}
		return info, nil
	})
}

// Get asks for one version of a key.
func (c *Client) Get(ctx context.Context, tenant string, kid KID) (KeyInfo, error) {
	if _, err := ParseKID(string(kid), c.config.Policy); err != nil {
		return KeyInfo{}, err
	}
	return ask(ctx, c, tenant, kid.Vault(), OpGet, string(kid), func(ctx context.Context, keys *azkeys.Client) (KeyInfo, error) {
		res, err := keys.GetKey(ctx, kid.Name(), kid.Version(), nil)
		if err != nil {
			return KeyInfo{}, err
		}
		info := keyInfo(res.KeyBundle)
		if info.KID != kid {
			return KeyInfo{}, ErrWrongKID
		}
		return info, nil
	})
}

// Wrap has the vault wrap a share of [ShareSize] bytes with exactly the given
// version. That the vault can also unwrap the result is for the caller to try.
func (c *Client) Wrap(ctx context.Context, tenant string, kid KID, alg Algorithm, share []byte) ([]byte, error) {
	if len(share) != ShareSize {
		return nil, fault.New(fault.InvalidArgument, fmt.Sprintf("A share has %d bytes.", ShareSize))
	}
	return c.operate(ctx, tenant, kid, alg, OpWrap, share)
}

// Unwrap has the vault unwrap a share with exactly the given version. Whether it
// is the right share is for the caller to check, by its commitment.
func (c *Client) Unwrap(ctx context.Context, tenant string, kid KID, alg Algorithm, wrapped []byte) ([]byte, error) {
	return c.operate(ctx, tenant, kid, alg, OpUnwrap, wrapped)
}

func (c *Client) operate(ctx context.Context, tenant string, kid KID, alg Algorithm, op Op, in []byte) ([]byte, error) {
	if _, err := ParseKID(string(kid), c.config.Policy); err != nil {
		return nil, err
	}
	if alg != RSAOAEP256 && alg != A256KW {
		return nil, fault.New(fault.InvalidArgument, fmt.Sprintf("Shares are not wrapped with %q.", alg))
	}
	if op == OpUnwrap && !alg.wraps(len(in)) {
		return nil, fault.New(fault.InvalidArgument, fmt.Sprintf("%d bytes cannot be a share wrapped with %s.", len(in), alg))
	}
	return ask(ctx, c, tenant, kid.Vault(), op, string(kid), func(ctx context.Context, keys *azkeys.Client) ([]byte, error) {
		params := azkeys.KeyOperationParameters{Algorithm: (*azkeys.EncryptionAlgorithm)(&alg), Value: in}
		var out azkeys.KeyOperationResult
		if op == OpWrap {
			res, err := keys.WrapKey(ctx, kid.Name(), kid.Version(), params, nil)
			if err != nil {
				return nil, err
			}
			out = res.KeyOperationResult
		} else {
			res, err := keys.UnwrapKey(ctx, kid.Name(), kid.Version(), params, nil)
			if err != nil {
				return nil, err
			}
			out = res.KeyOperationResult
		}
		sized := op == OpWrap && alg.wraps(len(out.Result)) || op == OpUnwrap && len(out.Result) == ShareSize
		switch {
		case KID(value(out.KID)) != kid:
			clear(out.Result)
			return nil, ErrWrongKID
		case !sized:
			clear(out.Result)
			return nil, ErrWrongLength
		}
		return out.Result, nil
	})
}

// ask puts one question to one vault and turns whatever comes back into a result
// or into what the table of answers says.
func ask[T any](ctx context.Context, c *Client, tenant, host string, op Op, subject string,
	question func(context.Context, *azkeys.Client) (T, error)) (T, error) {
	var none T
	conn, err := c.conn(tenant, host)
	if err != nil {
		return none, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	ctx, span := trace.Start(ctx, string(op), trace.Client)
	var result T
	a, err := conn.converse(ctx, op, func(ctx context.Context) (err error) {
		result, err = question(ctx, conn.keys)
		return err
	})
	if err != nil {
		if a.Status != 0 {
			span.Number("http.response.status_code", a.Status)
		}
		refusal := a.Fault(subject)
		span.End(refusal)
		return none, refusal
	}
	span.End(nil)
	return result, nil
}

// converse puts a question, and puts it once more if the vault turned down a token
// that may be an old one. It returns the answer beside the error that it is about.
func (c *conn) converse(ctx context.Context, op Op, question func(context.Context) error) (Answer, error) {
	state := new(call)
	ctx = context.WithValue(ctx, callKey{}, state)
	err := question(ctx)
	if err != nil && state.tokenErr == nil && state.status == http.StatusUnauthorized && state.shown && !state.renewed {
		state.renew = true
		err = question(ctx)
	}
	if err == nil {
		return Answer{}, nil
	}
	a := vaultAnswer(state, err)
	if state.tokenErr != nil {
		a = directoryAnswer(state.tokenErr)
	}
	a.Op = op
	return a, err
}

// conn returns what is kept for a vault and a tenant, made anew if need be.
func (c *Client) conn(tenant, host string) (*conn, error) {
	if !tenantForm.MatchString(tenant) {
		return nil, fault.New(fault.InvalidArgument, "The scope's tenant is not a directory id.")
	}
	audience, ok := c.config.Policy.Audience(host)
	if !ok {
		return nil, invalid("", "The key identifier's host is not one at which this platform uses keys.", form)
	}
	if c.config.Audience != nil {
		if a := c.config.Audience(host); a != "" {
			audience = strings.TrimSuffix(a, "/")
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if kept, ok := c.conns[connKey{tenant, host}]; ok {
		return kept, nil
	}
	for key := range c.conns {
		if len(c.conns) < maxConns {
			break
		}
		delete(c.conns, key) // any: it costs its next user a challenge
	}
	n := &conn{client: c, tenant: tenant, audience: audience}
	cred := pinned{credentials: c.credentials, tenant: tenant, audience: audience}
	options := azcore.ClientOptions{
		Transport: n,
		Retry:     again,
		Telemetry: policy.TelemetryOptions{ApplicationID: "kluis"},
	}
	keys, err := azkeys.NewClient("https://"+host, cred, &azkeys.ClientOptions{
		ClientOptions: options,
		// Ours is stricter, and knows vaults on a bare host: see checkChallenge.
		DisableChallengeResourceVerification: true,
	})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "")
	}
	n.keys = keys
	n.feed = newFeed("https://"+host, cred, options)
	c.conns[connKey{tenant, host}] = n
	return n, nil
}

// Do is the SDK's way to the network. It reads the whole reply, within the limits,
// and looks at a challenge before the SDK may act on it.
func (c *conn) Do(req *http.Request) (*http.Response, error) {
	state := callOf(req.Context())
	shown := req.Header.Get("Authorization") != ""
	// An earlier failure to renew a token that is still valid is moot now.
	*state = call{renew: state.renew, renewed: state.renewed, shown: shown}
	if id := audit.RequestOf(req.Context()); id != "" {
		req.Header.Set("x-ms-client-request-id", id) // in place of the SDK's random one
	}
	trace.Send(req.Context(), req.Header)
	res, err := c.client.http.Do(req)
	if err != nil {
		return nil, err
	}
	if err := readAll(res); err != nil {
		if errors.Is(err, ErrMalformed) {
			state.status, state.header = res.StatusCode, res.Header
		}
		return nil, err
	}
	state.status, state.header = res.StatusCode, res.Header
	if res.StatusCode == http.StatusUnauthorized {
		if err := checkChallenge(res, c.tenant, c.audience); err != nil {
			return nil, err
		}
		state.renew = state.renew || shown // what is asked for after this must not come from a cache
	}
	return res, nil
}

// vaultAnswer reads what a vault said from the SDK's error and from what the
// transport saw.
func vaultAnswer(state *call, err error) Answer {
	a := Answer{From: Vault, Status: state.status, Fresh: state.renewed, RetryAfter: retryAfter(state.header)}
	var refused *azcore.ResponseError
	switch {
	case errors.As(err, &refused):
		a.Code = vaultCode(refused)
	case state.status == http.StatusOK && !isOurs(err):
		a.Err = ErrMalformed // the parser's text may quote the answer, and that may be a share
	default:
		a.Err = err
	}
	return a
}

func isOurs(err error) bool {
	for _, e := range []error{ErrMalformed, ErrWrongKID, ErrWrongLength} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

var (
	codeForm   = regexp.MustCompile(`^[A-Za-z]{1,60}$`)
	tenantForm = regexp.MustCompile(`^[0-9a-zA-Z][0-9a-zA-Z.-]{0,127}$`)
)

// vaultCode returns the innermost code of a vault's error, or "" for one that no
// vault has.
func vaultCode(refused *azcore.ResponseError) string {
	code := refused.ErrorCode
	var body struct {
		Error struct {
			Inner struct {
				Code string `json:"code"`
			} `json:"innererror"`
		} `json:"error"`
	}
	if b, err := runtime.Payload(refused.RawResponse); err == nil && json.Unmarshal(b, &body) == nil && body.Error.Inner.Code != "" {
		code = body.Error.Inner.Code
	}
	if !codeForm.MatchString(code) {
		return ""
	}
	return code
}

// retryAfter reads the header of that name in its two forms (RFC 9110, 10.2.3),
// and believes no more than an hour.
func retryAfter(h http.Header) time.Duration {
	var d time.Duration
	s := h.Get("Retry-After")
	if n, err := strconv.Atoi(s); err == nil {
		d = min(time.Duration(n), 3600) * time.Second
	} else if t, err := http.ParseTime(s); err == nil {
		d = time.Until(t)
	}
	return max(0, min(d, time.Hour))
}
