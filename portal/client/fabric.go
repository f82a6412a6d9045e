package client

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fabric makes one call below /v1 of the platform.
func (c *Clients) fabric(ctx context.Context, method, path string, in, out any) error {
	return c.Call(ctx, c.Fabric, method, "/v1"+path, in, out)
}

// A Workspace is one that the user has a role in, or, told by the tenant's
// administrator's listing, any of the tenant's.
type Workspace struct {
	ID          string          `json:"id"`
	DisplayName string          `json:"displayName"`
	Description string          `json:"description"`
	CapacityID  string          `json:"capacityId"`
	Unreadable  string          `json:"descriptionUnreadable"`
	Label       *LabelRef       `json:"sensitivityLabel"`
	Encryption  *EncryptionMark `json:"encryption"` // from the administrator's listing alone
}

// A LabelRef names a classification label.
type LabelRef struct {
	ID string `json:"sensitivityLabelId"`
}

// An EncryptionMark is how a workspace stands, in a listing.
type EncryptionMark struct {
	Status        string  `json:"status"`
	KeyIdentifier string  `json:"keyIdentifier"`
	Serving       Serving `json:"serving"`
}

// Workspaces returns one page of the workspaces in which the user has a role, or one
// of the roles named, and the token of the next.
func (c *Clients) Workspaces(ctx context.Context, roles, token string) (Page[Workspace], error) {
	q := url.Values{}
	if roles != "" {
		q.Set("roles", roles)
	}
	if token != "" {
		q.Set("continuationToken", token)
	}
	var page Page[Workspace]
	err := c.fabric(ctx, http.MethodGet, "/workspaces?"+q.Encode(), nil, &page)
	return page, err
}

// MayCreateWorkspaces reports whether the user may make workspaces.
func (c *Clients) MayCreateWorkspaces(ctx context.Context) (bool, error) {
	var page struct {
		MayCreate bool `json:"mayCreate"`
	}
	err := c.fabric(ctx, http.MethodGet, "/workspaces", nil, &page)
	return page.MayCreate, err
}

// AdminWorkspaces returns one page of all workspaces of the tenant, with how each stands.
func (c *Clients) AdminWorkspaces(ctx context.Context, token string) (Page[Workspace], error) {
	q := url.Values{"include": {"encryption"}}
	if token != "" {
		q.Set("continuationToken", token)
	}
	var page struct {
		Workspaces []struct {
			Workspace
			Name string `json:"name"`
		} `json:"workspaces"`
		Token string `json:"continuationToken"`
	}
	err := c.fabric(ctx, http.MethodGet, "/admin/workspaces?"+q.Encode(), nil, &page)
	out := Page[Workspace]{Token: page.Token}
	for _, w := range page.Workspaces {
		w.DisplayName = w.Name
		out.Value = append(out.Value, w.Workspace)
	}
	return out, err
}

// Workspace returns one workspace.
func (c *Clients) Workspace(ctx context.Context, id string) (w Workspace, err error) {
	err = c.fabric(ctx, http.MethodGet, "/workspaces/"+url.PathEscape(id), nil, &w)
	return w, err
}

// CreateWorkspace makes a workspace, of which the user is admin.
func (c *Clients) CreateWorkspace(ctx context.Context, name, description string) (w Workspace, err error) {
	err = c.fabric(ctx, http.MethodPost, "/workspaces", map[string]string{"displayName": name, "description": description}, &w)
	return w, err
}

// A Serving says whether data can be used now.
type Serving struct {
	State  string     `json:"state"` // Serving, Revoked, Unreachable or KeyLost
	Reason string     `json:"reason"`
	Detail string     `json:"detail"`
	Since  *time.Time `json:"since"`
}

// A Progress is how far a change is.
type Progress struct {
	Files      int64 `json:"files"`
	TotalFiles int64 `json:"totalFiles"`
	Bytes      int64 `json:"bytes"`
	TotalBytes int64 `json:"totalBytes"`
}

// An Encryption is how a workspace is encrypted.
type Encryption struct {
	Detail   EncryptionDetail  `json:"encryptionDetail"`
	Previous *EncryptionDetail `json:"previousEncryptionDetail"`
	Counts   map[string]int    `json:"itemCounts"` // of items by status

	Serving     Serving      `json:"serving"`
	KeyVersion  string       `json:"keyVersion"`
	Versions    []KeyVersion `json:"keyVersions"`
	Progress    *Progress    `json:"progress"`
	ReSealOnly  bool         `json:"reSealOnly"`
	Bound       int64        `json:"killSwitchBoundSeconds"`
	OwnBound    int64        `json:"ownKillSwitchBoundSeconds"`
	KeyBound    int64        `json:"keyKillSwitchBoundSeconds"`
	TenantBound int64        `json:"tenantKillSwitchBoundSeconds"`
	KeyLost     *time.Time   `json:"keyLostSince"`
	Findings    []string     `json:"findings"`
	Verified    *time.Time   `json:"keyVerified"`
	Percent     *int         `json:"percentComplete"`
	Left        int64        `json:"estimatedSecondsLeft"`
	MayChange   bool         `json:"mayChange"` // the user
}

// An EncryptionDetail is a key and how far it has come.
type EncryptionDetail struct {
	KeyIdentifier string `json:"keyIdentifier"`
	Status        string `json:"encryptionStatus"`
}

// An EncryptedItem is an item of a workspace, and how it stands.
type EncryptedItem struct {
	ID          string    `json:"id"`
	DisplayName string    `json:"displayName"`
	Type        string    `json:"type"`
	Progress    *Progress `json:"progress"`
	Reason      string    `json:"reason"`
	Detail      string    `json:"detail"`
	Status      string    `json:"encryptionStatus"`
	Deleted     bool      `json:"deleted"`
}

// A KeyVersion is a version of the key, and what still needs it.
type KeyVersion struct {
	KID           string     `json:"kid"`
	LiveWraps     int        `json:"liveWraps"`
	Backups       int        `json:"backups"` // of the platform that take it to be restored
	NewestBackup  *time.Time `json:"newestBackup"`
	SafeToDisable bool       `json:"safeToDisable"`
	First         time.Time  `json:"firstUsed"`
	Last          *time.Time `json:"lastUsed"`
}

// Changing reports whether items are on their way.
func (e Encryption) Changing() bool {
	return e.Detail.Status == "EnableInProgress" || e.Detail.Status == "DisableInProgress"
}

// A Scope is the path of a workspace, or of a storage account, at the platform.
type Scope string

// WorkspaceScope returns a workspace's.
func WorkspaceScope(id string) Scope { return Scope("/workspaces/" + url.PathEscape(id)) }

// AccountScope returns a storage account's.
func AccountScope(name string) Scope { return Scope("/storageAccounts/" + url.PathEscape(name)) }

func (s Scope) encryption() string { return string(s) + "/encryption" }

// Encryption returns how a scope is encrypted, with its items counted.
func (c *Clients) Encryption(ctx context.Context, s Scope) (e Encryption, err error) {
	err = c.fabric(ctx, http.MethodGet, s.encryption()+"?items=none", nil, &e)
	return e, err
}

// An ItemFilter says which of a scope's items are asked for.
type ItemFilter struct {
	Search, Status string
	Top            int // at most so many
	Token          string
}

// EncryptedItems returns a page of a scope's items, and the token of the next.
func (c *Clients) EncryptedItems(ctx context.Context, s Scope, f ItemFilter) (p Page[EncryptedItem], err error) {
	q := url.Values{"top": {strconv.Itoa(f.Top)}}
	for name, v := range map[string]string{"search": f.Search, "status": f.Status, "continuationToken": f.Token} {
		if v != "" {
			q.Set(name, v)
		}
	}
	err = c.fabric(ctx, http.MethodGet, s.encryption()+"/items?"+q.Encode(), nil, &p)
	return p, err
}

// A Preview is what assigning a key would meet.
type Preview struct {
	Allowed    bool      `json:"allowed"`
	Blockers   []Blocker `json:"blockers"`
	Items      int       `json:"items"`
	KeyVersion string    `json:"keyVersion"`
	Algorithm  string    `json:"algorithm"`
	Bound      int64     `json:"killSwitchBoundSeconds"`
}

// A Blocker is something that stands against an assign.
type Blocker struct {
	Code    string `json:"errorCode"`
	Message string `json:"message"`
	Mend    string `json:"mend"`
}

// ChangeEncryption makes one of the calls below a scope's encryption: assign, preview,
// reset, rotate, retry, revalidate.
func (c *Clients) ChangeEncryption(ctx context.Context, s Scope, act string, in, out any) error {
	return c.fabric(ctx, http.MethodPost, s.encryption()+"/"+act, in, out)
}

// PutEncryption sets one of the values below a scope's encryption: killSwitchBound,
// keyLost.
func (c *Clients) PutEncryption(ctx context.Context, s Scope, what string, in any) error {
	return c.fabric(ctx, http.MethodPut, s.encryption()+"/"+what, in, nil)
}

// An Impact is what goes dark if a key goes.
type Impact struct {
	KeyIdentifier string     `json:"keyIdentifier"`
	Workspaces    []Darkened `json:"workspaces"`
	Accounts      []Darkened `json:"storageAccounts"`
}

// A Darkened is a workspace or a storage account that goes dark.
type Darkened struct {
	ID          string  `json:"id"` // a storage account's is its path in Resource Manager
	DisplayName string  `json:"displayName"`
	Items       int     `json:"items"`
	Serving     Serving `json:"serving"`
	Bound       int64   `json:"killSwitchBoundSeconds"`
}

// All returns them together.
func (i Impact) All() []Darkened { return append(slices.Clone(i.Workspaces), i.Accounts...) }

// Kind says what it is.
func (d Darkened) Kind() string {
	if strings.HasPrefix(d.ID, "/") {
		return "Storage account"
	}
	return "Workspace"
}

// Page is the path of the portal's page of it.
func (d Darkened) Page() string {
	if parts := strings.Split(d.ID, "/"); len(parts) > 4 {
		return "/accounts/" + url.PathEscape(parts[4]) + "/" + url.PathEscape(d.DisplayName)
	}
	return "/workspaces/" + d.ID + "/encryption"
}

// Impact returns what a key holds, of what the user may see.
func (c *Clients) Impact(ctx context.Context, keyIdentifier string) (i Impact, err error) {
	q := url.Values{"keyIdentifier": {keyIdentifier}}
	err = c.fabric(ctx, http.MethodGet, "/admin/encryption/impact?"+q.Encode(), nil, &i)
	return i, err
}

// A Setting is a switch of the tenant's.
type Setting struct {
	Name       string            `json:"settingName"`
	Title      string            `json:"title"`
	Enabled    bool              `json:"enabled"`
	Group      string            `json:"tenantSettingGroup"`
	Properties []SettingProperty `json:"properties"`
	MayChange  bool              `json:"mayChange"` // the user
}

// A SettingProperty is what a setting is set to, beside on or off.
type SettingProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Type  string `json:"type"`
}

// Settings returns the tenant's switches.
func (c *Clients) Settings(ctx context.Context) ([]Setting, error) {
	all, _, err := List[Setting](ctx, c, c.Fabric, "/v1/admin/tenantsettings", 0)
	return all, err
}

// SetSetting changes one of the tenant's switches.
func (c *Clients) SetSetting(ctx context.Context, name string, on bool, properties ...SettingProperty) error {
	return c.fabric(ctx, http.MethodPost, "/admin/tenantsettings/"+url.PathEscape(name)+"/update",
		map[string]any{"enabled": on, "properties": properties}, nil)
}

// A Coverage is what a workspace's key covers and what it does not.
type Coverage struct {
	KeyIdentifier string    `json:"keyIdentifier"`
	Visible       []string  `json:"workspaceVisible"`
	Shortcuts     string    `json:"shortcuts"`
	Items         []Covered `json:"items"`
}

// A Covered item is one of which a key covers a part.
type Covered struct {
	ID          string   `json:"id"`
	DisplayName string   `json:"displayName"`
	Type        string   `json:"type"`
	Status      string   `json:"encryptionStatus"`
	ReSealOnly  bool     `json:"reSealOnly"`
	Sealed      []string `json:"sealed"`
	Visible     []string `json:"visible"`
	Elsewhere   []string `json:"elsewhere"`
}

// Coverage returns it.
func (c *Clients) Coverage(ctx context.Context, id string) (v Coverage, err error) {
	err = c.fabric(ctx, http.MethodGet, "/workspaces/"+url.PathEscape(id)+"/encryption/coverage", nil, &v)
	return v, err
}
