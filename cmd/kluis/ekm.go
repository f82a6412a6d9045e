package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/kluis-io/kluis/api"
	"github.com/kluis-io/kluis/api/ekm"
	"github.com/kluis-io/kluis/identity"
	"github.com/kluis-io/kluis/vault"
)

// An ekmConfig is the EKM proxy's part of the configuration file; without it there
// is none. See docs/integration.md.
type ekmConfig struct {
	Listen      string      `yaml:"listen"`      // address and port
	Host        string      `yaml:"host"`        // the FQDN that the Managed HSM dials
	Prefix      string      `yaml:"prefix"`      // of the paths
	Certificate string      `yaml:"certificate"` // PEM file, whose common name is the host
	Key         string      `yaml:"key"`         // PEM file
	ClientCA    string      `yaml:"clientCA"`    // PEM file with the authorities of the clients' certificates
	Clients     []ekmClient `yaml:"clients"`
}

// An ekmClient says whom a client's certificate stands for.
type ekmClient struct {
	CommonName string               `yaml:"commonName"`
	Pool       string               `yaml:"pool"` // pool_name; any if left out
	Principal  identity.PrincipalID `yaml:"principal"`
	Vault      vault.Name           `yaml:"vault"`
}

// listenEKM serves the EKM proxy, if there is to be one.
func (s *server) listenEKM() error {
	c := s.config.EKM
	if c == nil {
		return nil
	}
	if s.vaults == nil {
		return usageError{errors.New("ekm: the proxy needs the role vault")}
	}
	config := ekm.Config{Prefix: c.Prefix, Release: version}
	for _, cl := range c.Clients {
		config.Clients = append(config.Clients, ekm.Client{
			CommonName: cl.CommonName, Pool: cl.Pool, Tenant: s.identity.Tenant,
			Principal: identity.PrincipalID(strings.ToLower(string(cl.Principal))), Vault: cl.Vault,
		})
	}
	handler, err := ekm.New(s.vaults, config)
	if err != nil {
		return fmt.Errorf("ekm: %w", err)
	}
	certificate, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return fmt.Errorf("ekm: %w", err)
	}
	clients, err := readPool(c.ClientCA)
	if err != nil {
		return fmt.Errorf("ekm: %w", err)
	}
	tlsConfig, err := ekm.TLS(certificate, c.Host, clients)
	if err != nil {
		return fmt.Errorf("ekm: %w", err)
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("ekm: %w", err)
	}
	srv := ekm.Server(api.WithRequestID(s.config.traced.handler("ekm", handler)), tlsConfig)
	srv.ErrorLog = slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug)
	s.http = append(s.http, srv)
	s.workers.Go(func() {
		if err := srv.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("the EKM proxy's listener has failed", "error", err)
		}
	})
	slog.Info("serving the EKM proxy", "address", l.Addr().String(), "host", c.Host, "clients", len(c.Clients))
	return nil
}
