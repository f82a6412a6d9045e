// Package clients tests kluis with other people's programs, unmodified: each is a
// process of its own, and the server is the real binary.
package clients_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/sdk"
)

// slow says whether the slow cases run: in CI, where time allows.
var slow = os.Getenv("CI") == "true"

// folder is where the binary was built, "" if it was not.
var folder string

// build builds the binary, once for all tests.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kluis-clients-")
	if err != nil {
		return "", err
	}
	folder = dir
	binary := filepath.Join(dir, "kluis")
	cmd := exec.Command("go", "build", "-o", binary, "github.com/kluis-io/kluis/cmd/kluis")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return binary, errors.New("building kluis: " + string(out))
	}
	return binary, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if folder != "" {
		os.RemoveAll(folder)
	}
	os.Exit(code)
}

// serve starts a dev mode server and returns what it says about itself.
func serve(t *testing.T, more ...string) (binary string, target sdk.Target) {
	t.Helper()
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(binary, append([]string{"serve", "--dev", "--data", data, "--listen", "127.0.0.1:0"}, more...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	ready, exited := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(exited)
		var once sync.Once
		s := bufio.NewScanner(stderr)
		for s.Scan() {
			log.Write(append(s.Bytes(), '\n'))
			if strings.Contains(s.Text(), `"msg":"serving"`) {
				once.Do(func() { close(ready) })
			}
		}
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-exited:
		case <-time.After(30 * time.Second):
			cmd.Process.Kill()
			<-exited
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", &log)
		}
	})
	select {
	case <-ready:
	case <-exited:
		t.Fatalf("the server did not start:\n%s", &log)
	case <-time.After(time.Minute):
		t.Fatal("the server did not start in a minute")
	}
	if target, err = sdk.ReadTarget(data); err != nil {
		t.Fatal(err)
	}
	return binary, target
}

// proxy serves CONNECT for hosts below localhost, wherever those resolve to, and
// refuses every other: nothing that a client does can leave the machine. It
// returns its address and what it has refused so far. What is asked of it in other
// ways goes to the functions that are given, until one answers.
func proxy(t *testing.T, others ...func(http.ResponseWriter, *http.Request) bool) (address string, refused func() []string) {
	t.Helper()
	var mu sync.Mutex
	var refusals []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, other := range others {
			if other(w, r) {
				return
			}
		}
		host, port, err := net.SplitHostPort(r.Host)
		if r.Method != http.MethodConnect || err != nil || host != "localhost" && !strings.HasSuffix(host, ".localhost") {
			mu.Lock()
			refusals = append(refusals, r.Host)
			mu.Unlock()
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
			slog.Error("proxy", "error", err)
			return
		}
		defer down.Close()
		io.WriteString(down, "HTTP/1.1 200 Connection established\r\n\r\n")
		done := make(chan struct{}, 2)
		copy := func(to io.Writer, from io.Reader) {
			io.Copy(to, from)
			done <- struct{}{}
		}
		go copy(up, rw)
		go copy(down, up)
		<-done
	}))
	t.Cleanup(srv.Close)
	return srv.URL, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return refusals
	}
}
