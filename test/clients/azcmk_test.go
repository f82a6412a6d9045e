package clients_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/sdk"
)

// An estate is a storage account with a vault beside it, as az's two users see them: the
// custodian has the vault and its key, the engineer the account and its data.
type estate struct {
	t                   *testing.T
	binary              string
	target              sdk.Target
	custodian, engineer *azure
	vault, kid          string // the vault's URI, and the key's identifier with its version
	dir                 string
	blobs               []string
}

const (
	cisGroup   = "prod"
	cisAccount = "cisaccount"
)

// newEstate makes an account with data in it, and a key that nobody may use yet.
func newEstate(t *testing.T) *estate {
	t.Helper()
	if !slow {
		t.Skip("SKIPPED: the Azure CLI takes seconds a command; it runs in CI (CI=true)")
	}
	t.Parallel()
	if _, err := exec.LookPath("az"); err != nil {
		t.Fatal("the Azure CLI is missing; .ci/run installs it:", err)
	}
	binary, target := serve(t)
	address, _ := proxy(t)
	clients := azLogin(t, binary, address, target, "custodian", "engineer")
	e := &estate{t: t, binary: binary, target: target, dir: t.TempDir(), custodian: clients[0], engineer: clients[1]}
	e.custodian.do("group", "create", "-n", "keys", "-l", "westeurope")
	v := e.custodian.do("keyvault", "create", "-n", "cisvault", "-g", "keys", "--enable-purge-protection", "true", "--retention-days", "7")
	e.vault = strings.TrimSuffix(at(v, "properties", "vaultUri").(string), "/")
	e.kid, _ = at(e.key("post", "/keys/k1/create", `{"kty":"RSA","key_size":3072}`), "key", "kid").(string)
	e.engineer.do("group", "create", "-n", cisGroup, "-l", "westeurope")
	e.engineer.do("storage", "account", "create", "-n", cisAccount, "-g", cisGroup, "-l", "westeurope", "--sku", "Standard_LRS")
	e.engineer.do("storage", "container", "create", "-n", "data", "--account-name", cisAccount, "--auth-mode", "login")
	return e
}

// key makes one call of the vault's data plane, as the custodian.
func (e *estate) key(method, path, body string) any {
	e.t.Helper()
	args := []string{"rest", "--method", method, "--url", e.vault + path + "?api-version=7.4", "--resource", strings.Replace(e.vault, "cisvault.", "", 1)}
	if body != "" {
		args = append(args, "--body", body)
	}
	return e.custodian.do(args...)
}

// write writes a blob of the name, whose content tells it.
func (e *estate) write(name string) {
	e.t.Helper()
	file := filepath.Join(e.dir, name)
	if err := os.WriteFile(file, []byte(strings.Repeat(name+"\n", 10_000)), 0o600); err != nil {
		e.t.Fatal(err)
	}
	e.engineer.do("storage", "blob", "upload", "--account-name", cisAccount, "--auth-mode", "login", "-c", "data", "-n", name, "-f", file, "--no-progress")
	e.blobs = append(e.blobs, name)
}

func (e *estate) get(name string) []string {
	return []string{"storage", "blob", "download", "--account-name", cisAccount, "--auth-mode", "login", "-c", "data", "-n", name,
		"-f", filepath.Join(e.dir, name+".back"), "--no-progress"}
}

// readAll reads all that was ever written.
func (e *estate) readAll() {
	e.t.Helper()
	for _, name := range e.blobs {
		e.engineer.do(e.get(name)...)
		got, err := os.ReadFile(filepath.Join(e.dir, name+".back"))
		if err != nil || string(got) != strings.Repeat(name+"\n", 10_000) {
			e.t.Errorf("%s reads back as %d bytes, %v", name, len(got), err)
		}
	}
}

// source is the benchmark's check, word for word.
func (e *estate) source(want string) {
	e.t.Helper()
	e.engineer.want(e.engineer.do("storage", "account", "show", "--name", cisAccount, "--resource-group", cisGroup, "--query", "encryption.keySource"), want)
}

// grant lets the account's identity use the key, in the benchmark's words.
func (e *estate) grant() {
	e.t.Helper()
	a := e.engineer.do("storage", "account", "update", "--name", cisAccount, "--resource-group", cisGroup, "--assign-identity")
	e.engineer.want(at(a, "identity", "type"), "SystemAssigned")
	principal, _ := at(a, "identity", "principalId").(string)
	e.custodian.do("keyvault", "set-policy", "--name", "cisvault", "--object-id", principal, "--key-permissions", "get", "wrapKey", "unwrapKey")
}

// The benchmark's commands (CIS Azure Foundations 4.0, 2.1.1.2.1), as az accepts them: the
// check and the backout word for word, the update in the form that works.
func TestAzureCLICustomerManagedKey(t *testing.T) {
	e := newEstate(t)
	az := e.engineer
	update := func(args ...string) []string {
		return append([]string{"storage", "account", "update", "--name", cisAccount, "--resource-group", cisGroup}, args...)
	}
	cmk := []string{"--encryption-key-source", "Microsoft.Keyvault", "--encryption-key-vault", e.vault, "--encryption-key-name", "k1"}
	e.write("before")
	e.source("Microsoft.Storage")

	// What would leave the account half configured is refused, and changes nothing.
	az.refused("BadRequest.*keyvaultproperties is missing", update("--set", "encryption.keySource=Microsoft.Keyvault")...)
	az.refused("KeyVaultAuthenticationFailure|KeyVaultEncryptionKeyNotFound", update(cmk...)...) // nothing is granted yet
	az.refused("BadRequest.*pins a version", update(append(cmk, "--encryption-key-version", "0123456789abcdef0123456789abcdef")...)...)
	e.source("Microsoft.Storage")
	e.readAll()

	// The implementation plan.
	e.grant()
	begin := time.Now().Add(-time.Second)
	a := az.do(update(append(cmk, "--encryption-key-version", "")...)...)
	az.want(at(a, "encryption", "keySource"), "Microsoft.Keyvault")
	e.source("Microsoft.Keyvault")
	e.write("between")
	e.readAll()
	shown := az.do("storage", "account", "show", "--name", cisAccount, "--resource-group", cisGroup, "--query", "encryption.keyVaultProperties")
	az.want(at(shown, "currentVersionedKeyIdentifier"), e.kid)
	az.want(at(shown, "keyName"), "k1")
	az.want(at(shown, "keyVersion"), nil)
	rotated, _ := at(shown, "lastKeyRotationTimestamp").(string)
	if when, err := time.Parse(time.RFC3339, rotated); err != nil || when.Before(begin) || when.After(time.Now()) {
		t.Errorf("the key is said to be in use since %s; it is since %s", rotated, begin)
	}
	az.refused("BadRequest.*under a customer's key", "rest", "--method", "patch", "--url",
		"/subscriptions/"+e.target.SubscriptionID+"/resourceGroups/"+cisGroup+"/providers/Microsoft.Storage/storageAccounts/"+cisAccount+"?api-version=2022-09-01",
		"--body", `{"identity":{"type":"None"}}`)

	// All of the data depends on the key, what was there before it too.
	e.key("patch", "/keys/k1", `{"attributes":{"enabled":false}}`)
	deadline := time.Now().Add(time.Minute)
	for { // by the feed it takes moments
		if code, _, _ := az.run(e.get("before")...); code != 0 {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("a disabled key still serves")
		}
	}
	az.refused("KeyVaultEncryptionKeyNotFound|403", e.get("between")...)
	e.key("patch", "/keys/k1", `{"attributes":{"enabled":true}}`)
	for deadline = time.Now().Add(time.Minute); ; {
		if code, _, _ := az.run(e.get("before")...); code == 0 {
			break
		} else if time.Now().After(deadline) {
			t.Fatal("an enabled key does not serve again")
		}
	}
	e.readAll()

	// A user-assigned identity has to be named, by both of its arguments.
	const id = "/subscriptions/s/resourceGroups/prod/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id1"
	az.refused("BadRequest.*names none of them", update("--identity-type", "UserAssigned", "--user-identity-id", id)...)
	a = az.do(update("--identity-type", "UserAssigned", "--user-identity-id", id, "--key-vault-user-identity-id", id)...)
	az.want(at(a, "encryption", "encryptionIdentity", "encryptionUserAssignedIdentity"), id)

	// The backout plan, word for word: az sends the old key back, and the source wins.
	a = az.do("storage", "account", "update", "--name", cisAccount, "--resource-group", cisGroup, "--set", "encryption.keySource=Microsoft.Storage")
	az.want(at(a, "encryption", "keyVaultProperties"), nil)
	e.source("Microsoft.Storage")
	e.write("after")
	e.readAll()
	e.key("patch", "/keys/k1", `{"attributes":{"enabled":false}}`)
	e.readAll() // nothing needs the key any more
}
