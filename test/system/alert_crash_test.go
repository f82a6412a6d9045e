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
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/webhook"
)

// TestAlertCrash kills the server, or has it hang, when a receiver has an alert and the
// database does not know it yet. After a restart the alert comes again, with the id that
// the receiver knows it by, and after that no more.
func TestAlertCrash(t *testing.T) {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	signed, err := webhook.ParseSecret(secret)
	must(t, err)
	heard := make(chan string, 100) // ids of deliveries
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var e struct{ ID, Type string }
		if err := webhook.Verify(signed, r.Header, body, time.Now()); err != nil || json.Unmarshal(body, &e) != nil {
			t.Errorf("%v: %s", err, body)
		}
		if e.Type == "io.kluis.posture.alert.AttemptFirstSeen" {
			heard <- e.ID
		}
	}))
	defer receiver.Close()
	for _, action := range []string{"exit", "once", "pause"} {
		t.Run(action, func(t *testing.T) {
			dir := t.TempDir()
			ca, secretFile, config := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "secret"), filepath.Join(dir, "kluis.yaml")
			must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: receiver.Certificate().Raw}), 0o600))
			must(t, os.WriteFile(secretFile, []byte(secret), 0o600))
			must(t, os.WriteFile(config, fmt.Appendf(nil, "alerts: {every: 50ms, webhooks: [{url: %q, secretFile: %q, ca: %q}]}\n", receiver.URL, secretFile, ca), 0o600))
			s := &site{data: filepath.Join(dir, "data"), port: devtest.FreePort(t)}
			env := "KLUIS_CONFIG=" + config
			const point = "posture/alert/after-send"
			p := start(t, s.data, s.port, env, "KLUIS_FAILPOINTS="+point+"="+action)
			s.connect(t)
			engineer, err := s.clients.OfficerAs("engineer")
			must(t, err)
			stranger, err := engineer.Keys(s.clients.Target.VaultURI("default"))
			must(t, err)
			for range 3 { // which is an attempt
				if _, err := stranger.GetKey(t.Context(), "some", "", nil); err == nil {
					t.Fatal("the engineer reads the custodian's keys")
				}
			}
			first := next(t, heard)
			p.awaitStrike(t, point)
			p.kill()

			p = start(t, s.data, s.port, env)
			if again := next(t, heard); again != first {
				t.Errorf("the alert %s came again as %s", first, again)
			}
			p.stop(t)
			p = start(t, s.data, s.port, env)
			p.stop(t)
			select {
			case id := <-heard:
				t.Errorf("it came once more: %s", id)
			default:
			}
			s.fsck(t)
		})
	}
}

func next(t *testing.T, heard <-chan string) string {
	t.Helper()
	select {
	case id := <-heard:
		return id
	case <-time.After(time.Minute):
		t.Fatal("no alert comes")
		return ""
	}
}
