package main

import (
	"crypto/x509"
	"fmt"
	"os"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/jwks"
)

// An Issuer is an OpenID Connect issuer whose tokens are trusted beside those of the
// installation's own.
type Issuer struct {
	Issuer   string `yaml:"issuer"`   // https URL, as iss states it
	Tenant   string `yaml:"tenant"`   // whom it speaks for; the installation's tenant if empty
	Audience string `yaml:"audience"` // one that stands for every service; if empty, tokens name the service
	Keys     string `yaml:"keys"`     // https URL of its key set, if it publishes no discovery document
	CA       string `yaml:"ca"`       // file of certificates to trust beside the system's
}

// check refuses what could not be served, before anything is opened.
func (i Issuer) check() error {
	if i.Tenant != "" {
		if _, err := identity.ParseTenantID(i.Tenant); err != nil {
			return usageError{fmt.Errorf("issuers: the tenant %q is not a UUID", i.Tenant)}
		}
	}
	if _, err := jwks.New(jwks.Config{Issuer: i.Issuer, Keys: i.Keys}); err != nil {
		return usageError{fmt.Errorf("issuers: %w", err)}
	}
	return nil
}

// trust returns what a verifier needs to accept an issuer's tokens for a tenant.
func (i Issuer) trust(tenant identity.TenantID) (identity.TrustedIssuer, error) {
	if i.Tenant != "" {
		tenant, _ = identity.ParseTenantID(i.Tenant)
	}
	c := jwks.Config{Issuer: i.Issuer, Keys: i.Keys}
	if i.CA != "" {
		text, err := os.ReadFile(i.CA)
		if err != nil {
			return identity.TrustedIssuer{}, err
		}
		if c.Roots, err = x509.SystemCertPool(); err != nil {
			c.Roots = x509.NewCertPool()
		}
		if !c.Roots.AppendCertsFromPEM(text) {
			return identity.TrustedIssuer{}, fmt.Errorf("%s holds no certificate", i.CA)
		}
	}
	keys, err := jwks.New(c)
	return identity.TrustedIssuer{Issuer: i.Issuer, Tenant: tenant, Keys: keys, Audience: i.Audience, OpenID: true}, err
}
