package iceberg

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
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

// A server is a running kluis, as its bootstrap.json describes it.
type server struct {
	CAFile          string
	Endpoints       map[string]string
	Principals      map[string]struct{ ClientID string }
	ManagedIdentity struct{ Endpoint, Header string }

	port  string
	proxy string
	http  *http.Client
	made  string // id of what was made last
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
	cmd := exec.Command(binary, "serve", "--dev", "--data", data, "--listen", "127.0.0.1:0")
	stderr, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	ready, gone := make(chan struct{}), make(chan struct{})
	var log bytes.Buffer
	go func() {
		defer close(gone)
		begun := false
		for s := bufio.NewScanner(stderr); s.Scan(); {
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
			t.Errorf("stopping: %v", err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", &log)
		}
	})
	select {
	case <-ready:
	case <-gone:
		t.Fatalf("the server did not start:\n%s", &log)
	case <-time.After(30 * time.Second):
		t.Fatal("the server did not get ready")
	}
	text, err := os.ReadFile(filepath.Join(data, "bootstrap.json"))
	must(t, err)
	var s server
	must(t, json.Unmarshal(text, &s))
	u, err := url.Parse(s.Endpoints["blob"])
	must(t, err)
	s.port, s.proxy = u.Port(), proxy(t)
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

// call makes a call of Fabric's REST API as the engineer, and keeps the id of what
// it made.
func (s *server) call(t *testing.T, method, path, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.ManagedIdentity.Endpoint+"?api-version=2019-08-01&resource=https%3A%2F%2Fapi.fabric.microsoft.com&client_id="+s.Principals["engineer"].ClientID, nil)
	must(t, err)
	r.Header.Set("X-IDENTITY-HEADER", s.ManagedIdentity.Header)
	var token struct {
		Text string `json:"access_token"`
	}
	do := func(c *http.Client, into any) {
		t.Helper()
		resp, err := c.Do(r)
		must(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		must(t, err)
		if resp.StatusCode >= 300 {
			t.Fatalf("%s %s: %s %s", r.Method, r.URL.Path, resp.Status, text)
		}
		must(t, json.Unmarshal(text, into))
	}
	do(http.DefaultClient, &token)
	r, err = http.NewRequestWithContext(t.Context(), method, s.Endpoints["fabric"]+"/v1"+path, strings.NewReader(body))
	must(t, err)
	r.Header.Set("Authorization", "Bearer "+token.Text)
	r.Header.Set("Content-Type", "application/json")
	var made struct{ ID string }
	do(s.http, &made)
	s.made = made.ID
}

// proxy serves CONNECT for hosts below localhost, and refuses every other: nothing
// that the library does can leave the machine.
func proxy(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, port, err := net.SplitHostPort(r.Host)
		if r.Method != http.MethodConnect || err != nil || host != "localhost" && !strings.HasSuffix(host, ".localhost") {
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
		forward := func(to io.Writer, from io.Reader) {
			io.Copy(to, from)
			done <- struct{}{}
		}
		go forward(up, rw)
		go forward(down, up)
		<-done
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}
