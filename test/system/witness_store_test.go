package system_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/objstore/servertest"
)

// TestWitnessInObjectStore is TestRollback's essence with the witness in an object store:
// an older vault is refused, and so is any while the store does not answer, until a
// restore is declared. The logs are published in the same store, where they hold.
func TestWitnessInObjectStore(t *testing.T) {
	t.Run("S3", func(t *testing.T) {
		t.Parallel()
		server := servertest.Versity(t)
		testWitnessIn(t, server, func(prefix string) string { return s3Address(server.Place, prefix, server.URL) }, s3Credential(server))
	})
	t.Run("Azure", func(t *testing.T) {
		t.Parallel()
		server := servertest.Azurite(t)
		testWitnessIn(t, server, func(prefix string) string { return azureAddress(server, prefix) }, azureCredential(server))
	})
}

func testWitnessIn(t *testing.T, server *servertest.Server, address func(prefix string) string, credential string) {
	ctx := t.Context()
	file, config := credentialFile(t, credential), filepath.Join(t.TempDir(), "kluis.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, "audit: {tiles: {place: %q, credential: %q, every: 200ms}}\n", address("logs"), file), 0o600))
	env := []string{"KLUIS_WITNESS=" + address("witness"), "KLUIS_WITNESS_CREDENTIAL=" + file, "KLUIS_CONFIG=" + config}
	s, p := underKey(ctx, t, env...)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server:\n%s", p.log)
		}
	})
	for _, party := range []string{"vault", "platform"} {
		eventually(ctx, t, 30*time.Second, func() error {
			out, err := kluis(t, s.data, "audit", "verify", "--tiles", address("logs/"+s.instance(t)+"/"+party), "--credential", file,
				"--key", filepath.Join(s.data, party, "audit.key.pub"), "--output", "json").CombinedOutput()
			var reports []struct {
				Report struct{ Entries, Covered int }
			}
			switch {
			case err != nil:
				return fmt.Errorf("%w: %s", err, out)
			case json.Unmarshal(out, &reports) != nil || len(reports) != 1 || reports[0].Report.Entries < 5 || reports[0].Report.Covered != reports[0].Report.Entries:
				return fmt.Errorf("published is %s", out)
			}
			return nil
		})
	}
	p.stop(t)
	old := s.copy(t)

	p = start(t, s.data, s.port, env...)
	s.connect(t)
	disable := azkeys.UpdateKeyParameters{KeyAttributes: &azkeys.KeyAttributes{Enabled: to.Ptr(false)}}
	_, err := s.keys.UpdateKey(ctx, keyName, "", disable, nil)
	must(t, err)
	p.kill() // the moment it is acknowledged
	newest := s.copy(t)
	s.putBack(t, old, "vault")
	s.unserved(t, "an older vault, which has the key enabled", env...)
	s.putBack(t, newest, "vault")

	server.Reset(func(*http.Request, int) servertest.Fault { return servertest.Fails })
	if p := start(t, s.data, s.port, env...); p.alive() {
		p.kill()
		t.Error("it is served without its witness")
	} else if said := p.log.String(); strings.Contains(said, "--declare") {
		t.Errorf("a silent witness is taken for one that refuses: %s", said)
	}
	server.Reset(nil)
	start(t, s.data, s.port, env...).stop(t) // as it is, it is served

	s.putBack(t, old, "vault")
	declare := kluis(t, s.data, "restore", "--declare", "--data", s.data, "--why", "the drill", "--by", "anna")
	declare.Env = append(declare.Env, env...)
	if out, err := declare.CombinedOutput(); err != nil || strings.Count(string(out), "declared by anna") != 1 {
		t.Fatalf("declaring: %v\n%s", err, out)
	}
	p = start(t, s.data, s.port, env...)
	s.connect(t)
	must(t, s.readBack(ctx))
	p.stop(t)
	s.putBack(t, newest, "vault")
	s.unserved(t, "what the restore has left behind", env...)
}

// instance returns the installation's id.
func (s *site) instance(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.data, "instance.json"))
	must(t, err)
	var held struct{ Instance string }
	must(t, json.Unmarshal(text, &held))
	return held.Instance
}
