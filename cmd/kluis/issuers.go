package main

import (
	"context"
	"fmt"

	"github.com/kluis-io/kluis/api/graph"
	"github.com/kluis-io/kluis/api/token"
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
		var err error
		if c.Roots, err = (Config{Trust: []string{i.CA}}).pool(); err != nil {
			return identity.TrustedIssuer{}, err
		}
	}
	keys, err := jwks.New(c)
	return identity.TrustedIssuer{Issuer: i.Issuer, Tenant: tenant, Keys: keys, Audience: i.Audience, OpenID: true}, err
}

// wireLogin sets up the directory, its issuer, and the validation of tokens.
func (s *server) wireLogin(ctx context.Context, rt *router) (*identity.Verifier, error) {
	s.directory = identity.NewDirectory(s.login.db.Identity(), s.login.log, s.roles(), nil)
	root := s.login.root.Derive("kluis/v1/issuer")
	var err error
	s.issuer, err = identity.NewIssuer(ctx, s.directory, identity.IssuerConfig{
		Base: s.authority("login"), Instance: s.identity.Instance, Root: root, Audiences: s.audiences(), Clients: s.clients(),
	})
	if err != nil {
		return nil, err
	}
	var trusted []identity.TrustedIssuer
	for _, t := range append(s.identity.Tenants, s.identity.Tenant) {
		trusted = append(trusted, s.issuer.Trust(t))
	}
	for _, i := range s.config.Issuers {
		t, err := i.trust(s.identity.Tenant)
		if err != nil {
			return nil, err
		}
		trusted = append(trusted, t)
	}
	tokens, err := identity.NewVerifier(nil, trusted...)
	if err != nil {
		return nil, err
	}
	rt.token = token.New(s.issuer, s.identity.Tenant)
	rt.graph = graph.New(s.directory, s.issuer, tokens, "https://graph.microsoft.com", s.authority("graph"))
	return tokens, nil
}
