package client

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A UnixTime is a time as the keys API has it, in seconds.
type UnixTime int64

// Time returns the time, the zero one of 0.
func (t UnixTime) Time() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(int64(t), 0)
}

// KeyAttributes are a key version's state and dates.
type KeyAttributes struct {
	Enabled   bool     `json:"enabled"`
	NotBefore UnixTime `json:"nbf"`
	Expires   UnixTime `json:"exp"`
	Created   UnixTime `json:"created"`
	Updated   UnixTime `json:"updated"`
	Level     string   `json:"recoveryLevel"`
	Platform  string   `json:"hsmPlatform"`
}

// A KeyItem is a key, or a version of one, in a listing.
type KeyItem struct {
	KID        string            `json:"kid"`
	Attributes KeyAttributes     `json:"attributes"`
	Tags       map[string]string `json:"tags"`
	Deleted    UnixTime          `json:"deletedDate"`
	PurgeAt    UnixTime          `json:"scheduledPurgeDate"`
}

// Name returns the key's name.
func (k KeyItem) Name() string { return segment(k.KID, 4) }

// Version returns the version, "" of a key.
func (k KeyItem) Version() string { return segment(k.KID, 5) }

// segment returns a part of a URL: "https:", "", host, "keys", name, version.
func segment(s string, i int) string {
	if seg := strings.Split(s, "/"); len(seg) > i {
		return seg[i]
	}
	return ""
}

// A Key is a version of a key with its public part.
type Key struct {
	Key struct {
		KID        string   `json:"kid"`
		Type       string   `json:"kty"`
		Operations []string `json:"key_ops"`
		Modulus    string   `json:"n"`
		Curve      string   `json:"crv"`
	} `json:"key"`
	Attributes KeyAttributes     `json:"attributes"`
	Tags       map[string]string `json:"tags"`
}

// Bits returns an RSA key's size, 0 of others.
func (k Key) Bits() int { return (len(k.Key.Modulus)*6 + 7) / 8 / 8 * 64 }

// Identifier returns the key's versionless URL.
func (k Key) Identifier() string {
	return strings.Join(strings.Split(k.Key.KID, "/")[:min(5, len(strings.Split(k.Key.KID, "/")))], "/")
}

// PlaceOf is the party of a vault's or managed HSM's keys.
func (c *Clients) PlaceOf(p Place) Party {
	party, suffix := c.Keys, c.VaultSuffix
	if p.HSM {
		party, suffix = c.HSMs, c.HSMSuffix
	}
	if suffix != "" {
		party.Address = "https://" + url.PathEscape(p.Name) + "." + suffix
	}
	return party
}

// Key makes a call of a vault's keys API, at a path such as "/keys/NAME". The answer's
// headers may name the approval that is wanted first.
func (c *Clients) Key(ctx context.Context, p Place, method, path string, in, out any) (http.Header, error) {
	return c.Exchange(ctx, c.PlaceOf(p), method, WithQuery(path, "api-version", keyVersion), nil, in, out)
}

// FindKeys returns keys of a vault whose names have a text in them, from where a token of an
// earlier answer says, until there are limit, and where to go on. The keys API finds no names
// by itself: of a vault in which few match, no more than some thousand keys are read at a time.
func (c *Clients) FindKeys(ctx context.Context, p Place, text, token string, limit int) (found []KeyItem, next string, err error) {
	const mostPages = 200 // of 25
	first := WithQuery("/keys", "api-version", keyVersion)
	at := first
	if token != "" {
		at = WithQuery(first, "$skiptoken", token)
	}
	for range mostPages {
		var page Page[KeyItem]
		if err := c.Call(ctx, c.PlaceOf(p), http.MethodGet, at, nil, &page); err != nil {
			return found, "", err
		}
		for _, k := range page.Value {
			if strings.Contains(strings.ToLower(k.Name()), strings.ToLower(text)) {
				found = append(found, k)
			}
		}
		at, next = page.after(first), ""
		if u, err := url.Parse(at); err == nil {
			next = cmp.Or(u.Query().Get("$skiptoken"), u.Query().Get("$skipToken"))
		}
		if next == "" || len(found) >= limit {
			break
		}
	}
	return found, next, nil
}

// ListKeys returns a listing of a vault's: "/keys", "/keys/NAME/versions", "/deletedkeys".
func (c *Clients) ListKeys(ctx context.Context, p Place, path string, limit int) ([]KeyItem, bool, error) {
	return List[KeyItem](ctx, c, c.PlaceOf(p), WithQuery(path, "api-version", keyVersion), limit)
}

// A RotationPolicy says when a key is rotated by itself.
type RotationPolicy struct {
	Actions []struct {
		Trigger struct {
			AfterCreate  string `json:"timeAfterCreate,omitempty"`
			BeforeExpiry string `json:"timeBeforeExpiry,omitempty"`
		} `json:"trigger"`
		Action struct {
			Type string `json:"type"`
		} `json:"action"`
	} `json:"lifetimeActions"`
	Attributes struct {
		Expiry string `json:"expiryTime,omitempty"`
	} `json:"attributes"`
}

// A Usage is what one principal has done with one version of a key.
type Usage struct {
	KID       string    `json:"kid"`
	Principal string    `json:"principalId"`
	Operation string    `json:"operation"`
	Count     int64     `json:"count"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
}

// Key returns the name of the key that was used.
func (u Usage) Key() string { return segment(u.KID, 4) }

// Version returns the version that was used.
func (u Usage) Version() string { return segment(u.KID, 5) }

// A KeyHolder may do something with a key.
type KeyHolder struct {
	Principal  string `json:"principalId"`
	Type       string `json:"principalType"`
	Assignment string `json:"roleAssignmentId"`
	Role       string `json:"roleDefinitionId"`
	Scope      string `json:"scope"`
}

// WhoCan returns who holds a permission on a key: "unwrapKey".
func (c *Clients) WhoCan(ctx context.Context, p Place, key, permission string) ([]KeyHolder, error) {
	var page Page[KeyHolder]
	_, err := c.Exchange(ctx, c.PlaceOf(p), http.MethodGet, "/access?"+url.Values{"key": {key}, "permission": {permission}}.Encode(), nil, nil, &page)
	return page.Value, err
}

// An Approval is something that a second person has to agree to.
type Approval struct {
	ID          string    `json:"id"`
	Operation   string    `json:"operation"`
	Resource    string    `json:"resource"`
	State       string    `json:"state"`
	RequestedBy string    `json:"requestedBy"`
	Requested   time.Time `json:"requested"`
	Expires     time.Time `json:"expires"`
	DecidedBy   string    `json:"decidedBy"`
	Decided     time.Time `json:"decided"`
}

// Approvals returns those of a vault that are the user's business.
func (c *Clients) Approvals(ctx context.Context, p Place) ([]Approval, error) {
	var page Page[Approval]
	_, err := c.Exchange(ctx, c.PlaceOf(p), http.MethodGet, "/approvals", nil, nil, &page)
	return page.Value, err
}

// Decide agrees to a request for approval, or rejects it; one's own it withdraws.
func (c *Clients) Decide(ctx context.Context, p Place, id string, agree bool) error {
	verb := "reject"
	if agree {
		verb = "approve"
	}
	_, err := c.Exchange(ctx, c.PlaceOf(p), http.MethodPost, "/approvals/"+url.PathEscape(id)+"/"+verb, nil, nil, nil)
	return err
}
