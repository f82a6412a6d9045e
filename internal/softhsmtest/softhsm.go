// Package softhsmtest makes tokens of SoftHSM 2 for tests, and the helper that
// serves them. It says loudly what it leaves out where SoftHSM is not installed.
package softhsmtest

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/kluis-io/kluis/internal/effort"
)

// modules are where distributions put the library.
var modules = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
}

// A Token is one initialised token in a folder of its own.
type Token struct {
	Module  string
	Conf    string // for SOFTHSM2_CONF
	Dir     string // where SoftHSM keeps its objects
	Label   string
	PIN     string
	PINFile string
}

// Env returns the environment in which the library finds the token.
func (t Token) Env() []string { return append(os.Environ(), "SOFTHSM2_CONF="+t.Conf) }

// New makes a token. It skips the test without SoftHSM, and fails it in CI, which
// installs SoftHSM.
func New(tb testing.TB) Token {
	tb.Helper()
	dir := tb.TempDir()
	t := Token{Dir: filepath.Join(dir, "tokens"), Conf: filepath.Join(dir, "softhsm2.conf"), Label: "kluis-test",
		PIN: "4711-test", PINFile: filepath.Join(dir, "pin")}
	for _, m := range modules {
		if _, err := os.Stat(m); err == nil {
			t.Module = m
			break
		}
	}
	util, err := exec.LookPath("softhsm2-util")
	if t.Module == "" || err != nil {
		Missing(tb, "SoftHSM 2 (Debian: softhsm2)")
	}
	if err := os.Mkdir(t.Dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", t.Dir)
	if err := os.WriteFile(t.Conf, []byte(conf), 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(t.PINFile, []byte(t.PIN+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	t.Add(tb, util)
	return t
}

// Add initialises a token of t's label and PIN in t's folder.
func (t Token) Add(tb testing.TB, util string) {
	tb.Helper()
	c := exec.Command(util, "--init-token", "--free", "--label", t.Label, "--so-pin", "so-"+t.PIN, "--pin", t.PIN)
	c.Env = t.Env()
	if out, err := c.CombinedOutput(); err != nil {
		tb.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
}

// Objects counts what lies on the token: a private key, a public key and a secret key
// are one each.
func (t Token) Objects(tb testing.TB) (n int) {
	tb.Helper()
	err := filepath.WalkDir(t.Dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && filepath.Ext(p) == ".object" && d.Name() != "token.object" {
			n++
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// Missing skips the test, or fails it in CI.
func Missing(tb testing.TB, what string) {
	tb.Helper()
	effort.Missing(tb, what, "anything about keys on a PKCS#11 token")
}

// built is the folder of the helper, "" as long as it was not needed.
var built string

// Main runs a package's tests for its TestMain, and removes the helper then.
func Main(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kluis-hsm-test-")
	if err != nil {
		return "", err
	}
	built = dir
	file := filepath.Join(dir, "kluis-hsm")
	c := exec.Command("go", "build", "-o", file, "github.com/kluis-io/kluis/cmd/kluis-hsm")
	c.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return file, nil
})

// Helper builds kluis-hsm, once for a test binary, and returns its path; the
// package's TestMain is to call [Main]. It skips the test without a C compiler.
func Helper(tb testing.TB) string {
	tb.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		if _, err := exec.LookPath("cc"); err != nil {
			Missing(tb, "a C compiler (Debian: gcc libc6-dev)")
		}
	}
	file, err := build()
	if err != nil {
		tb.Fatalf("building kluis-hsm: %v", err)
	}
	return file
}
