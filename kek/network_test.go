package kek_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/effort"
	"github.com/kluis-io/kluis/kek"
	"github.com/kluis-io/kluis/kek/kektest"
)

// behind puts a proxy in front of a vault, and returns a client that goes through it: at
// the same port of another loopback address.
func behind(t *testing.T, s *kektest.Server, other string, timeout time.Duration) (*toxiproxy.Proxy, func() *kek.Client) {
	t.Helper()
	_, port, err := net.SplitHostPort(s.Host())
	if err != nil {
		t.Fatal(err)
	}
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop())
	proxy := toxiproxy.NewProxy(api, "vault", net.JoinHostPort(other, port), net.JoinHostPort("127.0.0.1", port))
	if err := proxy.Start(); err != nil {
		t.Skipf("SKIPPED: there is no second loopback address: %v", err)
	}
	t.Cleanup(proxy.Stop)
	return proxy, func() *kek.Client {
		config := s.Config()
		config.Timeout = timeout
		config.Resolve = func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr(other)}, nil
		}
		c := kek.NewClient(config)
		t.Cleanup(c.Close)
		return c
	}
}

// Whatever the network does to the vault's answer, and whenever: it is an answer, or it
// is none. It is never taken for a no, a no is never taken for a yes, and once the network
// is well again the next question is answered.
func TestNetworkFaults(t *testing.T) {
	s := kektest.New(t)
	const timeout = 3 * time.Second // and a busy machine answers an honest question well within it
	var asked atomic.Int64
	var all sync.WaitGroup
	other := netip.MustParseAddr("127.0.1.1") // each has an address of its own
	for name, tc := range map[string]struct {
		toxic string
		want  fault.Reason // of an honest yes
	}{
		"slow":                    {`{"type":"latency","attributes":{"latency":60,"jitter":30}}`, ""},
		"too slow":                {`{"type":"latency","attributes":{"latency":9000}}`, fault.KEKUnreachable},
		"reset":                   {`{"type":"reset_peer","attributes":{"timeout":0}}`, fault.KEKUnreachable},
		"reset in the midst":      {`{"type":"reset_peer","attributes":{"timeout":20}}`, ""}, // or none: see below
		"silence":                 {`{"type":"timeout","attributes":{"timeout":0}}`, fault.KEKUnreachable},
		"silence, and then a cut": {`{"type":"timeout","attributes":{"timeout":100}}`, fault.KEKUnreachable},
		"cut after 0 bytes":       {`{"type":"limit_data","attributes":{"bytes":0}}`, fault.KEKUnreachable},
		"cut after 500 bytes":     {`{"type":"limit_data","attributes":{"bytes":500}}`, fault.KEKUnreachable},
		"cut after 1700 bytes":    {`{"type":"limit_data","attributes":{"bytes":1700}}`, ""}, // or none
		"cut on the way there":    {`{"type":"limit_data","stream":"upstream","attributes":{"bytes":600}}`, fault.KEKUnreachable},
		"narrow":                  {`{"type":"bandwidth","attributes":{"rate":1}}`, ""}, // or none: a KiB a second
		"in slices":               {`{"type":"slicer","attributes":{"average_size":40,"size_variation":20,"delay":100}}`, ""},
	} {
		other = other.Next()
		address, key := other.String(), fmt.Sprint("k", other.As4()[3])
		all.Go(func() {
			t.Run(name, func(t *testing.T) {
				s.Create(key)
				kid := s.Newest(key)
				proxy, client := behind(t, s, address, timeout)
				wrapped, err := client().Wrap(t.Context(), kektest.Tenant, kid, kek.RSAOAEP256, share)
				if err != nil {
					t.Fatal(err)
				}
				unwrap := func(c *kek.Client) (fault.Reason, time.Duration) {
					began := time.Now()
					got, err := c.Unwrap(t.Context(), kektest.Tenant, kid, kek.RSAOAEP256, wrapped)
					if err == nil && !bytes.Equal(got, share) {
						t.Errorf("another share: %x", got)
					}
					return fault.ReasonOf(err), time.Since(began)
				}
				for _, revoked := range []bool{false, true} {
					for _, warm := range []bool{false, true} { // with a connection that stands, and without
						c := client()
						if warm {
							if r, _ := unwrap(c); r != "" {
								t.Fatalf("the network is well, and the answer is %q", r)
							}
						}
						if revoked {
							s.Disable(kid)
						}
						if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(tc.toxic)); err != nil {
							t.Fatal(err)
						}
						got, took := unwrap(c)
						asked.Add(1)
						want := tc.want
						switch {
						case got == fault.KEKUnreachable && tc.want == "" && (strings.Contains(name, "midst") || strings.Contains(name, "1700") || name == "narrow"):
							want = fault.KEKUnreachable // it may be, as the answer happens to fall
						case revoked && want == "":
							want = fault.KEKRefused
						}
						if got != want && !(warm && got == okOf(revoked) && strings.HasPrefix(name, "cut")) {
							t.Errorf("revoked %t, warm %t: %q, want %q", revoked, warm, got, want)
						}
						if took > timeout+2*time.Second {
							t.Errorf("revoked %t, warm %t: it took %v", revoked, warm, took)
						}
						proxy.Toxics.ResetToxics(t.Context())
						if got, _ := unwrap(client()); got != okOf(revoked) {
							t.Errorf("the network is well again, and the answer is %q", got)
						}
						s.Enable(kid)
					}
				}
			})
		})
	}
	all.Wait()
	effort.Proof(t, "questions-under-faults", asked.Load(), "taken-for-another-answer", 0)
}

// okOf is what an honest answer says.
func okOf(revoked bool) fault.Reason {
	if revoked {
		return fault.KEKRefused
	}
	return ""
}
