// Package loopback dials names that mean this machine: localhost and the names
// below it, which not every resolver knows (RFC 6761, section 6.3).
package loopback

import (
	"context"
	"net"
	"strings"
	"time"
)

// Dialer returns a dial function that connects to the loopback address for
// localhost, for the given domains, and for the names below them, and for all
// others as usual.
func Dialer(domains ...string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if host, port, err := net.SplitHostPort(addr); err == nil && below(host, append(domains, "localhost")) {
			addr = net.JoinHostPort("127.0.0.1", port)
		}
		return d.DialContext(ctx, network, addr)
	}
}

func below(host string, domains []string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, d := range domains {
		if host == d || strings.HasSuffix(host, "."+d) {
			return true
		}
	}
	return false
}
