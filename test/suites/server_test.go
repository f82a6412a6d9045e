package suites

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// domain is the one that the suites know.
const domain = "core.windows.net"

// A server is a running kluis, as its bootstrap.json describes it.
type server struct {
	TenantID        string
	SubscriptionID  string
	CAFile          string
	Endpoints       map[string]string
	Principals      map[string]struct{ ClientID, ClientSecret, ObjectID string }
	ManagedIdentity struct{ Endpoint, Header string }

	proxy string // its URL
	http  *http.Client
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve builds kluis and starts it on a fresh data directory.
func serve(t *testing.T) *server {
	t.Helper()
	dir := t.TempDir()
	binary, data := filepath.Join(dir, "kluis"), filepath.Join(dir, "data")
	build := exec.Command("go", "build", "-o", binary, "./cmd/kluis")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building kluis: %v\n%s", err, out)
	}
	cmd := exec.Command(binary, "serve", "--dev", "--data", data, "--listen", "127.0.0.1:0", "--domain", domain)
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	ready, gone := make(chan struct{}), make(chan struct{})
	var log bytes.Buffer
	go func() {
		defer close(gone)
		s := bufio.NewScanner(stderr)
		s.Buffer(nil, 1<<20)
		for begun := false; s.Scan(); {
			log.Write(append(s.Bytes(), '\n'))
			if !begun && strings.Contains(s.Text(), `"msg":"serving"`) {
				begun = true
				close(ready)
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		<-gone
		if err := cmd.Wait(); err != nil {
			t.Errorf("stopping: %v\n%s", err, &log)
		}
		if folder := os.Getenv("SUITES_OUTPUT"); folder != "" {
			os.WriteFile(filepath.Join(folder, "server.log"), log.Bytes(), 0o644)
		}
	})
	select {
	case <-ready:
	case <-gone:
		t.Fatalf("the server did not start:\n%s", &log)
	case <-time.After(time.Minute):
		t.Fatal("the server did not get ready")
	}
	text, err := os.ReadFile(filepath.Join(data, "bootstrap.json"))
	must(t, err)
	var s server
	must(t, json.Unmarshal(text, &s))
	u, err := url.Parse(s.Endpoints["blob"])
	must(t, err)
	s.proxy = proxy(t, u.Port())
	authority, err := os.ReadFile(s.CAFile)
	must(t, err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		t.Fatalf("%s holds no certificate", s.CAFile)
	}
	via, err := url.Parse(s.proxy)
	must(t, err)
	s.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, Proxy: http.ProxyURL(via)}}
	return &s
}

// proxy serves CONNECT for hosts below the domain by connections to the server, and
// refuses every other: nothing that the suites do can leave the machine.
func proxy(t *testing.T, port string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if r.Method != http.MethodConnect || err != nil || !strings.HasSuffix(host, "."+domain) {
			http.Error(w, "only this machine", http.StatusForbidden)
			return
		}
		up, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", port), 10*time.Second)
		if err != nil {
			http.Error(w, "nobody listens", http.StatusBadGateway)
			return
		}
		defer up.Close()
		down, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer down.Close()
		io.WriteString(down, "HTTP/1.1 200 Connection established\r\n\r\n")
		done := make(chan struct{}, 2)
		relay := func(to io.Writer, from io.Reader) {
			io.Copy(to, from)
			done <- struct{}{}
		}
		go relay(up, rw)
		go relay(down, up)
		<-done
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// kinds are the accounts that the suites want, by the prefix of their variables.
var kinds = []string{"", "SECONDARY_", "PREMIUM_", "SOFT_DELETE_", "DATALAKE_", "IMMUTABLE_"}

// environment is what a suite runs in: with accounts of its own, whose data its
// principal owns because he made them.
func (s *server) environment(t *testing.T, dir string) []string {
	t.Helper()
	engineer := s.Principals["engineer"]
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir,
		"AZURE_RECORD_MODE=live", "PROXY_MANUAL_START=true",
		"HTTPS_PROXY=" + s.proxy, "SSL_CERT_FILE=" + s.CAFile, "PROXY_CERT=" + s.CAFile,
		"AZURE_AUTHORITY_HOST=https://login." + domain + "/", "AZURE_SERVICE_DIRECTORY=KLUIS",
		"KLUIS_CLIENT_ID=" + engineer.ClientID, "KLUIS_CLIENT_SECRET=" + engineer.ClientSecret, "KLUIS_TENANT_ID=adfs",
		"SUBSCRIPTION_ID=" + s.SubscriptionID, "RESOURCE_GROUP_NAME=suites",
	}
	group := "/subscriptions/" + s.SubscriptionID + "/resourceGroups/suites"
	for _, kind := range kinds {
		var b [8]byte
		rand.Read(b[:])
		name := "suite" + hex.EncodeToString(b[:])
		id := group + "/providers/Microsoft.Storage/storageAccounts/" + name
		s.manage(t, "PUT", id+"?api-version=2023-05-01", `{"location":"westeurope","sku":{"name":"Standard_LRS"},"kind":"StorageV2"}`)
		var keys struct{ Keys []struct{ Value string } }
		must(t, json.Unmarshal(s.manage(t, "POST", id+"/listKeys?api-version=2023-05-01", ""), &keys))
		env = append(env, kind+"AZURE_STORAGE_ACCOUNT_NAME="+name, kind+"AZURE_STORAGE_ACCOUNT_KEY="+keys.Keys[0].Value)
	}
	return env
}

// manage makes a call of Resource Manager as the engineer, and returns the answer.
func (s *server) manage(t *testing.T, method, path, body string) []byte {
	t.Helper()
	do := func(c *http.Client, r *http.Request) []byte {
		t.Helper()
		resp, err := c.Do(r)
		must(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		must(t, err)
		if resp.StatusCode >= 300 {
			t.Fatalf("%s %s: %s %s", r.Method, r.URL.Path, resp.Status, text)
		}
		return text
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.ManagedIdentity.Endpoint+"?api-version=2019-08-01&resource=https%3A%2F%2Fmanagement.azure.com&client_id="+s.Principals["engineer"].ClientID, nil)
	must(t, err)
	r.Header.Set("X-IDENTITY-HEADER", s.ManagedIdentity.Header)
	var token struct {
		Text string `json:"access_token"`
	}
	must(t, json.Unmarshal(do(http.DefaultClient, r), &token))
	r, err = http.NewRequestWithContext(t.Context(), method, "https://management."+domain+path, strings.NewReader(body))
	must(t, err)
	r.Header.Set("Authorization", "Bearer "+token.Text)
	r.Header.Set("Content-Type", "application/json")
	return do(s.http, r)
}
