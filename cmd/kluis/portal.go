package main

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/kluis-io/kluis/internal/localca"
	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/accounts"
	auditpages "github.com/kluis-io/kluis/portal/audit"
	"github.com/kluis-io/kluis/portal/client"
	"github.com/kluis-io/kluis/portal/drill"
	"github.com/kluis-io/kluis/portal/governance"
	"github.com/kluis-io/kluis/portal/overview"
	"github.com/kluis-io/kluis/portal/password"
	"github.com/kluis-io/kluis/portal/settings"
	vaultpages "github.com/kluis-io/kluis/portal/vaults"
	"github.com/kluis-io/kluis/portal/workspaces"
)

// A portalConfig says where the web portal finds the parties that this process is not.
// Its own it knows.
type portalConfig struct {
	Off bool `yaml:"off"` // serve none

	Fabric  string `yaml:"fabric"`  // the platform's control plane: "https://api.fabric.example.com"
	Blob    string `yaml:"blob"`    // its data: "https://onelake.blob.example.com"
	Storage string `yaml:"storage"` // Resource Manager of its storage accounts
	Vaults  string `yaml:"vaults"`  // Resource Manager of the vaults
	Graph   string `yaml:"graph"`   // the directory of principals
	Posture string `yaml:"posture"` // governance
	Audit   string `yaml:"audit"`   // the parties' audit logs

	VaultSuffix  string `yaml:"vaultSuffix"` // of vaults' hosts: "vault.example.com"
	HSMSuffix    string `yaml:"hsmSuffix"`
	Subscription string `yaml:"subscription"` // in which the vaults lie

	SignIn signInConfig `yaml:"signIn"`
}

func (c portalConfig) check() error {
	for _, address := range []string{c.Fabric, c.Blob, c.Storage, c.Vaults, c.Graph, c.Posture, c.Audit} {
		if address != "" && !isOrigin(address) {
			return usageError{fmt.Errorf("portal: %q is no https address of a host", address)}
		}
	}
	return c.SignIn.check()
}

// portalSections are the portal's parts, in the order of its navigation: those of one
// group stand together.
func portalSections() []portal.Section {
	return []portal.Section{
		overview.Section(),
		workspaces.Section(),
		accounts.Section(),
		drill.Section(),
		settings.Section(),
		vaultpages.Section(),
		governance.Section(),
		auditpages.Section(),
		password.Section(),
	}
}

// wirePortal sets up the web portal, which is a client of the parties like any other.
func (s *server) wirePortal(rt *router) error {
	if s.config.Portal.Off {
		return nil
	}
	roots, err := s.trusted()
	if err != nil {
		return err
	}
	parties, client := s.portalParties(), &http.Client{Transport: s.partiesTransport(roots), CheckRedirect: noRedirect}
	sessions, goes, err := s.sessions(client, parties.Graph.Audience)
	if err != nil {
		return err
	}
	p, err := portal.New(portal.Config{
		Parties: parties, HTTP: client, Sessions: sessions, SignInHosts: []string{goes}, Version: version, Joined: s.separated(),
	}, portalSections()...)
	if err != nil {
		return err
	}
	s.portal, rt.portal, rt.portalAt = p, p, s.authority("portal")
	return nil
}

// partiesTransport trusts roots. Names below localhost are this machine's, whether or not
// its resolver knows so; all others are looked up, since a party can be elsewhere.
func (s *server) partiesTransport(roots *x509.CertPool) *http.Transport {
	t := localca.Transport(roots, s.config.Domain)
	if d := s.config.Domain; d != "localhost" && !strings.HasSuffix(d, ".localhost") {
		t.DialContext = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	return t
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// portalParties are those that the configuration names, and this process's own.
func (s *server) portalParties() client.Parties {
	c := s.config.Portal
	party := func(name, elsewhere, service, audience string, here bool) client.Party {
		p := client.Party{Name: name, Address: strings.TrimSuffix(elsewhere, "/"), Audience: audience}
		if p.Address == "" && here {
			p.Address = s.authority(service)
		}
		if p.Audience == "" {
			p.Audience = p.Address
		}
		return p
	}
	const management = "https://management.azure.com"
	p := client.Parties{
		Fabric:       party("platform", c.Fabric, "api.fabric", "https://api.fabric.microsoft.com", s.workspaces != nil),
		Blob:         party("platform's data", c.Blob, "onelake.blob", "https://storage.azure.com", s.lake != nil),
		Storage:      party("platform's Resource Manager", c.Storage, "management", management, s.accounts != nil),
		Vaults:       party("vaults' Resource Manager", c.Vaults, "management", management, s.vaults != nil),
		Keys:         party("vault", "", "", "https://vault.azure.net", false),
		HSMs:         party("managed HSM", "", "", "https://managedhsm.azure.net", false),
		Graph:        party("directory", c.Graph, "graph", "https://graph.microsoft.com", true),
		Posture:      party("governance", c.Posture, "posture", "", s.records != nil),
		Audit:        party("audit log", c.Audit, "audit", "", true),
		Subscription: orDefault(c.Subscription, s.identity.Subscription), VaultSuffix: c.VaultSuffix, HSMSuffix: c.HSMSuffix,
	}
	if s.vaults != nil && p.VaultSuffix == "" {
		p.VaultSuffix, p.HSMSuffix = s.host("vault"), s.host("managedhsm")
	}
	return p
}
