package client

import (
	"context"
	"net/http"
	"net/url"
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
	Groups   []struct {
		Status string          `json:"encryptionStatus"`
		Items  []EncryptedItem `json:"items"`
	} `json:"workspaceEncryptionItemsDetails"`

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
	Status      string    `json:"-"` // its group's
}

// A KeyVersion is a version of the key, and what still needs it.
type KeyVersion struct {
	KID           string     `json:"kid"`
	LiveWraps     int        `json:"liveWraps"`
	SafeToDisable bool       `json:"safeToDisable"`
	First         time.Time  `json:"firstUsed"`
	Last          *time.Time `json:"lastUsed"`
}

// Items returns the items of all groups, each with its status: failed ones first.
func (e Encryption) Items() (all []EncryptedItem) {
	for _, g := range e.Groups {
		for _, i := range g.Items {
			i.Status = g.Status
			all = append(all, i)
		}
	}
	return all
}

// Changing reports whether items are on their way.
func (e Encryption) Changing() bool {
	return e.Detail.Status == "EnableInProgress" || e.Detail.Status == "DisableInProgress"
}

// WorkspaceEncryption returns how a workspace is encrypted.
func (c *Clients) WorkspaceEncryption(ctx context.Context, id string) (e Encryption, err error) {
	err = c.fabric(ctx, http.MethodGet, "/workspaces/"+url.PathEscape(id)+"/encryption", nil, &e)
	return e, err
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

// Encryption makes one of the calls below a workspace's encryption: assign, preview,
// reset, rotate, revalidate.
func (c *Clients) Encryption(ctx context.Context, id, act string, in, out any) error {
	return c.fabric(ctx, http.MethodPost, "/workspaces/"+url.PathEscape(id)+"/encryption/"+act, in, out)
}

// PutEncryption sets one of the values below a workspace's encryption:
// killSwitchBound, keyLost.
func (c *Clients) PutEncryption(ctx context.Context, id, what string, in any) error {
	return c.fabric(ctx, http.MethodPut, "/workspaces/"+url.PathEscape(id)+"/encryption/"+what, in, nil)
}

// An Impact is what goes dark if a key goes.
type Impact struct {
	KeyIdentifier string `json:"keyIdentifier"`
	Workspaces    []struct {
		ID          string  `json:"id"`
		DisplayName string  `json:"displayName"`
		Items       int     `json:"items"`
		Serving     Serving `json:"serving"`
		Bound       int64   `json:"killSwitchBoundSeconds"`
	} `json:"workspaces"`
}

// Impact returns which workspaces a key holds, of those that the user may see.
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
	KeyIdentifier string   `json:"keyIdentifier"`
	Visible       []string `json:"workspaceVisible"`
	Shortcuts     string   `json:"shortcuts"`
	Items         []struct {
		ID          string   `json:"id"`
		DisplayName string   `json:"displayName"`
		Type        string   `json:"type"`
		Status      string   `json:"encryptionStatus"`
		ReSealOnly  bool     `json:"reSealOnly"`
		Sealed      []string `json:"sealed"`
		Visible     []string `json:"visible"`
		Elsewhere   []string `json:"elsewhere"`
	} `json:"items"`
}

// Coverage returns it.
func (c *Clients) Coverage(ctx context.Context, id string) (v Coverage, err error) {
	err = c.fabric(ctx, http.MethodGet, "/workspaces/"+url.PathEscape(id)+"/encryption/coverage", nil, &v)
	return v, err
}
