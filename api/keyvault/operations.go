package keyvault

import (
	"cmp"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

// Bounds of a request's body, in bytes: a value of 32 KiB in base64 and 15 tags of
// 256 characters, with room; and a backup.
const (
	bodyLimit   = 64 << 10
	backupLimit = 6 << 20
)

type operation func(c *call, name vault.KeyName, version vault.Version) error

var operations map[kind]map[string]operation

func init() {
	one := func(method string, op operation) map[string]operation { return map[string]operation{method: op} }
	operations = map[kind]map[string]operation{
		keyList:        one(http.MethodGet, (*call).list),
		key:            {http.MethodGet: (*call).get, http.MethodPatch: (*call).update, http.MethodDelete: (*call).delete, http.MethodPut: (*call).importKey},
		keyVersion:     {http.MethodGet: (*call).get, http.MethodPatch: (*call).update},
		keyVersions:    one(http.MethodGet, (*call).versions),
		keyCreate:      one(http.MethodPost, (*call).create),
		keyRotate:      one(http.MethodPost, (*call).rotate),
		keyUse:         one(http.MethodPost, (*call).use),
		keyBackup:      one(http.MethodPost, (*call).backup),
		keyRestore:     one(http.MethodPost, (*call).restore),
		keyPolicy:      {http.MethodGet: (*call).policy, http.MethodPut: (*call).setPolicy},
		keyUsage:       one(http.MethodGet, (*call).usage),
		random:         one(http.MethodPost, (*call).random),
		deletedList:    one(http.MethodGet, (*call).listDeleted),
		deletedKey:     {http.MethodGet: (*call).getDeleted, http.MethodDelete: (*call).purge},
		deletedRecover: one(http.MethodPost, (*call).recover),
		changes:        one(http.MethodGet, (*call).changes),
		left:           {http.MethodGet: (*call).leftOut, http.MethodPost: (*call).leftOut, http.MethodPut: (*call).leftOut},
	}
}

func (c *call) leftOut(vault.KeyName, vault.Version) error {
	return fault.New(fault.NotSupported, "This operation is not supported.")
}

func (c *call) create(name vault.KeyName, _ vault.Version) error {
	var body createBody
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	spec, err := body.spec()
	if err != nil {
		return err
	}
	b, err := c.vaults.CreateKey(c.ctx, c.caller, c.vault, name, spec)
	return c.bundle(b, err)
}

func (c *call) rotate(name vault.KeyName, _ vault.Version) error {
	b, err := c.vaults.RotateKey(c.ctx, c.caller, c.vault, name)
	return c.bundle(b, err)
}

func (c *call) get(name vault.KeyName, version vault.Version) error {
	b, err := c.vaults.Key(c.ctx, c.caller, c.vault, name, version)
	return c.bundle(b, err)
}

func (c *call) update(name vault.KeyName, version vault.Version) error {
	var body updateBody
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	u, err := body.update()
	if err != nil {
		return err
	}
	b, err := c.vaults.UpdateKey(c.ctx, c.caller, c.vault, name, version, u)
	return c.bundle(b, err)
}

func (c *call) use(name vault.KeyName, version vault.Version) error {
	var body useBody
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	in := vault.Input{Algorithm: body.Algorithm, Value: body.Value, IV: body.IV, AAD: body.AAD, Tag: body.Tag}
	if c.route.use == vault.Verify {
		in.Value, in.Signature = body.Digest, body.Value
	}
	defer clear(body.Value)
	b, out, err := c.vaults.Use(c.ctx, c.caller, c.vault, name, version, c.route.use, in)
	if err != nil {
		return err
	}
	defer clear(out.Value)
	result := useResult{KID: c.base + path(b), IV: out.IV, AAD: out.AAD, Tag: out.Tag, Value: octets(out.Value)}
	if b.Vault.Flavour == vault.ManagedHSM {
		result.Algorithm = in.Algorithm
	}
	if c.route.use == vault.Verify {
		result.Value = out.Valid
		if b.Vault.Flavour != vault.ManagedHSM {
			result.KID = ""
		}
	}
	api.WriteJSON(c.w, http.StatusOK, result)
	return nil
}

func (c *call) delete(name vault.KeyName, _ vault.Version) error {
	b, err := c.vaults.DeleteKey(c.ctx, c.caller, c.vault, name)
	return c.bundle(b, err)
}

func (c *call) getDeleted(name vault.KeyName, _ vault.Version) error {
	b, err := c.vaults.DeletedKey(c.ctx, c.caller, c.vault, name)
	return c.bundle(b, err)
}

func (c *call) recover(name vault.KeyName, _ vault.Version) error {
	b, err := c.vaults.RecoverKey(c.ctx, c.caller, c.vault, name)
	return c.bundle(b, err)
}

func (c *call) purge(name vault.KeyName, _ vault.Version) error {
	if err := c.vaults.PurgeKey(c.ctx, c.caller, c.vault, name); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (c *call) list(vault.KeyName, vault.Version) error {
	p, err := c.page()
	if err != nil {
		return err
	}
	all, next, err := c.vaults.Keys(c.ctx, c.caller, c.vault, p)
	return c.items("/keys", all, false, next, err)
}

func (c *call) listDeleted(vault.KeyName, vault.Version) error {
	p, err := c.page()
	if err != nil {
		return err
	}
	all, next, err := c.vaults.DeletedKeys(c.ctx, c.caller, c.vault, p)
	return c.items("/deletedkeys", all, false, next, err)
}

func (c *call) versions(name vault.KeyName, _ vault.Version) error {
	p, err := c.page()
	if err != nil {
		return err
	}
	all, next, err := c.vaults.KeyVersions(c.ctx, c.caller, c.vault, name, p)
	return c.items("/keys/"+string(name)+"/versions", all, true, next, err)
}

// page reads where a listing goes on and how much it holds.
func (c *call) page() (p vault.Page, err error) {
	q := c.r.URL.Query()
	if s := q.Get("maxresults"); s != "" {
		if p.Limit, err = strconv.Atoi(s); err != nil || p.Limit < 1 {
			return p, fault.New(fault.InvalidArgument, "maxresults must lie between 1 and 25.")
		}
	}
	if s := cmp.Or(q.Get("$skiptoken"), q.Get("$skipToken")); s != "" {
		after, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil || len(after) > 128 {
			return p, fault.New(fault.InvalidArgument, "$skiptoken is not one of this listing.")
		}
		p.After = string(after)
	}
	return p, nil
}

func (c *call) items(at string, all []vault.Bundle, versioned bool, next string, err error) error {
	if err != nil {
		return err
	}
	body := itemList{Value: []item{}}
	for _, b := range all {
		body.Value = append(body.Value, c.item(b, versioned))
	}
	if next != "" {
		q := c.r.URL.Query()
		token := "$skiptoken=" + base64.RawURLEncoding.EncodeToString([]byte(next))
		link := c.base + at + "?api-version=" + url.QueryEscape(q.Get("api-version")) + "&" + token
		if c.flavour == vault.ManagedHSM { // its clients add the api-version again
			link = c.base + at + "?" + token
		}
		if m := q.Get("maxresults"); m != "" {
			link += "&maxresults=" + url.QueryEscape(m)
		}
		body.NextLink = &link
	}
	api.WriteJSON(c.w, http.StatusOK, body)
	return nil
}

func (c *call) changes(vault.KeyName, vault.Version) error {
	q := c.r.URL.Query()
	var wait time.Duration
	if s := q.Get("wait"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return fault.New(fault.InvalidArgument, "wait is a number of seconds.")
		}
		wait = time.Duration(min(n, 60)) * time.Second
	}
	// Not every server can move its deadline; then its own applies.
	_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now().Add(wait + 30*time.Second))
	f, err := c.vaults.Changes(c.ctx, c.caller, c.vault, vault.Cursor(q.Get("since")), wait)
	if err != nil {
		return err
	}
	body := feed{Cursor: f.Cursor, Reset: f.Reset, Changes: []change{}}
	for _, ch := range f.Changes {
		body.Changes = append(body.Changes, change{Key: ch.Key, Kind: ch.Kind})
	}
	api.WriteJSON(c.w, http.StatusOK, body)
	return nil
}
