package clients_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/internal/effort"
)

// The published npm package @azure/keyvault-keys, in a script of ours, against a
// vault and a managed HSM.
func TestJavaScript(t *testing.T) {
	dir := npm(t, "js/keyvault")
	binary, target := serve(t)
	identity := managedIdentity(t, target)
	through, refused := proxy(t)
	vault, hsm := vaults(t, binary, target, "javascript", "custodian")
	for name, uri := range map[string]string{"vault": vault, "managed HSM": hsm} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("node", "index.mjs")
			cmd.Dir = dir
			cmd.Env = append(os.Environ(),
				"KEYVAULT_URI="+uri, "AZURE_CLIENT_ID="+target.Principals["custodian"].ClientID,
				"IDENTITY_ENDPOINT="+identity.Endpoint, "IDENTITY_HEADER="+identity.Header,
				"NODE_EXTRA_CA_CERTS="+target.CAFile, "HTTPS_PROXY="+through, "https_proxy="+through, "NO_PROXY=", "no_proxy=",
			)
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "passed") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	if r := refused(); len(r) > 0 {
		t.Errorf("the package wanted to leave the machine for %v", r)
	}
}

// npm copies one of the scripts' folders and fetches the packages that it names.
func npm(t *testing.T, folder string) (dir string) {
	t.Helper()
	if !slow {
		t.Skip("SKIPPED, SET CI=true TO RUN: npm fetches Microsoft's packages")
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			effort.Missing(t, program, "Microsoft's clients for JavaScript")
		}
	}
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(folder)); err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return dir
}
