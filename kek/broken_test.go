package kek_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/kek/kektest"
)

// replaced stands before a vault at another address, as a load balancer whose first connections lead to a
// server that is just going: they are reset once a request has begun.
func replaced(t *testing.T, s *kektest.Server, other string, broken int) *kek.Client {
	t.Helper()
	_, port, err := net.SplitHostPort(s.Host())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(other, port))
	if err != nil {
		t.Skipf("SKIPPED: there are no further loopback addresses: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if broken > 0 {
				broken--
				c.Read(make([]byte, 1))
				c.(*net.TCPConn).SetLinger(0)
				c.Close()
				continue
			}
			go func() {
				defer c.Close()
				to, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", port))
				if err != nil {
					return
				}
				defer to.Close()
				go io.Copy(to, c)
				io.Copy(c, to)
			}()
		}
	}()
	config := s.Config()
	config.Timeout = time.Minute
	config.Resolve = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr(other)}, nil
	}
	c := kek.NewClient(config)
	t.Cleanup(c.Close)
	return c
}

// A vault whose servers are being replaced, one behind another, is not unreachable: a
// question that met one that was going is put again, until there is an answer.
func TestBrokenConnections(t *testing.T) {
	s := kektest.New(t)
	s.Create("k")
	kid := s.Newest("k")
	wrapped, err := replaced(t, s, "127.0.0.3", 0).Wrap(t.Context(), kektest.Tenant, kid, kek.RSAOAEP256, share)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		broken int
		want   fault.Reason
	}{
		"none": {0, ""}, "one": {1, ""}, "three": {3, ""},
		"more than are tried": {4, fault.KEKUnreachable},
		"one, and then a no":  {1, fault.KEKRefused},
	} {
		t.Run(name, func(t *testing.T) {
			c := replaced(t, s, "127.0.0.4", tc.broken)
			if tc.want == fault.KEKRefused {
				s.Disable(kid)
				defer s.Enable(kid)
			}
			if _, err := c.Unwrap(t.Context(), kektest.Tenant, kid, kek.RSAOAEP256, wrapped); fault.ReasonOf(err) != tc.want {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}
