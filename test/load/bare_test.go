package load_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/internal/localca"
)

// bareVariable makes the test binary a file server of the folder that it names:
// the ceiling, in a process of its own, so that its CPU time can be told apart.
const bareVariable = "KLUIS_LOAD_BARE"

// serveBare serves files over TLS with nothing but the standard library: no
// tokens, no metadata, no encryption at rest, no audit. A PUT is as durable as
// kluis's: flushed, renamed, its folder flushed. With ?volatile it is not. It
// tells its address on out and ends with in.
func serveBare(in io.Reader, out io.Writer) error {
	dir := os.Getenv(bareVariable)
	ca, err := localca.Open(filepath.Join(dir, "tls"), "localhost")
	if err != nil {
		return err
	}
	certificate, err := ca.Issue()
	if err != nil {
		return err
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*certificate}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		return err
	}
	go http.Serve(l, bare(filepath.Join(dir, "files")))
	fmt.Fprintln(out, l.Addr())
	_, err = io.Copy(io.Discard, in)
	return err
}

// bare is the folder of a bare file server.
type bare string

func (dir bare) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := filepath.Join(string(dir), url.PathEscape(r.URL.Path))
	var err error
	switch r.Method {
	case http.MethodPut:
		if err = dir.put(name, r.Body, !r.URL.Query().Has("volatile")); err == nil {
			w.WriteHeader(http.StatusCreated)
		}
	default:
		var f *os.File
		if f, err = os.Open(name); err == nil {
			defer f.Close()
			http.ServeContent(w, r, "", time.Time{}, f)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (dir bare) put(name string, body io.Reader, flush bool) error {
	f, err := os.CreateTemp(string(dir), "temp-*")
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, body, make([]byte, 64<<10)); err != nil {
		return err
	}
	if flush {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := os.Rename(f.Name(), name); err != nil || !flush {
		return err
	}
	return durable.SyncDir(string(dir))
}

// startBare starts the bare file server.
func startBare(t testing.TB) *target {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "files"), 0o700))
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), bareVariable+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	var address string
	_, err = fmt.Fscanln(out, &address)
	must(t, err)
	_, port, err := net.SplitHostPort(address)
	must(t, err)
	return &target{
		name: "bare", pid: cmd.Process.Pid, client: client(t, filepath.Join(dir, "tls", "ca.pem")),
		address: func(name string) string { return "https://localhost:" + port + "/" + url.PathEscape(name) },
	}
}
