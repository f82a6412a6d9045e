package main

import (
	"crypto/x509"
	"fmt"
	"os"
)

// pool returns the certificate authorities that the configuration trusts: the
// system's and those named.
func (c Config) pool() (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	return pool, addAuthorities(pool, c.Trust...)
}

// addAuthorities adds the authorities in PEM files to a pool.
func addAuthorities(pool *x509.CertPool, files ...string) error {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if !pool.AppendCertsFromPEM(text) {
			return fmt.Errorf("%s holds no certificate", file)
		}
	}
	return nil
}

// readPool reads the authorities in PEM files.
func readPool(files ...string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	return pool, addAuthorities(pool, files...)
}
