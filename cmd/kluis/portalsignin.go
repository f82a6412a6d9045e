package main

import (
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/portal/session"
)

// A signInConfig says who signs people in to the portal: the embedded issuer, unless it
// names another.
type signInConfig struct {
	Issuer     string `yaml:"issuer"`     // https URL, as its discovery document states it
	Client     string `yaml:"client"`     // the portal's client id there
	SecretFile string `yaml:"secretFile"` // holds its secret; without one it is a public client

	// Scopes are by which access tokens are asked for, by audience, "*" for all others:
	// "api://kluis-vault/.default". One that is "" asks for none, where every access token
	// of the issuer's serves. Audiences that are not in here are followed by "/.default".
	Scopes map[string]string `yaml:"scopes"`
}

func (c signInConfig) check() error {
	if c.Issuer == "" {
		return nil
	}
	u, err := url.Parse(c.Issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || c.Client == "" {
		return usageError{fmt.Errorf("portal.signIn: an issuer needs an https address, and the portal's client id there")}
	}
	return nil
}

func (c signInConfig) scope(audience string) string {
	for _, name := range []string{audience, "*"} {
		if scope, ok := c.Scopes[name]; ok {
			return scope
		}
	}
	return audience + "/.default"
}

// sessions signs people in to the portal. Where they go to do so is the second result.
func (s *server) sessions(client *http.Client, first string) (*session.Sessions, string, error) {
	root := s.login.root.Derive("kluis/v1/portal-session")
	key, err := hkdf.Expand(sha256.New, root[:], "cookies", sha256.Size)
	if err != nil {
		return nil, "", err
	}
	c := session.Config{
		Issuer: s.issuer.Name(s.identity.Tenant), Client: portalClient, Origin: s.authority("portal"), Key: key, HTTP: client,
		Scope: s.config.Portal.SignIn.scope, First: first, Tenant: string(s.identity.Tenant),
		Subject: func(issuer, subject string) string { return string(identity.SubjectID(issuer, subject)) },
	}
	goes := s.authority("login")
	if own := s.config.Portal.SignIn; own.Issuer != "" {
		c.Issuer, c.Client = own.Issuer, own.Client
		if own.SecretFile != "" {
			text, err := os.ReadFile(own.SecretFile)
			if err != nil {
				return nil, "", fmt.Errorf("portal.signIn: %w", err)
			}
			c.ClientSecret = strings.TrimSpace(string(text))
		}
		u, err := url.Parse(own.Issuer)
		if err != nil {
			return nil, "", err
		}
		goes = (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
	}
	sessions, err := session.New(c)
	return sessions, goes, err
}
