package system_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/kluis-io/kluis/internal/deploytest"
	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/sdk"
)

// TestSeparateParties runs the customer's vault as an installation of its own, with
// another process, issuer, domain, certificate authority and root than the
// platform's: what a real Azure Key Vault is to the platform. The workspace is of
// the customer's tenant; a vault of another directory is refused.
func TestSeparateParties(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()

	// The customer's side: a vault, and a directory whose people use the platform.
	bank := &site{data: filepath.Join(dir, "bank"), port: devtest.FreePort(t)}
	start(t, bank.data, bank.port, "KLUIS_ROLES=vault", "KLUIS_DOMAIN=bank.localhost")
	customer, err := sdk.ReadTarget(bank.data)
	must(t, err)
	secret, err := deploytest.PlatformSecret(ctx, customer)
	must(t, err)

	// The operator's side: made, told of the customer's directory, and served.
	host := &site{data: filepath.Join(dir, "host"), port: devtest.FreePort(t)}
	p := start(t, host.data, host.port)
	p.stop(t)
	config := filepath.Join(dir, "host.yaml")
	must(t, os.WriteFile(config, []byte(
		"issuers:\n- issuer: "+customer.Authority+"/"+customer.TenantID+"/v2.0\n  tenant: "+customer.TenantID+"\n  ca: "+customer.CAFile+
			"\nvaults: [\".vault.bank.localhost:"+bank.port+"\"]\ntrust: ["+customer.CAFile+"]\n"), 0o600))
	command(t, "", "tenant", "adopt", "--dev", "--data", host.data, "--config", config, "--tenant", customer.TenantID, "--admin", customer.Principals["engineer"].ObjectID)
	command(t, secret, "tenant", "connect", "--data", host.data, "--tenant", customer.TenantID, "--authority", customer.Authority, "--object-id", customer.Platform.ObjectID)
	p = start(t, host.data, host.port, "KLUIS_CONFIG="+config)
	operator, err := sdk.ReadTarget(host.data)
	must(t, err)

	// The customer's officer works at his vault, and his engineer at the platform.
	s := &site{data: host.data, port: host.port}
	s.clients = clientsOf(t, dir, customer, operator)
	s.officer, err = s.clients.Officer()
	must(t, err)
	s.engineer, err = s.clients.Engineer()
	must(t, err)
	s.keys, err = s.officer.Keys(customer.VaultURI("custody"))
	must(t, err)
	s.furnish(ctx, t)
	must(t, s.assign(ctx))
	s.await(ctx, t, "Active")
	must(t, s.readBack(ctx))

	key, err := s.keys.RotateKey(ctx, keyName, nil)
	must(t, err)
	eventually(ctx, t, 30*time.Second, func() error {
		st, err := s.engineer.Fabric.Encryption(ctx, s.workspace)
		if err == nil && lastSegment(st.KeyVersion) != key.Key.KID.Version() {
			err = errNotDone(st.KeyVersion)
		}
		return err
	})
	must(t, s.readBack(ctx))
	_, err = s.officer.Roles.Delete(ctx, s.keyScope(), grantID, nil)
	must(t, err)
	eventually(ctx, t, bound, func() error { return s.refused(ctx) })
	s.grant(ctx, t)
	eventually(ctx, t, 30*time.Second, func() error { return s.readBack(ctx) })

	// The same without a secret: the machine that the platform runs on has an identity
	// in the customer's directory, and the key is granted to that alone.
	p.stop(t)
	machine := customer.Principals["auditor"]
	s.grantTo(ctx, t, "22222222-2222-4333-8444-555555555555", machine.ObjectID)
	_, err = s.officer.Roles.Delete(ctx, s.keyScope(), grantID, nil)
	must(t, err)
	command(t, "", "tenant", "connect", "--data", host.data, "--tenant", customer.TenantID, "--authority", customer.Authority,
		"--object-id", machine.ObjectID, "--credential", "managed-identity", "--client-id", machine.ClientID)
	endpoint, header := managedIdentity(t, bank.data)
	p = start(t, host.data, host.port, "KLUIS_CONFIG="+config, "IDENTITY_ENDPOINT="+endpoint, "IDENTITY_HEADER=wrong")
	if err := s.readBack(ctx); err == nil {
		t.Error("the workspace was read without a token for its key")
	}
	p.stop(t)
	p = start(t, host.data, host.port, "KLUIS_CONFIG="+config, "IDENTITY_ENDPOINT="+endpoint, "IDENTITY_HEADER="+header)
	eventually(ctx, t, 30*time.Second, func() error { return s.readBack(ctx) })

	// The platform's own vault is in another directory than the workspace.
	stranger, err := sdk.New(operator)
	must(t, err)
	officer, err := stranger.Officer()
	must(t, err)
	foreign, err := officer.Keys(operator.VaultURI("default"))
	must(t, err)
	made, err := foreign.CreateKey(ctx, "stranger", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeRSA)}, nil)
	must(t, err)
	s.identifier = strings.TrimSuffix(string(*made.Key.KID), "/"+made.Key.KID.Version())
	if err := s.assign(ctx); err == nil {
		t.Error("a key of another directory's vault was assigned")
	} else {
		t.Log(err)
	}
	must(t, s.readBack(ctx))
	p.stop(t)
}

// managedIdentity returns where a server gives its machine's programs tokens, and what
// they show for it.
func managedIdentity(t *testing.T, data string) (endpoint, header string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(data, "bootstrap.json"))
	must(t, err)
	var b struct {
		ManagedIdentity struct{ Endpoint, Header string } `json:"managedIdentity"`
	}
	must(t, json.Unmarshal(text, &b))
	return b.ManagedIdentity.Endpoint, b.ManagedIdentity.Header
}

func ptr[T any](v T) *T { return &v }

// command runs the binary to its end.
func command(t *testing.T, stdin string, args ...string) {
	t.Helper()
	c := exec.Command(build(t), args...)
	c.Stdin = strings.NewReader(stdin + "\n")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("kluis %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// clientsOf returns clients whose people are the customer's and who use the
// customer's vault and the operator's platform.
func clientsOf(t *testing.T, dir string, customer, operator sdk.Target) *sdk.Clients {
	t.Helper()
	target := customer
	target.Endpoints = map[string]string{
		"vault": customer.Endpoints["vault"], "arm": customer.Endpoints["arm"],
		"fabric": operator.Endpoints["fabric"], "blob": operator.Endpoints["blob"], "dfs": operator.Endpoints["dfs"],
	}
	var both []byte
	for _, f := range []string{customer.CAFile, operator.CAFile} {
		text, err := os.ReadFile(f)
		must(t, err)
		both = append(both, text...)
	}
	target.CAFile = filepath.Join(dir, "both.pem")
	must(t, os.WriteFile(target.CAFile, both, 0o600))
	c, err := sdk.New(target)
	must(t, err)
	return c
}
