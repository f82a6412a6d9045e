package clients_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/internal/sdk"
)

// furnish makes the workspace "clients" with the lakehouse "lake" in it.
func furnish(t *testing.T, target sdk.Target) {
	t.Helper()
	c, err := sdk.New(target)
	if err != nil {
		t.Fatal(err)
	}
	e, err := c.Engineer()
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		ID string `json:"id"`
	}
	if err := e.Fabric.Call(t.Context(), "POST", "/workspaces", map[string]string{"displayName": "clients"}, &made); err != nil {
		t.Fatal(err)
	}
	if err := e.Fabric.Call(t.Context(), "POST", "/workspaces/"+made.ID+"/items", map[string]string{"displayName": "lake", "type": "Lakehouse"}, nil); err != nil {
		t.Fatal(err)
	}
}

// Microsoft's clients for JavaScript, at both kinds of address; in the dialect of
// paths they know one.
func TestStorageJavaScript(t *testing.T) {
	if !slow {
		t.Skip("SKIPPED: npm fetches Microsoft's packages; it runs in CI (CI=true)")
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: there is no %s", program)
		}
	}
	_, target := serve(t)
	furnish(t, target)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("js/storage")); err != nil {
		t.Fatal(err)
	}
	install := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	identity := managedIdentity(t, target)
	through, refused := proxy(t)
	port := target.Endpoints["blob"][strings.LastIndexByte(target.Endpoints["blob"], ':')+1:]
	port = strings.TrimRight(port, "/")
	for style, at := range map[string][2]string{
		"host": {"https://onelake.blob.localhost:" + port, "https://onelake.dfs.localhost:" + port},
		"path": {"https://localhost:" + port + "/onelake", ""},
	} {
		t.Run(style, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "node", "storage.mjs")
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+target.CAFile,
				"IDENTITY_ENDPOINT="+identity.Endpoint, "IDENTITY_HEADER="+identity.Header, "AZURE_CLIENT_ID="+target.Principals["engineer"].ClientID,
				"BLOB="+at[0], "DFS="+at[1], "CONTAINER=clients", "STYLE="+style,
				"HTTPS_PROXY="+through, "https_proxy="+through, "NO_PROXY=", "no_proxy=")
			if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("passed")) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	if r := refused(); len(r) > 0 {
		t.Errorf("the packages wanted to leave the machine for %v", r)
	}
}

// rclone as Debian packages it, 1.60, with a managed identity: a tree of 2,000
// files goes up, is listed, checked, renamed and comes down again, the same.
func TestRclone(t *testing.T) {
	if !slow {
		t.Skip("SKIPPED: rclone moves 2,000 files; it runs in CI (CI=true)")
	}
	if _, err := exec.LookPath("rclone"); err != nil {
		t.Fatal("rclone is missing; .ci/run installs it:", err)
	}
	_, target := serve(t)
	furnish(t, target)
	address := identityProxy(t, target)
	port := strings.TrimRight(target.Endpoints["blob"][strings.LastIndexByte(target.Endpoints["blob"], ':')+1:], "/")
	rclone := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "rclone", append(args,
			"--config", filepath.Join(t.TempDir(), "none"), "--ca-cert", target.CAFile, "--retries", "1", "--low-level-retries", "1",
			"--transfers", "16", "--checkers", "16",
			"--azureblob-account", "onelake", "--azureblob-endpoint", "blob.localhost:"+port,
			"--azureblob-use-msi", "--azureblob-msi-client-id", target.Principals["engineer"].ClientID)...)
		cmd.Env = append(os.Environ(), "HTTP_PROXY="+address, "HTTPS_PROXY="+address, "http_proxy="+address, "https_proxy="+address, "NO_PROXY=", "no_proxy=")
		var out, log bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &log
		if err := cmd.Run(); err != nil {
			t.Fatalf("rclone %s: %v\n%s", strings.Join(args, " "), err, log.String())
		}
		return out.String()
	}
	local := filepath.Join(t.TempDir(), "tree")
	want := plant(t, local, 2000)
	const remote = ":azureblob:clients/lake.Lakehouse/Files/tree"
	rclone("copy", local, remote)
	var count struct{ Count, Bytes int64 }
	if err := json.Unmarshal([]byte(rclone("size", remote, "--json")), &count); err != nil || count.Count != 2000 {
		t.Errorf("size: %+v, %v", count, err)
	}
	rclone("check", local, remote)
	rclone("check", local, remote, "--download")

	// Everything is renamed that lies in one folder; the copies are the server's.
	rclone("moveto", remote+"/dir 3", remote+"/renamed/dir three")
	for name, sum := range want {
		if rest, ok := strings.CutPrefix(name, "dir 3/"); ok {
			delete(want, name)
			want["renamed/dir three/"+rest] = sum
		}
	}
	if head := rclone("cat", remote+"/dir 1/file-1.bin", "--offset", "1", "--count", "3"); head != string(bodyOf(1)[1:4]) {
		t.Errorf("a range: %q", head)
	}
	back := filepath.Join(t.TempDir(), "back")
	rclone("copy", remote, back)
	if diff := cmp.Diff(want, harvest(t, back)); diff != "" {
		t.Errorf("what came down is not what went up:\n%.2000s", diff)
	}
	rclone("purge", remote)
	if left := rclone("lsf", ":azureblob:clients/lake.Lakehouse/Files", "--recursive", "--files-only"); left != "" {
		t.Errorf("left: %.500s", left)
	}
}

// bodyOf returns the n-th file's content: mostly small, some in blocks.
func bodyOf(n int) []byte {
	size := n*37%5000 + 4
	if n%400 == 7 {
		size = 6 << 20
	}
	b := make([]byte, size)
	rnd := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)})
	rnd.Read(b)
	return b
}

// plant makes a tree of n files and returns the hash of each.
func plant(t *testing.T, dir string, n int) map[string]string {
	t.Helper()
	sums := map[string]string{}
	for i := range n {
		name := fmt.Sprintf("dir %d/file-%d.bin", i%10, i)
		switch {
		case i%10 == 1 && i > 1:
			name = fmt.Sprintf("dir 1/sub/é+%d %%41.bin", i)
		case i%10 == 5:
			name = fmt.Sprintf("a/b/c/%d/f&=.txt", i)
		}
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, bodyOf(i), 0o644); err != nil {
			t.Fatal(err)
		}
		sums[name] = fmt.Sprintf("%x", sha256.Sum256(bodyOf(i)))
	}
	return sums
}

// harvest returns the hash of each file of a tree.
func harvest(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(root, name)
		sums[name] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

// identityProxy is proxy with, where a virtual machine has its instance's metadata
// service, the server's managed identities.
func identityProxy(t *testing.T, target sdk.Target) string {
	t.Helper()
	identity := managedIdentity(t, target)
	endpoint, err := url.Parse(identity.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	managed := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		q := r.In.URL.Query()
		q.Set("api-version", "2019-08-01")
		u := *endpoint
		u.RawQuery = q.Encode()
		r.Out.URL, r.Out.Host = &u, u.Host
		r.Out.Header = http.Header{"X-Identity-Header": {identity.Header}}
	}}
	address, _ := proxy(t, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || r.Host != "169.254.169.254" {
			return false
		}
		managed.ServeHTTP(w, r)
		return true
	})
	return address
}
