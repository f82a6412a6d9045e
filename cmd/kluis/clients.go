package main

import (
	"crypto/tls"
	"fmt"
	"strings"
)

// A clientsConfig says which services reach the vault's keys over mutual TLS alone.
type clientsConfig struct {
	Authorities []string          `yaml:"authorities"` // PEM files of the authorities of their certificates
	Names       map[string]string `yaml:"names"`       // in the certificate of each, by its object id or application id
}

// ask has the listener ask who connects to a vault for a certificate of the authorities. Who
// has none is served as before; other hosts ask nobody, so that no browser asks its user.
func (c *clientsConfig) ask(config *tls.Config, domain string) error {
	if c == nil {
		return nil
	}
	pool, err := readPool(c.Authorities...)
	if err != nil {
		return fmt.Errorf("clients: %w", err)
	}
	if len(c.Authorities) == 0 {
		return usageError{fmt.Errorf("clients: name the authorities of the certificates")}
	}
	asking := config.Clone()
	asking.ClientAuth, asking.ClientCAs = tls.VerifyClientCertIfGiven, pool
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name, ok := strings.CutSuffix(strings.ToLower(hello.ServerName), "."+domain)
		if ok && (strings.HasSuffix(name, ".vault") || strings.HasSuffix(name, ".managedhsm")) {
			return asking, nil
		}
		return nil, nil
	}
	return nil
}

// ownCertificate reads the certificate that the platform shows, or returns nil if it has none.
func (c Config) ownCertificate() (func() (*tls.Certificate, error), error) {
	if c.ClientCertificate == "" {
		return nil, nil
	}
	read := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(c.ClientCertificate, c.ClientCertificate)
		if err != nil {
			return nil, fmt.Errorf("the client certificate: %w", err)
		}
		return &pair, nil
	}
	_, err := read()
	return read, err
}
