package client

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// A Finding is a control that does not hold for a resource.
type Finding struct {
	ID         string   `json:"id"`
	Control    string   `json:"control"`
	Severity   string   `json:"severity"`
	Title      string   `json:"title"`
	Resource   string   `json:"resource"`
	Name       string   `json:"name"`
	Type       string   `json:"type"`
	State      string   `json:"state"`
	Detail     string   `json:"detail"`
	Why        string   `json:"why"`
	Mend       string   `json:"mend"`
	Remediable string   `json:"remediable"`
	Condition  string   `json:"condition"`
	Reversible bool     `json:"reversible"`
	Dependants int      `json:"dependants"`
	Key        string   `json:"key"`
	Principals []string `json:"principals"`
	Exception  *struct {
		Owner   string
		Reason  string
		Expires time.Time
	} `json:"exception"`
	Evidence struct {
		Source string    `json:"source"`
		Time   time.Time `json:"time"`
		SHA256 string    `json:"sha256"`
		Path   string    `json:"path"`
	} `json:"evidence"`
}

// A Span is a time for which a finding stood.
type Span struct {
	Estate   string    `json:"estate"`
	Finding  Finding   `json:"finding"`
	First    time.Time `json:"firstSeen"`
	Last     time.Time `json:"lastSeen"`
	Resolved time.Time `json:"resolvedAt"`
	Ended    string    `json:"ended"`
	Turns    []struct {
		Time   time.Time `json:"time"`
		Status string    `json:"status"`
	} `json:"turns"`
}

// A Chain is a finding with what lies behind it.
type Chain struct {
	Span

	Scanned time.Time     `json:"scannedAt"`
	Key     *KeyRecord    `json:"key"`
	Vault   *VaultRecord  `json:"vault"`
	Grants  []GrantRecord `json:"grants"`
}

// A KeyRecord is a key as a scan saw it.
type KeyRecord struct {
	Key        string `json:"key"`
	Read       bool   `json:"read"`
	Deleted    bool   `json:"deleted"`
	Rotation   string `json:"rotation"`
	Dependants int    `json:"dependants"`
	Owner      string `json:"owner"`
	Procedure  string `json:"procedure"`
	Versions   []struct {
		Version string     `json:"version"`
		Enabled *bool      `json:"enabled"`
		Created *time.Time `json:"created"`
		Expires *time.Time `json:"expires"`
		Kind    string     `json:"kty"`
		Bits    int        `json:"bits"`
	} `json:"versions"`
}

// A VaultRecord is a vault as a scan saw it.
type VaultRecord struct {
	ID              string `json:"id"`
	Host            string `json:"host"`
	Deleted         bool   `json:"deleted"`
	SoftDelete      *bool  `json:"softDelete"`
	PurgeProtection *bool  `json:"purgeProtection"`
	RBAC            *bool  `json:"roleBased"`
	Firewall        *bool  `json:"firewall"`
	Dependants      int    `json:"dependants"`
}

// A GrantRecord is what one principal has at a key.
type GrantRecord struct {
	Principal string `json:"principalId"`
	Kind      string `json:"principalType"`
	Asks      bool   `json:"asks"`
	Roles     []struct {
		Name  string `json:"name"`
		Scope string `json:"scope"`
	} `json:"roles"`
}

// A Plan says how to mend a finding and how to go back.
type Plan struct {
	Remediable string     `json:"remediable"`
	Condition  string     `json:"condition"`
	Reversible bool       `json:"reversible"`
	Confidence string     `json:"confidence"`
	Mend       []PlanStep `json:"mend"`
	Backout    []PlanStep `json:"backout"`
	Applied    bool       `json:"applied"` // 'kluis posture remediate --apply' does it
	NeedsKey   bool       `json:"needsKey"`
}

// A PlanStep is one thing to do.
type PlanStep struct {
	Do      string `json:"do"`
	Command string `json:"command"`
	Expect  string `json:"expect"`
}

// An Exception is a finding that somebody has accepted.
type Exception struct {
	ID       string    `json:"id"`
	Estate   string    `json:"estate"`
	Finding  string    `json:"finding"`
	Control  string    `json:"control"`
	Resource string    `json:"resource"`
	Owner    string    `json:"owner"`
	Reason   string    `json:"reason"`
	Expires  time.Time `json:"expires"`
	Made     time.Time `json:"madeAt"`
	By       string    `json:"madeBy"`
}

// Rights are what the user may do at governance, as actions.
type Rights []string

// May reports whether an action is among them: "scans/run/action".
func (r Rights) May(action string) bool { return slices.Contains(r, "Kluis.Governance/"+action) }

// Rights returns what the user may do at governance.
func (c *Clients) Rights(ctx context.Context) (Rights, error) {
	var body struct {
		Value Rights `json:"value"`
	}
	err := c.Call(ctx, c.Posture, http.MethodGet, "/posture/v1/rights", nil, &body)
	return body.Value, err
}

// RunScan has the estate scanned now.
func (c *Clients) RunScan(ctx context.Context) (s Scan, err error) {
	err = c.Call(ctx, c.Posture, http.MethodPost, "/posture/v1/scans", nil, &s)
	return s, err
}

// Evidence has an evidence pack made. The caller closes the answer's body.
func (c *Clients) Evidence(ctx context.Context, window string) (*http.Response, error) {
	return c.Download(ctx, c.Posture, http.MethodPost, "/posture/v1/evidence?"+url.Values{"window": {window}}.Encode(), nil)
}

// Findings returns a page of findings: query as the interface takes it.
func (c *Clients) Findings(ctx context.Context, query url.Values) (p Page[Span], err error) {
	err = c.Call(ctx, c.Posture, http.MethodGet, "/posture/v1/findings?"+query.Encode(), nil, &p)
	return p, err
}

// Finding returns a finding with what lies behind it.
func (c *Clients) Finding(ctx context.Context, id string) (f Chain, err error) {
	err = c.Call(ctx, c.Posture, http.MethodGet, "/posture/v1/findings/"+url.PathEscape(id), nil, &f)
	return f, err
}

// Plan has the estate scanned, and returns how a finding is mended.
func (c *Clients) Plan(ctx context.Context, id, key string) (p Plan, err error) {
	err = c.Call(ctx, c.Posture, http.MethodPost, "/posture/v1/findings/"+url.PathEscape(id)+"/plan?"+url.Values{"key": {key}}.Encode(), nil, &p)
	return p, err
}

// Exceptions returns the open findings that were accepted.
func (c *Clients) Exceptions(ctx context.Context) ([]Exception, error) {
	all, _, err := List[Exception](ctx, c, c.Posture, "/posture/v1/exceptions?top=1000", 1000)
	return all, err
}

// Except accepts a finding until a day, written 2026-12-31.
func (c *Clients) Except(ctx context.Context, finding, owner, reason, expires string) (x Exception, err error) {
	in := map[string]string{"finding": finding, "owner": owner, "reason": reason, "expires": expires}
	err = c.Call(ctx, c.Posture, http.MethodPost, "/posture/v1/exceptions", in, &x)
	return x, err
}

// Withdraw ends an exception.
func (c *Clients) Withdraw(ctx context.Context, id string) error {
	return c.Call(ctx, c.Posture, http.MethodDelete, "/posture/v1/exceptions/"+url.PathEscape(id), nil, nil)
}

// Alerts returns the alerts that stand, and with resolved those of the last 30 days too.
func (c *Clients) Alerts(ctx context.Context, resolved bool) ([]Alert, error) {
	all, _, err := List[Alert](ctx, c, c.Posture, "/posture/v1/alerts?resolved="+strconv.FormatBool(resolved), 0)
	return all, err
}

// Acknowledge notes that the user knows of an alert, for some time.
func (c *Clients) Acknowledge(ctx context.Context, id, note string, length time.Duration) error {
	in := map[string]any{"note": note, "seconds": int64(length / time.Second)}
	return c.Call(ctx, c.Posture, http.MethodPost, "/posture/v1/alerts/"+url.PathEscape(id)+"/acknowledge", in, nil)
}
