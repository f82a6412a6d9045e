package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// storageVersion is the version of the Blob service that is spoken.
const storageVersion = "2025-01-05"

func (c *Clients) blob(ctx context.Context, method, path string, header http.Header, body any) error {
	h := http.Header{"X-Ms-Version": {storageVersion}}
	for k, v := range header {
		h[k] = v
	}
	resp, err := c.send(ctx, c.Blob, method, path, h, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return refusal(c.Blob, resp, nil) // the header has the code; the body is XML
	}
	return nil
}

func fileAt(workspace, path string) string {
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return "/" + url.PathEscape(workspace) + "/" + strings.Join(parts, "/")
}

// PutFile writes a small file of a workspace, whose path begins with an item's id.
func (c *Clients) PutFile(ctx context.Context, workspace, path string, content []byte) error {
	return c.blob(ctx, http.MethodPut, fileAt(workspace, path), http.Header{"X-Ms-Blob-Type": {"BlockBlob"}, "Content-Type": {"application/octet-stream"}}, content)
}

// ProbeFile asks for a file of a workspace, and throws its content away.
func (c *Clients) ProbeFile(ctx context.Context, workspace, path string) error {
	return c.blob(ctx, http.MethodGet, fileAt(workspace, path), nil, nil)
}

// ProbeList asks for one file of a workspace's listing.
func (c *Clients) ProbeList(ctx context.Context, workspace string) error {
	return c.blob(ctx, http.MethodGet, "/"+url.PathEscape(workspace)+"?restype=container&comp=list&maxresults=1", nil, nil)
}

// DeleteFile deletes a file of a workspace.
func (c *Clients) DeleteFile(ctx context.Context, workspace, path string) error {
	return c.blob(ctx, http.MethodDelete, fileAt(workspace, path), nil, nil)
}

// ProbeRecoverable looks for items that could be recovered.
func (c *Clients) ProbeRecoverable(ctx context.Context, workspace string) error {
	return c.fabric(ctx, http.MethodGet, "/workspaces/"+url.PathEscape(workspace)+"/recoverableItems", nil, nil)
}

// An Item is one of a workspace's.
type Item struct {
	ID          string `json:"id"`
	DisplayName string `json:"displayName"`
	Type        string `json:"type"`
}

// Items returns a workspace's items of a type.
func (c *Clients) Items(ctx context.Context, workspace, kind string) ([]Item, error) {
	all, _, err := List[Item](ctx, c, c.Fabric, "/v1/workspaces/"+url.PathEscape(workspace)+"/items?"+url.Values{"type": {kind}}.Encode(), 0)
	return all, err
}

// KeyRefused reports whether an error of the platform says that a vault has refused the
// key: silence, throttling and faults of the platform's own do not.
func KeyRefused(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusForbidden && (strings.HasPrefix(e.Code, "KeyVault") || strings.HasPrefix(e.Code, "CustomerManagedKey"))
}

// RecordDrill has the platform vouch in its log for the SHA-256 of a drill's report,
// in hexadecimal digits, and returns its proof as JSON.
func (c *Clients) RecordDrill(ctx context.Context, workspace, sum string, trials int, dark, back int64, proof any) error {
	return c.fabric(ctx, http.MethodPost, "/admin/encryption/drills", map[string]any{
		"workspaceId": workspace, "reportSha256": sum, "trials": trials, "darkMilliseconds": dark, "backMilliseconds": back,
	}, proof)
}
