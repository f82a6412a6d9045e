package system_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/objstore/servertest"
)

// TestWitnessInObjectStore is TestRollback's essence with the witness in an object store:
// an older vault is refused, and so is any while the store does not answer or has lost
// the record, until a restore is declared.
func TestWitnessInObjectStore(t *testing.T) {
	t.Run("S3", func(t *testing.T) {
		t.Parallel()
		server := servertest.Versity(t)
		testWitnessIn(t, server, s3Address(server.Place, "witness", server.URL), s3Credential(server))
	})
	t.Run("Azure", func(t *testing.T) {
		t.Parallel()
		server := servertest.Azurite(t)
		testWitnessIn(t, server, azureAddress(server, "witness"), azureCredential(server))
	})
}

func testWitnessIn(t *testing.T, server *servertest.Server, address, credential string) {
	ctx := t.Context()
	env := []string{"KLUIS_WITNESS=" + address, "KLUIS_WITNESS_CREDENTIAL=" + credentialFile(t, credential)}
	s, p := underKey(ctx, t, env...)
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
