package system_test

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/webhook"
)

// TestSecurityContact checks that a tenant's security contact hears when a
// workspace's key is assigned and reset, also of what happened while he could not be
// reached, and of nothing that changes no key.
func TestSecurityContact(t *testing.T) {
	t.Parallel()
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	signed, err := webhook.ParseSecret(secret)
	must(t, err)
	var mu sync.Mutex
	var heard []string
	down := true
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var e struct {
			Type, Source string
			Data         struct{ Principal, Tenant string }
		}
		if err := webhook.Verify(signed, r.Header, body, time.Now()); err != nil || json.Unmarshal(body, &e) != nil || e.Data.Principal == "" {
			t.Errorf("%v: %s", err, body)
		}
		mu.Lock()
		defer mu.Unlock()
		if down {
			down = false
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		heard = append(heard, e.Type+" "+e.Source)
	}))
	defer receiver.Close()

	ctx, dir := t.Context(), t.TempDir()
	s := &site{data: filepath.Join(dir, "data"), port: devtest.FreePort(t)}
	p := start(t, s.data, s.port)
	s.connect(t)
	s.furnish(ctx, t)
	p.stop(t)

	ca, secretFile, config := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "secret"), filepath.Join(dir, "kluis.yaml")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: receiver.Certificate().Raw}), 0o600))
	must(t, os.WriteFile(secretFile, []byte(secret), 0o600))
	must(t, os.WriteFile(config, fmt.Appendf(nil, "securityContacts: [{tenant: %s, url: %q, secretFile: %q, ca: %q}]\n",
		s.clients.Target.TenantID, receiver.URL, secretFile, ca), 0o600))
	p = start(t, s.data, s.port, "KLUIS_CONFIG="+config)
	if !p.alive() {
		t.Fatalf("%s", p.log)
	}
	must(t, s.reset(ctx)) // it is under no key, so this changes none
	must(t, s.assign(ctx))
	s.await(ctx, t, "Active")
	must(t, s.assign(ctx)) // again, which changes nothing
	must(t, s.reset(ctx))
	s.await(ctx, t, "Disabled")
	source := " /workspaces/" + s.workspace
	want := []string{"io.kluis.platform.ApplyWorkspaceEncryption" + source, "io.kluis.platform.DisableWorkspaceEncryption" + source}
	eventually(ctx, t, 15*time.Second, func() error {
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(heard, want) {
			return fmt.Errorf("heard %v", heard)
		}
		return nil
	})
	p.stop(t)
}
