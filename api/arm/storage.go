package arm

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/encryption"
	"github.com/kluis-io/kluis/fault"
)

// Microsoft.Storage is the platform's, as Microsoft.KeyVault is the vault's
// (learn.microsoft.com/rest/api/storagerp). The two share this host and nothing else.
const accountType = "Microsoft.Storage/storageAccounts"

// What clients send of an account. Fields that are not here are read-only, or ask for
// what there is no choice of.
type (
	accountBody struct {
		Location *string            `json:"location"`
		Kind     *string            `json:"kind"`
		Tags     *map[string]string `json:"tags"`
		SKU      *struct {
			Name *string `json:"name"`
		} `json:"sku"`
		Identity *struct {
			Type         string         `json:"type"`
			UserAssigned map[string]any `json:"userAssignedIdentities"`
		} `json:"identity"`
		Properties struct {
			SharedKey  *bool           `json:"allowSharedKeyAccess"`
			Encryption *encryptionBody `json:"encryption"`
		} `json:"properties"`
	}
	encryptionBody struct {
		KeySource *account.KeySource `json:"keySource"`
		Key       *struct {
			Name    string `json:"keyname"`
			Version string `json:"keyversion"`
			Vault   string `json:"keyvaulturi"`
		} `json:"keyvaultproperties"`
		Identity *struct {
			UserAssigned string `json:"userAssignedIdentity"`
		} `json:"identity"`
	}
)

// keySources are the names whose case clients do not mind.
var keySources = []account.KeySource{account.PlatformKeys, account.CustomerKeys}

func (b accountBody) spec() account.Spec {
	s := account.Spec{Location: b.Location, Kind: b.Kind, Tags: b.Tags, SharedKey: b.Properties.SharedKey}
	if b.SKU != nil {
		s.SKU = b.SKU.Name
	}
	if b.Identity != nil {
		m := account.ManagedIdentity{Type: account.IdentityType(strings.ReplaceAll(b.Identity.Type, " ", ""))}
		if strings.EqualFold(string(m.Type), "None") {
			m.Type = account.NoIdentity
		}
		for id, v := range b.Identity.UserAssigned {
			if v != nil { // null takes one away
				m.UserAssigned = append(m.UserAssigned, id)
			}
		}
		slices.Sort(m.UserAssigned)
		s.Identity = &m
	}
	e := b.Properties.Encryption
	if e == nil {
		return s
	}
	if e.KeySource != nil {
		for _, known := range keySources {
			if strings.EqualFold(string(known), string(*e.KeySource)) {
				*e.KeySource = known
			}
		}
		s.KeySource = e.KeySource
	}
	if k := e.Key; k != nil && (k.Name != "" || k.Vault != "" || k.Version != "") {
		s.Key = &account.VaultKey{Vault: k.Vault, Name: k.Name, Version: k.Version}
	}
	if e.Identity != nil {
		s.KeyIdentity = &e.Identity.UserAssigned
	}
	return s
}

// A storageResource has what vaults have not.
type storageResource struct {
	resource
	SKU      any `json:"sku"`
	Kind     any `json:"kind"`
	Identity any `json:"identity,omitempty"`
}

func (c *call) account(a account.Account) storageResource {
	tier, _, _ := strings.Cut(a.SKU, "_")
	endpoints := map[string]string{}
	for _, service := range []string{"blob", "dfs"} {
		endpoints[service] = "https://" + string(a.Name) + "." + service + "." + c.config.StorageSuffix + "/"
	}
	return storageResource{
		resource: resource{
			ID: a.Scope(), Name: a.Name, Type: accountType, Location: a.Location, Tags: tags(a.Tags),
			System: &systemData{Created: a.Created, Modified: a.Updated},
			Properties: map[string]any{
				"provisioningState": "Succeeded", "creationTime": a.Created, "primaryLocation": a.Location, "statusOfPrimary": "available",
				"primaryEndpoints": endpoints, "isHnsEnabled": true, "supportsHttpsTrafficOnly": true, "minimumTlsVersion": "TLS1_2",
				"allowBlobPublicAccess": false, "allowSharedKeyAccess": a.SharedKey, "accessTier": "Hot",
				"networkAcls": map[string]any{
					"bypass": "AzureServices", "defaultAction": "Allow", "ipRules": []any{}, "virtualNetworkRules": []any{},
				},
				"encryption": accountEncryption(a),
			},
		},
		SKU: map[string]string{"name": a.SKU, "tier": tier}, Kind: a.Kind, Identity: accountIdentity(a),
	}
}

// accountEncryption says what the account's keys are. Beside Azure's fields it says how
// far a change is and whether the vault still agrees.
func accountEncryption(a account.Account) map[string]any {
	service := map[string]any{"enabled": true, "keyType": "Account", "lastEnabledTime": a.Created}
	services := map[string]any{}
	for _, name := range []string{"blob", "file", "queue", "table"} { // whatever lies in an account lies under its key
		services[name] = service
	}
	e := map[string]any{
		"services": services, "keySource": account.PlatformKeys,
		"kluis": map[string]any{"state": a.Encryption.State, "serving": a.Encryption.Serving, "mayChange": a.MayChange},
	}
	if a.KeyIdentity != "" {
		e["identity"] = map[string]string{"userAssignedIdentity": a.KeyIdentity}
	}
	if a.Encryption.Mode != encryption.CustomerManaged {
		return e
	}
	e["keySource"] = account.CustomerKeys
	vault, name, _ := strings.Cut(a.Encryption.KeyIdentifier, "/keys/")
	key := map[string]any{
		"keyname": name, "keyvaulturi": vault, "currentVersionedKeyIdentifier": a.Encryption.KID,
	}
	if !a.Encryption.Rotated.IsZero() {
		key["lastKeyRotationTimestamp"] = a.Encryption.Rotated.Format(time.RFC3339Nano)
	}
	e["keyvaultproperties"] = key
	return e
}

func accountIdentity(a account.Account) any {
	m := a.Identity
	if m.Type == account.NoIdentity {
		return nil
	}
	out := map[string]any{"type": m.Type}
	if m.Type != account.UserAssigned {
		out["principalId"], out["tenantId"] = a.Principal, a.Tenant
	}
	if len(m.UserAssigned) > 0 {
		users := map[string]any{}
		for _, id := range m.UserAssigned {
			users[id] = map[string]any{"principalId": a.Principal, "clientId": a.Principal}
		}
		out["userAssignedIdentities"] = users
	}
	return out
}

// serveStorage serves what lies below Microsoft.Storage.
func (c *call) serveStorage() error {
	const (
		sub      = "subscriptions/*"
		provider = "/providers/microsoft.storage"
		in       = sub + "/resourcegroups/*" + provider + "/storageaccounts"
	)
	switch {
	case c.accounts == nil:
	case c.match(sub + provider + "/storageaccounts"), c.match(in):
		return c.on(methods{"GET": c.listAccounts})
	case c.match(sub + provider + "/checknameavailability"):
		return c.on(methods{"POST": c.checkAccountName})
	case c.match(in + "/*"):
		return c.on(methods{
			"GET":    func() error { return c.getAccount() },
			"PUT":    func() error { return c.putAccount() },
			"PATCH":  func() error { return c.patchAccount() },
			"DELETE": func() error { return c.deleteAccount() },
		})
	case c.match(in + "/*/encryptionscopes"):
		return c.on(methods{"GET": c.listEncryptionScopes})
	case c.match(in + "/*/listkeys"):
		return c.on(methods{"POST": c.listAccountKeys})
	case c.match(in + "/*/regeneratekey"):
		return c.on(methods{"POST": c.regenerateAccountKey})
	}
	return fault.New(fault.NotFound, "There is no such resource type here.")
}

// isStorage reports whether the path is one of Microsoft.Storage's.
func (c *call) isStorage() bool {
	for i := range len(c.seg) - 1 {
		if fold(c.seg[i]) == "providers" {
			return fold(c.seg[i+1]) == "microsoft.storage"
		}
	}
	return false
}

func (c *call) accountPath() account.Path {
	return account.Path{Subscription: c.seg[1], ResourceGroup: c.seg[3], Name: account.Name(fold(c.seg[7]))}
}

func (c *call) accountsHere() ([]account.Account, error) {
	group := ""
	if len(c.seg) > 3 && fold(c.seg[2]) == "resourcegroups" {
		group = c.seg[3]
	}
	return c.accounts.List(c.ctx, c.caller, c.seg[1], group)
}

func (c *call) listAccounts() error {
	all, err := c.accountsHere()
	if err != nil {
		return err
	}
	out := []any{}
	for _, a := range all {
		out = append(out, c.account(a))
	}
	return c.list(out)
}

func (c *call) getAccount() error {
	a, err := c.accounts.Account(c.ctx, c.caller, c.accountPath())
	return c.write(http.StatusOK, c.account(a), err)
}

// listEncryptionScopes lists none: an account is one scope, under one key.
func (c *call) listEncryptionScopes() error {
	if _, err := c.accounts.Account(c.ctx, c.caller, c.accountPath()); err != nil {
		return err
	}
	return c.list([]any{})
}

func (c *call) accountSpec() (account.Spec, error) {
	var body accountBody
	err := api.ReadJSON(c.r, bodyLimit, &body)
	return body.spec(), err
}

func (c *call) putAccount() error {
	s, err := c.accountSpec()
	if err != nil {
		return err
	}
	if s.Tags == nil {
		s.Tags = &map[string]string{}
	}
	a, _, err := c.accounts.Put(c.ctx, c.caller, c.accountPath(), s)
	return c.write(http.StatusOK, c.account(a), taken(err))
}

// taken gives an account's name that is not free the code that clients know.
func taken(err error) error {
	if errors.Is(err, fault.Conflict) {
		return coded{"StorageAccountAlreadyTaken", err}
	}
	return err
}

func (c *call) patchAccount() error {
	s, err := c.accountSpec()
	if err != nil {
		return err
	}
	a, err := c.accounts.Patch(c.ctx, c.caller, c.accountPath(), s)
	return c.write(http.StatusOK, c.account(a), err)
}

func (c *call) deleteAccount() error {
	return c.gone(c.accounts.Delete(c.ctx, c.caller, c.accountPath()), fault.ResourceNotFound)
}

func (c *call) checkAccountName() error {
	var body struct {
		Name string `json:"name"`
	}
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	free, reason, err := c.accounts.NameFree(c.ctx, c.caller, body.Name)
	out := map[string]any{"nameAvailable": free}
	switch reason {
	case fault.InvalidArgument:
		out["reason"], out["message"] = "AccountNameInvalid", body.Name+" is not a valid storage account name: it has between 3 and 24 lower-case letters and digits."
	case fault.Conflict:
		out["reason"], out["message"] = "AlreadyExists", "The storage account named "+body.Name+" is already taken."
	}
	return c.write(http.StatusOK, out, err)
}

// writeKeys writes an account's keys, which no cache may keep.
func (c *call) writeKeys(keys []account.Key, err error) error {
	out := []any{}
	for _, k := range keys {
		out = append(out, map[string]any{
			"keyName": k.Name, "value": base64.StdEncoding.EncodeToString(k.Value), "permissions": "FULL", "creationTime": k.Created,
		})
		clear(k.Value)
	}
	c.w.Header().Set("Cache-Control", "no-store")
	return c.write(http.StatusOK, map[string]any{"keys": out}, err)
}

func (c *call) listAccountKeys() error {
	return c.writeKeys(c.accounts.Keys(c.ctx, c.caller, c.accountPath()))
}

func (c *call) regenerateAccountKey() error {
	var body struct {
		Name string `json:"keyName"`
	}
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	return c.writeKeys(c.accounts.RegenerateKey(c.ctx, c.caller, c.accountPath(), body.Name))
}

// accountResources lists the accounts as resources.
func (c *call) accountResources() ([]any, error) {
	if c.accounts == nil {
		return nil, nil
	}
	all, err := c.accountsHere()
	if errors.Is(err, fault.SubscriptionNotFound) && c.vaults != nil {
		return nil, nil
	}
	var out []any
	for _, a := range all {
		out = append(out, storageResource{
			resource: resource{ID: a.Scope(), Name: a.Name, Type: accountType, Location: a.Location, Tags: tags(a.Tags)},
			SKU:      map[string]string{"name": a.SKU}, Kind: a.Kind,
		})
	}
	return out, err
}

// A coded error has a code of its own.
type coded struct {
	code string
	err  error
}

func (e coded) Error() string { return e.err.Error() }

// Unwrap returns the error without the code.
func (e coded) Unwrap() error { return e.err }
