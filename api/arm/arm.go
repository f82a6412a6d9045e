// Package arm speaks as much of Azure Resource Manager as managing vaults and storage
// accounts takes: metadata, subscriptions, resource groups, Microsoft.KeyVault/vaults,
// Microsoft.Storage/storageAccounts and Microsoft.Authorization role definitions and assignments
// (learn.microsoft.com/rest/api/resources, …/keyvault, …/authorization).
//
// The rules are package vault's. A property that vaults of this release do not
// enforce is refused where it would narrow access, and never silently dropped;
// read-only properties that clients send back are ignored.
package arm

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
)

// Config says where things are, for clients that ask.
type Config struct {
	VaultSuffix   string // of the vaults' hosts, with the port unless it is 443: vault.localhost:8443
	HSMSuffix     string // the same of managed HSMs
	StorageSuffix string // of the storage services' hosts, likewise: localhost:8443

	Accounts  *account.Accounts // nil if the platform is not served here
	Audiences []string          // that a token for Resource Manager may have
	Endpoints Endpoints
}

// Endpoints are the URLs that the cloud's description gives. "" leaves one out.
type Endpoints struct {
	ResourceManager string
	Login           string // tenant-style authority
	ADFS            string // the same authority in the form that needs no discovery of instances
	Graph           string
	Portal          string
}

type handler struct {
	vaults   *vault.Vaults     // nil if the vault is not served here
	accounts *account.Accounts // nil if the platform is not
	tokens   api.Tokens
	config   Config
}

// New returns the handler of the management host. Each party serves its own resource
// providers, and their role assignments; vaults is nil if there are none here.
func New(vaults *vault.Vaults, tokens api.Tokens, c Config) http.Handler {
	return &handler{vaults: vaults, accounts: c.Accounts, tokens: tokens, config: c}
}

// A call is one authenticated request. Its segments are the path's, as sent.
type call struct {
	*handler
	w      http.ResponseWriter
	r      *http.Request
	ctx    context.Context
	caller identity.Caller
	seg    []string
}

// bodyLimit bounds a request's body, in bytes.
const bodyLimit = 1 << 20

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	seg, err := segments(r.URL.EscapedPath())
	if err == nil && len(seg) == 2 && fold(seg[0]) == "metadata" && fold(seg[1]) == "endpoints" {
		h.metadata(w, r)
		return
	}
	caller, aerr := api.Authenticate(r, h.tokens, h.config.Audiences...)
	if aerr != nil {
		switch bearer := `Bearer authorization_uri="` + h.config.Endpoints.Login + `"`; fault.ReasonOf(aerr) {
		case fault.Unauthenticated:
			w.Header().Set("WWW-Authenticate", bearer+`, error="invalid_token"`)
		case fault.TokenRevoked:
			w.Header().Set("WWW-Authenticate", bearer+api.ClaimsChallenge(time.Now()))
		}
		err = aerr
	}
	caller.Context = command(r)
	if err == nil {
		err = checkVersion(r.URL.Query().Get("api-version"))
	}
	if err == nil {
		err = (&call{handler: h, w: w, r: r, ctx: r.Context(), caller: caller, seg: seg}).serve()
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		writeError(w, r, err)
	}
}

// command returns what az says of itself: which of its commands this is a part of, and the
// names of its parameters. It is recorded with the act, and tells who changed what with
// which command.
func command(r *http.Request) map[string]string {
	said := map[string]string{}
	for header, note := range map[string]string{"CommandName": "command", "ParameterSetName": "parameters"} {
		if v := api.Clip(r.Header.Get(header), 256); v != "" {
			said[note] = v
		}
	}
	return said
}

var apiVersion = regexp.MustCompile(`^20[0-9]{2}-[0-9]{2}-[0-9]{2}(-preview|-privatepreview)?$`)

func checkVersion(v string) error {
	if !apiVersion.MatchString(v) {
		return fault.New(fault.InvalidArgument, "The api-version query parameter (?api-version=) is required for all requests, and is a date.")
	}
	return nil
}

// segments takes an escaped path apart. Double slashes and one at the end do not
// matter.
func segments(path string) ([]string, error) {
	var seg []string
	for s := range strings.SplitSeq(path, "/") {
		if s == "" {
			continue
		}
		s, err := url.PathUnescape(s)
		if err != nil || strings.Contains(s, "/") || len(seg) == 32 {
			return nil, fault.New(fault.InvalidArgument, "The path is malformed.")
		}
		seg = append(seg, s)
	}
	return seg, nil
}

func fold(s string) string { return strings.ToLower(s) }

// match reports whether the path has the shape of a pattern, whose "*" stands for
// any one segment. Case does not matter.
func (c *call) match(pattern string) bool {
	want := strings.Split(pattern, "/")
	return slices.EqualFunc(want, c.seg, func(w, s string) bool { return w == "*" || w == fold(s) })
}

// matchEither is match for a pattern of vaults that managed HSMs have as well.
func (c *call) matchEither(pattern string) bool {
	return c.match(pattern) || c.match(strings.NewReplacer("/vaults/", "/managedhsms/", "/deletedvaults", "/deletedmanagedhsms").Replace(pattern))
}

type methods map[string]func() error

// on runs the request's method.
func (c *call) on(m methods) error {
	op := m[c.r.Method]
	if op == nil && c.r.Method == http.MethodHead {
		op = m[http.MethodGet]
	}
	if op == nil {
		return fault.New(fault.MethodNotAllowed, "The method is not allowed for this resource.")
	}
	return op()
}

func (c *call) serve() error {
	if scope, rest, ok := c.authorization(); ok {
		return c.serveRoles(scope, rest)
	}
	const (
		sub   = "subscriptions/*"
		group = sub + "/resourcegroups/*"
		kv    = "/providers/microsoft.keyvault"

		diagnostics = "/providers/microsoft.insights/diagnosticsettings"
	)
	switch {
	case c.match("subscriptions"):
		return c.on(methods{"GET": c.listSubscriptions})
	case c.match(sub):
		return c.on(methods{"GET": c.getSubscription})
	case c.match("providers/microsoft.resourcegraph/resources"):
		return c.on(methods{"POST": c.query})
	case c.match(sub + "/resources"), c.match(group + "/resources"):
		return c.on(methods{"GET": c.listResources})
	case c.isStorage():
		return c.serveStorage()
	case c.match(group) && (c.vaults == nil || c.accounts != nil):
		return c.on(methods{"GET": c.getAnyGroup, "PUT": c.putAnyGroup, "DELETE": c.deleteGroup})
	case c.vaults == nil:
	case c.match(sub + "/resourcegroups"):
		return c.on(methods{"GET": c.listGroups})
	case c.match(group):
		return c.on(methods{"GET": c.getGroup, "PUT": c.putGroup, "DELETE": c.deleteGroup})
	case c.matchEither(group + kv + "/vaults/*/keys"):
		return c.on(methods{"GET": c.listKeys})
	case c.matchEither(group + kv + "/vaults/*/keys/*"):
		return c.on(methods{"GET": c.getKey, "PUT": c.putKey})
	case c.matchEither(group + kv + "/vaults/*/keys/*/versions"):
		return c.on(methods{"GET": c.listKeyVersions})
	case c.matchEither(group + kv + "/vaults/*/keys/*/versions/*"):
		return c.on(methods{"GET": c.getKey})
	case c.matchEither(group + kv + "/vaults/*" + diagnostics):
		return c.on(methods{"GET": c.listDiagnostics})
	case c.matchEither(group + kv + "/vaults/*" + diagnostics + "/*"):
		return c.on(methods{"GET": c.getDiagnostic, "PUT": c.putDiagnostic, "DELETE": c.deleteDiagnostic})
	case c.matchEither(group + kv + "/vaults/*" + diagnostics + "categories"):
		return c.on(methods{"GET": c.listCategories})
	case c.matchEither(sub + kv + "/deletedvaults"):
		return c.on(methods{"GET": c.listDeleted})
	case c.matchEither(sub + kv + "/locations/*/deletedvaults/*"):
		return c.on(methods{"GET": c.getDeleted})
	case c.matchEither(sub + kv + "/locations/*/deletedvaults/*/usage"):
		return c.on(methods{"GET": c.deletedUsage})
	case c.matchEither(sub + kv + "/locations/*/deletedvaults/*/purge"):
		return c.on(methods{"POST": c.purge})
	case c.match(sub + kv + "/vaults"), c.match(group + kv + "/vaults"):
		return c.on(methods{"GET": c.listVaults})
	case c.match(group + kv + "/vaults/*"):
		return c.on(methods{"GET": c.getVault, "PUT": c.putVault, "PATCH": c.patchVault, "DELETE": c.deleteVault})
	case c.match(group + kv + "/vaults/*/accesspolicies/*"):
		return c.on(methods{"PUT": c.changePolicies})
	case c.match(sub + kv + "/managedhsms"), c.match(group + kv + "/managedhsms"):
		return c.on(methods{"GET": c.listHSMs})
	case c.match(group + kv + "/managedhsms/*"):
		return c.on(methods{"GET": c.getHSM, "PUT": c.putHSM, "PATCH": c.patchHSM, "DELETE": c.deleteVault})
	case c.match(sub + kv + "/locations/*/managedhsmoperationresults/*"):
		return c.on(methods{"GET": c.done})
	case c.match(sub + kv + "/checknameavailability"), c.match(sub + kv + "/checkmhsmnameavailability"):
		return c.on(methods{"POST": c.checkName})
	}
	return fault.New(fault.NotFound, "There is no such resource type here.")
}

// authorization splits the path of an extension resource of
// Microsoft.Authorization into the scope and what follows the provider.
func (c *call) authorization() (scope rbac.Scope, rest []string, ok bool) {
	for i := len(c.seg) - 2; i >= 0; i-- {
		if fold(c.seg[i]) == "providers" && fold(c.seg[i+1]) == "microsoft.authorization" {
			return rbac.Scope("/" + strings.Join(c.seg[:i], "/")), c.seg[i+2:], true
		}
	}
	return "", nil, false
}

// list writes a listing that has one page.
func (c *call) list(value any) error {
	api.WriteJSON(c.w, http.StatusOK, map[string]any{"value": value})
	return nil
}

func (c *call) write(status int, v any, err error) error {
	if err == nil {
		api.WriteJSON(c.w, status, v)
	}
	return err
}

// madeOr200 is the status of a PUT.
func madeOr200(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}
