package harden_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/internal/harden"
)

// child makes the test's binary do what is hardened, in a process of its own: it cannot
// be undone.
const child = "KLUIS_HARDEN_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(child) {
	case "":
		os.Exit(m.Run())
	case "files":
		confined()
		return
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

// confined gives files up, and says of each thing that it then tries whether it can: in
// threads that were there before, and in new ones.
func confined() {
	dir := os.Getenv("KLUIS_HARDEN_DIR")
	at := func(name string) string { return filepath.Join(dir, name) }
	open, err := os.Open(at("secret/open"))
	if err != nil {
		panic(err)
	}
	before := make(chan string)
	after := make(chan string)
	go func() {
		runtime.LockOSThread()
		<-before
		_, err := os.ReadFile(at("secret/file"))
		after <- fmt.Sprint("another thread reads: ", err == nil)
	}()
	if err := harden.Files([]string{at("read"), at("alone/file"), at("is not there"), ""}, []string{at("write")}); err != nil {
		fmt.Println("unsupported:", errors.Is(err, errors.ErrUnsupported), err)
		return
	}
	before <- ""
	fmt.Println(<-after)
	text, _ := io.ReadAll(open)
	fmt.Println("reads what is open:", string(text) == "x")
	for _, try := range []struct {
		what string
		do   func() error
	}{
		{"reads what is to be read", func() error { _, err := os.ReadFile(at("read/sub/file")); return err }},
		{"lists it", func() error { _, err := os.ReadDir(at("read/sub")); return err }},
		{"writes it", func() error { return os.WriteFile(at("read/sub/file"), nil, 0o600) }},
		{"reads a file of its own", func() error { _, err := os.ReadFile(at("alone/file")); return err }},
		{"reads the one beside it", func() error { _, err := os.ReadFile(at("alone/other")); return err }},
		{"reads elsewhere", func() error { _, err := os.ReadFile(at("secret/file")); return err }},
		{"lists elsewhere", func() error { _, err := os.ReadDir(at("secret")); return err }},
		{"writes elsewhere", func() error { return os.WriteFile(at("secret/new"), nil, 0o600) }},
		{"truncates elsewhere", func() error { return os.Truncate(at("secret/file"), 0) }},
		{"renames from elsewhere", func() error { return os.Rename(at("secret/file"), at("write/file")) }},
		{"goes by a link", func() error { _, err := os.ReadFile(at("write/link")); return err }},
		{"writes what is to be written", func() error { return os.WriteFile(at("write/new"), []byte("x"), 0o600) }},
		{"renames it into a folder", func() error {
			return errors.Join(os.Mkdir(at("write/folder"), 0o700), os.Rename(at("write/new"), at("write/folder/new")))
		}},
		{"removes it", func() error { return os.RemoveAll(at("write/folder")) }},
		{"executes", func() error { return exec.Command(os.Args[0]).Run() }},
	} {
		fmt.Printf("%s: %t\n", try.what, try.do() == nil)
	}
}

// Of the files of the system a process keeps those that it names.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"read/sub/file", "alone/file", "alone/other", "secret/file", "secret/open", "write/file"} {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte("x"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "secret", "file"), filepath.Join(dir, "write", "link")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), child+"=files", "KLUIS_HARDEN_DIR="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "unsupported: true") {
		t.Skip("SKIPPED: this kernel has no Landlock, so that NOT TESTED is that files can be given up")
	}
	want := `another thread reads: false
reads what is open: true
reads what is to be read: true
lists it: true
writes it: false
reads a file of its own: true
reads the one beside it: false
reads elsewhere: false
lists elsewhere: false
writes elsewhere: false
truncates elsewhere: false
renames from elsewhere: false
goes by a link: false
writes what is to be written: true
renames it into a folder: true
removes it: true
executes: false
`
	if d := cmp.Diff(want, string(out)); d != "" {
		t.Error(d)
	}
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
