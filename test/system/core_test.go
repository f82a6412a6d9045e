package system_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kluis-io/kluis/internal/devtest"
)

// A server that crashes leaves no core file, whatever the shell that started it allows:
// its keys would be in it.
func TestNoCoreDumps(t *testing.T) {
	var was syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_CORE, &was))
	must(t, syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Cur: was.Max, Max: was.Max}))
	defer syscall.Setrlimit(syscall.RLIMIT_CORE, &was)
	build(t)
	t.Chdir(t.TempDir()) // where a core would be
	p := start(t, filepath.Join(t.TempDir(), "data"), devtest.FreePort(t), "GOTRACEBACK=crash")
	pid := p.cmd.Process.Pid
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	must(t, err)
	for line := range strings.Lines(string(limits)) {
		if rest, ok := strings.CutPrefix(line, "Max core file size"); ok {
			if f := strings.Fields(rest); f[0] != "0" || f[1] != "0" {
				t.Errorf("the server may dump core: %s", line)
			}
		}
	}
	p.cmd.Process.Signal(syscall.SIGQUIT)
	<-p.exited
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.CoreDump() {
		t.Errorf("the server dumped core: %v", p.cmd.ProcessState)
	}
}
