// Package devtest gives tests a dev mode server of the real binary, in a process of its
// own.
package devtest

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/sdk"
)

// folder is where the binary was built, "" if it was not.
var folder string

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kluis-dev-")
	if err != nil {
		return "", err
	}
	folder = dir
	path := filepath.Join(dir, "kluis")
	cmd := exec.Command("go", "build", "-o", path, "github.com/kluis-io/kluis/cmd/kluis")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return path, errors.New("building kluis: " + string(out))
	}
	return path, nil
})

// Binary builds the binary as it is released, once for all tests of a package, whose
// TestMain calls [Main] or [Clean].
func Binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Clean removes what Binary has built. It is called when all tests have ended.
func Clean() {
	if folder != "" {
		os.RemoveAll(folder)
	}
}

// Main runs a package's tests, and cleans up after them.
func Main(m *testing.M) {
	code := m.Run()
	Clean()
	os.Exit(code)
}

// Serve starts a dev mode server with further arguments, and returns what it says about
// itself, and its process's id. It stops when the test ends; its log is the test's if that
// has failed, and its errors always.
func Serve(t testing.TB, more ...string) (target sdk.Target, pid int) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(Binary(t), append([]string{"serve", "--dev", "--data", data, "--listen", "127.0.0.1:0"}, more...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var log, failures bytes.Buffer
	ready, exited := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(exited)
		var once sync.Once
		s := bufio.NewScanner(stderr)
		for s.Scan() {
			line := append(s.Bytes(), '\n')
			log.Write(line)
			if strings.Contains(s.Text(), `"msg":"serving"`) {
				once.Do(func() { close(ready) })
			}
			if strings.Contains(s.Text(), `"level":"ERROR"`) {
				failures.Write(line)
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
		switch {
		case t.Failed():
			t.Logf("the server's log:\n%s", &log)
		case failures.Len() > 0:
			t.Logf("the server's errors:\n%s", &failures)
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
	return target, cmd.Process.Pid
}
