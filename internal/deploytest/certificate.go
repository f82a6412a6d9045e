package deploytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// certify makes an authority, and of it a certificate by which the platform proves itself
// to the vault.
func (d *Deployment) certify() error {
	if err := os.MkdirAll(filepath.Dir(d.clientCertificate()), 0o700); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clients of the vault"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{d.site("platform").domain},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	authority, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		return err
	}
	own, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	write := func(name string, blocks ...*pem.Block) error {
		var text []byte
		for _, b := range blocks {
			text = append(text, pem.EncodeToMemory(b)...)
		}
		return os.WriteFile(name, text, 0o600)
	}
	return errors.Join(
		write(d.clientAuthority(), &pem.Block{Type: "CERTIFICATE", Bytes: authority}),
		write(d.clientCertificate(), &pem.Block{Type: "CERTIFICATE", Bytes: own}, &pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

func (d *Deployment) clientAuthority() string { return filepath.Join(d.plan.Data, "authority.pem") }
func (d *Deployment) clientCertificate() string {
	return filepath.Join(d.plan.Data, "client", "client.pem")
}
