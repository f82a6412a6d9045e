package load_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"github.com/kluis-io/kluis/internal/devtest"
)

// azuriteVariable names the folder into which `npm install azurite` was run.
// Unset, it is installed into a temporary one; "none" leaves Azurite out.
const azuriteVariable = "KLUIS_LOAD_AZURITE"

const azuritePackage = "azurite@3.37.0"

// Azurite's one account, whose key is public:
// https://learn.microsoft.com/azure/storage/common/storage-use-azurite.
const (
	azuriteAccount = "devstoreaccount1"
	azuriteKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// startAzurite starts Azurite, or returns nil and says why it cannot be had.
func startAzurite(t testing.TB) *target {
	modules := os.Getenv(azuriteVariable)
	switch modules {
	case "none":
		return nil
	case "":
		modules = t.TempDir()
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		npm := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--prefix", modules, azuritePackage)
		if out, err := npm.CombinedOutput(); err != nil {
			t.Logf("NOT COMPARED WITH AZURITE: npm install %s: %v\n%s", azuritePackage, err, out)
			return nil
		}
	}
	dir := t.TempDir()
	certificate := selfSigned(t, dir)
	port := devtest.FreePort(t)
	cmd := exec.Command("node", filepath.Join(modules, "node_modules/azurite/dist/src/blob/main.js"),
		"--blobHost", "127.0.0.1", "--blobPort", port, "--location", filepath.Join(dir, "data"), "--silent", "--disableTelemetry",
		"--skipApiVersionCheck", "--cert", certificate, "--key", filepath.Join(dir, "key.pem"))
	if err := cmd.Start(); err != nil {
		t.Logf("NOT COMPARED WITH AZURITE: %v", err)
		return nil
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	base := "https://localhost:" + port + "/" + azuriteAccount
	s := &target{name: "Azurite", pid: cmd.Process.Pid, client: client(t, certificate)}

	key, err := service.NewSharedKeyCredential(azuriteAccount, azuriteKey)
	must(t, err)
	c, err := service.NewClientWithSharedKeyCredential(base, key, &service.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: s.client}})
	must(t, err)
	signed, err := c.GetSASURL(sas.AccountResourceTypes{Service: true, Container: true, Object: true},
		sas.AccountPermissions{Read: true, Write: true, Create: true}, time.Now().Add(24*time.Hour), nil)
	must(t, err)
	u, err := url.Parse(signed)
	must(t, err)
	s.address = func(name string) string {
		return base + "/" + container + "/" + (&url.URL{Path: name}).EscapedPath() + "?" + u.RawQuery
	}
	s.prepare = func(r *http.Request) {
		if r.Method == http.MethodPut {
			r.Header.Set("x-ms-blob-type", "BlockBlob")
		}
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		_, err := c.CreateContainer(context.Background(), container, nil)
		if err == nil {
			return s
		}
		if time.Now().After(deadline) {
			t.Logf("NOT COMPARED WITH AZURITE: it did not start: %v", err)
			return nil
		}
	}
}

// selfSigned writes a certificate for localhost and its key, of the kind that the
// other servers have, and returns the certificate's path.
func selfSigned(t testing.TB, dir string) string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	path := filepath.Join(dir, "cert.pem")
	must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	return path
}
