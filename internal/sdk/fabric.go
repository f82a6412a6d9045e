package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// Fabric speaks Fabric's REST API.
type Fabric struct {
	base string
	http *http.Client
	cred azcore.TokenCredential
}

// A FabricError is Fabric's error body.
type FabricError struct {
	Status  int    `json:"-"`
	Code    string `json:"errorCode"`
	Message string `json:"message"`
}

func (e *FabricError) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Code, e.Message) }

// Call makes one call below /v1, with in as its JSON body and out to take the
// answer's; either may be nil.
func (f *Fabric) Call(ctx context.Context, method, path string, in, out any) error {
	token, err := f.cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://api.fabric.microsoft.com/.default"}})
	if err != nil {
		return err
	}
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, f.base+"/v1"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token.Token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := f.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		fe := &FabricError{Status: resp.StatusCode}
		if json.Unmarshal(text, fe) != nil || fe.Code == "" {
			return errors.New(resp.Status + ": " + string(text))
		}
		return fe
	}
	if out == nil || len(text) == 0 {
		return nil
	}
	return json.Unmarshal(text, out)
}

// List makes a call that lists, page after page, and returns all values.
func (f *Fabric) List(ctx context.Context, path string) (all []map[string]any, err error) {
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	for token := ""; ; {
		var page struct {
			Value             []map[string]any `json:"value"`
			ContinuationToken string           `json:"continuationToken"`
		}
		p := path
		if token != "" {
			p += separator + "continuationToken=" + url.QueryEscape(token)
		}
		if err := f.Call(ctx, http.MethodGet, p, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Value...)
		if token = page.ContinuationToken; token == "" {
			return all, nil
		}
	}
}

// An EncryptionStatus is Fabric's answer about a workspace, with kluis's
// additions.
type EncryptionStatus struct {
	Detail struct {
		KeyIdentifier string `json:"keyIdentifier"`
		Status        string `json:"encryptionStatus"`
	} `json:"encryptionDetail"`
	Items []struct {
		Status string `json:"encryptionStatus"`
		Items  []struct {
			ID          string `json:"id"`
			DisplayName string `json:"displayName"`
			Type        string `json:"type"`
			Reason      string `json:"reason"`
			Detail      string `json:"detail"`
		} `json:"items"`
	} `json:"workspaceEncryptionItemsDetails"`
	Serving struct {
		State  string `json:"state"`
		Reason string `json:"reason"`
		Detail string `json:"detail"`
	} `json:"serving"`
	KeyVersion  string `json:"keyVersion"`
	KeyVersions []struct {
		KID           string    `json:"kid"`
		LiveWraps     int       `json:"liveWraps"`
		Backups       int       `json:"backups"` // of the platform that take it to be restored
		NewestBackup  time.Time `json:"newestBackup"`
		SafeToDisable bool      `json:"safeToDisable"`
		First         time.Time `json:"firstUsed"`
	} `json:"keyVersions"`
	Progress *struct {
		Bytes      int64 `json:"bytes"`
		TotalBytes int64 `json:"totalBytes"`
	} `json:"progress"`
	Bound int64 `json:"killSwitchBoundSeconds"`
	Lease int64 `json:"stretchedLeaseSeconds,omitempty"`
}

// Count returns how many items have the status.
func (s EncryptionStatus) Count(status string) (n int) {
	for _, g := range s.Items {
		if g.Status == status {
			n += len(g.Items)
		}
	}
	return n
}

// Encryption asks for a workspace's encryption status.
func (f *Fabric) Encryption(ctx context.Context, workspace string) (s EncryptionStatus, err error) {
	err = f.Call(ctx, http.MethodGet, "/workspaces/"+workspace+"/encryption", nil, &s)
	return s, err
}
