package load_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/localca"
)

// A target is a server to load.
type target struct {
	name    string
	pid     int // of the server's process
	client  *http.Client
	address func(name string) string
	prepare func(*http.Request) // adds what the server wants of each request; may be nil
}

// client returns a client that trusts one authority and keeps its connections.
// It speaks HTTP/1.1, like Azure Storage and so like its clients.
func client(t testing.TB, caFile string) *http.Client {
	t.Helper()
	text, err := os.ReadFile(caFile)
	must(t, err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		t.Fatalf("%s holds no certificate", caFile)
	}
	transport := localca.Transport(roots, "localhost")
	transport.MaxIdleConnsPerHost = mostClients
	transport.DisableCompression = true
	transport.WriteBufferSize, transport.ReadBufferSize = 64<<10, 64<<10
	transport.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(mostClients)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 2 * time.Minute}
}

// put writes a file of size bytes.
func (s *target) put(ctx context.Context, name string, size int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, s.address(name), &pattern{left: size})
	if err != nil {
		return err
	}
	req.ContentLength = size
	return s.do(req, http.StatusCreated, 0)
}

// get reads size bytes of a file from an offset, or all of it if offset is -1.
func (s *target) get(ctx context.Context, name string, offset, size int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.address(name), nil)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if offset >= 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+size-1))
		status = http.StatusPartialContent
	}
	return s.do(req, status, size)
}

// do sends a request, and fails unless the answer is as expected to the length.
func (s *target) do(req *http.Request, status int, size int64) error {
	if s.prepare != nil {
		s.prepare(req)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != status {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("%s: %s: %s", s.name, resp.Status, strings.TrimSpace(string(text)))
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && n != size {
		err = fmt.Errorf("%s answered with %d bytes, want %d", s.name, n, size)
	}
	return err
}

// A pattern is a body: bytes that no disk can make smaller, and that cost the
// client as little as may be.
type pattern struct{ left int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(int64(len(b)), p.left)], block)
	p.left -= int64(n)
	return n, nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
