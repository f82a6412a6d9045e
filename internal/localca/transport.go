package localca

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"time"

	"github.com/kluis-io/kluis/internal/loopback"
)

// Transport returns a transport for clients on this machine: it trusts roots, and
// dials the loopback address for domain and the names below it. It takes no proxy
// from the environment.
func Transport(roots *x509.CertPool, domain string) *http.Transport {
	return &http.Transport{
		DialContext:         loopback.Dialer(domain),
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     time.Minute,
	}
}
