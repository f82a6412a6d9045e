// Package keyvault speaks the Key Vault keys REST API, api-versions 7.0 to 7.6 and
// 2025-07-01, for the vaults of package vault
// (learn.microsoft.com/rest/api/keyvault/keys).
//
// A vault is picked by the host, {vault}.vault.{domain}, and a managed HSM by
// {hsm}.managedhsm.{domain}: it speaks the same with small differences, and serves
// its own roles beside. On any other host it is the configured default vault, whose kids then name that host. A request without a token that holds is answered
// with the challenge before anything else of it is looked at, as the SDKs expect.
//
// # The change feed
//
// kluis's own, without an api-version, with an ordinary token of the vault:
//
//	GET /changes?since=CURSOR&wait=25
//	{"cursor":"…","reset":false,"changes":[{"key":"name","kind":"keyDisabled"}]}
//
// It answers as soon as something changes that is the caller's business, or after
// wait seconds (at most 60, 0 if absent) with no changes. key is "" where the whole
// vault, or the caller's rights in it, are meant; kinds are those of [vault.Kind].
// Without since, or with a cursor that is no longer known, it answers at once with
// reset true: anything may have happened, ask for all again. The answer is a hint
// to ask the vault again and never a decision. It goes on for a soft-deleted vault.
//
// # Approvals and access
//
// kluis's own too, in the same way. Where a vault requires approval, what destroys or
// weakens is refused with 403, innererror ApprovalRequired and the request's id in
// x-kluis-approval; the client sends its request again when a second principal
// with the same right has agreed.
//
//	GET  /approvals                 {"value":[{"id":"…","operation":"KeyPurge","state":"pending",…}]}
//	GET  /approvals/ID
//	POST /approvals/ID/approve      or reject, which withdraws one's own
//	GET  /access?permission=unwrapKey&key=NAME
//	{"value":[{"principalId":"…","roleAssignmentId":"…","scope":"…"}]}
//
// The last says who may do what an access policy calls a permission, to the key or,
// without one, to the vault's keys.
package keyvault

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/vault"
)

// Config says where the handler is reached.
type Config struct {
	Suffix    string     // of the vaults' hosts, with the port unless it is 443: vault.localhost:8443
	HSMSuffix string     // the same of managed HSMs; "" if there are none
	Authority string     // root of the token issuer: https://login.localhost:8443
	Default   vault.Name // the vault of every other host; "" if there is none
	Region    string     // told in a header
	Audiences []string   // that a token may have besides https://{Suffix} or https://{HSMSuffix}
}

type handler struct {
	vaults *vault.Vaults
	tokens api.Tokens
	config Config
}

// New returns the handler for all vaults.
func New(vaults *vault.Vaults, tokens api.Tokens, c Config) http.Handler {
	c.Authority = strings.TrimSuffix(c.Authority, "/")
	return &handler{vaults: vaults, tokens: tokens, config: c}
}

func hostName(hostport string) string {
	h, _, err := net.SplitHostPort(hostport)
	if err != nil {
		h = hostport
	}
	return strings.ToLower(h)
}

// A place is what a host stands for.
type place struct {
	vault    vault.Name
	flavour  vault.Flavour
	base     string // the URI under which the vault shows itself there, without a slash at the end
	resource string // that tokens for it are for
}

// pick returns the place of a host. On a bare host the default vault's base is the
// host as asked: the vault's own name may not resolve for such a client.
func (h *handler) pick(host string) (p place, err error) {
	for flavour, suffix := range map[vault.Flavour]string{vault.Standard: h.config.Suffix, vault.ManagedHSM: h.config.HSMSuffix} {
		label, ok := strings.CutSuffix(hostName(host), "."+hostName(suffix))
		if !ok || suffix == "" {
			continue
		}
		name, err := vault.ParseName(label)
		return place{name, flavour, "https://" + string(name) + "." + suffix, "https://" + suffix}, err
	}
	if h.config.Default == "" {
		return p, fault.New(fault.VaultNotFound, "There is no vault at this host.").
			WithMend("Vaults are at https://NAME." + h.config.Suffix + "/.")
	}
	return place{h.config.Default, vault.Standard, "https://" + strings.ToLower(host), "https://" + h.config.Suffix}, nil
}

// A call is one authenticated request.
type call struct {
	*handler
	w      http.ResponseWriter
	r      *http.Request
	ctx    context.Context
	caller identity.Caller
	place
	route route
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.headers(w, r)
	p, err := h.pick(r.Host)
	var tenant identity.TenantID
	if err == nil {
		var flavour vault.Flavour
		tenant, flavour, err = h.vaults.Find(r.Context(), p.vault)
		if err == nil && (flavour == vault.ManagedHSM) != (p.flavour == vault.ManagedHSM) {
			err = fault.New(fault.VaultNotFound, "There is no vault at this host.")
		}
	}
	if err != nil {
		if fault.ReasonOf(err) == fault.InvalidArgument { // a host that cannot be a vault's
			err = fault.New(fault.VaultNotFound, "There is no vault at this host.")
		}
		writeError(w, r, err)
		return
	}
	caller, err := api.Authenticate(r, h.tokens, append([]string{p.resource}, h.config.Audiences...)...)
	if err != nil {
		switch fault.ReasonOf(err) {
		case fault.Unauthenticated:
			h.challenge(w, p, tenant, "")
		case fault.TokenRevoked:
			h.challenge(w, p, tenant, api.ClaimsChallenge(time.Now()))
		}
		if p.flavour == vault.ManagedHSM && fault.ReasonOf(err) == fault.Unauthenticated { // as Azure's, without a body
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		writeError(w, r, err)
		return
	}
	c := &call{handler: h, w: w, r: r, ctx: r.Context(), caller: caller, place: p}
	if err := c.serve(); err != nil && !errors.Is(err, context.Canceled) {
		writeError(w, r, err)
	}
}

// challenge says where to get a token, and how it must differ from the one that
// came. Clients take this very shape apart at spaces and equals signs, and need the
// tenant as the authority's path.
func (h *handler) challenge(w http.ResponseWriter, p place, tenant identity.TenantID, more string) {
	w.Header().Set("WWW-Authenticate", `Bearer authorization="`+h.config.Authority+"/"+string(tenant)+`", resource="`+p.resource+`"`+more)
}

func (h *handler) headers(w http.ResponseWriter, r *http.Request) {
	hd := w.Header()
	hd.Set("Cache-Control", "no-cache")
	hd.Set("Pragma", "no-cache")
	hd.Set("Strict-Transport-Security", "max-age=31536000;includeSubDomains")
	hd.Set("X-Content-Type-Options", "nosniff")
	hd.Set("x-ms-keyvault-service-version", "1.9.0.0")
	if h.config.Region != "" {
		hd.Set("x-ms-keyvault-region", h.config.Region)
	}
	if addr := api.Describe(r, identity.Caller{}).Address; addr.IsValid() {
		conn, family := "Ipv4", "InterNetwork"
		if addr.Is6() {
			conn, family = "Ipv6", "InterNetworkV6"
		}
		hd.Set("x-ms-keyvault-network-info", "conn_type="+conn+";addr="+addr.String()+";act_addr_fam="+family+";")
	}
}

func (c *call) serve() error {
	if own, err := c.custody(); own {
		return err
	}
	if own, err := c.localRoles(); own {
		return err
	}
	if own, err := c.securityDomain(); own {
		return err
	}
	route, ok := parse(c.r.URL.EscapedPath())
	if !ok {
		return fault.New(fault.NotFound, "There is nothing at this path.")
	}
	c.route = route
	op, ok := operations[route.kind][method(c.r)]
	if !ok {
		c.w.Header().Set("Allow", allow(route.kind))
		return fault.New(fault.MethodNotAllowed, "The method is not allowed at this path.")
	}
	if route.kind != changes {
		if err := checkVersion(c.r.URL.Query().Get("api-version")); err != nil {
			return err
		}
	}
	if route.kind.named() {
		name, err := vault.ParseKeyName(route.name)
		if err != nil {
			return err
		}
		version, err := vault.ParseVersion(route.version)
		if err != nil {
			return err
		}
		return op(c, name, version)
	}
	return op(c, "", "")
}
