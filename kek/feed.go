package kek

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/kluis-io/kluis/fault"
)

// ErrNoFeed says that a vault has no change feed, or none for us: a foreign vault.
var ErrNoFeed = errors.New("kek: the vault has no change feed")

// maxWait is the longest that one poll of a change feed may wait.
const maxWait = 5 * time.Minute

// Changes are what a kluis vault's feed tells: that it is time to ask again. They
// are a hint, never a decision.
type Changes struct {
	Cursor  string   // where to go on; give it to the next call
	Reset   bool     // the vault no longer knows what happened since the cursor: ask about every key
	Changes []Change // may be empty: nothing happened in the time given
}

// A Change says that something about a key may be different now.
type Change struct {
	Key  string `json:"key"`  // the key's name; "" means any key of the vault
	Kind string `json:"kind"` // what happened, for logs
}

// Changes waits for news from a key's vault since the cursor ("" to begin), for at
// most the given time (whole seconds, 5 min at the most), and returns what there
// is. A vault without a feed gives [ErrNoFeed]; every other failure is
// [fault.KEKUnreachable] or [fault.KEKIntegrity], whatever the vault said: a feed
// cannot revoke.
func (c *Client) Changes(ctx context.Context, tenant string, id KeyIdentifier, cursor string, wait time.Duration) (Changes, error) {
	if id.IsZero() {
		return Changes{}, invalid("", "There is no key identifier.", form)
	}
	conn, err := c.conn(tenant, id.host)
	if err != nil {
		return Changes{}, err
	}
	wait = max(0, min(wait, maxWait)).Truncate(time.Second)
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeout+wait)
	defer cancel()
	var changes Changes
	a, err := conn.converse(ctx, OpChanges, func(ctx context.Context) (err error) {
		changes, err = conn.feed.poll(ctx, cursor, wait)
		return err
	})
	if err == nil {
		return changes, nil
	}
	if a.From == Vault {
		switch a.Status {
		case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed,
			http.StatusGone, http.StatusNotImplemented:
			return Changes{}, fault.Wrap(fault.KEKUnreachable, errors.Join(ErrNoFeed, &a), "The vault has no change feed.").About("https://" + id.host)
		}
	}
	f := a.Fault("https://" + id.host)
	if f.Reason.RefusedByVault() {
		f = fault.Wrap(fault.KEKUnreachable, &a, f.Detail).About(f.Subject)
	}
	return Changes{}, f
}

// A feed is the client of one vault's change feed. The SDK has none, so it is built
// on the SDK's own pipeline: same transport, same credential, same challenge.
type feed struct {
	base       string
	pipeline   runtime.Pipeline
	challenged atomic.Bool
}

func newFeed(base string, cred azcore.TokenCredential, options azcore.ClientOptions) *feed {
	f := &feed{base: base}
	// As with keys, no token leaves before the vault's challenge was found right.
	auth := runtime.NewBearerTokenPolicy(cred, nil, &policy.BearerTokenOptions{
		AuthorizationHandler: policy.AuthorizationHandler{
			OnRequest: func(_ *policy.Request, authorise func(policy.TokenRequestOptions) error) error {
				if !f.challenged.Load() {
					return nil
				}
				return authorise(policy.TokenRequestOptions{})
			},
			OnChallenge: func(_ *policy.Request, _ *http.Response, authorise func(policy.TokenRequestOptions) error) error {
				f.challenged.Store(true)
				return authorise(policy.TokenRequestOptions{})
			},
		},
	})
	f.pipeline = runtime.NewPipeline("kek", "v1", runtime.PipelineOptions{PerRetry: []policy.Policy{auth}}, &options)
	return f
}

func (f *feed) poll(ctx context.Context, cursor string, wait time.Duration) (Changes, error) {
	req, err := runtime.NewRequest(ctx, http.MethodGet, f.base+"/changes")
	if err != nil {
		return Changes{}, err
	}
	req.Raw().URL.RawQuery = url.Values{
		"since": {cursor},
		"wait":  {strconv.Itoa(int(wait / time.Second))},
	}.Encode()
	res, err := f.pipeline.Do(req)
	if err != nil {
		return Changes{}, err
	}
	if !runtime.HasStatusCode(res, http.StatusOK) {
		return Changes{}, runtime.NewResponseError(res)
	}
	var reply struct {
		Cursor  *string  `json:"cursor"`
		Reset   bool     `json:"reset"`
		Changes []Change `json:"changes"`
	}
	if err := json.NewDecoder(res.Body).Decode(&reply); err != nil || reply.Cursor == nil {
		return Changes{}, fmt.Errorf("%w: change feed", ErrMalformed)
	}
	return Changes{Cursor: *reply.Cursor, Reset: reply.Reset, Changes: reply.Changes}, nil
}
