package deploytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// certify makes the certificate by which the platform proves itself to the vault.
func (d *Deployment) certify() (err error) {
	d.clients, d.client, err = ClientCertificate(filepath.Join(d.plan.Data, "client"), d.site("platform").domain)
	return err
}

// ClientCertificate makes an authority, and of it a certificate for a client of that name:
// files in a folder, as the configuration names them.
func ClientCertificate(dir, name string) (authority, pair string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of " + name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{name},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", err
	}
	write := func(file string, template *x509.Certificate, more ...byte) (string, error) {
		der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), key)
		if err != nil {
			return "", err
		}
		text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), more...)
		return filepath.Join(dir, file), os.WriteFile(filepath.Join(dir, file), text, 0o600)
	}
	if authority, err = write("authority.pem", ca); err != nil {
		return "", "", err
	}
	pair, err = write("client.pem", leaf, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...)
	return authority, pair, err
}
