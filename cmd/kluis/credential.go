package main

import (
	"fmt"
	"net/http"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/localca"
)

// A credential is a principal's way to tokens.
type credential struct {
	Tenant   identity.TenantID    `json:"tenantId"`
	ClientID string               `json:"clientId,omitempty"`
	ObjectID identity.PrincipalID `json:"objectId"`

	Kind   credentialKind `json:"kind,omitempty"` // clientSecret if absent
	Secret string         `json:"clientSecret,omitempty"`
	File   string         `json:"file,omitempty"` // holds the certificate with its private key, or the workload's token

	Authority string `json:"authority,omitempty"` // that issues its tokens; this installation's if absent
}

// A credentialKind says what a principal shows to get a token.
type credentialKind string

// The kinds. All are azidentity's.
const (
	clientSecret      credentialKind = "client-secret"
	clientCertificate credentialKind = "client-certificate"
	workloadIdentity  credentialKind = "workload-identity" // a token that another issuer keeps fresh in a file
	managedIdentityOf credentialKind = "managed-identity"  // of the machine that the platform runs on
	defaultChain      credentialKind = "default"           // the first of azidentity's default chain that has one
)

// credentialKinds are all kinds, with whether they need a file.
var credentialKinds = map[credentialKind]bool{
	clientSecret: false, clientCertificate: true, workloadIdentity: true, managedIdentityOf: false, defaultChain: false,
}

// platformCredential returns the platform's credential in a tenant's directory.
func (s *server) platformCredential(tenant string) (azcore.TokenCredential, error) {
	c, err := s.readCredential(tenant)
	if err != nil {
		return nil, err
	}
	authority := c.Authority
	if authority == "" {
		authority = s.authority("login")
	}
	return c.tokens(authority, localca.Transport(s.authorities, s.config.Domain))
}

// tokens returns the credential towards an authority.
func (c credential) tokens(authority string, transport http.RoundTripper) (azcore.TokenCredential, error) {
	tenant := string(c.Tenant)
	options := azcore.ClientOptions{
		Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: authority + "/"},
		Transport: &http.Client{Transport: transport},
	}
	switch c.Kind {
	case "", clientSecret:
		return azidentity.NewClientSecretCredential(tenant, c.ClientID, c.Secret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	case clientCertificate:
		text, err := os.ReadFile(c.File)
		if err != nil {
			return nil, err
		}
		defer clear(text)
		chain, key, err := azidentity.ParseCertificates(text, nil)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.File, err)
		}
		return azidentity.NewClientCertificateCredential(tenant, c.ClientID, chain, key,
			&azidentity.ClientCertificateCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: true})
	case workloadIdentity:
		return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: options, TenantID: tenant, ClientID: c.ClientID, TokenFilePath: c.File, DisableInstanceDiscovery: true,
		})
	case managedIdentityOf:
		o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
		if c.ClientID != "" {
			o.ID = azidentity.ClientID(c.ClientID)
		}
		return azidentity.NewManagedIdentityCredential(o) // of its own directory, whatever tenant is asked for
	case defaultChain:
		return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
			ClientOptions: options, TenantID: tenant, DisableInstanceDiscovery: true,
		})
	}
	return nil, fmt.Errorf("the platform's principal in %s has a credential of the unknown kind %q", tenant, c.Kind)
}
