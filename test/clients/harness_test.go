// Package clients tests kluis with other people's programs, unmodified: each is a
// process of its own, and the server is the real binary.
package clients_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/devtest"
	"github.com/kluis-io/kluis/internal/sdk"
)

// slow says whether the slow cases run: in CI, where time allows.
var slow = os.Getenv("CI") == "true"

func TestMain(m *testing.M) { devtest.Main(m) }

// serve starts a dev mode server and returns what it says about itself.
func serve(t *testing.T, more ...string) (binary string, target sdk.Target) {
	t.Helper()
	target, _ = devtest.Serve(t, more...)
	return devtest.Binary(t), target
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
