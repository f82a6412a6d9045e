// Package localca makes the certificate authority that a first start needs: a
// server is HTTPS from its first second, and clients can trust it by one file.
//
// The authority is the data directory's own, and its key never leaves that. In
// production, certificates come from elsewhere.
package localca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/kluis-io/kluis/internal/durable"
)

// The files in the authority's folder.
const (
	CertificateFile = "ca.pem" // what clients trust
	KeyFile         = "ca.key"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 90 * 24 * time.Hour
)

// An Authority issues server certificates for one domain.
type Authority struct {
	cert   *x509.Certificate
	key    crypto.Signer
	domain string
}

// Open opens the authority in dir, and makes one if there is none.
func Open(dir, domain string) (*Authority, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, CertificateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return create(dir, domain)
	}
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("the local certificate authority: %w", err)
	}
	return &Authority{cert: pair.Leaf, key: pair.PrivateKey.(crypto.Signer), domain: domain}, nil
}

func create(dir, domain string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "kluis local authority for " + domain},
		NotBefore:             now.Add(-time.Minute),
		NotAfter:              now.Add(caLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(keyDER)
	// The key first: a certificate without its key would look like an authority.
	if err := durable.WriteFile(filepath.Join(dir, KeyFile), encode("PRIVATE KEY", keyDER), 0o600); err != nil {
		return nil, err
	}
	if err := durable.WriteFile(filepath.Join(dir, CertificateFile), encode("CERTIFICATE", der), 0o644); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &Authority{cert: cert, key: key, domain: domain}, err
}

// Pool returns the authority as the roots that a client trusts.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// AddTo adds the authority to the roots that a client trusts.
func (a *Authority) AddTo(p *x509.CertPool) { p.AddCert(a.cert) }

// Issue returns a new server certificate for the domain: for its bare host, for
// every host that the protocols live on, and for the loopback addresses. It
// lasts 90 days, and a start makes a new one.
func (a *Authority) Issue() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	d := a.domain
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: d},
		DNSNames: []string{
			d, "*." + d, "api.fabric." + d,
			"*.vault." + d, "*.managedhsm." + d, "*.blob." + d, "*.dfs." + d,
		},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:   now.Add(-time.Minute),
		NotAfter:    now.Add(leafLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return n
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
