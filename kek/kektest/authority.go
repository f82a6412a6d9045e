package kektest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"sync"
	"time"
)

// An authority signs the servers' certificates.
type authority struct {
	roots          *x509.CertPool
	valid, expired tls.Certificate
}

var testAuthority = sync.OnceValue(func() authority {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	now := time.Now()
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(err)
		return k
	}
	caKey := newKey()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kektest"},
		NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(err)
	root, err := x509.ParseCertificate(der)
	must(err)
	issue := func(serial int64, until time.Time) tls.Certificate {
		k := newKey()
		leaf := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: now.Add(-24 * time.Hour), NotAfter: until,
			DNSNames: []string{"*" + suffix, "login.localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		der, err := x509.CreateCertificate(rand.Reader, leaf, root, &k.PublicKey, caKey)
		must(err)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
	}
	a := authority{roots: x509.NewCertPool(), valid: issue(2, now.Add(24*time.Hour)), expired: issue(3, now.Add(-time.Hour))}
	a.roots.AddCert(root)
	return a
})
