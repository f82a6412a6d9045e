package posture

import (
	"net/url"
	"slices"
	"strings"
)

// An app is what an App Service or Functions app's settings lead to: its content and
// state lie in storage accounts, its secrets in vaults, and neither is the app's own.
// https://learn.microsoft.com/azure/app-service/configure-encrypt-at-rest-using-cmk
//
// Of a setting's value nothing is kept but whom it leads to: settings hold secrets.
type app struct {
	read     bool // whether settings were read
	accounts []link
	secrets  []SecretRef
	inline   []string // settings that hold a secret themselves
	later    []string // settings known after apply only
	byID     []string // settings that connect as the app's identity
	asOther  []string // client ids or resource ids of identities that such settings name
	refAs    string   // the identity that reads secrets; empty: the system-assigned one
}

// A SecretRef is a reference to a secret in a vault.
type SecretRef struct {
	Setting string
	Vault   string // its host, in lower case
	Name    string
	Version string // empty: the newest
}

// appOf reads an app's body.
func appOf(d document) *app {
	a := &app{}
	a.refAs = d.str("properties.keyVaultReferenceIdentity")
	if strings.EqualFold(a.refAs, "SystemAssigned") {
		a.refAs = ""
	}
	a.settings(d, "properties.siteConfig.appSettings")
	a.settings(d, "properties.siteConfig.connectionStrings")
	for _, p := range []string{"properties.siteConfig.azureStorageAccounts", "properties.azureStorageAccounts"} {
		a.mounts(d, p)
	}
	if at := d.str("properties.functionAppConfig.deployment.storage.value"); at != "" {
		a.read = true
		a.account(accountIn(at), "functionAppConfig")
		if t := d.str("properties.functionAppConfig.deployment.storage.authentication.type"); t != "" && !strings.EqualFold(t, "StorageAccountConnectionString") {
			a.byID = append(a.byID, "functionAppConfig.deployment.storage")
		}
	}
	return a
}

// addSettings adds what a config child of an app says: its settings, connection
// strings or mounts, which the app's own answer leaves out.
func (inv *Inventory) addSettings(typ, id string, d document) bool {
	if typ != "microsoft.web/sites/config" && typ != "microsoft.web/sites/slots/config" {
		return false
	}
	name := strings.ToLower(id[strings.LastIndexByte(id, '/')+1:])
	at := strings.ToLower(parentID(id))
	a := inv.apps[at]
	if a == nil {
		a = &app{}
		inv.apps[at] = a
	}
	switch name {
	case "appsettings", "connectionstrings":
		a.settings(d, "properties")
	case "azurestorageaccounts":
		a.mounts(d, "properties")
	}
	return true
}

// join brings what a config child says into a.
func (a *app) join(o *app) {
	if o == nil {
		return
	}
	a.read = a.read || o.read
	a.accounts, a.secrets = append(a.accounts, o.accounts...), append(a.secrets, o.secrets...)
	a.inline, a.later = append(a.inline, o.inline...), append(a.later, o.later...)
	a.byID, a.asOther = append(a.byID, o.byID...), append(a.asOther, o.asOther...)
}

// settings reads names and values: a list of such pairs, or an object of them.
func (a *app) settings(d document, at string) {
	p := parsePath(at).in(d)
	var v any = d.body
	for _, name := range p {
		m, _ := v.(map[string]any)
		v = Field(m, name)
	}
	switch v := v.(type) {
	case unknown:
		a.later = append(a.later, "its settings")
	case []any:
		a.read = true
		for _, e := range v {
			m, _ := e.(map[string]any)
			value := Field(m, "value")
			if value == nil {
				value = Field(m, "connectionString")
			}
			a.setting(scalarOf(Field(m, "name")), value)
		}
	case map[string]any:
		a.read = true
		for name, value := range v {
			if m, ok := value.(map[string]any); ok { // a connection string with its type
				value = Field(m, "value")
			}
			a.setting(name, value)
		}
	}
}

func (a *app) mounts(d document, at string) {
	for _, v := range d.objects(parsePath(at)) {
		m, _ := v.(map[string]any)
		for name, one := range m {
			mount, ok := one.(map[string]any)
			if !ok {
				continue
			}
			a.account(scalarOf(Field(mount, "accountName")), name)
			if key := scalarOf(Field(mount, "accessKey")); key != "" && !a.reference(name, key) {
				a.inline = append(a.inline, name)
			}
		}
	}
}

// contentSettings hold the app's content or state, by their names or what these begin
// with, in lower case.
var contentSettings = []string{"azurewebjobsstorage", "website_contentazurefileconnectionstring", "website_run_from_package", "azurewebjobsdashboard"}

// setting reads one setting.
func (a *app) setting(name string, value any) {
	low := strings.ToLower(name)
	content := slices.ContainsFunc(contentSettings, func(s string) bool { return low == s || strings.HasPrefix(low, s+"__") })
	if value == UnknownValue {
		a.later = append(a.later, name)
		if content {
			a.accounts = append(a.accounts, link{kind: linkAccount})
		}
		return
	}
	s := scalarOf(value)
	if a.reference(name, s) {
		if content { // the account's name stands in the secret
			a.accounts = append(a.accounts, link{kind: linkHidden, target: name, known: true})
		}
		return
	}
	base, part, _ := strings.Cut(low, "__")
	switch part {
	case "accountname":
		a.account(s, name)
		a.byID = append(a.byID, base)
		return
	case "blobserviceuri", "queueserviceuri", "tableserviceuri", "serviceuri":
		a.account(accountIn(s), name)
		a.byID = append(a.byID, base)
		return
	case "fullyqualifiednamespace":
		a.byID = append(a.byID, base)
		return
	case "clientid", "managedidentityresourceid":
		a.asOther = append(a.asOther, s)
		return
	}
	if holdsSecret(s) {
		a.inline = append(a.inline, name)
	}
	switch account := accountIn(s); {
	case account != "" && (content || strings.Contains(low, "storage")):
		a.account(account, name)
	case content && s != "" && s != "1" && s != "0" && part == "":
		a.accounts = append(a.accounts, link{kind: linkHidden, target: name, known: true})
	}
}

// account notes a storage account, once.
func (a *app) account(name, _ string) {
	l := link{kind: linkAccount, target: strings.ToLower(name), known: true}
	if name != "" && !slices.Contains(a.accounts, l) {
		a.accounts = append(a.accounts, l)
	}
}

// reference notes a reference to a secret, and reports whether s is one.
// https://learn.microsoft.com/azure/app-service/app-service-key-vault-references
func (a *app) reference(setting, s string) bool {
	const prefix = "@Microsoft.KeyVault("
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return false
	}
	ref := SecretRef{Setting: setting}
	for part := range strings.SplitSeq(strings.TrimSuffix(s[len(prefix):], ")"), ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch strings.ToLower(name) {
		case "secreturi":
			if u, err := url.Parse(value); err == nil {
				p := strings.Split(strings.Trim(u.Path, "/"), "/")
				ref.Vault = strings.ToLower(u.Host)
				if len(p) > 1 {
					ref.Name = p[1]
				}
				if len(p) > 2 {
					ref.Version = p[2]
				}
			}
		case "vaultname":
			ref.Vault = strings.ToLower(value) + ".vault.azure.net"
		case "secretname":
			ref.Name = value
		case "secretversion":
			ref.Version = value
		}
	}
	a.secrets = append(a.secrets, ref)
	return true
}

// secretMarks are what secrets in connection strings and URLs stand behind.
var secretMarks = []string{"accountkey=", "sharedaccesskey=", "sharedaccesssignature=", "password=", "pwd=", "&sig=", "?sig=", "clientsecret="}

func holdsSecret(s string) bool {
	low := strings.ToLower(strings.ReplaceAll(s, " ", ""))
	return slices.ContainsFunc(secretMarks, func(m string) bool { return strings.Contains(low, m) })
}

// accountIn returns the storage account that a connection string or a URL names, "" if
// it names none.
func accountIn(s string) string {
	for part := range strings.SplitSeq(s, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if strings.EqualFold(name, "AccountName") {
			return value
		}
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return ""
	}
	p := strings.Split(u.Host, ".")
	if len(p) > 2 && slices.Contains([]string{"blob", "file", "queue", "table", "dfs"}, strings.ToLower(p[1])) {
		return p[0]
	}
	return ""
}

// settleApp finds out what lies behind an app's settings.
func (inv *Inventory) settleApp(r *Resource) {
	a := r.app
	a.join(inv.apps[strings.ToLower(r.ID)])
	switch {
	case len(a.accounts) > 0:
		var all CMK
		for _, l := range a.accounts {
			all = all.and(inv.follow(l))
		}
		r.CMK = all
	case !a.read || len(a.later) > 0:
		r.CMK = CMK{State: Unknown, Why: "its settings were not read"}
	default:
		r.CMK = CMK{State: Off, Why: "its content lies in App Service's own storage, under the platform's key"}
	}
}
