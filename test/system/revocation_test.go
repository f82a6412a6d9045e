package system_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/effort"
)

// bound is how soon a revocation takes effect with a kluis vault at its default
// settings.
const bound = 5 * time.Second

// TestRevocation revokes a key in each way, many times over, and measures how long
// a reader that never pauses still gets data after the custodian's call returned.
func TestRevocation(t *testing.T) {
	trials := effort.Of(5, 25, 100)
	ctx := t.Context()
	s, p := underKey(ctx, t)

	enable := func(on bool) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := s.keys.UpdateKey(ctx, keyName, "", azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &on}}, nil)
			return err
		}
	}
	for _, way := range []struct {
		name            string
		revoke, restore func(context.Context) error
	}{
		{"role removed", func(ctx context.Context) error {
			_, err := s.officer.Roles.Delete(ctx, s.keyScope(), grantID, nil)
			return err
		}, func(ctx context.Context) error { s.grant(ctx, t); return nil }},
		{"key disabled", enable(false), enable(true)},
		{"key soft-deleted", func(ctx context.Context) error {
			_, err := s.keys.DeleteKey(ctx, keyName, nil)
			return err
		}, func(ctx context.Context) error {
			_, err := s.keys.RecoverDeletedKey(ctx, keyName, nil)
			return err
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			var dark, light []time.Duration
			for range trials {
				stop := s.reader(ctx)
				must(t, way.revoke(ctx))
				revoked := time.Now()
				eventually(ctx, t, 30*time.Second, func() error {
					if _, err := s.get(ctx, s.smallest()); !refusedByKey(err) {
						return fmt.Errorf("a read is answered with %v", err)
					}
					return nil
				})
				last := stop()
				dark = append(dark, max(0, last.Sub(revoked)))
				must(t, way.restore(ctx))
				restored := time.Now()
				eventually(ctx, t, 30*time.Second, func() error {
					_, err := s.get(ctx, s.smallest())
					return err
				})
				light = append(light, time.Since(restored))
			}
			report(t, "last byte after revoking", dark)
			report(t, "first byte after restoring", light)
			if slices.Max(dark) > bound {
				t.Errorf("plaintext left %s after the key was revoked, bound %s", slices.Max(dark), bound)
			}
		})
	}
	must(t, s.readBack(ctx))
	p.stop(t)
	s.fsck(t)
}

func report(t *testing.T, what string, d []time.Duration) {
	t.Helper()
	slices.Sort(d)
	at := func(share float64) time.Duration {
		return d[max(0, int(math.Ceil(share*float64(len(d))))-1)].Round(time.Millisecond)
	}
	what = strings.ReplaceAll(strings.ReplaceAll(what, ",", ""), " ", "-")
	effort.Proof(t, what+"-trials", len(d), what+"-p50", at(0.5), what+"-p99", at(0.99), what+"-max", at(1))
}

// smallest returns the path of a small file that is not empty.
func (s *site) smallest() string {
	for path, data := range s.files {
		if len(data) == 100 {
			return path
		}
	}
	return ""
}

// reader reads one file over and over; the function that it returns stops it and
// tells when the last read that succeeded had ended.
func (s *site) reader(ctx context.Context) func() time.Time {
	ctx, cancel := context.WithCancel(ctx)
	last := make(chan time.Time, 1)
	go func() {
		var at time.Time
		for ctx.Err() == nil {
			if _, err := s.get(ctx, s.smallest()); err == nil {
				at = time.Now()
			} else {
				time.Sleep(time.Millisecond)
			}
		}
		last <- at
	}()
	return func() time.Time {
		cancel()
		return <-last
	}
}

// TestOldVersionDisabled disables the version that a workspace still needs in the
// moment before the platform moves to the new one: the workspace goes dark, and
// comes back by itself under the new version.
func TestOldVersionDisabled(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, gate := behindGate(ctx, t)
	must(t, s.assign(ctx))
	st := s.await(ctx, t, "Active")
	must(t, s.readBack(ctx))

	gate.shut() // so that the platform does not see the new version in time
	old := azkeys.ID(st.KeyVersion)
	_, err := s.keys.RotateKey(ctx, keyName, nil)
	must(t, err)
	off := false
	_, err = s.keys.UpdateKey(ctx, keyName, old.Version(), azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: &off}}, nil)
	must(t, err)
	gate.open("127.0.0.1:" + s.port)

	dark := false
	eventually(ctx, t, 30*time.Second, func() error {
		if _, err := s.get(ctx, s.smallest()); refusedByKey(err) {
			dark = true
		}
		st, err := s.engineer.Fabric.Encryption(ctx, s.workspace)
		if err == nil && (st.KeyVersion == string(old) || st.Serving.State != "Serving") {
			err = errNotDone(st.Serving.State + " under " + st.KeyVersion)
		}
		return err
	})
	t.Logf("a read was refused meanwhile: %t", dark)
	must(t, s.readBack(ctx))
}

// behindGate returns a furnished site whose server is reached, by the platform
// like by everybody, at its public port, which is a gate's; the test's own clients
// go past it.
func behindGate(ctx context.Context, t *testing.T, env ...string) (*site, *gate) {
	t.Helper()
	s := &site{data: filepath.Join(t.TempDir(), "data"), port: devtest.FreePort(t)}
	gate := newGate(t)
	_, public, err := net.SplitHostPort(gate.address)
	must(t, err)
	gate.open("127.0.0.1:" + s.port)
	start(t, s.data, s.port, append(env, "KLUIS_PUBLIC_PORT="+public)...)
	s.connect(t)
	s.clients.HTTP.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+s.port)
	}
	s.furnish(ctx, t)
	return s, gate
}

// TestVaultUnreachable takes the way to the vault away instead of the key: reads
// go on until the lease ends, then get 503, never 403, and come back by
// themselves.
func TestVaultUnreachable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, gate := behindGate(ctx, t, "KLUIS_LEASE=4s")
	must(t, s.assign(ctx))
	s.await(ctx, t, "Active")
	must(t, s.readBack(ctx))

	gate.shut()
	shut := time.Now()
	if _, err := s.get(ctx, s.smallest()); err != nil {
		t.Fatalf("reads must go on while the lease runs: %v", err)
	}
	var re *azcore.ResponseError
	eventually(ctx, t, 30*time.Second, func() error {
		_, err := s.get(ctx, s.smallest())
		if !errors.As(err, &re) {
			return fmt.Errorf("still answered: %v", err)
		}
		return nil
	})
	if re.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("answered %d %s, want 503", re.StatusCode, re.ErrorCode)
	}
	if re.RawResponse.Header.Get("Retry-After") == "" {
		t.Error("the 503 has no Retry-After")
	}
	t.Logf("reads went on for %s after the vault was cut off, with leases of 4 s", time.Since(shut).Round(10*time.Millisecond))
	st, err := s.engineer.Fabric.Encryption(ctx, s.workspace)
	must(t, err)
	if st.Serving.State != "Unreachable" {
		t.Errorf("the workspace says that it is %s, want Unreachable", st.Serving.State)
	}
	gate.open("127.0.0.1:" + s.port)
	eventually(ctx, t, 60*time.Second, func() error { return s.readBack(ctx) })
}
