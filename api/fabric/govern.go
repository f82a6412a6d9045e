package fabric

import (
	"net/http"
	"strings"
	"time"

	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/workspace"
)

// A blocker is something that stands against an assign, with what would mend it.
type blocker struct {
	ErrorCode string `json:"errorCode"`
	Message   string `json:"message"`
	Mend      string `json:"mend,omitempty"`
	Subject   string `json:"relatedResourceId,omitempty"`
}

type previewAnswer struct {
	Allowed         bool      `json:"allowed"`
	Blockers        []blocker `json:"blockers"`
	Items           int       `json:"items"`
	KeyVersion      string    `json:"keyVersion,omitempty"`
	Algorithm       string    `json:"algorithm,omitempty"`
	KillSwitchBound int64     `json:"killSwitchBoundSeconds,omitempty"`
}

func (c *call) previewKey() error {
	ws, err := c.scope()
	if err != nil {
		return err
	}
	body, err := c.assignment()
	if err != nil {
		return err
	}
	return c.preview(ws, body.KeyIdentifier)
}

// preview answers what assigning the key would meet: all of it, not only the first.
func (c *call) preview(ws encryption.ScopeID, keyIdentifier string) error {
	p, err := c.enc.Preview(c.r.Context(), c.caller, ws, keyIdentifier)
	if err != nil {
		return err
	}
	a := previewAnswer{
		Allowed: len(p.Blockers) == 0, Blockers: []blocker{}, Items: p.Items, KeyVersion: string(p.KID),
		Algorithm: string(p.Algorithm), KillSwitchBound: seconds(p.Bound),
	}
	for _, b := range p.Blockers {
		code := internal.code
		if r, ok := rows[b.Reason]; ok {
			code = r.code
		}
		a.Blockers = append(a.Blockers, blocker{code, b.Detail, b.Mend, b.Subject})
	}
	return c.answer(http.StatusOK, a)
}

// rotateKey begins a deep rotation, which the operation follows to its end.
func (c *call) rotateKey() error {
	ws, err := c.workspace()
	if err != nil {
		return err
	}
	o, err := c.ws.Operate(c.r.Context(), c.caller, workspace.RotatingScopeKey, ws, func(o *workspace.Operation) (err error) {
		o.Generation, err = c.enc.Rotate(c.r.Context(), c.caller, ws)
		return err
	})
	if err != nil {
		return err
	}
	return c.accepted(o)
}

func (c *call) revalidateKey() error {
	ws, err := c.scope()
	if err != nil {
		return err
	}
	return c.done(c.enc.Revalidate(c.r.Context(), c.caller, ws))
}

func (c *call) setBound() error {
	ws, err := c.scope()
	if err != nil {
		return err
	}
	var body struct {
		Seconds *int64 `json:"seconds"` // 0 takes the workspace's own bound away
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	if body.Seconds == nil || *body.Seconds < 0 || *body.Seconds > int64(encryption.MaxBound/time.Second) {
		return fault.New(fault.InvalidArgument, "The body needs seconds: 0, or the most that a key lease of the workspace may last.")
	}
	return c.done(c.enc.SetBound(c.r.Context(), c.caller, ws, time.Duration(*body.Seconds)*time.Second))
}

func (c *call) declareKeyLost() error {
	ws, err := c.scope()
	if err != nil {
		return err
	}
	var body struct {
		Lost *bool `json:"lost"`
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	if body.Lost == nil {
		return fault.New(fault.InvalidArgument, "The body has no lost.")
	}
	return c.done(c.enc.DeclareKeyLost(c.r.Context(), c.caller, ws, *body.Lost))
}

type impactAnswer struct {
	KeyIdentifier string           `json:"keyIdentifier"`
	Workspaces    []impactedByLoss `json:"workspaces"`
	Accounts      []impactedByLoss `json:"storageAccounts,omitempty"` // by their paths in Resource Manager
}

type impactedByLoss struct {
	ID              string  `json:"id"`
	DisplayName     string  `json:"displayName"`
	Items           int     `json:"items"`
	Serving         serving `json:"serving"`
	KillSwitchBound int64   `json:"killSwitchBoundSeconds"`
}

// impact answers which workspaces and storage accounts go dark if a key goes, of those
// that the reader may see.
func (c *call) impact() error {
	key := c.r.URL.Query().Get("keyIdentifier")
	all, err := c.enc.Impact(c.r.Context(), c.caller, key)
	if err != nil {
		return err
	}
	a := impactAnswer{KeyIdentifier: key, Workspaces: []impactedByLoss{}}
	for _, s := range all {
		if path := string(s.Scope.Path); path != "" {
			a.Accounts = append(a.Accounts, impactedByLoss{
				ID: path, DisplayName: path[strings.LastIndex(path, "/")+1:], Items: s.Totals.Items, Serving: toServing(s.Scope),
				KillSwitchBound: seconds(s.Bound),
			})
			continue
		}
		ws, err := c.ws.FindWorkspace(c.r.Context(), c.caller.Tenant, string(s.Scope.ID))
		if fault.ReasonOf(err) == fault.WorkspaceNotFound {
			continue // deleted since
		}
		if err != nil {
			return err
		}
		a.Workspaces = append(a.Workspaces, impactedByLoss{
			ID: string(ws.ID), DisplayName: ws.DisplayName, Items: s.Totals.Items, Serving: toServing(s.Scope),
			KillSwitchBound: seconds(s.Bound),
		})
	}
	return c.answer(http.StatusOK, a)
}
