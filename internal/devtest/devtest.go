// Package devtest gives tests a dev mode server of the real binary, in a process of its
// own, on the engine and the object store that are tested.
package devtest

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/objstore/servertest"
	"github.com/kluis-io/kluis/store/enginetest"
)

// Serve starts a dev mode server with further arguments, and returns what it says about
// itself, and its process's id. It stops when the test ends; its log is the test's if that
// has failed, and its errors always.
func Serve(t testing.TB, more ...string) (target sdk.Target, pid int) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(Binary(t), append([]string{"serve", "--dev", "--data", data, "--listen", "127.0.0.1:0"}, more...)...)
	databases, err := enginetest.Parties(data)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := servertest.Variables(data)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = slices.Concat(os.Environ(), databases, objects)
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
