// Package servertest starts real object stores for tests, each behind a [Proxy] that
// counts what it is asked and makes it fail. They listen on the loopback alone.
//
// They take a minute to install, so that tests which need them run with CI=true, or
// where the environment names what is installed already.
package servertest

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/kluis-io/kluis/internal/devtest"
)

const (
	// gatewayVariable names a binary of versitygw.
	gatewayVariable = "KLUIS_TEST_VERSITYGW"
	gatewayModule   = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"

	// azuriteVariable names the folder into which Azurite was installed by npm.
	azuriteVariable = "KLUIS_TEST_AZURITE"
	azuritePackage  = "azurite@3.37.0"
)

// installTime bounds an installation, startTime a start.
const (
	installTime = 10 * time.Minute
	startTime   = time.Minute
)

// A Server is a running object store.
type Server struct {
	*Proxy
	// Place is the bucket or container, which is empty.
	Place string
	// Dir holds a folder of objects for each bucket, under their names; "" if the store
	// keeps them otherwise.
	Dir string
	// Account and Key are Azurite's account and its key, or the S3 access key's id and
	// secret.
	Account, Key string
}

// The one account of Azurite, whose key is public:
// https://learn.microsoft.com/azure/storage/common/storage-use-azurite.
const (
	azuriteAccount = "devstoreaccount1"
	azuriteKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// installed returns what a variable names, or skips the test unless CI=true, for which
// it is installed into a temporary folder.
func installed(t *testing.T, variable, name string, install func(ctx context.Context, dir string) *exec.Cmd) (dir string) {
	t.Helper()
	if place := os.Getenv(variable); place != "" {
		return place
	}
	if os.Getenv("CI") != "true" {
		t.Skipf("needs %s: set %s to an installed one, or CI=true to install it", name, variable)
	}
	dir = t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), installTime)
	defer cancel()
	if out, err := install(ctx, dir).CombinedOutput(); err != nil {
		t.Fatalf("installing %s: %v\n%s", name, err, out)
	}
	return dir
}

// Versity starts versitygw, which speaks S3, on a folder, with a bucket in it.
func Versity(t *testing.T) *Server {
	t.Helper()
	binary := installed(t, gatewayVariable, "versitygw", func(ctx context.Context, dir string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "go", "install", gatewayModule)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-mod=mod")
		return cmd
	})
	if info, err := os.Stat(binary); err == nil && info.IsDir() {
		binary = filepath.Join(binary, "versitygw")
	}
	s := &Server{Place: "extents", Account: "AKIDKLUISTEST", Key: "a secret of the tests, and of nothing else"}
	dir, port := t.TempDir(), devtest.FreePort(t)
	// Extended attributes are not on every file system: a folder beside it serves too.
	objects, sidecar := filepath.Join(dir, "objects"), filepath.Join(dir, "sidecar")
	for _, d := range []string{filepath.Join(objects, s.Place), sidecar} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(binary, "--port", "127.0.0.1:"+port, "--keep-alive", "--quiet", "posix", "--sidecar", sidecar, objects)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+s.Account, "ROOT_SECRET_ACCESS_KEY="+s.Key)
	run(t, cmd, port)
	s.Proxy, s.Dir = newProxy(t, port), objects
	return s
}

// Azurite starts Azurite's Blob service, with a container in it.
func Azurite(t *testing.T) *Server {
	t.Helper()
	modules := installed(t, azuriteVariable, "Azurite", func(ctx context.Context, dir string) *exec.Cmd {
		return exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--prefix", dir, azuritePackage)
	})
	s := &Server{Place: "extents", Account: azuriteAccount, Key: azuriteKey}
	port := devtest.FreePort(t)
	run(t, exec.Command("node", filepath.Join(modules, "node_modules/azurite/dist/src/blob/main.js"),
		"--blobHost", "127.0.0.1", "--blobPort", port, "--location", t.TempDir(), "--silent", "--disableTelemetry", "--skipApiVersionCheck"), port)
	s.Proxy = newProxy(t, port)
	s.Proxy.URL += "/" + azuriteAccount // as Azurite has it in the path, and not in the host's name
	key, err := container.NewSharedKeyCredential(s.Account, s.Key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := container.NewClientWithSharedKeyCredential(s.URL+"/"+s.Place, key, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.Reset(nil)
	return s
}

// run starts a server, waits until it listens, and stops it at the test's end.
func run(t *testing.T, cmd *exec.Cmd, port string) {
	t.Helper()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	for deadline := time.Now().Add(startTime); ; time.Sleep(50 * time.Millisecond) {
		res, err := http.Get("http://127.0.0.1:" + port)
		if err == nil {
			res.Body.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s has ended: %s", cmd.Path, log.Bytes())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %v", cmd.Path, err)
		}
	}
}
