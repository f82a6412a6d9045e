package clients_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

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
// paths they know one. Then a tree of 2,000 files in each dialect.
func TestStorageJavaScript(t *testing.T) {
	dir := npm(t, "js/storage")
	_, target := serve(t)
	furnish(t, target)
	identity := managedIdentity(t, target)
	through, refused := proxy(t)
	port := target.Endpoints["blob"][strings.LastIndexByte(target.Endpoints["blob"], ':')+1:]
	port = strings.TrimRight(port, "/")
	host := [2]string{"https://onelake.blob.localhost:" + port, "https://onelake.dfs.localhost:" + port}
	node := func(t *testing.T, at [2]string, style string, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "node", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+target.CAFile,
			"IDENTITY_ENDPOINT="+identity.Endpoint, "IDENTITY_HEADER="+identity.Header, "AZURE_CLIENT_ID="+target.Principals["engineer"].ClientID,
			"BLOB="+at[0], "DFS="+at[1], "CONTAINER=clients", "STYLE="+style,
			"HTTPS_PROXY="+through, "https_proxy="+through, "NO_PROXY=", "no_proxy=")
		var out, log bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &log
		if err := cmd.Run(); err != nil {
			t.Fatalf("node %s: %v\n%s%s", strings.Join(args, " "), err, out.Bytes(), log.Bytes())
		}
		return out.Bytes()
	}
	for style, at := range map[string][2]string{"host": host, "path": {"https://localhost:" + port + "/onelake", ""}} {
		t.Run(style, func(t *testing.T) {
			if out := node(t, at, style, "storage.mjs"); !bytes.Contains(out, []byte("passed")) {
				t.Errorf("%s", out)
			}
		})
	}
	local := plant(t)
	for _, kind := range []string{"blob", "path"} {
		t.Run("tree/"+kind, func(t *testing.T) {
			do := func(args ...string) []byte {
				t.Helper()
				return node(t, host, "", append([]string{"tree.mjs", kind, "lake.Lakehouse/Files/js " + kind}, args...)...)
			}
			carry(t, local, remote{
				up: func(dir string) { do("up", dir) },
				list: func() (sizes map[string]int64) {
					if err := json.Unmarshal(do("list"), &sizes); err != nil {
						t.Fatal(err)
					}
					return sizes
				},
				read: func(name string, offset, count int) []byte {
					return do("read", name, strconv.Itoa(offset), strconv.Itoa(count))
				},
				move:   func(from, to string) { do("move", from, to) },
				down:   func(dir string) { do("down", dir) },
				remove: func() { do("remove") },
			})
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
	const folder = ":azureblob:clients/lake.Lakehouse/Files/rclone"
	local := plant(t)
	carry(t, local, remote{
		up: func(string) { rclone("copy", local.dir, folder) },
		list: func() map[string]int64 {
			var all []struct {
				Path string
				Size int64
			}
			if err := json.Unmarshal([]byte(rclone("lsjson", ":azureblob:clients/lake.Lakehouse/Files", "--recursive", "--files-only")), &all); err != nil {
				t.Fatal(err)
			}
			sizes := map[string]int64{}
			for _, f := range all {
				sizes[strings.TrimPrefix(f.Path, "rclone/")] = f.Size
			}
			return sizes
		},
		check: func() {
			rclone("check", local.dir, folder)
			rclone("check", local.dir, folder, "--download")
		},
		read: func(name string, offset, count int) []byte {
			return []byte(rclone("cat", folder+"/"+name, "--offset", strconv.Itoa(offset), "--count", strconv.Itoa(count)))
		},
		move:   func(from, to string) { rclone("moveto", folder+"/"+from, folder+"/"+to) }, // the copies are the server's
		down:   func(dir string) { rclone("copy", folder, dir) },
		remove: func() { rclone("purge", folder) },
	})
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
