package keyvault

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/url"
	"strings"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
	"github.com/kluis-io/kluis/vault/securitydomain"
)

// A managed HSM's security domain
// (learn.microsoft.com/rest/api/keyvault/managedhsm-hsmsecuritydomain). Azure's takes
// its time over both ways; this one is done when it answers, with 202 all the same and
// an address that says so, because clients know nothing else.
type (
	certificateInfo struct {
		Certificates []domainJWK `json:"certificates"`
		Required     int         `json:"required"`
	}
	// A domainJWK is an RSA key with its certificate. What names the key beside the
	// certificate must be the same key.
	domainJWK struct {
		KeyID      string   `json:"kid,omitempty"`
		Type       string   `json:"kty"`
		Operations []string `json:"key_ops,omitempty"`
		N          string   `json:"n"`
		E          string   `json:"e"`
		Algorithm  string   `json:"alg,omitempty"`
		Chain      []string `json:"x5c"`
		Thumbprint string   `json:"x5t#S256,omitempty"`
	}
	domainObject struct {
		Value string `json:"value"`
	}
	domainStatus struct {
		Status  string `json:"status"`
		Details string `json:"status_details"`
	}
	transferKey struct {
		Format string `json:"key_format"`
		Key    string `json:"transfer_key"` // a JWK, as text
	}
)

// securityDomain serves a managed HSM's security domain, and reports whether the
// request was for it.
func (c *call) securityDomain() (own bool, err error) {
	seg := strings.FieldsFunc(strings.ToLower(c.r.URL.EscapedPath()), func(r rune) bool { return r == '/' })
	if c.flavour != vault.ManagedHSM || len(seg) < 2 || seg[0] != "securitydomain" {
		return false, nil
	}
	run := map[string]func() error{
		"GET upload": c.transferKey, "POST upload": c.upload, "GET upload/pending": c.uploaded,
		"POST download": c.download, "GET download/pending": c.downloaded,
	}[c.r.Method+" "+strings.Join(seg[1:], "/")]
	if run == nil {
		return true, fault.New(fault.NotFound, "There is nothing at this path.")
	}
	if err := checkVersion(c.r.URL.Query().Get("api-version")); err != nil {
		return true, err
	}
	return true, run()
}

// certificate returns the key's certificate.
func (k domainJWK) certificate() (*x509.Certificate, error) {
	bad := func(detail string) (*x509.Certificate, error) { return nil, fault.New(fault.InvalidArgument, detail) }
	if k.Type != "RSA" || len(k.Chain) == 0 {
		return bad("A certificate must be a JSON Web Key of type RSA with x5c.")
	}
	der, err := base64.StdEncoding.DecodeString(k.Chain[0])
	if err != nil {
		return bad("x5c is not base64.")
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return bad("x5c is not a certificate in DER.")
	}
	n, nerr := base64.RawURLEncoding.DecodeString(strings.TrimRight(k.N, "="))
	e, eerr := base64.RawURLEncoding.DecodeString(strings.TrimRight(k.E, "="))
	if nerr != nil || eerr != nil {
		return bad("n or e is not base64url.")
	}
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	if !ok || key.N.Cmp(new(big.Int).SetBytes(n)) != 0 || big.NewInt(int64(key.E)).Cmp(new(big.Int).SetBytes(e)) != 0 {
		return bad("n and e are not the certificate's key.")
	}
	if k.Thumbprint != "" && strings.TrimRight(k.Thumbprint, "=") != securitydomain.Thumbprint(cert) {
		return bad("x5t#S256 is not the certificate's.")
	}
	return cert, nil
}

func (c *call) download() error {
	body := certificateInfo{Required: securitydomain.MinQuorum}
	if err := api.ReadJSON(c.r, bodyLimit, &body); err != nil {
		return err
	}
	if len(body.Certificates) > securitydomain.MaxOfficers {
		return securitydomain.Check(make([]*x509.Certificate, len(body.Certificates)), body.Required)
	}
	var officers []*x509.Certificate
	for _, k := range body.Certificates {
		cert, err := k.certificate()
		if err != nil {
			return err
		}
		officers = append(officers, cert)
	}
	text, err := c.vaults.TakeSecurityDomain(c.ctx, c.caller, c.vault, officers, body.Required)
	if err != nil {
		return err
	}
	c.pending("download")
	api.WriteJSON(c.w, http.StatusAccepted, domainObject{string(text)})
	return nil
}

// pending says where clients learn that it is done.
func (c *call) pending(what string) {
	c.w.Header().Set("Azure-AsyncOperation", c.base+"/securitydomain/"+what+"/pending?api-version="+url.QueryEscape(c.r.URL.Query().Get("api-version")))
	c.w.Header().Set("Retry-After", "0")
}

const done = "Success" // not "Succeeded", which clients of this do not know

func (c *call) downloaded() error {
	_, d, err := c.vaults.SecurityDomainOf(c.ctx, c.caller, c.vault)
	switch {
	case err != nil:
		return err
	case d.Taken.IsZero():
		return fault.New(fault.NotFound, "The security domain was never downloaded.")
	}
	api.WriteJSON(c.w, http.StatusOK, domainStatus{Status: done, Details: "The security domain was downloaded."})
	return nil
}

func (c *call) transferKey() error {
	cert, err := c.vaults.TransferKey(c.ctx, c.caller, c.vault)
	if err != nil {
		return err
	}
	key := cert.PublicKey.(*rsa.PublicKey)
	text, err := json.Marshal(domainJWK{
		KeyID: c.base + "/transfer_key", Type: "RSA", Operations: []string{"encrypt", "wrapKey"}, Algorithm: "RSA-OAEP-256",
		N: base64.RawURLEncoding.EncodeToString(key.N.Bytes()), E: base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
		Chain: []string{base64.StdEncoding.EncodeToString(cert.Raw)}, Thumbprint: securitydomain.Thumbprint(cert),
	})
	if err != nil {
		return err
	}
	api.WriteJSON(c.w, http.StatusOK, transferKey{Format: "jwk", Key: string(text)})
	return nil
}

func (c *call) upload() error {
	var body domainObject
	if err := api.ReadJSON(c.r, 2*securitydomain.MaxFile, &body); err != nil {
		return err
	}
	if err := c.vaults.RestoreSecurityDomain(c.ctx, c.caller, c.vault, []byte(body.Value)); err != nil {
		return err
	}
	c.pending("upload")
	api.WriteJSON(c.w, http.StatusAccepted, domainStatus{Status: done, Details: "The security domain was restored."})
	return nil
}

func (c *call) uploaded() error {
	_, d, err := c.vaults.SecurityDomainOf(c.ctx, c.caller, c.vault)
	switch {
	case err != nil:
		return err
	case !d.Restored.IsZero():
		api.WriteJSON(c.w, http.StatusOK, domainStatus{Status: done, Details: "The security domain was restored."})
	case len(d.Certificate) > 0:
		api.WriteJSON(c.w, http.StatusOK, domainStatus{Status: "InProgress", Details: "The managed HSM waits for its security domain."})
	default:
		return fault.New(fault.NotFound, "No security domain was uploaded.")
	}
	return nil
}
