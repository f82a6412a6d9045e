package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/api/token"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/internal/localca"
	"github.com/kluis-io/kluis/rbac"
	"github.com/kluis-io/kluis/vault"
)

// A Bootstrap is bootstrap.json: all that a client of a dev mode server needs.
type Bootstrap struct {
	TenantID        identity.TenantID    `json:"tenantId"`
	SubscriptionID  string               `json:"subscriptionId"`
	Authority       string               `json:"authority"`
	ADFSAuthority   string               `json:"adfsAuthority"`
	CAFile          string               `json:"caFile"`
	Domain          string               `json:"domain"`
	Endpoints       map[string]string    `json:"endpoints"`
	Principals      map[string]Principal `json:"principals"`
	Users           map[string]User      `json:"users"`
	Platform        Principal            `json:"platform"`
	ManagedIdentity struct {
		Endpoint string `json:"endpoint"`
		Header   string `json:"header"`
	} `json:"managedIdentity"`
}

// A Principal is one that the first start has made.
type Principal struct {
	ClientID     string               `json:"clientId"`
	ClientSecret string               `json:"clientSecret,omitempty"`
	ObjectID     identity.PrincipalID `json:"objectId"`
}

// A User is one that the first start has made: who signs in to the portal with a name and a password.
type User struct {
	Name     string               `json:"name"`
	Password string               `json:"password"`
	ObjectID identity.PrincipalID `json:"objectId"`
}

// roleNames are the names of dev mode's principals, and of its users.
var roleNames = []string{"admin", "custodian", "engineer", "auditor"}

// secretLife is how long the first secrets last.
const secretLife = 365 * 24 * time.Hour

// introduce writes bootstrap.json, which tells a dev mode server's clients all
// that they need: on the first start with the principals that it makes, later
// with the addresses of this start. It serves the managed identities beside it.
func (s *server) introduce(ctx context.Context) error {
	if !s.identity.Dev {
		return nil
	}
	path := filepath.Join(s.config.Data, bootstrapFile)
	var b Bootstrap
	if s.identity.fresh {
		if err := s.bootstrap(ctx, &b); err != nil {
			return fmt.Errorf("the first start: %w", err)
		}
	} else {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &b); err != nil {
			return fmt.Errorf("%s: %w", bootstrapFile, err)
		}
	}
	if b.Users == nil {
		if err := s.firstUsers(ctx, &b); err != nil {
			return fmt.Errorf("the first users: %w", err)
		}
	}
	if err := s.serveManagedIdentity(b); err != nil {
		return err
	}
	s.describe(&b)
	return writeJSON(path, b)
}

// bootstrap makes the principals of a dev mode installation, one for each role,
// and gives them what they need and no more.
func (s *server) bootstrap(ctx context.Context, b *Bootstrap) error {
	b.Principals = map[string]Principal{}
	admin, secret, err := s.directory.Bootstrap(ctx, s.identity.Tenant, "kluis", "admin")
	if err != nil {
		return err
	}
	b.Principals["admin"] = Principal{ClientID: admin.Application, ClientSecret: secret.Text, ObjectID: admin.ID}
	by := identity.Caller{Tenant: s.identity.Tenant, Principal: admin.ID, Application: admin.Application, Type: identity.ServicePrincipal}
	for _, name := range roleNames[1:] {
		if b.Principals[name], err = s.newPrincipal(ctx, by, "", name); err != nil {
			return err
		}
	}
	platform, err := s.newPrincipal(ctx, by, identity.FabricPlatformCMK, "Fabric Platform CMK")
	if err != nil {
		return err
	}
	if s.operator != nil {
		err := writeJSON(s.operator.path(credentialFile), credential{
			Tenant: s.identity.Tenant, ClientID: platform.ClientID, ObjectID: platform.ObjectID, Secret: platform.ClientSecret,
		})
		if err != nil {
			return err
		}
	}
	b.Platform = Principal{ClientID: platform.ClientID, ObjectID: platform.ObjectID}
	ids := map[string]identity.PrincipalID{}
	for name, p := range b.Principals {
		ids[name] = p.ObjectID
	}
	if err := s.firstRoles(ctx, ids, identity.ServicePrincipal); err != nil || s.vaults == nil {
		return err
	}
	return s.makeDefaultVault(ctx, b.Principals["custodian"])
}

func (s *server) newPrincipal(ctx context.Context, by identity.Caller, application, name string) (Principal, error) {
	p, err := s.directory.Create(ctx, by, application, name)
	if err != nil {
		return Principal{}, err
	}
	secret, err := s.directory.AddSecret(ctx, by, p.ID, "first start", secretLife)
	return Principal{ClientID: p.Application, ClientSecret: secret.Text, ObjectID: p.ID}, err
}

// firstRoles gives each principal, by the name of its role, what it needs, at the party
// whose business it is.
func (s *server) firstRoles(ctx context.Context, p map[string]identity.PrincipalID, kind identity.PrincipalType) error {
	if s.vaults != nil {
		sub := s.subscription()
		roles := append(custodianRoles(p["custodian"], sub.Scope()), assignments(p["auditor"], sub.Scope(), rbac.Reader, rbac.KeyVaultReader)...)
		if err := s.vaults.Provision(ctx, sub, of(kind, roles)...); err != nil {
			return err
		}
	}
	if s.records != nil {
		roles := append(assignments(p["admin"], "/", rbac.GovernanceOfficer), assignments(p["auditor"], "/", rbac.GovernanceReader)...)
		if err := s.records.Provision(ctx, of(kind, roles)...); err != nil {
			return err
		}
	}
	if s.workspaces == nil {
		return nil
	}
	roles := assignments(p["engineer"], "/", rbac.WorkspaceCreator, rbac.EmergencyOperator)
	roles = append(roles, assignments(p["admin"], "/", rbac.TenantAdministrator)...)
	roles = append(roles, assignments(p["auditor"], "/", rbac.Auditor)...)
	if err := s.workspaces.Provision(ctx, s.identity.Tenant, of(kind, roles)...); err != nil {
		return err
	}
	sub := s.subscription().Scope()
	roles = assignments(p["engineer"], sub, rbac.Contributor, rbac.RoleBasedAccessControlAdmin)
	roles = append(roles, assignments(p["auditor"], sub, rbac.Reader)...)
	return s.accounts.Provision(ctx, s.identity.Tenant, of(kind, roles)...)
}

// subscription is the installation's own.
func (s *server) subscription() vault.Subscription {
	return vault.Subscription{ID: s.identity.Subscription, Tenant: s.identity.Tenant, Name: "kluis"}
}

// custodianRoles are what a custodian needs in his subscription: to make vaults,
// to manage keys, and to give roles. Key Vault Crypto Officer uses keys too, in Azure as
// here; what they protect he never sees.
func custodianRoles(p identity.PrincipalID, scope rbac.Scope) []rbac.Assignment {
	return assignments(p, scope, rbac.Contributor, rbac.KeyVaultCryptoOfficer, rbac.RoleBasedAccessControlAdmin)
}

func assignments(p identity.PrincipalID, scope rbac.Scope, roles ...rbac.RoleID) (out []rbac.Assignment) {
	for _, r := range roles {
		out = append(out, rbac.Assignment{
			Principal: p, PrincipalType: identity.ServicePrincipal, Role: r, Scope: scope, CreatedBy: p,
		})
	}
	return out
}

// of says what kind of principals the assignments are of.
func of(kind identity.PrincipalType, all []rbac.Assignment) []rbac.Assignment {
	for i := range all {
		all[i].PrincipalType = kind
	}
	return all
}

// defaultGroup is the resource group of the default vault.
const defaultGroup = "kluis"

func (s *server) makeDefaultVault(ctx context.Context, custodian Principal) error {
	sub := s.subscription()
	by := identity.Caller{
		Tenant: s.identity.Tenant, Principal: custodian.ObjectID, Application: custodian.ClientID, Type: identity.ServicePrincipal,
	}
	location, on := "local", true
	if _, _, err := s.vaults.PutResourceGroup(ctx, by, vault.ResourceGroup{Subscription: sub.ID, Name: defaultGroup, Location: location}); err != nil {
		return err
	}
	_, _, err := s.vaults.PutVault(ctx, by, vault.Path{Subscription: sub.ID, ResourceGroup: defaultGroup, Name: defaultVault},
		vault.Spec{Location: &location, PurgeProtection: &on})
	return err
}

// describe fills in where everything is served. An endpoint that this process
// does not serve is left out.
func (s *server) describe(b *Bootstrap) {
	b.TenantID, b.SubscriptionID, b.Domain = s.identity.Tenant, s.identity.Subscription, s.config.Domain
	b.Authority, b.ADFSAuthority = s.authority("login"), s.authority("login")+"/adfs"
	ca, err := filepath.Abs(filepath.Join(s.config.Data, tlsDir, localca.CertificateFile))
	if err == nil {
		b.CAFile = ca
	}
	b.Endpoints = map[string]string{"login": s.authority("login"), "graph": s.authority("graph")}
	if !s.config.Portal.Off {
		b.Endpoints["portal"] = s.authority("portal")
	}
	if s.vaults != nil {
		b.Endpoints["vault"] = s.authority(defaultVault + ".vault")
	}
	if s.vaults != nil || s.accounts != nil {
		b.Endpoints["arm"] = s.authority("management")
	}
	if s.workspaces != nil {
		b.Endpoints["fabric"] = s.authority("api.fabric")
		b.Endpoints["blob"] = s.authority("onelake.blob")
		b.Endpoints["dfs"] = s.authority("onelake.dfs")
	}
	b.Endpoints["audit"] = s.authority("audit")
	if s.records != nil {
		b.Endpoints["posture"] = s.authority("posture")
	}
	b.ManagedIdentity.Endpoint, b.ManagedIdentity.Header = s.managed.endpoint, s.managed.header
}

// A managedIdentity is the loopback endpoint that hands tokens to programs on
// this host without a secret of theirs.
type managedIdentity struct {
	endpoint string
	header   string
}

// serveManagedIdentity answers for the principals that bootstrap.json names, by
// default for admin.
func (s *server) serveManagedIdentity(b Bootstrap) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var secret [24]byte
	rand.Read(secret[:])
	s.managed = managedIdentity{
		endpoint: "http://" + l.Addr().String() + "/token",
		header:   base64.RawURLEncoding.EncodeToString(secret[:]),
	}
	clients := []string{b.Principals["admin"].ClientID}
	for _, name := range roleNames[1:] {
		clients = append(clients, b.Principals[name].ClientID)
	}
	m, err := identity.NewManagedIdentity(s.issuer, s.identity.Tenant, s.managed.header, clients...)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: api.WithRequestID(token.NewManagedIdentity(m)), ReadHeaderTimeout: 10 * time.Second}
	s.http = append(s.http, srv)
	s.workers.Go(func() { srv.Serve(l) })
	return nil
}
