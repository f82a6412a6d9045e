package kek

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// maxReply is the most that is read of a reply's body, and of its headers, in bytes.
const maxReply = 64 << 10

// ErrAddress says that a host has an address to which the platform does not connect.
var ErrAddress = errors.New("kek: address not allowed for this host")

// dialer connects to vaults, and to addresses that vaults may have only. The check
// is made on the address that the kernel is about to connect to, so a name that
// changes between a look-up and a connection gains nothing.
type dialer struct {
	resolve      func(ctx context.Context, host string) ([]netip.Addr, error)
	allowPrivate func(host string) bool
}

func (d dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	inside := d.allowPrivate != nil && d.allowPrivate(host)
	addrs, err := d.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	nd := net.Dialer{Control: func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil || !dialable(ap.Addr(), inside) {
			return fmt.Errorf("%w: %s", ErrAddress, host)
		}
		return nil
	}}
	err = fmt.Errorf("kek: %s has no address", host)
	for _, a := range addrs {
		var c net.Conn
		c, err = nd.DialContext(ctx, network, net.JoinHostPort(a.String(), port))
		if err == nil {
			return c, nil
		}
	}
	return nil, err
}

// dialable reports whether a vault may have the address. Inside says that the
// operator has put the host on his own network: then loopback and private
// addresses are right, but a metadata service's (link-local) never is.
func dialable(a netip.Addr, inside bool) bool {
	if a.Zone() != "" || a.Is4In6() {
		return false
	}
	if a.IsLoopback() || a.IsPrivate() {
		return inside
	}
	if !a.IsGlobalUnicast() {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// special are ranges that look global and lead elsewhere: IANA's special-purpose
// registries (RFC 6890), transition prefixes that carry an IPv4 address inside, and
// Azure's host agent.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("168.63.129.16/32"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"),
	netip.MustParsePrefix("2001:db8::/32"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("3fff::/20"),
	netip.MustParsePrefix("5f00::/16"),
	netip.MustParsePrefix("fec0::/10"),
}

// resolve looks a host up. Names under ".localhost" are loopback everywhere
// (RFC 6761, 6.3), also on machines whose resolver does not know it.
func resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for i := range addrs {
		addrs[i] = addrs[i].Unmap() // the resolver gives IPv4 in its mapped form
	}
	return addrs, err
}

// newHTTP returns the one HTTP client towards vaults: our roots, no proxy, no
// redirects, no transparent decompression.
func newHTTP(roots *x509.CertPool, certificate func() (*tls.Certificate, error), d dialer) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            d.dial,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, GetClientCertificate: shown(certificate)},
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxReply,
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        90 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// shown returns the certificate for who asks for one of its authority, and none for
// everybody else.
func shown(certificate func() (*tls.Certificate, error)) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(asked *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if certificate == nil || len(asked.AcceptableCAs) == 0 {
			return new(tls.Certificate), nil
		}
		own, err := certificate()
		if err != nil {
			return nil, err
		}
		if asked.SupportsCertificate(own) != nil {
			return new(tls.Certificate), nil
		}
		return own, nil
	}
}

// readAll replaces the reply's body by its bytes, and refuses one that is too large.
func readAll(res *http.Response) error {
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxReply+1))
	if err != nil {
		return err
	}
	if len(b) > maxReply {
		return fmt.Errorf("%w: reply above %d bytes", ErrMalformed, maxReply)
	}
	res.Body = io.NopCloser(bytes.NewReader(b))
	return nil
}
