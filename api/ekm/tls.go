package ekm

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// suites are the protocol's. Go lets nobody choose TLS 1.3's: it has these two and
// ChaCha20-Poly1305, and takes the latter only from clients that put it first or
// on machines without AES instructions. Such a handshake is broken off.
var suites = []uint16{tls.TLS_AES_256_GCM_SHA384, tls.TLS_AES_128_GCM_SHA256}

// TLS returns the listener's configuration: TLS 1.3 with the protocol's cipher
// suites, HTTP/1.1, and client certificates of the authorities in clients alone.
// Nothing is resumed, so each connection shows its certificate. host is the FQDN
// that clients dial; the certificate's common name must be it, or its wildcard.
func TLS(certificate tls.Certificate, host string, clients *x509.CertPool) (*tls.Config, error) {
	if len(certificate.Certificate) == 0 || clients == nil {
		return nil, fault.New(fault.InvalidArgument, "The EKM proxy needs a certificate and its clients' authorities.")
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		return nil, err
	}
	if cn := leaf.Subject.CommonName; !names(cn, host) || leaf.VerifyHostname(host) != nil {
		return nil, fault.New(fault.InvalidArgument,
			fmt.Sprintf("The certificate's common name is %q; Managed HSM demands %s or its wildcard, in the common name and in the alternative names.", cn, host))
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{certificate},
		ClientAuth:             tls.RequireAndVerifyClientCert,
		ClientCAs:              clients,
		NextProtos:             []string{"http/1.1"},
		SessionTicketsDisabled: true,
		VerifyConnection:       verify,
	}, nil
}

func verify(s tls.ConnectionState) error {
	if s.Version != tls.VersionTLS13 || !slices.Contains(suites, s.CipherSuite) {
		return fmt.Errorf("ekm: the connection uses %s, which the protocol does not have", tls.CipherSuiteName(s.CipherSuite))
	}
	return nil
}

// names reports whether a common name is the host's, or the wildcard of its parent.
func names(cn, host string) bool {
	cn, host = strings.ToLower(cn), strings.ToLower(host)
	_, parent, ok := strings.Cut(host, ".")
	return host != "" && (cn == host || ok && cn == "*."+parent)
}

// Server returns a server for the handler with the listener's configuration and
// the protocol's bounds: it answers within 250 ms or is not waited for.
func Server(h http.Handler, c *tls.Config) *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return &http.Server{
		Handler: h, TLSConfig: c, Protocols: p,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
}
