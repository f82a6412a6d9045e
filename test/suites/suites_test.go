// Package suites runs the live test suites of Microsoft's own Go modules for Blob
// and Data Lake storage, unmodified, against storage accounts of a kluis server. It
// is a module of its own, so that none of their dependencies become kluis's.
//
// The tests insist on Azure's host names. kluis serves under core.windows.net here,
// with certificates of its own authority, and a loopback proxy takes their
// connections to it and nowhere else.
//
// What is expected to fail stands in expected/, a test a line, with the reason. The
// lists only shrink: a test fails here if its test fails that is not listed, or
// passes that is.
package suites

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"     // the version under test
	_ "github.com/Azure/azure-sdk-for-go/sdk/storage/azdatalake/service" // so is this
)

// sdk is where the modules lie.
const sdk = "github.com/Azure/azure-sdk-for-go/sdk/storage/"

// The suites that talk to a server. Those of page blobs, which kluis does not offer,
// are not run.
var suites = []string{
	"azblob", "azblob/service", "azblob/container", "azblob/blob", "azblob/blockblob", "azblob/appendblob", "azblob/lease",
	"azdatalake/service", "azdatalake/filesystem", "azdatalake/directory", "azdatalake/file", "azdatalake/lease",
}

// limit is how long one suite may take. Some of their tests wait for a minute, as
// Azure's caches make them.
const limit = 10 * time.Minute

func TestSuites(t *testing.T) {
	s := serve(t)
	for _, name := range suites {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join("expected", strings.ReplaceAll(name, "/", ".")+".txt")
			expected, err := readExpected(file)
			if err != nil {
				t.Fatal(err)
			}
			results, output := s.run(t, name)
			judge(t, expected, results, output)
		})
	}
}

// An outcome is what became of a test: "PASS", "FAIL" or "SKIP".
type outcome string

// judge compares what a suite's tests did with what is expected of them.
func judge(t *testing.T, expected map[string]string, results map[string]outcome, output []byte) {
	t.Helper()
	counts := map[outcome]int{}
	for name, got := range results {
		counts[got]++
		_, listed := expected[name]
		switch {
		case got == "FAIL" && !listed:
			t.Errorf("%s fails and is not listed:\n%s", name, said(output, name))
		case got != "FAIL" && listed:
			t.Errorf("%s is listed and does not fail: strike it out", name)
		}
	}
	for name := range expected {
		if _, ran := results[name]; !ran {
			t.Errorf("%s is listed and did not run", name)
		}
	}
	if counts["PASS"] == 0 {
		t.Errorf("no test passed:\n%s", output)
	}
	t.Logf("%d pass, %d fail as expected or not, %d skip themselves", counts["PASS"], counts["FAIL"], counts["SKIP"])
	if folder := os.Getenv("SUITES_OUTPUT"); folder != "" {
		name := strings.ReplaceAll(strings.TrimPrefix(t.Name(), "TestSuites/"), "/", ".")
		os.WriteFile(filepath.Join(folder, name+".log"), output, 0o644)
	}
}

// readExpected reads a list of expected failures: the test's name and the reason.
func readExpected(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, _ := strings.Cut(line, " ")
		if reason = strings.TrimSpace(reason); reason == "" {
			return nil, fmt.Errorf("%s: %s has no reason", file, name)
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("%s: %s is listed twice", file, name)
		}
		out[name] = reason
	}
	return out, nil
}

var resultLine = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+)`)

// run compiles and runs a suite, and returns what became of its tests: those that
// have none below them. They stage gigabytes if they are named Large, and are left
// out.
func (s *server) run(t *testing.T, name string) (map[string]outcome, []byte) {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "suite.test")
	build := exec.Command("go", "test", "-c", "-o", binary, sdk+name)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the suite: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.v", "-test.run", "^Test", "-test.skip", "Large|^Test/.*Large", "-test.timeout", limit.String())
	cmd.Dir = dir
	cmd.Env = s.environment(t, dir)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	results := map[string]outcome{}
	for scan := bufio.NewScanner(bytes.NewReader(out)); scan.Scan(); {
		if m := resultLine.FindStringSubmatch(scan.Text()); m != nil {
			results[m[2]] = outcome(m[1])
		}
	}
	for _, parent := range slices.Collect(maps.Keys(results)) {
		if i := strings.LastIndexByte(parent, '/'); i > 0 {
			for at := parent[:i]; at != ""; {
				delete(results, at)
				if i = strings.LastIndexByte(at, '/'); i < 0 {
					break
				}
				at = at[:i]
			}
		}
	}
	return results, out
}

// said returns what a suite's test printed, the first of it.
func said(output []byte, name string) []byte {
	_, rest, ok := bytes.Cut(output, []byte("=== RUN   "+name+"\n"))
	if !ok {
		return nil
	}
	rest, _, _ = bytes.Cut(rest, []byte("=== RUN "))
	return rest[:min(len(rest), 2000)]
}
