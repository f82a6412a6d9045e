package harden_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kluis-io/kluis/internal/harden"
)

// child makes the test's binary do what is hardened, in a process of its own: it cannot
// be undone.
const child = "KLUIS_HARDEN_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(child) == "" {
		os.Exit(m.Run())
	}
	dumps, memory := harden.Dumps(), harden.Memory()
	var core unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_CORE, &core)
	dumpable, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	status, _ := os.ReadFile("/proc/self/status")
	big := make([]byte, 64<<20) // what comes later
	for i := range big {
		big[i] = 1
	}
	fmt.Println("dumps:", dumps, "core:", core.Cur, core.Max, "dumpable:", dumpable, "memory:", memory,
		"locked:", strings.Contains(string(status), "VmLck:") && !strings.Contains(string(status), "VmLck:\t       0 kB"))
}

func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func TestHardened(t *testing.T) {
	out := run(t, exec.Command(os.Args[0]))
	if !strings.Contains(out, "dumps: <nil> core: 0 0 dumpable: 0") {
		t.Error(out)
	}
	if strings.Contains(out, "memory: <nil>") != strings.Contains(out, "locked: true") {
		t.Error(out)
	}
}

// A process that may lock only some memory locks none, and goes on.
func TestLittleMayBeLocked(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, RUN IT AS ROOT: it takes a capability away")
	}
	cmd := exec.Command("/bin/sh", "-c", `ulimit -l 8192; exec setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock "$0"`, os.Args[0])
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("SKIPPED: setpriv is missing")
	}
	if out := run(t, cmd); !strings.Contains(out, "RLIMIT_MEMLOCK") || !strings.Contains(out, "locked: false") {
		t.Error(out)
	}
}
