// Package ekm speaks Microsoft's EKM Proxy API, 0.1-preview, for the vaults of
// package vault: an Azure Managed HSM whose external key lives here calls it for
// each wrap and unwrap.
//
// It is served on a listener of its own ([TLS]): TLS 1.3 with client certificates.
// Whose certificate comes is decided here, by a table that the operator's
// configuration gives; what that principal may do is the vault's to say, by the
// same roles, validity and audit as for every other caller. A certificate of the
// right authority that the table does not know is refused by the vault too, so
// that its attempts are on record.
//
// # Key ids
//
// An external key's id is fixed for its life, while a vault's key has versions. So
// an id names a version: NAME-VERSION, where VERSION are the version's 32
// hexadecimal digits. NAME has at most 31 characters, since an id has at most 64.
package ekm

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"math/big"
	"net/http"
	"regexp"
	"strings"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/vault"
)

// Version is the one api-version that is spoken.
const Version = "0.1-preview"

// bodyLimit bounds a request's body, in bytes.
const bodyLimit = 16 << 10

// A Client is a Managed HSM that may call: whom its certificate stands for, and
// which vault holds its keys.
type Client struct {
	CommonName string // of the certificate's subject, compared byte by byte
	Pool       string // the pool_name that it must give; "" for any
	Tenant     identity.TenantID
	Principal  identity.PrincipalID // in the vault's tenant; it needs roles there, as any other
	Vault      vault.Name
}

// Config is what [New] needs.
type Config struct {
	Prefix  string // of all paths, as /info is at /PREFIX/info; "" for none
	Clients []Client
	Release string // of kluis, told in /info
}

var (
	prefixPattern = regexp.MustCompile(`^[A-Za-z0-9/-]{0,64}$`)
	keyPattern    = regexp.MustCompile(`^([A-Za-z0-9-]{1,31})-([0-9a-f]{32})$`)
)

// algorithms are those that the protocol has. Which of them fits a key, and which
// kinds of keys there are, is the vault's to say.
var algorithms = map[string]vault.Algorithm{
	"RSA-OAEP":     vault.RSAOAEP,
	"RSA-OAEP-256": vault.RSAOAEP256,
	"A256KW":       "A256KW",
	"A256KWP":      "A256KWP",
}

type handler struct {
	vaults *vault.Vaults
	config Config
	prefix string
}

// New returns the handler. It fails if the configuration is not the protocol's.
func New(vaults *vault.Vaults, c Config) (http.Handler, error) {
	if !prefixPattern.MatchString(c.Prefix) {
		return nil, fault.New(fault.InvalidArgument, "The path prefix has at most 64 letters, digits, slashes and hyphens.")
	}
	seen := map[[2]string]bool{}
	for _, cl := range c.Clients {
		id := [2]string{cl.CommonName, cl.Pool}
		if cl.CommonName == "" || cl.Tenant == "" || cl.Principal == "" || cl.Vault == "" || seen[id] {
			return nil, fault.New(fault.InvalidArgument, "Each client needs a common name of its own, a principal with its tenant, and a vault.")
		}
		seen[id] = true
	}
	h := &handler{vaults: vaults, config: c}
	if p := strings.Trim(c.Prefix, "/"); p != "" {
		h.prefix = "/" + p
	}
	return h, nil
}

// What clients send, and what they get.
type (
	requestContext struct {
		Request     string `json:"request_id"`
		Correlation string `json:"correlation_id"`
		Pool        string `json:"pool_name"`
	}
	request struct {
		Context   *requestContext `json:"request_context"`
		Algorithm string          `json:"alg"`
		Value     string          `json:"value"` // base64url
	}
	info struct {
		Version string `json:"api_version"`
		Vendor  string `json:"proxy_vendor"`
		Name    string `json:"proxy_name"`
		EKM     string `json:"ekm_vendor"`
		Product string `json:"ekm_product"`
	}
	metadata struct {
		Type       string            `json:"key_type"`
		Size       int               `json:"key_size"`
		Operations []vault.Operation `json:"key_ops"`
		N          string            `json:"n,omitempty"` // base64url
		E          string            `json:"e,omitempty"` // base64url
	}
	result struct {
		Value string `json:"value"` // base64url
	}
)

// A call is one request: who asks, for which key.
type call struct {
	caller  identity.Caller
	vault   vault.Name
	key     vault.KeyName
	version vault.Version
	body    request
}

var operations = map[string]func(*handler, context.Context, *call) (any, error){
	"metadata":  (*handler).metadata,
	"wrapkey":   func(h *handler, ctx context.Context, c *call) (any, error) { return h.use(ctx, c, vault.WrapKey) },
	"unwrapkey": func(h *handler, ctx context.Context, c *call) (any, error) { return h.use(ctx, c, vault.UnwrapKey) },
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := h.serve(r)
	if err != nil {
		writeError(w, r, err)
		return
	}
	api.WriteJSON(w, http.StatusOK, answer)
}

func (h *handler) serve(r *http.Request) (any, error) {
	c := &call{caller: api.Describe(r, identity.Caller{})}
	if err := h.read(r, c); err != nil {
		return nil, err
	}
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), h.prefix+"/")
	if !ok {
		return nil, fault.New(fault.NotFound, "Nothing is served at this path.")
	}
	known := h.identify(r, c)
	if path == "info" {
		if !known {
			return nil, fault.New(fault.Denied, "The client certificate is not one that is let in.")
		}
		return info{Version, "kluis", "kluis EKM proxy " + h.config.Release, "kluis", "kluis vault"}, nil
	}
	id, name, _ := strings.Cut(path, "/")
	op, ok := operations[name]
	if !ok {
		return nil, fault.New(fault.NotFound, "Nothing is served at this path.")
	}
	m := keyPattern.FindStringSubmatch(id)
	if m == nil {
		return nil, fault.New(fault.KeyNotFound, "There is no such key.").
			WithMend("A key id is NAME-VERSION, with the version's 32 hexadecimal digits in lower case, and has at most 64 characters.")
	}
	c.key, c.version = vault.KeyName(m[1]), vault.Version(m[2])
	return op(h, r.Context(), c)
}

// read takes the request apart.
func (h *handler) read(r *http.Request, c *call) error {
	if r.Method != http.MethodPost {
		return fault.New(fault.MethodNotAllowed, "Every call is a POST.")
	}
	if got := r.URL.Query().Get("api-version"); got != Version {
		return fault.New(fault.InvalidArgument, "api-version must be "+Version+".")
	}
	if err := api.ReadJSON(r, bodyLimit, &c.body); err != nil {
		return err
	}
	rc := c.body.Context
	if rc == nil || rc.Correlation == "" || rc.Pool == "" {
		return fault.New(fault.InvalidArgument, "request_context needs correlation_id and pool_name.")
	}
	c.caller.Correlation = clip(rc.Correlation)
	c.caller.Context = map[string]string{"ekmPool": clip(rc.Pool)}
	if rc.Request != "" {
		c.caller.Context["ekmRequest"] = clip(rc.Request)
	}
	return nil
}

// identify makes the certificate's client the caller, and reports whether there is
// one. Otherwise the caller is nobody, in the tenant and at the vault of the first
// client, for the vault to refuse and to record.
func (h *handler) identify(r *http.Request, c *call) bool {
	var cn string
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		cn = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	c.caller.Context["ekmClient"] = clip(cn)
	for _, cl := range h.config.Clients {
		if cn != "" && cl.CommonName == cn && (cl.Pool == "" || cl.Pool == c.body.Context.Pool) {
			c.caller.Tenant, c.caller.Principal, c.caller.Type = cl.Tenant, cl.Principal, identity.ServicePrincipal
			c.vault = cl.Vault
			return true
		}
	}
	if len(h.config.Clients) > 0 {
		c.caller.Tenant, c.vault = h.config.Clients[0].Tenant, h.config.Clients[0].Vault
	}
	return false
}

func (h *handler) metadata(ctx context.Context, c *call) (any, error) {
	b, err := h.vaults.Key(ctx, c.caller, c.vault, c.key, c.version)
	if err != nil {
		return nil, err
	}
	m := metadata{Type: strings.TrimSuffix(string(b.Version.Type), "-HSM"), Size: b.Version.Bits, Operations: []vault.Operation{}}
	for _, op := range b.Version.Operations {
		if op == vault.WrapKey || op == vault.UnwrapKey {
			m.Operations = append(m.Operations, op)
		}
	}
	switch m.Type {
	case "oct":
	case "RSA":
		public, err := x509.ParsePKIXPublicKey(b.Version.Public)
		pub, ok := public.(*rsa.PublicKey)
		if err != nil || !ok {
			return nil, fault.Wrap(fault.Integrity, err, "The stored public key is damaged.")
		}
		m.N = base64.RawURLEncoding.EncodeToString(pub.N.Bytes())
		m.E = base64.RawURLEncoding.EncodeToString(big.NewInt(int64(pub.E)).Bytes())
	default:
		return nil, fault.New(fault.KeyOperationForbidden, "A key of type "+m.Type+" does not wrap keys.")
	}
	return m, nil
}

func (h *handler) use(ctx context.Context, c *call, op vault.Operation) (any, error) {
	alg, ok := algorithms[c.body.Algorithm]
	if !ok {
		return nil, fault.New(fault.InvalidArgument, "alg must be RSA-OAEP-256, RSA-OAEP, A256KW or A256KWP.")
	}
	value, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(c.body.Value, "="))
	if err != nil {
		return nil, fault.New(fault.InvalidArgument, "value is not base64url.")
	}
	defer clear(value)
	_, out, err := h.vaults.Use(ctx, c.caller, c.vault, c.key, c.version, op, vault.Input{Algorithm: alg, Value: value})
	if err != nil {
		return nil, err
	}
	defer clear(out.Value)
	return result{base64.RawURLEncoding.EncodeToString(out.Value)}, nil
}

// clip keeps a client's own text short and printable before it is recorded.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), 128)]
}
