package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// An AuditEntry is one entry of a party's audit log.
type AuditEntry struct {
	Sequence    int64             `json:"sequence"`
	Time        time.Time         `json:"time"`
	Operation   string            `json:"operation"`
	Outcome     string            `json:"outcome"` // allowed, denied or failed
	Reason      string            `json:"reason"`
	Principal   string            `json:"principal"`
	Application string            `json:"application"`
	Resource    string            `json:"resource"`
	Request     string            `json:"request"`
	Correlation string            `json:"correlation"`
	Address     string            `json:"address"`
	Detail      map[string]string `json:"detail"`
	Party       string            `json:"-"`
}

const auditRoot = "/audit/v1"

// AuditParties returns whose logs can be asked for.
func (c *Clients) AuditParties(ctx context.Context) ([]string, error) {
	var page Page[string]
	err := c.Call(ctx, c.Audit, http.MethodGet, auditRoot+"/parties", nil, &page)
	return page.Value, err
}

// AuditEntries returns a page of a party's log, the newest entry first.
func (c *Clients) AuditEntries(ctx context.Context, party string, q url.Values) ([]AuditEntry, error) {
	var page Page[AuditEntry]
	err := c.Call(ctx, c.Audit, http.MethodGet, auditRoot+"/"+url.PathEscape(party)+"/entries?"+q.Encode(), nil, &page)
	for i := range page.Value {
		page.Value[i].Party = party
	}
	return page.Value, err
}

// A Verification is what verifying a log has found.
type Verification struct {
	Holds       bool      `json:"holds"`
	Entries     int64     `json:"entries"`
	Covered     int64     `json:"covered"`
	Root        string    `json:"root"`
	Checkpoints int       `json:"checkpoints"`
	Outside     bool      `json:"outside"`
	Problems    []string  `json:"problems"`
	Checked     time.Time `json:"checked"`
}

// VerifyAudit has a party's log verified.
func (c *Clients) VerifyAudit(ctx context.Context, party string) (v Verification, err error) {
	err = c.Call(ctx, c.Audit, http.MethodGet, auditRoot+"/"+url.PathEscape(party)+"/verification", nil, &v)
	return v, err
}

// ExportAudit returns a party's log as lines of JSON; the caller closes the body.
func (c *Clients) ExportAudit(ctx context.Context, party string, q url.Values) (*http.Response, error) {
	return c.Download(ctx, c.Audit, http.MethodGet, auditRoot+"/"+url.PathEscape(party)+"/export?"+q.Encode(), nil)
}
